package sys

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// SHA256Form is a SHA-256 in lower-case hex.
var SHA256Form = regexp.MustCompile(`^[0-9a-f]{64}$`)

const absent = "absent"

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
				return nil, Unreadable(answer)
			}
			out := map[string]string{}
			for i, sum := range lines {
				switch {
				case SHA256Form.MatchString(sum):
					out[paths[i]] = sum
				case sum != absent:
					return nil, Unreadable(answer)
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
				return f, Unreadable(answer)
			}
			size, err1 := strconv.ParseUint(words[0], 10, 63)
			at, err2 := strconv.ParseInt(words[1], 10, 64)
			if err1 != nil || err2 != nil {
				return f, Unreadable(answer)
			}
			return File{Bytes: int64(size), SHA256: words[2], Modified: time.Unix(at, 0).UTC()}, nil //nolint:gosec // 63 bits
		},
	}
}

// Entry is what lies at a path of a host. It is zero when nothing does.
type Entry struct {
	Type    string // as stat says: "regular file", "directory", "symbolic link", ...
	Mode    string // permissions, octal: "644"
	Owner   string // USER:GROUP
	SHA256  string // of a regular file, lower-case hex
	Content []byte // of a regular file, where it was asked for
}

// Regular reports whether it is a regular file.
func (e Entry) Regular() bool { return strings.HasPrefix(e.Type, "regular") }

// plainPath is one that stat and sha256sum print as it is.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9/._+:\[\]-]*$`)

// EntryAt asks what lies at a path. The answer has the content of a regular file that is
// not the known one, by its SHA-256, and has at most so many bytes.
func EntryAt(path, known string, most int) Question[Entry] {
	q := Question[Entry]{Title: "look at " + path, Script: "echo 'a path is written with letters, digits and /._+:[]-' >&2; exit 1", Parse: parseEntry}
	if plainPath.MatchString(path) {
		q.File, q.Script = path, "show_file "+Quote(path, known, strconv.Itoa(most))
	}
	return q
}

func parseEntry(answer string) (e Entry, err error) {
	if answer == absent {
		return e, nil
	}
	lines := strings.SplitN(answer, "\n", 3)
	var complete bool
	e.Mode, e.Type, complete = strings.Cut(lines[0], " ")
	if complete {
		e.Owner, e.Type, complete = strings.Cut(e.Type, " ")
	}
	if !complete || e.Type == "" || e.Regular() && (len(lines) < 2 || !SHA256Form.MatchString(lines[1])) {
		return Entry{}, Unreadable(answer)
	}
	if e.Regular() {
		e.SHA256 = lines[1]
	}
	if len(lines) == 3 {
		if e.Content, err = base64.StdEncoding.DecodeString(strings.ReplaceAll(lines[2], "\n", "")); err != nil {
			return Entry{}, Unreadable(answer)
		}
	}
	return e, nil
}

// Program is an executable file of a host. It is zero when there is none.
type Program struct {
	SHA256     string // lower-case hex
	Executable bool
}

// ProgramAt asks for the program at a path.
func ProgramAt(path string) Question[Program] {
	return Question[Program]{
		Title: "look at the program " + path, Script: "show_program " + Quote(path),
		Parse: func(answer string) (Program, error) {
			sum, how, _ := strings.Cut(answer, "\n")
			switch {
			case answer == absent:
				return Program{}, nil
			case !SHA256Form.MatchString(sum) || how != "executable" && how != "not":
				return Program{}, Unreadable(answer)
			}
			return Program{SHA256: sum, Executable: how == "executable"}, nil
		},
	}
}
