package cmd

import (
	"encoding/json"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/bundle"
	"hactl/internal/ui"
	"hactl/internal/versions"
)

// versionList is what hactl versions -o json prints.
type versionList struct {
	APIVersion string      `json:"apiVersion"` // "hactl/v1"
	Sets       []listedSet `json:"sets"`       // oldest first
}

// listedSet is one set with what is known of it here.
type listedSet struct {
	versions.Set
	Default      bool     `json:"default"`            // a new cluster gets it when its inventory names no version
	Etcds        []string `json:"etcd_choices"`       // that versions.etcd may name
	Containerds  []string `json:"containerd_choices"` // that versions.containerd may name
	EndOfSupport string   `json:"end_of_support"`     // of this Kubernetes minor by its project: "2027-06"
	Supported    bool     `json:"supported"`          // that month has not passed
	Bundles      []string `json:"bundles"`            // complete ones on this machine: folders
}

func (a *app) versionsCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "versions",
		Short: "List the sets of versions that hactl installs",
		Long: `List every known Kubernetes version with the parts that go with it, until when its
project supports it, and whether its bundle is on this machine. versions in the
inventory names one of them; another patch of a listed minor is allowed.`,
		Example: `  hactl versions
  hactl versions -o json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.runVersions(dir, time.Now()) },
	}
	c.Flags().StringVar(&dir, "dir", "", "folder that holds the bundles (default: in the user's cache folder)")
	return c
}

func (a *app) runVersions(dir string, now time.Time) error {
	sets, err := listSets(dir, now)
	if err != nil {
		return err
	}
	if a.json() {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(versionList{APIVersion: "hactl/v1", Sets: sets})
	}
	t := ui.Table{Header: []string{"KUBERNETES", "ETCD", "CONTAINERD", "CNI", "COREDNS", "FLANNEL", "PAUSE", "SUPPORT", "BUNDLE"}}
	for _, s := range sets {
		t.Add(s.name(), s.Etcd+others(s.Etcds), s.Containerd+others(s.Containerds), s.CNIPlugins, s.CoreDNS, s.Flannel, s.Pause, s.support(), s.bundle())
	}
	return t.Write(a.stdout, a.style())
}

func listSets(dir string, now time.Time) ([]listedSet, error) {
	if dir == "" {
		var err error
		if dir, err = bundle.Root(); err != nil {
			return nil, err
		}
	}
	var out []listedSet
	for _, set := range versions.Sets() {
		m, _ := versions.MinorOf(set.Kubernetes)
		supported, err := supportedAt(m.EndOfLife, now)
		if err != nil {
			return nil, err
		}
		out = append(out, listedSet{
			Set: set, Default: set.Kubernetes == versions.Default, Etcds: m.Etcd, Containerds: m.Containerd,
			EndOfSupport: m.EndOfLife, Supported: supported, Bundles: bundlesOf(dir, set.Kubernetes),
		})
	}
	return out, nil
}

// supportedAt reports whether the month "2027-06" has not passed.
func supportedAt(month string, now time.Time) (bool, error) {
	begins, err := time.Parse("2006-01", month)
	return now.Before(begins.AddDate(0, 1, 0)), err
}

// bundlesOf lists the complete bundles for this machine's architecture in dir that
// hold the Kubernetes version.
func bundlesOf(dir, kubernetes string) []string {
	out := []string{}
	for _, at := range bundle.In(dir) {
		b, err := bundle.Open(at)
		if err != nil || b.Arch != runtime.GOARCH {
			continue
		}
		if k, ok := b.Lookup("kubelet"); ok && k.Version == kubernetes {
			out = append(out, b.Dir)
		}
	}
	return out
}

func (s listedSet) name() string {
	if s.Default {
		return s.Kubernetes + " (default)"
	}
	return s.Kubernetes
}

// others lists what may be chosen in place of the first.
func others(choices []string) string {
	if len(choices) < 2 {
		return ""
	}
	return " (" + strings.Join(choices[1:], " ") + ")"
}

func (s listedSet) support() string {
	if s.Supported {
		return "until " + s.EndOfSupport
	}
	return "ended " + s.EndOfSupport
}

func (s listedSet) bundle() string {
	if len(s.Bundles) > 0 {
		return "here"
	}
	return "-"
}
