package host

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"hactl/internal/bundle"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/wait"
)

// BinariesLane is the lane of uploads of executables.
const BinariesLane = "binaries"

// sumsFile is a cache of hashes on the host, gone with a reboot: see sums_of in host.sh.
const sumsFile = "/run/hactl-verified"

// Binaries returns one step for each executable of the host's role.
func (h Host) Binaries() []plan.Step { return h.steps(h.binaries()) }

// Programs returns those of the steps of [Host.Binaries] whose programs have paths of their
// own: they change nothing that runs.
func (h Host) Programs() []plan.Step {
	return h.steps(slices.DeleteFunc(h.binaries(), func(a bundle.Artifact) bool { return at(a) == a.Dest }))
}

// Plugins returns the others.
func (h Host) Plugins() []plan.Step {
	return h.steps(slices.DeleteFunc(h.binaries(), func(a bundle.Artifact) bool { return at(a) != a.Dest }))
}

func (h Host) steps(want []bundle.Artifact) []plan.Step {
	if len(want) == 0 {
		return nil
	}
	q := askInstalled(want)
	steps := make([]plan.Step, len(want))
	for i, a := range want {
		steps[i] = h.binary(a, q)
	}
	return steps
}

// binaries are those of the host's role.
func (h Host) binaries() (out []bundle.Artifact) {
	for _, a := range h.Bundle.For(h.Host.Role) {
		if a.Kind == bundle.Binary && a.Dest != "" {
			out = append(out, a)
		}
	}
	return out
}

// installed is what a host has of programs.
type installed struct {
	programs map[string]sys.Program // by path; those that are there
	files    []string               // names of programs that are files, not links to the program
}

// askInstalled asks for the programs, and for what stands at their names.
func askInstalled(want []bundle.Artifact) sys.Question[installed] {
	var programs, links []string
	for _, a := range want {
		programs = append(programs, at(a))
		if at(a) != a.Dest {
			links = append(links, a.Dest)
		}
	}
	return sys.Question[installed]{
		Title: "look at the programs from " + want[0].Name + " on",
		Script: "sums_of " + sumsFile + " " + remote.Quote(programs...) + ` || exit
for f in ` + remote.Quote(links...) + `; do [ ! -f "$f" ] || [ -L "$f" ] || echo "file $f"; done
echo end`,
		Parse: func(answer string) (installed, error) { return parseInstalled(answer, programs, links) },
	}
}

func parseInstalled(answer string, programs, links []string) (installed, error) {
	out := installed{programs: map[string]sys.Program{}}
	lines, err := sys.Lines(answer)
	if err != nil || len(lines) < len(programs) {
		return out, sys.Unreadable(answer)
	}
	for i, path := range programs {
		if lines[i] == "absent "+path {
			continue
		}
		sum, rest, _ := strings.Cut(lines[i], " ")
		x, found := strings.CutSuffix(rest, " "+path)
		if !found || x != "executable" && x != "not" || !sys.SHA256Form.MatchString(sum) {
			return out, sys.Unreadable(answer)
		}
		out.programs[path] = sys.Program{SHA256: sum, Executable: x == "executable"}
	}
	for _, line := range lines[len(programs):] {
		name, found := strings.CutPrefix(line, "file ")
		if !found || !slices.Contains(links, name) {
			return out, sys.Unreadable(answer)
		}
		out.files = append(out.files, name)
	}
	return out, nil
}

func (h Host) binary(a bundle.Artifact, q sys.Question[installed]) plan.Step {
	return plan.Step{
		ID: h.id("binary-" + a.Name), Host: h.Host.Name, Title: a.Name + " " + a.Version, Lane: h.binariesLane(), Quick: true, Owns: h.ownsBinary(a),
		Look: []plan.Look{plan.LookFor(q)},
		Check: func(_ context.Context, env plan.Env) (*plan.Change, error) {
			seen, err := plan.Answered(env, q)
			if err != nil {
				return nil, err
			}
			return binaryChange(a, seen), nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			seen, err := plan.Answered(env, q)
			if err != nil {
				return err
			}
			if slices.Contains(seen.files, a.Dest) {
				taken, err := takeFrom(ctx, env, a)
				if taken || err != nil {
					return err
				}
			}
			_, err = h.deliver(ctx, env, a, at(a), 0o755)
			return err
		},
	}
}

// binariesLane is of its own, but for hosts that fetch: first they are given what
// to fetch with.
func (h Host) binariesLane() string {
	if h.fetches() {
		return ""
	}
	return BinariesLane
}

// fetches reports whether the host takes artifacts from a mirror.
func (h Host) fetches() bool { return h.Inv.Artifacts.Source == "mirror" }

func binaryChange(a bundle.Artifact, seen installed) *plan.Change {
	is, there := seen.programs[at(a)]
	switch {
	case is == sys.Program{SHA256: a.SHA256, Executable: true}:
		return nil
	case !there:
		return &plan.Change{Op: plan.Create, Summary: fmt.Sprintf("install %s %s at %s", a.Name, a.Version, at(a)), Pin: "absent", Made: made(a, plan.Former{Absent: true})}
	}
	pin := is.SHA256
	if !is.Executable {
		pin += " not-executable"
	}
	return &plan.Change{Op: plan.Update, Summary: fmt.Sprintf("replace %s by %s %s", at(a), a.Name, a.Version), Pin: pin, Made: made(a, plan.Former{SHA256: is.SHA256})}
}

// ownsBinary leaves out a plugin that the operator's image has.
func (h Host) ownsBinary(a bundle.Artifact) []plan.Made {
	if at(a) == a.Dest && h.Inv.Artifacts.Source == "present" {
		return nil
	}
	return made(a, plan.Former{Absent: true})
}

func made(a bundle.Artifact, was plan.Former) []plan.Made {
	return []plan.Made{{Kind: "file", Name: at(a), SHA256: a.SHA256, Former: was}}
}

// takeFrom uses the file that stands at a program's name, if it is the wanted build:
// on a host of an older hactl, or of an image that has it. A second name for the same
// file takes no room, and the unit that names the first one still finds it.
func takeFrom(ctx context.Context, env plan.Env, a bundle.Artifact) (bool, error) {
	script := fmt.Sprintf(`d=%s p=%s
[ "$(hash_of "$d")" = %s ] || { echo other; exit 0; }
set -e
f=${p%%/*}; mkdir -p "$f"; t=$f/.hactl-take; rm -f "$t"
ln "$d" "$t" 2>/dev/null || { cp "$d" "$t"; sync "$t"; }
chown root:root "$t"; chmod 0755 "$t"; mv -fT "$t" "$p"; sync "$f"; echo taken
`, remote.Quote(a.Dest), remote.Quote(at(a)), a.SHA256)
	res, err := env.Host.Run(ctx, remote.Cmd{Title: "use " + a.Dest, Script: script, Timeout: fetchTimeout})
	if err != nil {
		return false, err
	}
	return strings.TrimSpace(string(res.Stdout)) == "taken", nil
}

// deliver brings one file of the bundle to dest, the way the inventory says, and
// tells whether it had to: a file with the right hash is used where it is.
func (h Host) deliver(ctx context.Context, env plan.Env, a bundle.Artifact, dest string, mode fs.FileMode) (sent bool, err error) {
	if src := h.Inv.Artifacts.Source; src == "present" || src == "mirror" {
		return h.deliverFromHost(ctx, env, a, dest, mode)
	}
	last := -1
	return env.Host.Send(ctx, remote.Upload{
		Local: h.Bundle.Path(a), Path: dest, SHA256: a.SHA256, Mode: mode, Owner: "root:root",
		Progress: func(done, total int64) {
			if p := int(done * 10 / max(total, 1)); p != last {
				last = p
				env.Say("%s: %d of %d MB", a.Name, done>>20, total>>20)
			}
		},
	})
}

// deliverFromHost is for hosts that have the file already, or fetch it.
func (h Host) deliverFromHost(ctx context.Context, env plan.Env, a bundle.Artifact, dest string, mode fs.FileMode) (bool, error) {
	there := sys.Hashes(dest)
	there.Title = "check " + a.Name
	sums, err := remote.Ask(ctx, env.Host, there, 0)
	if err != nil {
		return false, err
	}
	if sums[dest] == a.SHA256 {
		return false, nil
	}
	if h.fetches() {
		return true, h.fetch(ctx, env, a, dest, mode)
	}
	return false, remote.Hint(fmt.Errorf("%s is not on the host (want sha256 %.12s…) and artifacts.source is present", cmp.Or(a.Dest, dest), a.SHA256),
		"put it into the image, or set artifacts.source to upload")
}

// fetch lets the host download the file and verify it before it gets its name.
func (h Host) fetch(ctx context.Context, env plan.Env, a bundle.Artifact, dest string, mode fs.FileMode) error {
	url := strings.TrimSuffix(h.Inv.Artifacts.Mirror, "/") + "/" + a.File
	script := fmt.Sprintf(`set -e; d=%s; mkdir -p %s; t="$d.hactl-fetch"; trap 'rm -f "$t"' EXIT
curl --silent --show-error --fail --location --retry 3 --connect-timeout %s --output "$t" %s
echo "%s  $t" | sha256sum --check --status || { echo "%s: checksum differs" >&2; exit 1; }
chmod %o "$t"; sync "$t"; mv -f "$t" "$d"`,
		remote.Quote(dest), remote.Quote(path.Dir(dest)), wait.Times(10), remote.Quote(url), a.SHA256, a.Name, mode)
	_, err := env.Host.Run(ctx, remote.Cmd{Script: script, Title: "fetch " + a.Name, Timeout: fetchTimeout})
	return remote.Hint(err, "is %s reachable from the host?", h.Inv.Artifacts.Mirror)
}
