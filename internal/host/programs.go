package host

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"hactl/internal/bundle"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
)

// Program is a program at a path of its own, and the name by which people call it.
type Program struct {
	Path string // as [plan.ProgramPath] says
	Link string // "/usr/bin/kubelet"
}

// pluginDir holds the CNI plugins. No unit starts them, and others put theirs there,
// too: they stay where every runtime looks for them.
const pluginDir = "/opt/cni/bin"

// at is where a binary of the bundle lies on a host.
func at(a bundle.Artifact) string {
	if path.Dir(a.Dest) == pluginDir {
		return a.Dest
	}
	return plan.ProgramPath(a.Name, a.Version, a.SHA256)
}

// ProgramPath is where a program of the bundle lies on a host; of a bundle without
// it, its name.
func ProgramPath(b *bundle.Bundle, name string) string {
	if a, ok := b.Lookup(name); ok {
		return at(a)
	}
	return name
}

// SearchPath is a line of shell by which the calls after it find these programs of
// the bundle.
func SearchPath(b *bundle.Bundle, names ...string) string {
	paths := make([]string, len(names))
	for i, n := range names {
		paths[i] = ProgramPath(b, n)
	}
	return plan.SearchPath(paths...)
}

// programs are those of the host's role that have a path of their own.
func (h Host) programs() (out []Program) {
	for _, a := range h.binaries() {
		if p := at(a); p != a.Dest {
			out = append(out, Program{Path: p, Link: a.Dest})
		}
	}
	return out
}

// Links returns the steps that come last: the names by which people call the
// programs, and the removal of builds that nothing needs any longer. more are
// programs that are not the bundle's.
func (h Host) Links(more ...Program) []plan.Step {
	all := append(h.programs(), more...)
	return []plan.Step{h.links(all), h.oldPrograms(all)}
}

func (h Host) links(all []Program) plan.Step {
	var owns []plan.Made
	for _, p := range all {
		owns = append(owns, plan.Made{Kind: "link", Name: p.Link, Target: p.Path, Former: plan.Former{Absent: true}})
	}
	q := askNames(all)
	return plan.Step{
		ID: h.id("links"), Host: h.Host.Name, Title: "names of programs", Owns: owns,
		Look: []plan.Look{plan.LookFor(q)},
		Check: func(_ context.Context, env plan.Env) (*plan.Change, error) {
			seen, err := plan.Answered(env, q)
			if err != nil {
				return nil, err
			}
			return h.linksChange(all, seen), nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			seen, err := plan.Answered(env, q)
			if err != nil {
				return err
			}
			_, err = env.Host.Run(ctx, remote.Cmd{Title: "link programs", Script: h.linkScript(all, seen)})
			return err
		},
	}
}

// askNames asks what stands at the names of programs: "absent", "file", or a link's target.
func askNames(all []Program) sys.Question[map[string]string] {
	var links []string
	for _, p := range all {
		links = append(links, p.Link)
	}
	return sys.Question[map[string]string]{
		Title: "look at the names of programs", Script: "stat -c '%F@%N' -- " + remote.Quote(links...) + " 2>&1 || :",
		Parse: func(answer string) (map[string]string, error) {
			out := map[string]string{}
			for _, link := range links {
				state, found := linkState(answer, link)
				if !found {
					return nil, sys.Unreadable(answer)
				}
				out[link] = state
			}
			return out, nil
		},
	}
}

func linkState(answer, link string) (state string, found bool) {
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		kind, name, found := strings.Cut(line, "@")
		switch {
		case found && strings.HasPrefix(kind, "regular") && unquoted(name) == link:
			return "file", true
		case found && kind == "symbolic link":
			if from, to, _ := strings.Cut(name, " -> "); unquoted(from) == link && unquoted(to) != "" {
				return unquoted(to), true
			}
		case strings.Contains(line, "'"+link+"'") && (strings.Contains(line, "No such file") || strings.Contains(line, "Not a directory")):
			return "absent", true
		}
	}
	return "", false
}

func unquoted(name string) string { return strings.Trim(name, "'\"") }

// keeps reports whether the host has a file at the name of a program that stays: one
// of the operator's image, which hactl was told to use.
func (h Host) keeps(state string) bool {
	return state == "file" && h.Inv.Artifacts.Source == "present"
}

func (h Host) linksChange(all []Program, seen map[string]string) *plan.Change {
	var names, pins []string
	var made []plan.Made
	for _, p := range all {
		state := seen[p.Link]
		if state == p.Path || h.keeps(state) {
			continue
		}
		names, pins = append(names, path.Base(p.Link)), append(pins, p.Link+" "+state)
		m := plan.Made{Kind: "link", Name: p.Link, Target: p.Path}
		switch state {
		case "absent":
			m.Former.Absent = true
		case "file":
			m.Former.Absent = h.Facts.Ours() // an older hactl put it there
			m.Former.File = !m.Former.Absent
		default:
			m.Former.Value = remote.Clean(state)
		}
		made = append(made, m)
	}
	if len(names) == 0 {
		return nil
	}
	return &plan.Change{
		Op: plan.Update, Summary: fmt.Sprintf("let people's %s be those that run here", strings.Join(names, ", ")),
		Pin: strings.Join(pins, "; "), Made: made,
	}
}

// KeptLink is the name, in the folder former of the record, of the file that was in
// the place of a link.
func KeptLink(link string) string { return "link" + strings.ReplaceAll(link, "/", "-") }

// previous is a link beside the builds of a program to the one that ran before; old_builds in
// host.sh knows it, too.
const previous = "previous"

// linkScript has each name take its place at once. The build that a name stood for
// is noted as the previous one, and a file that was not hactl's is kept.
func (h Host) linkScript(all []Program, seen map[string]string) string {
	script := `set -e
point() { # TARGET NAME
d=${2%/*}; [ -d "$d" ] || mkdir -p "$d"; ln -sfn "$1" "$d/.hactl-link"; mv -fT "$d/.hactl-link" "$2"; sync "$d"
}
spare() { # NAME KEPT
k=` + plan.OwnedDir + `/former/$2
grep -sF "\"kind\":\"link\",\"name\":\"$1\"," ` + plan.OwnedDir + `/owned.json | head -n 1 | grep -qF '"file":true' || return 0
[ -e "$k" ] || { rm -f "$k.new"; ln "$1" "$k.new" 2>/dev/null || cp -p "$1" "$k.new"; sync "$k.new"; mv "$k.new" "$k"; }
}
`
	for _, p := range all {
		state := seen[p.Link]
		if state == p.Path || h.keeps(state) {
			continue
		}
		if state == "file" {
			script += "spare " + remote.Quote(p.Link, KeptLink(p.Link)) + "\n"
		}
		builds := path.Dir(path.Dir(p.Path))
		if path.Dir(path.Dir(state)) == builds {
			script += "point " + remote.Quote(path.Base(path.Dir(state)), builds+"/"+previous) + "\n"
		}
		script += "point " + remote.Quote(p.Path, p.Link) + "\n"
	}
	return script
}

// oldPrograms removes builds that are neither the wanted one, nor the previous one,
// nor one that a process still runs from.
func (h Host) oldPrograms(all []Program) plan.Step {
	find := ""
	for _, p := range all {
		build := path.Dir(p.Path)
		find += "old_builds " + remote.Quote(path.Dir(build), path.Base(build), p.Link) + "\n"
	}
	q := sys.Question[[]string]{Title: "look at old programs", Script: find + "echo end", Parse: parseOld}
	return plan.Step{
		ID: h.id("old-programs"), Host: h.Host.Name, Title: "builds that nothing needs",
		Look: []plan.Look{plan.LookFor(q)},
		Check: func(_ context.Context, env plan.Env) (*plan.Change, error) {
			old, err := plan.Answered(env, q)
			if err != nil || len(old) == 0 {
				return nil, err
			}
			// Which ones depends on the processes of that moment.
			return &plan.Change{Op: plan.Delete, Summary: "remove programs that nothing needs: " + remote.Clean(strings.Join(old, ", ")), Acts: []string{"remove old programs"}}, nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			_, err := env.Host.Run(ctx, remote.Cmd{Title: "remove old programs", Script: "{\n" + find + `} | while IFS= read -r d; do rm -rf -- "$d" || exit; done`})
			return err
		},
	}
}

// parseOld reads a folder a line.
func parseOld(answer string) ([]string, error) {
	old, err := sys.Lines(answer)
	if err == nil && slices.ContainsFunc(old, func(d string) bool { return !strings.HasPrefix(d, "/") }) {
		err = sys.Unreadable(answer)
	}
	return old, err
}
