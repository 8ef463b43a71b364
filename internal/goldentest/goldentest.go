// Package goldentest is for tests of what hactl writes to hosts: it collects
// the very files that steps would put there, compares them with golden files,
// and hands them to the programs that will read them.
package goldentest

import (
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hactl/internal/plan"
)

// Update is the one -update flag of tests with golden files.
var Update = flag.Bool("update", false, "rewrite the golden files")

// Put is a file as it reaches a host.
type Put struct {
	Content []byte
	Mode    fs.FileMode
	Owner   string
}

// Puts is what the file steps among steps write, by path on the host. Secrets
// are left out: they are never golden.
func Puts(t testing.TB, steps []plan.Step) map[string]Put {
	t.Helper()
	out := map[string]Put{}
	for _, s := range steps {
		if f := s.File; f != nil && !strings.Contains(string(f.Content), "-----BEGIN") {
			out[f.Path] = Put{f.Content, f.Mode, f.Owner}
		}
	}
	return out
}

// Check compares what reaches a host with testdata/NAME.golden, in which every
// file has a head with its path, mode and owner. replace are pairs of texts
// that differ from run to run (a token that follows from a fresh CA) and what
// stands for them. With -update the golden file is written.
func Check(t testing.TB, name string, files map[string]Put, replace ...string) {
	t.Helper()
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(files)) {
		f := files[path]
		fmt.Fprintf(&b, "==> %s %04o %s\n%s", path, f.Mode.Perm(), f.Owner, f.Content)
	}
	got := strings.NewReplacer(replace...).Replace(b.String())
	file := filepath.Join("testdata", name+".golden")
	if *Update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; write it with -update and read what it says", err)
	}
	if got != string(want) {
		t.Errorf("%s differs; -update writes it anew, git diff shows how:\n%s", file, firstDifference(string(want), got))
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d\n-%s\n+%s", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}
