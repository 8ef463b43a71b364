package bundle

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"hactl/inventory"

	"hactl/internal/remote"
	"hactl/internal/versions"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

func TestCatalogueIsFitForAManifest(t *testing.T) {
	m := Manifest{Schema: schema, Arch: "amd64", Origin: Source}
	for _, a := range append(catalog(), runcArtifact()) {
		a.SHA256, a.Size = strings.Repeat("0", 64), 1
		if a.Kind == Image {
			a.ImageID = "sha256:" + a.SHA256
		}
		m.Artifacts = append(m.Artifacts, a)
	}
	if err := m.validate(); err != nil {
		t.Error(err)
	}
}

func TestBuildModulesPinTheVersionsOfThisHactl(t *testing.T) {
	for module, want := range map[string]string{
		"kubernetes": "k8s.io/kubernetes " + versions.Kubernetes,
		"etcd":       "go.etcd.io/etcd/server/v3 " + versions.Etcd,
		"containerd": "github.com/containerd/containerd/v2 " + versions.Containerd,
		"cni":        "github.com/containernetworking/plugins " + versions.CNIPlugins,
		"coredns":    "github.com/coredns/coredns " + versions.CoreDNS,
		"flannel":    "github.com/flannel-io/flannel " + versions.Flannel,
	} {
		raw, err := modules.ReadFile("modules/" + module + "/go.mod.txt")
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`(?m)^(require|)\s*` + regexp.QuoteMeta(want) + `$`).Match(raw) {
			t.Errorf("%s does not require %s", module, want)
		}
	}
}

func TestEveryArtifactHasARecipe(t *testing.T) {
	jobs, err := Options{Dir: t.TempDir(), Arch: "amd64"}.sourceJobs()
	if err != nil || len(jobs) != len(catalog()) {
		t.Fatalf("%d jobs, %v", len(jobs), err)
	}
	specs, progs := imageSpecs(), programs()
	for _, a := range catalog() {
		if s, ok := specs[a.Name]; (a.Kind == Image) != ok || ok && s.Binary == "" {
			t.Errorf("%s: image spec %+v", a.Name, s)
		}
		if _, err := modules.ReadFile("modules/" + progs[a.Name].module + "/go.mod.txt"); err != nil {
			t.Errorf("%s: %v", a.Name, err)
		}
	}
}

func TestWhatCannotBeMadeHereIsRefusedWithAHint(t *testing.T) {
	for name, o := range map[string]Options{
		"source for another architecture": {From: Source, Arch: "s390x"},
		"a mirror of sources":             {From: Source, Mirror: "https://mirror.example.com"},
	} {
		o.Dir = t.TempDir()
		if _, err := Ensure(t.Context(), o); err == nil || remote.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, o := range map[string]Options{
		"an unknown origin":              {From: "somewhere"},
		"releases for a strange machine": {From: Upstream, Arch: "s390x"},
		"no jobs":                        {Jobs: -1},
	} {
		o.Dir = t.TempDir()
		if _, err := Ensure(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDefaultFolderDependsOnOriginAndArchitecture(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/cache")
	t.Setenv("HOME", "/home")
	seen := map[string]bool{}
	for _, from := range []string{"", Source, Upstream} {
		for _, arch := range []string{"amd64", "arm64"} {
			dir, err := DefaultDir(from, arch)
			if err != nil {
				t.Fatal(err)
			}
			seen[dir] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("folders: %v", seen)
	}
}

func TestABundleOfOtherVersionsIsNamed(t *testing.T) {
	pinned := inventory.Versions{Kubernetes: versions.Kubernetes, Etcd: versions.Etcd, Containerd: versions.Containerd}
	b := &Bundle{Dir: "/bundle", Manifest: Manifest{Artifacts: catalog()}}
	if err := b.Suits(pinned); err != nil {
		t.Error(err)
	}
	for key, change := range map[string]func(*inventory.Versions){
		"kubernetes": func(v *inventory.Versions) { v.Kubernetes = "v1.36.2" },
		"etcd":       func(v *inventory.Versions) { v.Etcd = "v3.6.14" },
		"containerd": func(v *inventory.Versions) { v.Containerd = "v2.1.0" },
	} {
		v := pinned
		change(&v)
		err := b.Suits(v)
		if err == nil || !strings.Contains(err.Error(), "versions."+key+" is ") || !strings.Contains(err.Error(), "/bundle") || remote.HintOf(err) == "" {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// What either kind of hactl bundle filled is found without naming its folder.
func TestTheBundleOfEitherOriginIsFound(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	if _, err := Locate(""); !errors.Is(err, ErrIncomplete) || remote.HintOf(err) != "hactl bundle" {
		t.Errorf("nothing there: %v, hint %q", err, remote.HintOf(err))
	}
	for _, from := range []string{Upstream, Source} { // the one built here comes first
		dir, err := DefaultDir(from, runtime.GOARCH)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(Manifest{Schema: schema, Arch: runtime.GOARCH, Origin: from})
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, manifestName), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if b, err := Locate(""); err != nil || b.Origin != from {
			t.Errorf("%s: %+v, %v", from, b, err)
		}
	}
}
