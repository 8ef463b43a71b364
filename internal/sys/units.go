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
	// Reload says that the files of the unit have changed since systemd read them, or, but
	// for an answer to [ServiceOf], those of any unit.
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
					return nil, Unreadable(answer)
				}
			}
			return out, nil
		},
	}
}

// Service is a unit with what its main process was started with.
type Service struct {
	Unit
	Config  string            // the value of a variable of its environment; empty: it has none
	Started map[string]string // SHA-256 by path, in lower-case hex, as a file of the host has it
}

// ServiceOf asks for a service, for a variable in its environment and for the file that its
// start writes, whose lines are HASH PATH. An empty name asks for no such file.
func ServiceOf(unit, variable, file string) Question[Service] {
	return Question[Service]{
		Title: "look at the service " + unit, Unit: unit, Script: "show_service " + Quote(unit, variable, file),
		Parse: func(answer string) (s Service, err error) {
			p := properties(answer)
			if s.Unit, err = unitOf(p); err != nil {
				return s, err
			}
			s.Config, s.Started = p[variable], map[string]string{}
			for name, value := range p {
				if path, found := strings.CutPrefix(name, "started "); found {
					s.Started[path] = value
				}
			}
			return s, nil
		},
	}
}

// Restarts asks how often systemd has started a service again since it was started.
func Restarts(unit string) Question[int] {
	return Question[int]{Title: "see how often " + unit + " ended", Script: "property_of NRestarts " + Quote(unit), Parse: func(answer string) (int, error) {
		n, err := strconv.ParseUint(strings.TrimSpace(answer), 10, 31)
		if err != nil {
			return 0, Unreadable(answer)
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
				return Status{}, Unreadable(answer)
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
	if pid, told := p["MainPID"]; told || strings.HasSuffix(p["Id"], ".service") { // no other kind has one
		u.Process, err = strconv.Atoi(pid)
	}
	if unreadable || err != nil || u.Process < 0 {
		return Unit{}, Unreadable(fmt.Sprint(p))
	}
	return u, nil
}
