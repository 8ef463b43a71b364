package cmd

import (
	"os"
	"path/filepath"
	"testing"
)

// A drill that is refused must not leave the last one's result to whoever reads the
// folder; what is not a report stays.
func TestReportsOfTheLastDrillGo(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"drill.json", "drill.html", "notes.txt"} {
		must(t, os.WriteFile(filepath.Join(folder, name), []byte("of the last drill"), 0o600))
	}
	must(t, writable(folder))
	left, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "notes.txt" {
		t.Errorf("left are %q, %v", left, err)
	}
}
