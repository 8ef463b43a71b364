// Package preflight looks at the hosts before anything is changed: whether each
// can carry its part, and whether they can work together. It is read-only but
// for one scratch file beside etcd's data and a program in /run of masters that do
// not have it yet; both are removed again.
//
// The checks are in list.go. A check that could not look says unknown, which is
// never the same as passed.
package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hactl/internal/facts"
	"hactl/internal/others"
	"hactl/internal/plan"
	"hactl/internal/wait"
	"hactl/inventory"
)

// Severity says how much a finding matters.
type Severity string

// The severities of a finding. Error: the cluster would not come up, or not
// stay up. Warning: it comes up, with a weakness. Unknown: could not look.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Unknown Severity = "unknown"
)

// Check is one question about one host or all of them.
type Check struct {
	ID       string // stable, kebab-case: what --ignore names
	Title    string
	Severity Severity // of a finding that names none; Error or Warning
	Hint     string   // what to do about it, when the finding knows nothing better
	Run      func(ctx context.Context, c *Cluster) []Finding
}

// Finding is one thing that is wrong, or that could not be looked at.
type Finding struct {
	Host     string   `json:"host,omitempty"` // empty: the cluster as a whole
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"`
}

// Cluster is everything that checks look at. Inv and Hosts are required.
type Cluster struct {
	Inv   *inventory.Inventory
	Hosts plan.Hosts              // connected hosts
	Down  map[string]error        // hosts without a connection, and why
	Facts map[string]*facts.Facts // of connected hosts; what is missing is gathered
	// Arch is the architecture of the bundle, "" when there is none yet.
	Arch string
	// CAs are the PEM certificates of the store: "kubernetes", "front-proxy",
	// "etcd". Empty before the store is made.
	CAs map[string]string
	// EtcdCluster is the token that this store's etcd cluster has, "" when there
	// is no store yet.
	EtcdCluster string

	// Helper is sent to masters that lack it.
	Helper Helper
	// Ask is what others may have on a host; nil: nothing is asked. See internal/others.
	Ask func(*inventory.Host) others.Ask
	// Leaving are hosts of Inv that are about to leave the cluster: they are known, and what
	// is found on them does not count.
	Leaving []string
	// TakeOver are the words by which the operator permits to take something over.
	TakeOver []string

	begun  <-chan probed
	failed map[string]error  // hosts whose facts or probe could not be had
	probes map[string]*probe // by host
	dials  []dial
}

// Timeout bounds a whole preflight.
const Timeout = 20 * time.Second

// Run looks at all hosts at once and judges what it saw. It changes nothing.
// ignore names checks whose findings do not count; they are still reported.
func Run(ctx context.Context, c *Cluster, ignore []string) *Report {
	ctx, cancel := wait.Within(ctx, "the preflight", Timeout)
	defer cancel()
	began := time.Now()
	c.look(ctx)
	r := c.judge(ctx, ignore)
	r.Took = time.Since(began)
	return r
}

// judge runs every check on what was seen.
func (c *Cluster) judge(ctx context.Context, ignore []string) *Report {
	r := &Report{Cluster: c.Inv.Cluster}
	for _, k := range All {
		found := slices.DeleteFunc(k.Run(ctx, c), func(f Finding) bool { return slices.Contains(c.Leaving, f.Host) })
		r.add(k, found, slices.Contains(ignore, k.ID))
	}
	return r
}

// CheckIgnored returns an error for an id that no check has.
func CheckIgnored(ignore []string) error {
	for _, id := range ignore {
		if !slices.ContainsFunc(All, func(k Check) bool { return k.ID == id }) {
			return fmt.Errorf("there is no check %q; the checks are: %s", id, strings.Join(IDs(), ", "))
		}
	}
	return nil
}

// IDs returns the ids of all checks, in the order of a report.
func IDs() []string {
	out := make([]string, len(All))
	for i, k := range All {
		out[i] = k.ID
	}
	return out
}

// host is one host with what it said.
type host struct {
	*inventory.Host
	Facts *facts.Facts
	Probe *probe // nil when the second look failed
}

// each asks f about every host that could be looked at; the others are unknown.
func (c *Cluster) each(f func(h host) []Finding) []Finding { return c.eachOf(c.all(), f) }

// eachMaster is each for the control plane.
func (c *Cluster) eachMaster(f func(h host) []Finding) []Finding {
	return c.eachOf(c.Inv.Masters(), f)
}

func (c *Cluster) eachOf(hosts []*inventory.Host, f func(h host) []Finding) []Finding {
	var out []Finding
	for _, h := range hosts {
		if c.Facts[h.Name] == nil {
			out = append(out, Finding{Host: h.Name, Severity: Unknown, Message: "the host could not be looked at"})
			continue
		}
		for _, found := range f(host{Host: h, Facts: c.Facts[h.Name], Probe: c.probes[h.Name]}) {
			found.Host = h.Name
			out = append(out, found)
		}
	}
	return out
}

func (c *Cluster) all() []*inventory.Host {
	out := make([]*inventory.Host, len(c.Inv.Hosts))
	for i := range c.Inv.Hosts {
		out[i] = &c.Inv.Hosts[i]
	}
	return out
}

// looked returns the hosts that could be looked at.
func (c *Cluster) looked() []host {
	var out []host
	for _, h := range c.all() {
		if f := c.Facts[h.Name]; f != nil {
			out = append(out, host{Host: h, Facts: f, Probe: c.probes[h.Name]})
		}
	}
	return out
}

func (h host) master() bool { return h.Role == inventory.ControlPlane }

// says is a finding of the check's own severity.
func says(format string, args ...any) Finding { return Finding{Message: fmt.Sprintf(format, args...)} }

// as changes the severity of a finding.
func (f Finding) as(s Severity) Finding { f.Severity = s; return f }

// do gives a finding a hint of its own.
func (f Finding) do(format string, args ...any) Finding {
	f.Hint = fmt.Sprintf(format, args...)
	return f
}

// on names the host of a finding.
func (f Finding) on(name string) Finding { f.Host = name; return f }

// unknown is a finding that says that nothing is known.
func unknown(format string, args ...any) []Finding {
	return []Finding{says(format, args...).as(Unknown)}
}

// one is a finding as a list.
func one(f Finding) []Finding { return []Finding{f} }
