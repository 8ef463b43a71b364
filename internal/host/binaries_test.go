package host

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/bundle"
	"hactl/internal/plan"
)

// The look is run by a real shell on files of this machine; its cache of hashes
// is moved into the test's folder.
func TestBinariesAreToldApart(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	put("good", "good", 0o755)
	put("other", "changed", 0o755)
	put("plain", "plain", 0o644)
	put("d good", "good", 0o755) // its path ends with that of another one
	var want []bundle.Artifact
	for _, name := range []string{"good", "other", "plain", "absent", "good/below", "d good"} {
		want = append(want, bundle.Artifact{Name: name, Version: "v1", Dest: dir + "/" + name, SHA256: sumOf(filepath.Base(name))})
	}
	want[5].SHA256 = sumOf("good")
	script := strings.ReplaceAll(binariesScript(want), sumsFile, dir+"/sums")
	look := func() string {
		var got []string
		out, err := exec.CommandContext(t.Context(), "sh", "-c", script).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, a := range want {
			c, err := binaryChange(a, plan.Answer{Out: string(out)})
			switch {
			case err != nil:
				t.Fatal(err)
			case c == nil:
				got = append(got, a.Name+" ok")
			default:
				got = append(got, a.Name+" "+string(c.Op))
			}
		}
		return strings.Join(got, ", ")
	}
	const first = "good ok, other update, plain update, absent create, good/below create, d good ok"
	for range 2 { // the second time from the cache
		if s := look(); s != first {
			t.Error(s)
		}
	}
	sums, err := os.ReadFile(dir + "/sums")
	if n := strings.Count(string(sums), "\n"); err != nil || n != 4 {
		t.Errorf("%d hashes kept, %v:\n%s", n, err, sums)
	}
	put("good.new", "evil", 0o755) // of the same size
	if err := os.Rename(dir+"/good.new", dir+"/good"); err != nil {
		t.Fatal(err)
	}
	if s := look(); s != strings.Replace(first, "good ok", "good update", 1) {
		t.Error(s)
	}
	loop := dir + "/loop"
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", binariesScript([]bundle.Artifact{{Dest: loop}})).CombinedOutput(); err == nil {
		t.Errorf("a file that cannot be looked at: %s", out)
	}
}

func sumOf(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
