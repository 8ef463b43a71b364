package plan

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"hactl/internal/remote"
)

// Made is one thing that hactl makes on a host, with what was there before.
type Made struct {
	Kind   string `json:"kind"`             // "file", "link", "unit", "package", "user", "module", "sysctl", "hostname", "line", "swap"
	Name   string `json:"name"`             // path, unit, package, user, module, parameter, host name; of a line its text
	SHA256 string `json:"sha256,omitempty"` // of a file's content as hactl writes it; empty: removed
	Target string `json:"target,omitempty"` // of a link, what it names; of a line its file
	Former Former `json:"former"`
}

// Former is what a host had before hactl made something.
type Former struct {
	Absent bool   `json:"absent,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // of a file's content
	Mode   string `json:"mode,omitempty"`   // of a file, octal
	Owner  string `json:"owner,omitempty"`  // of a file, USER:GROUP
	Value  string `json:"value,omitempty"`  // of a parameter; of a unit its state, "enabled active"; of a link its target; of a host name "RUNNING ON-DISK"
	File   bool   `json:"file,omitempty"`   // a file was in the place of a link
}

// OwnedDir on a host holds the record of what hactl made there, root's alone:
// owned.json has one JSON object a line, [Made], and former/SHA256 the contents of
// files that hactl replaced or removed. Contents never leave the host.
const OwnedDir = "/var/lib/hactl"

// WriteOwned appends to the record of the host. A thing that is in the record already
// keeps its former state: what was there between two runs was hactl's. first is a
// script that is run in [OwnedDir], once: while there is no record yet.
func WriteOwned(ctx context.Context, h remote.Host, made []Made, first string) error {
	var lines strings.Builder
	script := `set -e; umask 077; mkdir -p ` + OwnedDir + `/former; cd ` + OwnedDir + `
if [ ! -e owned.json ]; then
` + first + `
:; fi
keep() {
! grep -qsF "\"kind\":\"file\",\"name\":$3," owned.json && [ ! -e "former/$1" ] || return 0
cp -p -- "$2" former/.new; s=$(sha256sum <former/.new)
[ "${s%% *}" = "$1" ] || { echo "$2 changed since the plan was made" >&2; exit 1; }
sync former/.new; mv former/.new "former/$1"
}
`
	for _, m := range made {
		b, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("encode the record of %s: %w", m.Name, err)
		}
		lines.Write(append(b, '\n'))
		if m.Kind == "file" && m.Former.SHA256 != "" {
			name, _ := json.Marshal(m.Name) //nolint:errchkjson // a string
			script += "keep " + m.Former.SHA256 + " " + remote.Quote(m.Name) + " " + remote.Quote(string(name)) + "\n"
		}
	}
	// What the record says already is not said again. The empty line ends one that a
	// power cut left without its end. The first record is there as a whole or not at all.
	script += `if [ -e owned.json ]; then
new=$(awk '
function name(l) { match(l, /^\{"kind":"[^"]*","name":"([^"\\]|\\.)*"/); return substr(l, 1, RLENGTH) }
function thing(l) { sub(/,"former":.*/, "", l); return l }
known { last[name($0)] = thing($0); next }
last[name($0)] != thing($0)' known=1 owned.json known=0 -)
[ -z "$new" ] || printf '\n%s\n' "$new" >>owned.json
else cat >owned.new; sync owned.new; mv owned.new owned.json; fi
sync owned.json former .
`
	_, err := h.Run(ctx, remote.Cmd{Title: "record what hactl makes", Script: script, Stdin: []byte(lines.String()), Timeout: 5 * time.Minute})
	return err
}

// ReadOwned reads the text of owned.json: each thing once, with its first former
// state and the content that hactl wrote last. A line that is not whole is left
// out: what it named then counts as not made by hactl, and stays.
func ReadOwned(text string) []Made {
	type key struct{ kind, name string }
	var out []Made
	at := map[key]int{}
	for line := range strings.Lines(text) {
		var m Made
		if json.Unmarshal([]byte(line), &m) != nil || m.Kind == "" || m.Name == "" {
			continue
		}
		if i, known := at[key{m.Kind, m.Name}]; known {
			out[i].SHA256 = m.SHA256
			continue
		}
		at[key{m.Kind, m.Name}] = len(out)
		out = append(out, m)
	}
	return out
}

// ours marks, in a file or a unit, what hactl wrote, this one or an older one.
const ours = "Written by hactl"

// formerFile is what a file was before: nothing, if an older hactl wrote it.
func formerFile(was Former, before string) Former {
	if strings.Contains(before[:min(len(before), 200)], ours) || strings.Contains(before, ConfigEnv+"=") {
		return Former{Absent: true}
	}
	return was
}

// Makes is what the plan makes on a host, and what is there already as its steps want it.
func (p *Plan) Makes(host string) (made, inSync []Made) {
	for _, st := range p.Stages {
		for _, it := range st.Items {
			switch {
			case it.Step.Host != host:
			case it.Change == nil:
				inSync = append(inSync, it.Step.Owns...)
			default:
				made = append(made, it.Change.Made...)
			}
		}
	}
	return made, inSync
}

// record tells the plan's Record what the plan makes on each host, before the first
// change: a run that is cut leaves no thing behind that is not in the record.
func (p *Plan) record(ctx context.Context, hosts Hosts) error {
	if p.Record == nil {
		return nil
	}
	var g errgroup.Group
	g.SetLimit(Parallel)
	for name, h := range hosts {
		made, inSync := p.Makes(name)
		if len(made) == 0 {
			continue
		}
		g.Go(func() error {
			if err := p.Record(ctx, h, made, inSync); err != nil {
				return fmt.Errorf("record on %s what hactl makes there: %w", name, err)
			}
			return nil
		})
	}
	return g.Wait()
}
