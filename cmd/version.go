package cmd

import (
	"encoding/json"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"hactl/internal/ui"
	"hactl/internal/versions"
)

// versionInfo is what hactl version -o json prints.
type versionInfo struct {
	Hactl  string   `json:"hactl"`  // "v1.2.3", or "devel" with the commit
	Commit string   `json:"commit"` // of the tree that it was built from; "" where the build did not know
	Go     string   `json:"go"`     // version of the compiler
	OS     string   `json:"os"`     // GOOS/GOARCH of this binary
	Pinned []pinned `json:"pinned"` // what is installed when an inventory names no version
}

type pinned struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of hactl and of what it installs",
		Long:  "Print the version of hactl and the pinned versions of everything that it installs\nwhen the inventory names no others.",
		Example: `  hactl version
  hactl version -o json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.runVersion() },
	}
}

func (a *app) runVersion() error {
	v := thisVersion()
	if a.json() {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	var t ui.Table
	t.Add("hactl", v.Hactl)
	if v.Commit != "" {
		t.Add("commit", v.Commit)
	}
	t.Add("go", v.Go+" "+v.OS)
	for _, p := range v.Pinned {
		t.Add(p.Name, p.Version)
	}
	return t.Write(a.stdout, a.style())
}

func thisVersion() versionInfo {
	set := versions.OfDefault()
	return versionInfo{
		Hactl: buildVersion(), Commit: builtFrom()["vcs.revision"], Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH,
		Pinned: []pinned{
			{"kubernetes", set.Kubernetes}, {"etcd", set.Etcd}, {"containerd", set.Containerd},
			{"runc", set.Runc}, {"cni-plugins", set.CNIPlugins}, {"coredns", set.CoreDNS},
			{"flannel", set.Flannel}, {"pause", set.Pause},
		},
	}
}

// buildVersion is the module's version where the build knows one, else the commit.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	set := builtFrom()
	v := "devel"
	if rev := set["vcs.revision"]; len(rev) >= 12 {
		v += " " + rev[:12]
	}
	if set["vcs.modified"] == "true" {
		v += " (modified)"
	}
	return v
}

// builtFrom is what the compiler noted of the build, by its names for it.
func builtFrom() map[string]string {
	noted := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			noted[s.Key] = s.Value
		}
	}
	return noted
}
