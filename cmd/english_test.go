package cmd

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// englishFile holds how many hardWords the tree has. It may only fall.
const englishFile = "testdata/english.txt"

// hardWords make a sentence hard to read: a person where there is a process, or
// a relative clause without an antecedent. User nobody of /etc/passwd is fine.
var hardWords = regexp.MustCompile(`(?i)\b(nobody|somebody|someone|anybody|anyone|no one|whoever|whomever|of which|whose it is|in vain|what of it|what of a)\b`)

var passwdUser = regexp.MustCompile(`nobody:(x:|/)`)

// A comment, message or page that uses such a word is rewritten; the number then
// has to be lowered, so that it cannot rise again unseen.
func TestHardWordsInCommentsMessagesAndPagesOnlyBecomeFewer(t *testing.T) {
	text, err := os.ReadFile(englishFile)
	if err != nil {
		t.Fatal(err)
	}
	want, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	found := hardWordsInTree(t)
	switch {
	case len(found) > want:
		t.Errorf("%d hard words, %s says %d: say who does what, or what it is, in the new ones among these:\n%s", len(found), englishFile, want, strings.Join(found, "\n"))
	case len(found) < want:
		t.Errorf("%d hard words, %s says %d: lower the number", len(found), englishFile, want)
	}
}

// hardWordsInTree lists every hit as "file:line: word". This file is left out.
func hardWordsInTree(t *testing.T) []string {
	t.Helper()
	var out []string
	count := func(path string, first int, text string) {
		for i, line := range strings.Split(passwdUser.ReplaceAllString(text, ""), "\n") {
			for _, word := range hardWords.FindAllString(line, -1) {
				out = append(out, fmt.Sprintf("%s:%d: %s", path, first+i, word))
			}
		}
	}
	for _, path := range treeFiles(t, ".go", ".md", ".sh", ".pl", ".tmpl") {
		switch {
		case path == "../cmd/english_test.go":
		case strings.HasSuffix(path, ".go"):
			for _, tok := range goTokens(t, path) {
				count(path, tok.line, tok.text)
			}
		default:
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			count(path, 1, string(b))
		}
	}
	return out
}
