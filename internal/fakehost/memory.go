package fakehost

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"hactl/internal/remote"
	"hactl/internal/sys"
)

// NodeFolder holds the nodes of a cluster on its first master's disk: the kubectl of this
// package reads them there, and a test's apiserver.
const NodeFolder = "state/nodes"

// Memory is a shell that remembers what a command answered and what it did to the
// disk. The outcome of a command follows from its script, its input and the part
// of the disk that it can see (see sight). So each command, and each look of a
// batch, runs with the real shell once, on that part alone; where a run comes to
// the same look or command again it takes the outcome from here. A part that were
// too small would show as another outcome than on the whole disk: that is compared
// for one command in compareEach, and for the end state of the run.
type Memory struct {
	shells *Shells

	mu      sync.Mutex
	scripts map[[sha256.Size]byte][]*piece
	parts   map[[sha256.Size]byte]*piece // by their script and input
	answers map[[sha256.Size]byte]*Outcome
	known   map[[sha256.Size]byte]*effect

	asked, ran atomic.Int64
}

// Figures says how many commands the real shell ran, how many this one was asked for, and
// how many of its parts it had to run.
func (m *Memory) Figures() string {
	asked, ran := m.asked.Load(), m.ran.Load()
	return fmt.Sprintf("%d commands with the real shell; %d in memory, for which %d ran", m.shells.runs.Load()-ran, asked, ran)
}

// compareEach is of how many commands that run one also runs on the whole disk.
const compareEach = 10

func newMemory(sh *Shells) *Memory {
	return &Memory{shells: sh, scripts: map[[sha256.Size]byte][]*piece{}, parts: map[[sha256.Size]byte]*piece{}, answers: map[[sha256.Size]byte]*Outcome{}, known: map[[sha256.Size]byte]*effect{}}
}

// effect is what a command answered, and what it changed on the disk.
type effect struct {
	exit           int
	stdout, stderr string
	gone           []string
	put            []*Entry
}

// marker is the random part of a batch of looks.
var marker = regexp.MustCompile(`hactl-[0-9a-f]{24}`)

const sameMarker = "hactl-same"

// Do gives the outcome of a command.
func (m *Memory) Do(ctx context.Context, d *Disk, c remote.Cmd) (*Outcome, error) {
	m.asked.Add(1)
	mark := marker.FindString(c.Script)
	if mark != "" {
		c.Script = strings.ReplaceAll(c.Script, mark, sameMarker)
	}
	out, err := m.whole(ctx, d, c)
	if err != nil {
		return nil, err
	}
	answer := *out
	if mark != "" {
		answer.Stdout = strings.ReplaceAll(answer.Stdout, sameMarker, mark)
	}
	return &answer, nil
}

// whole runs a command, unless it ran on the same disk before.
func (m *Memory) whole(ctx context.Context, d *Disk, c remote.Cmd) (*Outcome, error) {
	script := sha256.Sum256([]byte(c.Script + "\000" + string(c.Stdin)))
	key := sha256.Sum256(append(script[:], d.digest[:]...))
	m.mu.Lock()
	out := m.answers[key]
	m.mu.Unlock()
	if out != nil {
		return out, nil
	}
	out = &Outcome{Disk: d}
	for number, p := range m.pieces(script, c) {
		e, err := m.piece(ctx, out.Disk, p)
		if err != nil {
			return nil, err
		}
		stdout := e.stdout
		if p.look {
			stdout = numberAnswer(stdout, number)
		}
		out.Exit, out.Stdout, out.Stderr = e.exit, out.Stdout+stdout, out.Stderr+e.stderr
		if len(e.gone)+len(e.put) > 0 {
			out.Disk = out.Disk.Edit(e.gone, e.put)
		}
	}
	m.mu.Lock()
	m.answers[key] = out
	m.mu.Unlock()
	return out, nil
}

// piece runs a piece on the part of the disk that it sees, unless it ran on such a
// part before.
func (m *Memory) piece(ctx context.Context, d *Disk, p *piece) (*effect, error) {
	part := p.sight.of(d)
	key := sha256.Sum256(append(p.sum[:], part.digest[:]...))
	m.mu.Lock()
	e := m.known[key]
	m.mu.Unlock()
	if e != nil {
		return e, nil
	}
	e, err := m.run(ctx, part, p)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.known[key] = e
	m.mu.Unlock()
	compare := m.ran.Add(1)%compareEach == 0 && part.digest != d.digest
	if compare {
		whole, err := m.run(ctx, d, p)
		if err != nil {
			return nil, err
		}
		if is, want := sameTime(e), sameTime(whole); is != want {
			return nil, fmt.Errorf("the test lets this command see too little: on the whole disk it gives %s, here %s:\n%s", want, is, p.cmd.Script)
		}
	}
	return e, nil
}

// moment is the time in the name of a file that a command makes. The two runs that are compared
// are not of the same second.
var moment = regexp.MustCompile(`\d{8}T\d{6}Z`)

func sameTime(e *effect) string { return moment.ReplaceAllString(e.String(), "then") }

// String lists everything of an effect that a run can notice.
func (e *effect) String() string {
	s := fmt.Sprintf("exit %d, %q, %q, removed %v, put", e.exit, e.stdout, e.stderr, e.gone)
	for _, p := range e.put {
		s += fmt.Sprintf(" %s %v %q", p.Path, p.Mode, p.Content)
	}
	return s
}

// stamped is a cache on hosts whose lines hold inode numbers and times: of the
// real folder, and so never the same again. It is left off the disks here.
var stamped = regexp.MustCompile(`^run/hactl-verified`)

func (m *Memory) run(ctx context.Context, part *Disk, p *piece) (*effect, error) {
	out, err := m.shells.Do(ctx, part, p.cmd)
	if err != nil {
		return nil, err
	}
	e := &effect{exit: out.Exit, stdout: out.Stdout, stderr: out.Stderr}
	e.gone, e.put = part.compare(out.Disk)
	e.put = slices.DeleteFunc(e.put, func(x *Entry) bool { return stamped.MatchString(x.Path) })
	return e, nil
}

// piece is a command, or one look of a batch as a command of its own.
type piece struct {
	cmd   remote.Cmd
	sum   [sha256.Size]byte
	sight sight
	look  bool // a look of a batch: as if it were the first
}

// pieces are the commands that a command, whose sum this is, is made of. The same look
// in another batch is the same piece.
func (m *Memory) pieces(sum [sha256.Size]byte, c remote.Cmd) []*piece {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.scripts[sum] == nil {
		scripts, looks := splitLooks(c.Script)
		for _, script := range scripts {
			sum2 := sha256.Sum256([]byte(script + "\000" + string(c.Stdin)))
			p := m.parts[sum2]
			if p == nil {
				p = &piece{cmd: c, sum: sum2, look: looks}
				p.cmd.Script = script
				p.sight = m.shells.sees(script+"\n"+string(c.Stdin), c.Title == "look")
				m.parts[sum2] = p
			}
			m.scripts[sum] = append(m.scripts[sum], p)
		}
	}
	return m.scripts[sum]
}

// numberAnswer gives the answer of a look that was alone its number in a batch.
func numberAnswer(out string, number int) string {
	const head = "\n" + sameMarker + " "
	return strings.Replace(out, head+"0 ", head+strconv.Itoa(number)+" ", 1)
}

// splitLooks gives each look of a batch (see plan.look) as a script of its own, which
// looks at the look's files and units only and has the functions that it calls. Any other
// script stays as it is.
func splitLooks(script string) (scripts []string, looks bool) {
	const newline, begin, end = "N='\n'\n", "look() {\n", "\n}\nanswer "
	body := strings.TrimPrefix(script, sys.Functions(script))
	head, rest, isBatch := strings.Cut(body, newline)
	at := strings.Index(rest, begin)
	if !isBatch || at < 0 {
		return []string{script}, false
	}
	for _, look := range strings.Split(rest[at:], begin)[1:] {
		look, _, _ = strings.Cut(look, end)
		scripts = append(scripts, sys.With(head+newline+forLook(rest[:at], look)+begin+look+end+"0\n"))
	}
	return scripts, true
}

// forLook are the lines of a prelude for one look: with the files and units that the look
// names. A line without any is left out.
func forLook(prelude, look string) (out string) {
	for line := range strings.Lines(prelude) {
		words := strings.Fields(line)
		keep := slices.DeleteFunc(words[1:], func(w string) bool { return !strings.Contains(look, w) })
		if len(keep) > 0 {
			out += words[0] + " " + strings.Join(keep, " ") + "\n"
		}
	}
	return out
}

// sight is which part of a disk a script can see.
type sight struct {
	all   bool     // everything
	paths []string // these, what is below them, and the folders that they lie in
	units []string // these units of systemd and their processes
	lists bool     // what a file in sight names: sha256sum --check
	nodes bool     // the nodes of the cluster, which are on a master's disk
}

var (
	pathForm = regexp.MustCompile(`/[A-Za-z0-9._+@:/-]+`)
	unitForm = regexp.MustCompile(`[A-Za-z0-9@-]+\.(service|scope|timer)`)
	wordForm = regexp.MustCompile(`[a-z]+(-[a-z]+)*`)
)

// seesAll are calls of the programs of this package that may read any file. systemctl
// is one more, but in looks it only shows units.
var seesAll = regexp.MustCompile(`(^|[^/\w-])(kubeadm|apt-get) `)

// calledUnits are the units that the look of internal/others asks for by a variable.
var calledUnits = regexp.MustCompile(`units='([a-z ]+)'|units="\$units ([a-z]+)"`)

// sees is what a script can see: the paths that it names, and those that the
// programs of this package name which it calls.
func (s *Shells) sees(script string, isLook bool) sight {
	called := map[string]bool{}
	text := script
	for _, word := range wordForm.FindAllString(script, -1) {
		if source, ok := s.stubs[word]; ok && !called[word] {
			called[word] = true
			if word != "systemctl" {
				text += "\n" + source
			}
		}
	}
	out := sight{nodes: called["kubectl"], lists: strings.Contains(script, "sha256sum --check")}
	if called["systemctl"] && isLook {
		out.units = slices.Compact(slices.Sorted(slices.Values(unitForm.FindAllString(script, -1))))
		for _, m := range calledUnits.FindAllStringSubmatch(script, -1) {
			for _, unit := range strings.Fields(m[1] + " " + m[2]) {
				out.units = append(out.units, unit+".service")
			}
		}
		called["systemctl"] = len(out.units) == 0
	}
	noPackages := strings.Contains(script, "PACKAGES=''\n") // then nothing is asked of apt-get
	out.all = called["systemctl"] || seesAll.MatchString(script) && !(isLook && noPackages)
	paths := map[string]bool{}
	for _, p := range pathForm.FindAllString(text, -1) {
		paths[strings.Trim(filepath.Clean(p), "/")] = true
	}
	if len(out.units) > 0 && !strings.Contains(script, "/proc/[0-9]*") {
		delete(paths, "proc") // /proc/$p of a unit's process
	}
	out.paths = slices.Sorted(maps.Keys(paths))
	return out
}

// of is the part of a disk that is in sight.
func (s *sight) of(d *Disk) *Disk {
	if s.all {
		if s.nodes {
			return d
		}
		return NewDisk(slices.DeleteFunc(slices.Clone(d.entries), func(e *Entry) bool { return strings.HasPrefix(e.Path, NodeFolder+"/") }))
	}
	seen := map[*Entry]bool{}
	for _, path := range s.paths {
		d.see(seen, path)
	}
	if s.lists {
		for e := range maps.Clone(seen) {
			for _, path := range pathForm.FindAllString(e.Content, -1) {
				d.see(seen, strings.Trim(path, "/"))
			}
		}
	}
	for _, unit := range s.units {
		d.see(seen, "etc/systemd/system/"+unit)
		d.see(seen, "etc/systemd/system/"+unit+".d")
		d.see(seen, "lib/systemd/system/"+unit)
		for _, what := range []string{"enabled", "pid", "loaded", "fragment", "noting", "renoting", "active", "restarts", "start"} {
			d.see(seen, "state/units/"+unit+"."+what)
		}
		if pid := d.Get("state/units/" + unit + ".pid"); pid != nil {
			d.see(seen, "proc/"+strings.TrimSpace(pid.Content))
		}
	}
	return NewDisk(slices.Collect(maps.Keys(seen)))
}

// see adds what is at the path, below it and above it, with the owners, and what
// links lead to.
func (d *Disk) see(seen map[*Entry]bool, path string) {
	add := func(e *Entry) {
		if e == nil || seen[e] {
			return
		}
		seen[e] = true
		if e.Mode&fs.ModeSymlink != 0 {
			to := e.Content
			if !filepath.IsAbs(to) {
				to = filepath.Join(filepath.Dir(e.Path), to)
			}
			d.see(seen, strings.TrimPrefix(to, "/"))
		}
	}
	for _, p := range []string{path, "state/owners/" + path} {
		for _, e := range d.Below(p) {
			add(e)
		}
		for dir := p; dir != "."; dir = filepath.Dir(dir) {
			add(d.Get(dir))
		}
	}
	add(d.Get("state/owners/" + path + ".is"))
}
