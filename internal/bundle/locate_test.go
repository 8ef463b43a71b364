package bundle

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"hactl/internal/remote"
	"hactl/internal/versions"
	"hactl/inventory"
)

// wanted is what an inventory with that Kubernetes asks for.
func wanted(t *testing.T, kubernetes string) inventory.Versions {
	t.Helper()
	set, ok := versions.For(kubernetes)
	if !ok {
		t.Fatalf("%s is not known", kubernetes)
	}
	return inventory.Versions{Kubernetes: set.Kubernetes, Etcd: set.Etcd, Containerd: set.Containerd}
}

// writeBundle makes a folder a bundle that holds a kubelet of that version.
func writeBundle(t *testing.T, dir, origin, kubernetes string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/kubelet"), []byte("kubelet"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := binary("kubelet", kubernetes, "/usr/bin")
	a.Size, a.SHA256 = 7, strings.Repeat("0", 64)
	text, err := json.Marshal(Manifest{Schema: schema, Arch: runtime.GOARCH, Origin: origin, Artifacts: []Artifact{a}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, manifestName), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What either kind of hactl bundle filled is found without naming its folder.
func TestTheBundleOfEitherOriginIsFound(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for kubernetes, hint := range map[string]string{versions.Default: "hactl bundle", "v1.37.2": "hactl bundle --for v1.37.2"} {
		v := wanted(t, kubernetes)
		if _, err := Locate("", v); !errors.Is(err, ErrIncomplete) || remote.HintOf(err) != hint {
			t.Errorf("nothing there: %v, hint %q", err, remote.HintOf(err))
		}
		for _, from := range []string{Upstream, Source} { // the one built here comes first
			dir, err := Find(Options{From: from, Set: v.Set()})
			if err != nil {
				t.Fatal(err)
			}
			writeBundle(t, dir, from, kubernetes)
			if b, err := Locate("", v); err != nil || b.Origin != from || b.Dir != dir {
				t.Errorf("%s: %+v, %v", from, b, err)
			}
		}
	}
}

func TestTheSetThatTheInventoryNamesIsFoundInAFolderOfSeveral(t *testing.T) {
	dir := t.TempDir()
	writeBundle(t, filepath.Join(dir, "one"), Source, "v1.36.3")
	writeBundle(t, filepath.Join(dir, "two"), Source, "v1.37.2")
	for kubernetes, folder := range map[string]string{"v1.36.3": "one", "v1.37.2": "two"} {
		if b, err := Locate(dir, wanted(t, kubernetes)); err != nil || b.Dir != filepath.Join(dir, folder) {
			t.Errorf("%s: %+v, %v", kubernetes, b, err)
		}
	}
	_, err := Locate(dir, wanted(t, "v1.35.4"))
	if err == nil || !strings.Contains(err.Error(), "none of the 2 sets in "+dir) || remote.HintOf(err) != "hactl bundle --for v1.35.4 --dir "+remote.Quote(dir) {
		t.Errorf("error %v, hint %q", err, remote.HintOf(err))
	}
}

// A bundle of before there were sets: the folder itself has the manifest.
func TestAFolderThatIsABundleItselfIsStillRead(t *testing.T) {
	dir := t.TempDir()
	writeBundle(t, dir, Source, "v1.36.3")
	if b, err := Locate(dir, wanted(t, "v1.36.3")); err != nil || b.Dir != dir {
		t.Errorf("%+v, %v", b, err)
	}
	for kubernetes, inside := range map[string]bool{"v1.36.3": false, "v1.37.2": true} {
		set, _ := versions.For(kubernetes)
		at, err := Find(Options{Dir: dir, Set: set})
		if err != nil || (at != dir) != inside || inside && filepath.Dir(at) != dir {
			t.Errorf("%s goes to %s, %v", kubernetes, at, err)
		}
	}
	writeBundle(t, filepath.Join(dir, "second"), Source, "v1.37.2")
	if b, err := Locate(dir, wanted(t, "v1.37.2")); err != nil || b.Dir != filepath.Join(dir, "second") {
		t.Errorf("the second set: %+v, %v", b, err)
	}
}

func TestTheCommandOfASetNamesWhatIsNotUsual(t *testing.T) {
	set, _ := versions.For("v1.37.2")
	for want, s := range map[string]versions.Set{
		"hactl bundle":               versions.OfDefault(),
		"hactl bundle --for v1.37.2": set,
		"hactl bundle --for v1.37.2 --etcd v3.6.16 --containerd v2.4.2": set.With("v3.6.16", "v2.4.2"),
	} {
		if got := Command(s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
