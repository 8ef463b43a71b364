package cmd

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hactl/internal/exitcode"

	"github.com/spf13/cobra"
)

func readme(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Scripts are written from the README: its table is the list in exit.go.
func TestReadmeHasTheExitCodes(t *testing.T) {
	var want strings.Builder
	want.WriteString("| code | meaning |\n|---|---|\n")
	for _, e := range exitcode.All {
		fmt.Fprintf(&want, "| %d | %s |\n", e.Code, e.Meaning)
	}
	_, rest, found := strings.Cut(readme(t), "## Exit codes\n")
	if !found {
		t.Fatal("README.md has no section Exit codes")
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	_, got, _ := strings.Cut(section, "| code")
	if got = "| code" + strings.TrimRight(got, "\n") + "\n"; got != want.String() {
		t.Errorf("README.md says\n%s\nexit.go says\n%s", got, want.String())
	}
}

func TestReadmeNamesEveryCommand(t *testing.T) {
	text := readme(t)
	a := &app{stdout: &strings.Builder{}, stderr: &strings.Builder{}, getenv: func(string) string { return "" }}
	for _, c := range a.rootCommand().Commands() {
		if topic := !c.Runnable() && !c.HasSubCommands(); topic || c.Hidden {
			continue
		}
		if !strings.Contains(text, "`"+commandWord(c)) {
			t.Errorf("README.md does not name `%s`", commandWord(c))
		}
	}
}

func commandWord(c *cobra.Command) string { return "hactl " + c.Name() }

// A promise whose test was renamed or removed is no promise.
func TestSafetyNamesTestsThatExist(t *testing.T) {
	doc, err := os.ReadFile("../docs/safety.md")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	err = filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(b, -1) {
			have[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllSubmatch(doc, -1)
	if len(named) < 30 {
		t.Errorf("docs/safety.md names %d tests only: is the pattern still right?", len(named))
	}
	for _, m := range named {
		if !have[string(m[1])] {
			t.Errorf("docs/safety.md names %s, and there is no such test", m[1])
		}
	}
}
