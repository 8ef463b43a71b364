package host

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"hactl/internal/bundle"
	"hactl/internal/plan"
	"hactl/internal/sys"
)

// The look is run by a real shell on files of this machine; its cache of hashes
// is moved into the test's folder.
func TestBinariesAreToldApart(t *testing.T) {
	dir := t.TempDir()
	place := func(a bundle.Artifact) string { return strings.Replace(at(a), plan.Programs, dir, 1) }
	put := func(a bundle.Artifact, content string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(place(a)), 0o755), os.WriteFile(place(a), []byte(content), mode)); err != nil {
			t.Fatal(err)
		}
	}
	var want []bundle.Artifact
	for _, name := range []string{"good", "other", "plain", "absent", "below", "d good"} {
		want = append(want, bundle.Artifact{Name: name, Version: "v1", Dest: "/usr/bin/" + name, SHA256: sumOf(name)})
	}
	put(want[0], "good", 0o755)
	put(want[1], "changed", 0o755)
	put(want[2], "plain", 0o644)
	if err := os.WriteFile(dir+"/below", nil, 0o600); err != nil { // where a folder should be
		t.Fatal(err)
	}
	put(want[5], "d good", 0o755) // a path with a space
	here := strings.NewReplacer(sumsFile, dir+"/sums", plan.Programs, dir)
	q := askInstalled(want)
	look := func() string {
		var got []string
		out, err := exec.CommandContext(t.Context(), "sh", "-c", sys.With(here.Replace(q.Script))).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		seen, err := q.Parse(strings.ReplaceAll(string(out), dir, plan.Programs))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range want {
			if c := binaryChange(a, seen); c == nil {
				got = append(got, a.Name+" ok")
			} else {
				got = append(got, a.Name+" "+string(c.Op))
			}
		}
		return strings.Join(got, ", ")
	}
	const first = "good ok, other update, plain update, absent create, below create, d good ok"
	for range 2 { // the second time from the cache
		if s := look(); s != first {
			t.Error(s)
		}
	}
	sums, err := os.ReadFile(dir + "/sums")
	if n := strings.Count(string(sums), "\n"); err != nil || n != 4 {
		t.Errorf("%d hashes kept, %v:\n%s", n, err, sums)
	}
	if err := os.Rename(place(want[0]), dir+"/was"); err != nil {
		t.Fatal(err)
	}
	put(want[0], "evil", 0o755) // of the same size
	if s := look(); s != strings.Replace(first, "good ok", "good update", 1) {
		t.Error(s)
	}
	if err := os.Remove(dir + "/sums"); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", "openssl() { :; }\n"+sys.With(here.Replace(q.Script))).CombinedOutput(); err == nil {
		t.Errorf("a file that was not hashed: %s", out)
	}
	if kept, _ := os.ReadFile(dir + "/sums"); len(kept) > 0 {
		t.Errorf("kept: %s", kept)
	}
	loop := dir + "/loop"
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	looping := here.Replace(askInstalled([]bundle.Artifact{{Name: "loop", Version: "v1", SHA256: sumOf("loop"), Dest: "/usr/bin/loop"}}).Script)
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", sys.With(looping)).CombinedOutput(); err == nil || !strings.Contains(string(out), "symbolic links") {
		t.Errorf("a file that cannot be looked at: %v, %s", err, out)
	}
}

func TestBrokenAnswersOfProgramsAreErrors(t *testing.T) {
	t.Parallel()
	a, b := sumOf("a"), sumOf("b")
	whole := a + " executable /p/a b\n" + b + " not /p/b\nabsent /p/c\nfile /usr/bin/a\nend\n"
	programs, links := []string{"/p/a b", "/p/b", "/p/c"}, []string{"/usr/bin/a", "/usr/bin/b"}
	want := installed{programs: map[string]sys.Program{"/p/a b": {SHA256: a, Executable: true}, "/p/b": {SHA256: b}}, files: []string{"/usr/bin/a"}}
	if got, err := parseInstalled(whole, programs, links); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	lines := strings.SplitAfter(whole, "\n")
	broken := []string{"", "end\n", whole + "end\n", strings.Replace(whole, a, a[1:], 1), strings.Replace(whole, " not ", " ", 1), strings.Replace(whole, "/bin/a", "/bin/c", 1), strings.ToUpper(whole)}
	for i := range len(lines) - 1 { // without one line
		if without := slices.Delete(slices.Clone(lines), i, i+1); !strings.HasPrefix(lines[i], "file") {
			broken = append(broken, strings.Join(without, ""))
		}
	}
	for i := range len(whole) - 1 { // cut, but for the last end of a line
		broken = append(broken, whole[:i])
	}
	for _, answer := range broken {
		if got, err := parseInstalled(answer, programs, links); err == nil {
			t.Errorf("%q gives %+v", answer, got)
		}
	}
}

func sumOf(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
