package sys

import (
	"strconv"
	"strings"
)

// IsThere asks whether something is at the path.
func IsThere(path string) Question[bool] {
	return Question[bool]{Title: "look for " + path, Script: "if is_there " + Quote(path) + "; then echo yes; else echo no; fi", Parse: yesOrNo}
}

// Free is the room on a file system.
type Free struct {
	Bytes int64
	Mount string // where the file system is mounted
}

// FreeAt asks for the room at each of the paths, in their order. For a path that is not there
// it is the room at the nearest folder above it.
func FreeAt(paths ...string) Question[[]Free] {
	script := ""
	if len(paths) > 0 {
		script = "free_at " + Quote(paths...)
	}
	return Question[[]Free]{
		Title: "look for room", Script: script,
		Parse: func(answer string) (free []Free, err error) {
			_, rows, _ := strings.Cut(answer, "\n") // below the heading
			for line := range strings.Lines(rows) {
				room, mount, _ := strings.Cut(strings.TrimSpace(line), " ")
				n, err := strconv.ParseUint(room, 10, 63)
				if mount = strings.TrimSpace(mount); err != nil || !strings.HasPrefix(mount, "/") {
					return nil, Unreadable(answer)
				}
				free = append(free, Free{int64(n), mount}) //nolint:gosec // 63 bits
			}
			if len(free) != len(paths) {
				return nil, Unreadable(answer)
			}
			return free, nil
		},
	}
}
