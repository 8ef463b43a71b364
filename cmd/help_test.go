package cmd

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// tree is a fresh command tree with its output in out.
func tree(out *bytes.Buffer) *cobra.Command {
	a := &app{stdin: strings.NewReader(""), stdout: out, stderr: out, getenv: func(string) string { return "" }}
	root := a.rootCommand()
	a.prepare(root)
	return root
}

// own lists every command but the ones that cobra brings along.
func own(root *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	walk(root, func(c *cobra.Command) {
		if !strings.HasPrefix(c.CommandPath(), "hactl completion") && c.CommandPath() != "hactl help" {
			out = append(out, c)
		}
	})
	return out
}

func TestHelpOfEveryCommand(t *testing.T) {
	for _, c := range own(tree(&bytes.Buffer{})) {
		t.Run(c.CommandPath(), func(t *testing.T) {
			lintShort(t, c)
			if c.Long == "" && c.Parent() == c.Root() {
				t.Error("Long is empty")
			}
			if c.Example == "" && !c.IsAdditionalHelpTopicCommand() {
				t.Error("Example is empty")
			}
			for l := range strings.Lines(c.Long + "\n" + c.Example) {
				if len(strings.TrimRight(l, "\n")) > 100 {
					t.Errorf("longer than 100 columns: %q", l)
				}
			}
			c.LocalFlags().VisitAll(func(f *pflag.Flag) {
				if f.Usage == "" {
					t.Errorf("--%s has no usage", f.Name)
				}
				if strings.HasSuffix(f.Usage, ".") {
					t.Errorf("usage of --%s ends in a period", f.Name)
				}
			})
		})
	}
}

func lintShort(t *testing.T, c *cobra.Command) {
	t.Helper()
	first, _, _ := strings.Cut(c.Short, " ")
	switch {
	case c.Short == "":
		t.Error("Short is empty")
	case strings.HasSuffix(c.Short, "."):
		t.Error("Short ends in a period")
	case !unicode.IsUpper([]rune(first)[0]):
		t.Errorf("Short begins in lower case: %q", c.Short)
	case len(c.Short) > 80:
		t.Errorf("Short is longer than 80 columns: %q", c.Short)
	}
}

func TestEveryExampleIsACommandLineThatHactlTakes(t *testing.T) {
	for _, c := range own(tree(&bytes.Buffer{})) {
		for l := range strings.Lines(c.Example) {
			l = strings.TrimSpace(l)
			if l == "" || strings.HasPrefix(l, "#") {
				continue
			}
			if err := takes(c.CommandPath(), l); err != "" {
				t.Errorf("%s: example %q: %s", c.CommandPath(), l, err)
			}
		}
	}
}

// takes says why the example of the command at path is no command line of it.
func takes(path, example string) string {
	at := strings.Index(example, "hactl ")
	if at < 0 {
		return "hactl is not called"
	}
	args := strings.Fields(example[at:])[1:]
	for i, w := range args {
		if w == "|" || w == ">" || w == "&&" || w == "||" {
			args = args[:i]
			break
		}
	}
	c, rest, err := tree(&bytes.Buffer{}).Find(args)
	if err != nil {
		return err.Error()
	}
	if c.IsAdditionalHelpTopicCommand() || c.Name() == "help" || strings.HasPrefix(c.CommandPath(), "hactl completion") {
		return ""
	}
	if !strings.HasPrefix(c.CommandPath()+" ", path+" ") {
		return "shows " + c.CommandPath()
	}
	if c.Annotations["group"] != "" {
		return "names no command of " + c.CommandPath()
	}
	if err := c.ParseFlags(rest); err != nil {
		return err.Error()
	}
	if err := c.ValidateArgs(c.Flags().Args()); err != nil {
		return err.Error()
	}
	return ""
}

func TestHelpOfAllCommandsIsTheGoldenFile(t *testing.T) {
	var all bytes.Buffer
	for _, c := range own(tree(&bytes.Buffer{})) {
		args := strings.Fields(c.CommandPath())[1:]
		all.WriteString("$ " + strings.Join(append([]string{"hactl"}, append(args, "--help")...), " ") + "\n")
		root := tree(&all)
		root.SetArgs(append(args, "--help"))
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		all.WriteByte('\n')
	}
	file := filepath.Join("testdata", "help.txt")
	if *update {
		if err := os.WriteFile(file, all.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(all.Bytes(), want) {
		t.Errorf("%s is out of date: go test ./cmd -run Help -update", file)
	}
}
