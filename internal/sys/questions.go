package sys

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Question is what a host is asked: a script, and how its answer is read. A component asks
// it by a command (remote.Ask) or among the looks of a step (plan.LookFor, plan.Saw), and
// neither writes the shell nor reads the answer itself.
type Question[T any] struct {
	Title  string // names it in errors, in logs, and among the looks of a host: "look at the boot"
	Script string // exits with another code than 0 when it could not look
	// File and Unit are what the script asks about with about_file or about_unit; empty when
	// it asks about none. See [Before].
	File, Unit string
	// Parse reads what the script printed. An answer that it cannot read is an error.
	Parse func(answer string) (T, error)
}

// Alone is the whole script of a question that is asked by itself.
func (q Question[T]) Alone() string { return Before([]string{q.File}, []string{q.Unit}) + q.Script }

// Before is what goes before scripts that ask about these files and units: one program looks
// at all files and one at all units, and the scripts take their part of what it said. Empty
// names do not count.
func Before(files, units []string) (script string) {
	for _, all := range []struct {
		call  string
		names []string
	}{{"look_at_files ", files}, {"look_at_units ", units}} {
		if names := slices.DeleteFunc(slices.Clone(all.names), func(n string) bool { return n == "" }); len(names) > 0 {
			script += all.call + Quote(names...) + "\n"
		}
	}
	if script != "" {
		script = "N='\n'\n" + script
	}
	return script
}

// plainWord is one that means the same to a shell without quotes.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// Quote quotes words for a POSIX shell and puts spaces between them. It is the one place
// where hactl does so.
func Quote(words ...string) string {
	out := make([]string, len(words))
	for i, w := range words {
		if out[i] = w; !plainWord.MatchString(w) {
			out[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(out, " ")
}

// Pair is the answers to two questions.
type Pair[A, B any] struct {
	First  A
	Second B
}

// And asks two questions in one command.
func And[A, B any](title string, a Question[A], b Question[B]) Question[Pair[A, B]] {
	const ends = "\n----\n"
	return Question[Pair[A, B]]{
		Title:  title,
		Script: "( " + a.Alone() + "\n) && echo ---- && ( " + b.Alone() + "\n) && echo ----",
		Parse: func(answer string) (p Pair[A, B], err error) {
			first, rest, found := strings.Cut("\n"+answer+"\n", ends)
			second, _, complete := strings.Cut("\n"+rest, ends)
			if !found || !complete {
				return p, Unreadable(answer)
			}
			if p.First, err = a.Parse(strings.TrimSpace(first)); err == nil {
				p.Second, err = b.Parse(strings.TrimSpace(second))
			}
			return p, err
		},
	}
}

// HasAddress asks whether an interface of the host has the address.
func HasAddress(a netip.Addr) Question[bool] {
	return Question[bool]{
		Title:  "look for " + a.String(),
		Script: "if has_address " + Quote(a.String()) + "; then echo yes; else echo no; fi",
		Parse:  yesOrNo,
	}
}
