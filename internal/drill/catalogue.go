package drill

import (
	"fmt"
	"time"
)

// Entry is a scenario as --list shows it.
type Entry struct {
	Name    string       `json:"name"`
	Summary string       `json:"summary"`
	Undone  string       `json:"undone"`
	Needs   []string     `json:"needs"`
	Checks  []EntryCheck `json:"checks"`
}

// EntryCheck is one check with its default bound.
type EntryCheck struct {
	Check string `json:"check"`
	Bound string `json:"bound"`
}

// Catalogue is the list of scenarios without their doing.
func Catalogue() []Entry {
	var out []Entry
	for _, s := range Scenarios() {
		e := Entry{Name: s.Name, Summary: s.Summary, Undone: s.Undone, Needs: []string{}}
		if s.Masters > 1 {
			e.Needs = append(e.Needs, fmt.Sprintf("%d masters", s.Masters))
		}
		if s.Workers > 0 {
			e.Needs = append(e.Needs, fmt.Sprintf("%d worker", s.Workers))
		}
		if s.Workload {
			e.Needs = append(e.Needs, "artifacts.demo")
		}
		if s.Risk != "" {
			e.Needs = append(e.Needs, "--accept-risk="+s.Risk)
		}
		if s.Reboots {
			e.Needs = append(e.Needs, "--allow=reboot or power commands")
		}
		for _, c := range s.Checks {
			e.Checks = append(e.Checks, EntryCheck{c.Name(), c.Limit()})
		}
		out = append(out, e)
	}
	return out
}

// short writes a bound as a person would: 200ms, 1.6s, 2m.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%gs", d.Seconds())
	}
	return fmt.Sprintf("%gm", d.Minutes())
}
