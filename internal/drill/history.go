package drill

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"hactl/internal/remote"
)

// historyFile is what stays of earlier drills in the folder of the reports.
const historyFile = "drill-history.json"

// Limits of the history: drills that are kept, and how many of them a report shows.
const (
	historyKept  = 100
	historyShown = 3
)

// past is one drill of the history.
type past struct {
	Cluster   string       `json:"cluster"`
	Started   time.Time    `json:"started"`
	Scenarios []pastResult `json:"scenarios"`
}

type pastResult struct {
	Name   string      `json:"name"`
	Checks []pastCheck `json:"checks"`
}

type pastCheck struct {
	Check   string  `json:"check"`
	Max     float64 `json:"max"`
	Verdict string  `json:"verdict"`
}

// Earlier is what an earlier drill of the same cluster found for a check.
type Earlier struct {
	Started time.Time `json:"started"`
	Max     float64   `json:"max"` // in the check's unit
	Verdict string    `json:"verdict"`
}

// Compare puts what the drills before found beside this one's figures: those of the same
// cluster whose reports were saved in the folder. Without any it changes nothing.
func (r *Report) Compare(folder string) error {
	history, err := readHistory(folder)
	if err != nil {
		return err
	}
	for _, res := range r.Scenarios {
		for i := range res.Checks {
			res.Checks[i].Earlier = earlier(history, r, res.Name, res.Checks[i].Check)
		}
	}
	return nil
}

// earlier are the latest figures of a check before a report, the newest first.
func earlier(history []past, r *Report, scenario, check string) []Earlier {
	var out []Earlier
	for _, p := range slices.Backward(history) {
		if p.Cluster != r.Cluster || !p.Started.Before(r.Started) {
			continue
		}
		for _, s := range p.Scenarios {
			for _, c := range s.Checks {
				if s.Name == scenario && c.Check == check && len(out) < historyShown {
					out = append(out, Earlier{p.Started, c.Max, c.Verdict})
				}
			}
		}
	}
	return out
}

func readHistory(folder string) ([]past, error) {
	path := filepath.Join(folder, historyFile)
	b, err := os.ReadFile(path) //nolint:gosec // the operator names the folder
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []past
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return nil, remote.Hint(fmt.Errorf("read the figures of earlier drills in %s: %w", path, err), "move the file away; the next drill begins a new one")
	}
	return out, nil
}

// remember adds this drill's figures to the history.
func (r *Report) remember(folder string) error {
	history, err := readHistory(folder)
	if err != nil {
		return err
	}
	now := past{Cluster: r.Cluster, Started: r.Started.UTC().Truncate(time.Second)}
	for _, s := range r.Scenarios {
		if len(s.Checks) == 0 {
			continue
		}
		p := pastResult{Name: s.Name}
		for _, c := range s.Checks {
			p.Checks = append(p.Checks, pastCheck{c.Check, c.Max, c.Verdict})
		}
		now.Scenarios = append(now.Scenarios, p)
	}
	if now.Scenarios == nil {
		return nil
	}
	history = append(history, now)
	b, err := json.Marshal(history[max(0, len(history)-historyKept):])
	if err != nil {
		return err
	}
	path := filepath.Join(folder, historyFile)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o644); err != nil { //nolint:gosec // as the reports
		return err
	}
	return os.Rename(path+".new", path)
}

// Ago are the figures of earlier drills with their age at a moment, the newest first:
// "310 ms 1 month ago, 330 ms (missed) 2 months ago", or "" without any.
func (o *Outcome) Ago(at time.Time) string {
	var out []string
	for _, e := range o.Earlier {
		text := o.Format(e.Max)
		if e.Verdict != Met {
			text += " (" + e.Verdict + ")"
		}
		out = append(out, text+" "+humanize.RelTime(e.Started, at, "ago", "later"))
	}
	return strings.Join(out, ", ")
}
