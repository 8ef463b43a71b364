package sys

import (
	"fmt"
	"strconv"
	"strings"
)

// Unit is what systemd says of a unit.
type Unit struct {
	Load    string // "loaded", "not-found", "masked", ...
	Active  string // "active", "activating", "inactive", "failed", ...
	Enabled string // "enabled", "disabled", "masked", ...; "" where it has no file
	Process int    // its main process, 0: there is none
	// Reload says that the files of the unit have changed since systemd read them, or
	// those of any unit; see plan.Service.
	Reload bool
}

// Runs reports whether the unit is active.
func (u Unit) Runs() bool { return u.Active == "active" }

// Units asks systemd for units, by their whole names. The answer has all of them.
func Units(names ...string) Question[map[string]Unit] {
	return Question[map[string]Unit]{
		Title:  "look at " + strings.Join(names, ", "),
		Script: "show_units " + Quote(names...),
		Parse: func(answer string) (map[string]Unit, error) {
			out := map[string]Unit{}
			for block := range strings.SplitSeq(answer, "\n\n") {
				p := properties(block)
				if u, err := unitOf(p); err == nil {
					out[p["Id"]] = u
				}
			}
			for _, name := range names {
				if _, there := out[name]; !there {
					return nil, errUnreadable(answer)
				}
			}
			return out, nil
		},
	}
}

// Restarts asks how often systemd has started a service again since it was started.
func Restarts(unit string) Question[int] {
	return Question[int]{Title: "see how often " + unit + " ended", Script: "property_of NRestarts " + Quote(unit), Parse: func(answer string) (int, error) {
		n, err := strconv.ParseUint(strings.TrimSpace(answer), 10, 31)
		if err != nil {
			return 0, errUnreadable(answer)
		}
		return int(n), nil
	}}
}

// Status is what a service says of itself.
type Status struct {
	Active string // as in [Unit]
	Text   string // its own words
}

// StatusOf asks a service for it. Other lines may stand before the answer.
func StatusOf(unit string) Question[Status] {
	return Question[Status]{
		Title: "ask " + unit, Script: "systemctl show -p ActiveState -p StatusText -- " + Quote(unit),
		Parse: func(answer string) (Status, error) {
			p := properties(answer)
			if p["ActiveState"] == "" {
				return Status{}, errUnreadable(answer)
			}
			return Status{Active: p["ActiveState"], Text: p["StatusText"]}, nil
		},
	}
}

// properties are the lines NAME=VALUE of an answer.
func properties(answer string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(answer) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), "="); found {
			out[name] = value
		}
	}
	return out
}

// unitOf is the unit that systemd's properties tell of.
func unitOf(p map[string]string) (u Unit, err error) {
	u = Unit{Load: p["LoadState"], Active: p["ActiveState"], Enabled: p["UnitFileState"], Reload: p["NeedDaemonReload"] == "yes"}
	_, told := p["UnitFileState"]
	unreadable := u.Load == "" || u.Active == "" || !told || u.Load == "loaded" && u.Enabled == ""
	if strings.HasSuffix(p["Id"], ".service") { // no other kind has one
		u.Process, err = strconv.Atoi(p["MainPID"])
	}
	if unreadable || err != nil || u.Process < 0 {
		return Unit{}, errUnreadable(fmt.Sprint(p))
	}
	return u, nil
}
