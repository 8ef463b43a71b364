package cmd

import (
	"bytes"
	"fmt"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// An operator finds a message in troubleshooting.md only as long as it is the
// message that hactl prints today.
func TestDocsQuoteMessagesThatTheSourceHas(t *testing.T) {
	doc, err := os.ReadFile("../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	source := sourceStrings(t)
	quoted := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(doc), -1)
	if len(quoted) < 20 {
		t.Errorf("troubleshooting.md quotes %d messages, want 20 or more", len(quoted))
	}
	for _, q := range quoted {
		parts := strings.Split(q[1], "…")
		found := false
		for _, s := range source {
			found = found || hasInOrder(s, parts)
		}
		if !found {
			t.Errorf("troubleshooting.md quotes %q, and no string of the source has that", q[1])
		}
	}
}

// hasInOrder reports whether s has all parts, one after another.
func hasInOrder(s string, parts []string) bool {
	for _, p := range parts {
		_, rest, ok := strings.Cut(s, p)
		if !ok {
			return false
		}
		s = rest
	}
	return true
}

// sourceStrings are the string literals of every Go file that is no test.
func sourceStrings(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, path := range treeFiles(t, ".go") {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, tok := range goTokens(t, path) {
			if tok.kind == token.STRING {
				if s, err := strconv.Unquote(tok.text); err == nil {
					out = append(out, strings.ReplaceAll(s, "%%", "%"))
				}
			}
		}
	}
	return out
}

// A page that a link names is there.
func TestDocsLinkToFilesThatExist(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	links := 0
	for _, path := range treeFiles(t, ".md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s, and there is no such file", path, m[1])
			}
		}
	}
	if links < 20 {
		t.Errorf("%d links found: is the pattern still right?", links)
	}
}

// Every page of docs can be reached from the README.
func TestReadmeLinksToEveryPage(t *testing.T) {
	text := readme(t)
	for _, path := range treeFiles(t, ".md") {
		if dir, name := filepath.Split(path); dir == "../docs/" && !strings.Contains(text, "(docs/"+name+")") {
			t.Errorf("README.md has no link to docs/%s", name)
		}
	}
}

// treeFiles are the files of the tree that end in one of these, outside of
// folders that git does not keep.
func treeFiles(t *testing.T, ends ...string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != ".." && (strings.HasPrefix(name, ".") || name == "bin" || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		for _, end := range ends {
			if strings.HasSuffix(path, end) {
				out = append(out, path)
				break
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// goToken is a comment or a string literal.
type goToken struct {
	kind token.Token
	text string
	line int
}

// goTokens reads the comments and string literals of a Go file.
func goTokens(t *testing.T, path string) []goToken {
	t.Helper()
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	file := fset.AddFile(path, -1, len(src))
	var s scanner.Scanner
	s.Init(file, src, nil, scanner.ScanComments)
	var out []goToken
	for {
		pos, kind, text := s.Scan()
		if kind == token.EOF {
			return out
		}
		if kind == token.COMMENT || kind == token.STRING {
			out = append(out, goToken{kind, text, fset.Position(pos).Line})
		}
	}
}

// inText finds the commands that stand in backticks.
var inText = regexp.MustCompile("`(hactl [^`]+)`")

// docCommand is a command of a page.
type docCommand struct {
	words []string
	block bool // a line of its own, which a person copies
}

// commandsOf are the commands of a page, without what a shell takes for itself. Of words with
// alternatives it is the first.
func commandsOf(page string) []docCommand {
	var out []docCommand
	fenced := false
	add := func(line string, block bool) {
		for _, end := range []string{" #", " | ", " && ", " > ", ";"} {
			line, _, _ = strings.Cut(line, end)
		}
		words := strings.Fields(line)
		for i, w := range words {
			words[i], _, _ = strings.Cut(w, "|")
		}
		out = append(out, docCommand{words, block})
	}
	for line := range strings.Lines(page) {
		fenced = fenced != strings.HasPrefix(line, "```")
		for _, start := range []string{"    ", "$ ", ""} {
			if text, is := strings.CutPrefix(line, start+"hactl "); is && (fenced || start == "    ") {
				add("hactl "+text, true)
			}
		}
		for _, m := range inText.FindAllStringSubmatch(line, -1) {
			add(m[1], false)
		}
	}
	return out
}

// Every command of every page is one that hactl has, with flags and arguments that it takes.
func TestDocsNameCommandsThatParse(t *testing.T) {
	found := map[string]int{}
	for _, path := range treeFiles(t, ".md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range commandsOf(string(text)) {
			found[filepath.Base(path)]++
			if err := c.parses(); err != nil {
				t.Errorf("%s: %s: %v", path, strings.Join(c.words, " "), err)
			}
		}
	}
	for page, least := range map[string]int{"certificates.md": 10, "backup.md": 15} {
		if found[page] < least {
			t.Errorf("%d commands in %s, want %d or more: is the pattern still right?", found[page], page, least)
		}
	}
}

// parses reports what is wrong with a command line, before anything runs. In the text a command
// may be named without its arguments.
func (d docCommand) parses() error {
	c, rest, err := tree(&bytes.Buffer{}).Find(d.words[1:])
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if c.HasSubCommands() && c.Flags().NArg() > 0 {
		return fmt.Errorf("there is no command %q", c.Flags().Arg(0))
	}
	if d.block {
		return c.ValidateArgs(c.Flags().Args())
	}
	return nil
}

// What the pages on certificates and backups tell an operator to run is run on hosts by a
// scenario: the verb, and each of its flags.
func TestCommandsOfCertificatesAndBackupsAreRunByScenarios(t *testing.T) {
	var scenarios strings.Builder
	for _, path := range treeFiles(t, "_test.go") {
		if strings.HasPrefix(path, "../e2e/") {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			scenarios.Write(text)
		}
	}
	for _, page := range []string{"../docs/certificates.md", "../docs/backup.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range commandsOf(string(text)) {
			if !c.block {
				continue
			}
			verb, rest, err := tree(&bytes.Buffer{}).Find(c.words[1:])
			if err != nil {
				t.Fatal(err)
			}
			words := `"` + strings.Join(strings.Fields(verb.CommandPath())[1:], `", "`) + `"`
			if !strings.Contains(scenarios.String(), words) {
				t.Errorf("%s: no scenario runs %s", page, verb.CommandPath())
			}
			for _, w := range rest {
				if strings.HasPrefix(w, "--") && !strings.Contains(scenarios.String(), `"`+w+`"`) {
					t.Errorf("%s: no scenario runs %s with %s", page, verb.CommandPath(), w)
				}
			}
		}
	}
}
