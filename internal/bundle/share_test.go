package bundle

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"hactl/internal/versions"
)

// setJobs make every artifact of a set as a small file that says which it is.
func setJobs(set versions.Set) (jobs []job, made *atomic.Int32) {
	made = &atomic.Int32{}
	for _, a := range catalog(set) {
		jobs = append(jobs, job{Artifact: a, make: func(_ context.Context, out string, _ func(string)) (string, error) {
			made.Add(1)
			id := ""
			if a.Kind == Image {
				id = "sha256:" + strings.Repeat("a", 64)
			}
			return id, os.WriteFile(out, []byte(a.Name+" "+a.Version), 0o600)
		}})
	}
	return jobs, made
}

// fillSet fills a set in the folder of sets.
func fillSet(t *testing.T, root, kubernetes string) (b *Bundle, made int) {
	t.Helper()
	set, ok := versions.For(kubernetes)
	if !ok {
		t.Fatalf("%s is not known", kubernetes)
	}
	o, err := Options{Dir: root, Set: set, Arch: "amd64"}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	jobs, count := setJobs(set)
	if b, err = ensure(t.Context(), o, jobs); err != nil {
		t.Fatal(err)
	}
	return b, int(count.Load())
}

func sameFile(t *testing.T, a, b *Bundle, name string) bool {
	t.Helper()
	x, okX := a.Lookup(name)
	y, okY := b.Lookup(name)
	left, err := os.Stat(a.Path(x))
	right, err2 := os.Stat(b.Path(y))
	if err = errors.Join(err, err2); err != nil || !okX || !okY {
		t.Fatal(name, okX, okY, err)
	}
	return os.SameFile(left, right)
}

// A folder from before an image got a recipe of its own gives everything but that image.
func TestChangedRecipeMakesOnlyItsImagesAnew(t *testing.T) {
	root := t.TempDir()
	before, _ := fillSet(t, root, "v1.36.3")
	set, _ := versions.For("v1.36.3")
	former, err := Options{Set: set, Arch: "amd64", From: Source}.formerKey()
	if err != nil || former == filepath.Base(before.Dir) {
		t.Fatal(former, err)
	}
	if err = os.Rename(before.Dir, filepath.Join(root, former)); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(root, former, manifestName)
	raw, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err = os.WriteFile(manifest, regexp.MustCompile(`,\s*"recipe": "2"`).ReplaceAll(raw, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, made := fillSet(t, root, "v1.36.3"); made != 2 {
		t.Errorf("%d made, expected kube-proxy and flannel", made)
	}
}

func TestSetsStoreWhatTheyHaveInCommonOnce(t *testing.T) {
	root := t.TempDir()
	first, made := fillSet(t, root, "v1.36.3")
	if made != len(first.Artifacts) {
		t.Errorf("the first set: %d of %d made", made, len(first.Artifacts))
	}
	second, made := fillSet(t, root, "v1.36.1")
	if made != 7 { // what carries Kubernetes' version
		t.Errorf("the second patch of a minor: %d made", made)
	}
	for name, want := range map[string]bool{"etcd": true, "flannel": true, "bridge": true, "pause": true, "kubelet": false, "kube-apiserver": false} {
		if got := sameFile(t, first, second, name); got != want {
			t.Errorf("%s: the same file %v, want %v", name, got, want)
		}
	}
	third, _ := fillSet(t, root, "v1.37.2")
	if sameFile(t, first, third, "etcd") || !sameFile(t, second, third, "pause") {
		t.Error("another minor shares what it has not in common, or does not share what it has")
	}
	for _, b := range []*Bundle{first, second, third} {
		if filepath.Dir(b.Dir) != root {
			t.Errorf("%s does not lie in %s", b.Dir, root)
		}
		if err := b.Verify(); err != nil {
			t.Error(err)
		}
		if again, err := Open(b.Dir); err != nil || len(again.Artifacts) != len(b.Artifacts) {
			t.Errorf("after the others: %v", err)
		}
	}
	if _, made := fillSet(t, root, "v1.36.3"); made != 0 {
		t.Errorf("a complete set: %d made", made)
	}
}

// A set may be carried on alone, and be made anew without changing its neighbour.
func TestASetDoesNotNeedItsNeighbour(t *testing.T) {
	root := t.TempDir()
	first, _ := fillSet(t, root, "v1.36.3")
	second, _ := fillSet(t, root, "v1.36.1")
	if err := os.RemoveAll(first.Dir); err != nil {
		t.Fatal(err)
	}
	if err := second.Verify(); err != nil {
		t.Error(err)
	}
	if _, made := fillSet(t, root, "v1.36.3"); made != 7 {
		t.Errorf("%d made, want Kubernetes alone", made)
	}
}

func TestADamagedArtifactIsNotShared(t *testing.T) {
	root := t.TempDir()
	first, _ := fillSet(t, root, "v1.36.3")
	e, _ := first.Lookup("etcd")
	if err := os.WriteFile(first.Path(e), []byte(strings.Repeat("x", int(e.Size))), 0o600); err != nil {
		t.Fatal(err)
	}
	second, made := fillSet(t, root, "v1.36.1")
	if made != 8 {
		t.Errorf("%d made, want Kubernetes and etcd", made)
	}
	if err := second.Verify(); err != nil {
		t.Error(err)
	}
}

// A folder of another recipe has another name, and its artifacts may differ.
func TestOnlyFoldersOfThisRecipeAreShared(t *testing.T) {
	root := t.TempDir()
	first, _ := fillSet(t, root, "v1.36.3")
	if err := os.Rename(first.Dir, filepath.Join(root, "v1.36.3-amd64-source-0123456789")); err != nil {
		t.Fatal(err)
	}
	if b, made := fillSet(t, root, "v1.36.1"); made != len(b.Artifacts) {
		t.Errorf("%d of %d made", made, len(b.Artifacts))
	}
}

func TestWithoutHardLinksAFileIsCopied(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if err := os.WriteFile(from, []byte("text"), 0o755); err != nil { //nolint:gosec // the mode is what is looked at
		t.Fatal(err)
	}
	if err := copyFile(from, to); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(to)
	st, err2 := os.Stat(to)
	if err = errors.Join(err, err2); err != nil || string(raw) != "text" || st.Mode().Perm() != 0o755 {
		t.Errorf("%q, %v, %v", raw, st, err)
	}
}
