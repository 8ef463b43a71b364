// Package others finds what is on a host and was not made by hactl, under names that
// hactl uses or in the way of what it makes. Nothing of that is removed, replaced,
// restarted or taken over, unless the operator permits it by name: `--take-over WORD`.
//
// There is one table of kinds, one script that finds them and one rule for
// permission. Preflight names what was found; a step in front of all others on a host
// refuses by itself.
package others

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"hactl/internal/remote"
	"hactl/internal/sys"
)

//go:embed others.sh
var script string

// Kind is a sort of thing that others have on a host.
type Kind struct {
	ID    string
	What  string // "a configuration file"
	Would string // what hactl would do to it
	Way   string // what to do about it
	// Clear is the command that makes room, once that is permitted; nil when later
	// steps do it, or when the thing stays and hactl works beside it.
	Clear func(name string) string
}

// Kinds are all that hactl looks for.
var Kinds = []Kind{
	{"engine", "another container engine", "run a second one beside it, with other rules for what is forwarded", "use a host without it", nil},
	{"package", "an installed package", "have apt remove it, to install its own", "use a host without it, or install what hactl needs yourself and set artifacts.osPackages to present", nil},
	{"file", "a file", "write its own in its place", "move it away, if it is no longer needed", nil},
	{"unit", "a unit", "run another program under this name", "stop and disable it, if it is no longer needed", nil},
	{"process", "a running program", "run a second one beside it", "stop it, if it is no longer needed", nil},
	{"data", "a data folder", "start its own program on it", "move it away, if it is no longer needed", nil},
	{"cni", "a CNI configuration in /etc/cni/net.d", "be ignored: containerd takes the first one by name", "remove the file", func(name string) string {
		f := remote.Quote("/etc/cni/net.d/" + name)
		return "[ ! -e " + f + " ] || mv -- " + f + " " + f + ".before-hactl"
	}},
	{"interface", "an interface of a pod network", "meet its addresses and routes", "remove it: ip link delete NAME", func(name string) string {
		return "ip link delete " + remote.Quote(name) + " || [ ! -e " + remote.Quote("/sys/class/net/"+name) + " ]"
	}},
	{"rules", "rules in the kernel", "leave them: they send packets elsewhere", "reboot the host: they go with that", nil},
}

// Thing is one thing of others on a host.
type Thing struct {
	*Kind
	Name   string
	Detail string
}

// Word is what permits the take-over of the thing, on every host that has it.
func (t Thing) Word() string { return t.ID + ":" + t.Name }

// String says what it is and what hactl would do.
func (t Thing) String() string {
	detail := ""
	if t.Detail != "" {
		detail = " (" + t.Detail + ")"
	}
	return fmt.Sprintf("%s %s%s is not hactl's, which would %s", t.What, t.Name, detail, t.Would)
}

// Hint is the way out.
func (t Thing) Hint() string {
	return strings.ReplaceAll(t.Way, "NAME", t.Name) + "; or permit it: --take-over " + t.Word()
}

// Found is what a host has of others.
type Found struct {
	Things []Thing
	// Holders are processes that have the name of one of hactl's and are not: by
	// process id, what they are. A port that such a process holds is not free.
	Holders map[int]string
}

// Ask is what the script has to know of a host.
type Ask struct {
	Master   bool
	DataDir  string   // etcd's
	CNI      string   // name of hactl's CNI configuration, "" when the pod network brings its own
	Packages []string // to be installed by apt; none: it is not asked what it would remove
}

// Script is what is run on the host; it changes nothing.
func (a Ask) Script() string {
	master := ""
	if a.Master {
		master = "1"
	}
	return fmt.Sprintf("R=''\nMASTER='%s'\nDIR=%s\nCNI=%s\nPACKAGES=%s\n%s", master,
		remote.Quote(a.DataDir), remote.Quote(a.CNI), remote.Quote(strings.Join(a.Packages, " ")), script)
}

// Question is the question to a host.
func (a Ask) Question() sys.Question[*Found] {
	return sys.Question[*Found]{Title: "look for what belongs to others", Script: a.Script(), Parse: Parse}
}

// maxThings bounds what a host may answer.
const maxThings = 1000

// Parse reads the script's answer, whose last line must be "end".
func Parse(out string) (*Found, error) {
	f := &Found{Holders: map[int]string{}}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) > maxThings || lines[len(lines)-1] != "end" {
		return nil, errors.New("the host's answer ends early, or has too many lines")
	}
	for _, line := range lines[:len(lines)-1] {
		words := strings.SplitN(line+"\t", "\t", 3) // a detail that is empty may have lost its tab
		if len(words) != 3 || !nameForm.MatchString(words[1]) {
			return nil, fmt.Errorf("%.80q makes no sense", line)
		}
		name, detail := words[1], strings.TrimSpace(remote.Clean(words[2]))
		if words[0] == "holder" {
			pid := 0
			if _, err := fmt.Sscan(name, &pid); err != nil {
				return nil, fmt.Errorf("%.80q is no process", name)
			}
			f.Holders[pid] = detail
			continue
		}
		i := slices.IndexFunc(Kinds, func(k Kind) bool { return k.ID == words[0] })
		if i < 0 {
			return nil, fmt.Errorf("there is no kind %.80q", words[0])
		}
		f.Things = append(f.Things, Thing{&Kinds[i], name, detail})
	}
	return f, nil
}

// nameForm keeps a name fit for a command line, a message and a shell.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9/._@:+-]{1,200}$`)

// Split tells what is permitted from what is not.
func (f *Found) Split(permitted []string) (allowed, refused []Thing) {
	for _, t := range f.Things {
		if slices.Contains(permitted, t.Word()) {
			allowed = append(allowed, t)
		} else {
			refused = append(refused, t)
		}
	}
	return allowed, refused
}

// CheckWords returns an error for words that permit nothing.
func CheckWords(words []string) error {
	for _, w := range words {
		id, name, _ := strings.Cut(w, ":")
		if !slices.ContainsFunc(Kinds, func(k Kind) bool { return k.ID == id }) || !nameForm.MatchString(name) {
			ids := make([]string, len(Kinds))
			for i, k := range Kinds {
				ids[i] = k.ID
			}
			return fmt.Errorf("%q: want KIND:NAME as a refusal says it; the kinds are %s", w, strings.Join(ids, ", "))
		}
	}
	return nil
}

// RefusedError is what belongs to others on a host and was not permitted.
type RefusedError struct{ Things []Thing }

// Error names everything.
func (e *RefusedError) Error() string {
	all := make([]string, len(e.Things))
	for i, t := range e.Things {
		all[i] = t.String()
	}
	return strings.Join(all, "; ")
}

// ExitCode is the code for "refused: not safe".
func (e *RefusedError) ExitCode() int { return 7 }

// Refusal is an error that names the things and the words that permit them; nil when
// there are none.
func Refusal(things []Thing) error {
	if len(things) == 0 {
		return nil
	}
	words := make([]string, len(things))
	for i, t := range things {
		words[i] = "--take-over " + t.Word()
	}
	return remote.Hint(&RefusedError{things}, "%s; to permit everything: %s", things[0].Way, strings.Join(words, " "))
}
