// Package sys is what several packages ask of a host: its files, units, processes, boots and
// addresses, as functions of the shell in host.sh.
//
// Round trips are the cost. So a question is a part of a script: the engine sends the looks
// of all steps of a host at once, and a script of several questions is one command.
package sys

import (
	_ "embed"
	"regexp"
	"slices"
	"strings"
)

//go:embed host.sh
var hostShell string

// function is one function of host.sh.
type function struct{ name, text string }

// functions are those of host.sh, without comments and indentation. One comes after those that
// it calls.
var functions = read(hostShell)

var (
	beginForm   = regexp.MustCompile(`(?m)^([a-z_]+)\(\) \{`)
	commentForm = regexp.MustCompile(`(?m)^\s*#.*\n`)
	indentForm  = regexp.MustCompile(`(?m)^[ \t]+`)
)

// tight takes spaces that the shell does without out of a script whose quotes hold none like
// them: every look of a host carries these functions.
var tight = strings.NewReplacer(" ;; ", ";;", ";; ", ";;", " | ", "|", "; ", ";")

// read splits a file of functions, which begin at the start of a line.
func read(file string) (out []function) {
	file = tight.Replace(indentForm.ReplaceAllString(commentForm.ReplaceAllString(file, ""), ""))
	begins := beginForm.FindAllStringSubmatchIndex(file, -1)
	for i, b := range begins {
		end := len(file)
		if i+1 < len(begins) {
			end = begins[i+1][0]
		}
		out = append(out, function{file[b[2]:b[3]], strings.TrimSpace(file[b[0]:end]) + "\n"})
	}
	return out
}

// Functions are the definitions of the functions of host.sh that the script calls.
func Functions(script string) string {
	out := ""
	for _, f := range slices.Backward(functions) {
		if calls(script, f.name) || calls(out, f.name) {
			out = f.text + out
		}
	}
	return out
}

// calls reports whether the name is a word of the script.
func calls(script, name string) bool {
	for rest := script; ; {
		before, after, found := strings.Cut(rest, name)
		if !found {
			return false
		}
		if !inWord(before, len(before)-1) && !inWord(after, 0) {
			return true
		}
		rest = rest[len(before)+1:]
	}
}

func inWord(s string, at int) bool {
	return at >= 0 && at < len(s) && (s[at] == '_' || s[at] >= 'a' && s[at] <= 'z')
}

// PackagesOf begins the names of the functions for packages of a host whose package manager
// is "apt" or "dnf".
func PackagesOf(manager string) string {
	if manager == "dnf" {
		return "dnf"
	}
	return "apt"
}

// With is the script with the functions that it calls before it. Every script that
// internal/remote runs gets them. Only one that is kept in a file on the host asks for
// them itself.
func With(script string) string { return Functions(script) + script }
