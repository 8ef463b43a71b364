package sys

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Question is what a host is asked: a script, and how its answer is read. A component asks
// it by a command (remote.Ask) or among the looks of a step (plan.LookFor, plan.Saw), and
// neither writes the shell nor reads the answer itself.
type Question[T any] struct {
	Title  string // names it in errors, in logs, and among the looks of a host: "look at the boot"
	Script string // exits with another code than 0 when it could not look
	// Parse reads what the script printed. An answer that it cannot read is an error.
	Parse func(answer string) (T, error)
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

// errUnreadable is of an answer that no host gives which has done what it was told.
func errUnreadable(answer string) error {
	return fmt.Errorf("the host's answer is unreadable or ends early: %.200q", answer)
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
		Script: "( " + a.Script + "\n) && echo ---- && ( " + b.Script + "\n) && echo ----",
		Parse: func(answer string) (p Pair[A, B], err error) {
			first, rest, found := strings.Cut("\n"+answer+"\n", ends)
			second, _, complete := strings.Cut("\n"+rest, ends)
			if !found || !complete {
				return p, errUnreadable(answer)
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
		Parse: func(answer string) (bool, error) {
			answer = strings.TrimSpace(answer)
			if answer != "yes" && answer != "no" {
				return false, errUnreadable(answer)
			}
			return answer == "yes", nil
		},
	}
}

// SHA256Form is a SHA-256 in lower-case hex.
var SHA256Form = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Hashes asks for the SHA-256, in lower-case hex, of those of the paths that are there.
func Hashes(paths ...string) Question[map[string]string] {
	script := ""
	if len(paths) > 0 {
		script = "for f in " + Quote(paths...) + `; do if is_there "$f"; then hash_of "$f" || exit 1; else echo absent; fi; done`
	}
	return Question[map[string]string]{
		Title: fmt.Sprintf("hash %d files", len(paths)), Script: script,
		Parse: func(answer string) (map[string]string, error) {
			lines := strings.Fields(answer)
			if len(lines) != len(paths) {
				return nil, errUnreadable(answer)
			}
			out := map[string]string{}
			for i, sum := range lines {
				switch {
				case SHA256Form.MatchString(sum):
					out[paths[i]] = sum
				case sum != "absent":
					return nil, errUnreadable(answer)
				}
			}
			return out, nil
		},
	}
}

// File is a regular file of a host.
type File struct {
	Bytes    int64
	SHA256   string // lower-case hex
	Modified time.Time
}

// FileAt asks for the file at the path, which has to be there.
func FileAt(path string) Question[File] {
	p := Quote(path)
	return Question[File]{
		Title:  "look at " + path,
		Script: "[ -f " + p + " ] || { echo 'there is no such file' >&2; exit 1; }; stat -Lc '%s %Y' -- " + p + " && hash_of " + p,
		Parse: func(answer string) (f File, err error) {
			words := strings.Fields(answer)
			if len(words) != 3 || !SHA256Form.MatchString(words[2]) {
				return f, errUnreadable(answer)
			}
			size, err1 := strconv.ParseUint(words[0], 10, 63)
			at, err2 := strconv.ParseInt(words[1], 10, 64)
			if err1 != nil || err2 != nil {
				return f, errUnreadable(answer)
			}
			return File{Bytes: int64(size), SHA256: words[2], Modified: time.Unix(at, 0).UTC()}, nil //nolint:gosec // 63 bits
		},
	}
}
