package bundle

import (
	"io"
	"io/fs"
	"log"
	"path"
	"regexp"
	"strings"
	"testing"

	"hactl/inventory"

	"hactl/internal/remote"
	"hactl/internal/versions"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

func TestCatalogueIsFitForAManifest(t *testing.T) {
	for _, set := range versions.Sets() {
		fitForAManifest(t, set)
	}
}

func fitForAManifest(t *testing.T, set versions.Set) {
	t.Helper()
	m := Manifest{Schema: schema, Arch: "amd64", Origin: Source}
	for _, a := range append(catalog(set), runcArtifact(set)) {
		a.SHA256, a.Size = strings.Repeat("0", 64), 1
		if a.Kind == Image {
			a.ImageID = "sha256:" + a.SHA256
		}
		m.Artifacts = append(m.Artifacts, a)
	}
	if err := m.validate(); err != nil {
		t.Errorf("%s: %v", set.Kubernetes, err)
	}
}

func TestBuildModulesPinTheVersionsOfEverySet(t *testing.T) {
	for _, set := range variants() {
		for module, want := range map[string]string{
			"kubernetes/" + set.Kubernetes: "k8s.io/kubernetes " + set.Kubernetes,
			"etcd/" + set.Etcd:             "go.etcd.io/etcd/server/v3 " + set.Etcd,
			"containerd/" + set.Containerd: "github.com/containerd/containerd/v2 " + set.Containerd,
			"cni/" + set.CNIPlugins:        "github.com/containernetworking/plugins " + set.CNIPlugins,
			"coredns/" + set.CoreDNS:       "github.com/coredns/coredns " + set.CoreDNS,
			"flannel/" + set.Flannel:       "github.com/flannel-io/flannel " + set.Flannel,
		} {
			raw, err := modules.ReadFile("modules/" + module + "/go.mod.txt")
			if err != nil {
				t.Error(err)
				continue
			}
			if !regexp.MustCompile(`(?m)^(require|)\s*` + regexp.QuoteMeta(want) + `$`).Match(raw) {
				t.Errorf("%s does not require %s", module, want)
			}
		}
	}
}

// Kubernetes' staging modules carry the same patch, and its own module says under
// which Go's defaults it is to run.
func TestStagingModulesFollowTheirKubernetes(t *testing.T) {
	for _, set := range versions.Sets() {
		raw, err := modules.ReadFile("modules/kubernetes/" + set.Kubernetes + "/go.mod.txt")
		if err != nil {
			t.Fatal(err)
		}
		text, staging := string(raw), "v0"+strings.TrimPrefix(set.Kubernetes, "v1")
		if !strings.Contains(text, "\ngodebug default=go1.") {
			t.Errorf("%s: no godebug line", set.Kubernetes)
		}
		replaced := regexp.MustCompile(`(?m)^\s+(k8s\.io/\S+) => (k8s\.io/\S+) (v\S+)$`).FindAllStringSubmatch(text, -1)
		if len(replaced) < 29 {
			t.Errorf("%s: %d staging modules are replaced", set.Kubernetes, len(replaced))
		}
		for _, m := range replaced {
			if m[1] != m[2] || m[3] != staging {
				t.Errorf("%s: %s => %s %s, want %s", set.Kubernetes, m[1], m[2], m[3], staging)
			}
		}
	}
}

func TestNoBuildModuleIsLeftOver(t *testing.T) {
	used := map[string]bool{}
	for _, set := range variants() {
		for _, m := range projects(set) {
			used[m] = true
		}
	}
	found, err := fs.Glob(modules, "modules/*/*/go.mod.txt")
	if err != nil || len(found) < 10 {
		t.Fatalf("%d modules, %v", len(found), err)
	}
	for _, f := range found {
		if m := strings.TrimPrefix(path.Dir(f), "modules/"); !used[m] {
			t.Errorf("%s: no set uses it", m)
		}
	}
}

func TestEveryArtifactHasARecipe(t *testing.T) {
	for _, set := range variants() {
		jobs, err := Options{Dir: t.TempDir(), Arch: "amd64", Set: set}.sourceJobs()
		if err != nil || len(jobs) != len(catalog(set)) {
			t.Fatalf("%d jobs, %v", len(jobs), err)
		}
		specs := imageSpecs()
		for _, a := range catalog(set) {
			if s, ok := specs[a.Name]; (a.Kind == Image) != ok || ok && s.Binary == "" {
				t.Errorf("%s: image spec %+v", a.Name, s)
			}
		}
	}
}

func TestAVersionWithoutABuildModuleIsAnsweredWithThoseThatHaveOne(t *testing.T) {
	set, ok := versions.For("v1.36.9")
	if !ok {
		t.Fatal("no set")
	}
	_, err := Ensure(t.Context(), Options{Dir: t.TempDir(), Set: set})
	if err == nil || !strings.Contains(err.Error(), "v1.35.4, v1.36.1, v1.36.3, v1.37.2") || !strings.Contains(remote.HintOf(err), "--from upstream") {
		t.Errorf("error %v, hint %q", err, remote.HintOf(err))
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

// A change here makes every machine build its bundle anew, some twenty minutes of
// CI among it: the parts of the default set, a build module or the recipe changed.
func TestDefaultSetKeepsItsFolder(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/cache")
	t.Setenv("HOME", "/home")
	if dir, err := DefaultDir(Source, "amd64"); err != nil || dir != "/cache/hactl/bundle/v1.36.3-amd64-source-fb8d9a3e83" {
		t.Errorf("the default bundle lies in %s, %v", dir, err)
	}
}

func TestEverySetHasAFolderOfItsOwn(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/cache")
	t.Setenv("HOME", "/home")
	seen := map[string]versions.Set{}
	for _, set := range variants() {
		dir, err := Find(Options{Set: set, Arch: "amd64"})
		if err != nil || !strings.HasPrefix(dir, "/cache/hactl/bundle/"+set.Kubernetes+"-amd64-source-") {
			t.Errorf("%+v: %s, %v", set, dir, err)
		}
		if other, ok := seen[dir]; ok {
			t.Errorf("%s is the folder of %+v and of %+v", dir, set, other)
		}
		seen[dir] = set
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
	set := versions.OfDefault()
	pinned := inventory.Versions{Kubernetes: set.Kubernetes, Etcd: set.Etcd, Containerd: set.Containerd}
	b := &Bundle{Dir: "/bundle", Manifest: Manifest{Artifacts: catalog(set)}}
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
