package plan

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"hactl/internal/remote"
	"hactl/internal/sys"
)

// answer is the shell function that runs the function look in a process of its own
// and prints an answer: stdout, a line with the marker, the look's number and its
// exit code; where there is a "+" behind that, the first 500 bytes of stderr and a
// line with the marker alone. %[1]s is the marker.
const answer = `answer() {
e=$(look 2>&1 >&9 9>&-); c=$?
if [ -z "$e" ]; then printf '\n%[1]s %%d %%d\n' "$1" "$c"; else printf '\n%[1]s %%d %%d+\n%%.500s\n%[1]s\n' "$1" "$c" "$e"; fi
}
`

// maxLookScript keeps one batch of looks well below what a command line holds.
const maxLookScript = 90 << 10

// look answers all looks with as few round trips as their size allows,
// usually one. The same key is asked once.
func look(ctx context.Context, h remote.Host, looks []Look) (map[string]Answer, error) {
	seen := make(map[string]Answer, len(looks))
	var batch []Look
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := lookOnce(ctx, h, batch, seen)
		batch, size = batch[:0], 0
		return err
	}
	asked := make(map[string]bool, len(looks))
	for _, l := range looks {
		if asked[l.Key] {
			continue
		}
		asked[l.Key] = true
		if size+len(l.Script) > maxLookScript {
			if err := flush(); err != nil {
				return nil, err
			}
		}
		batch = append(batch, l)
		size += len(l.Script) + 64
	}
	if err := flush(); err != nil {
		return nil, err
	}
	return seen, nil
}

// lookOnce runs one batch. Answers are told apart by a marker that the host
// cannot know before the script arrives, so that no file content forges one.
func lookOnce(ctx context.Context, h remote.Host, looks []Look, seen map[string]Answer) error {
	var nonce [12]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return fmt.Errorf("make a marker: %w", err)
	}
	mark := "hactl-" + hex.EncodeToString(nonce[:])
	var asks strings.Builder
	var files, units []string
	for i, l := range looks {
		files, units = append(files, l.File), append(units, l.Unit)
		fmt.Fprintf(&asks, "look() {\n%s\n}\nanswer %d\n", l.Script, i)
	}
	script := fmt.Sprintf("LC_ALL=C; export LC_ALL; exec 9>&1\n"+answer, mark) + sys.Before(files, units) + asks.String()
	res, err := h.Run(ctx, remote.Cmd{Script: script, Title: "look"})
	if err != nil {
		return fmt.Errorf("look at the host: %w", err)
	}
	return splitAnswers(res.Stdout, mark, looks, seen)
}

func splitAnswers(out []byte, mark string, looks []Look, seen map[string]Answer) error {
	for i, l := range looks {
		head := fmt.Appendf(nil, "\n%s %d ", mark, i)
		at := bytes.Index(out, head)
		if at < 0 {
			return fmt.Errorf("look %q: the host's answer ends early", l.Key)
		}
		text := string(out[:at])
		rest := out[at+len(head):]
		nl := bytes.IndexByte(rest, '\n')
		if nl < 0 {
			return fmt.Errorf("look %q: the host's answer ends early", l.Key)
		}
		digits, more := bytes.CutSuffix(rest[:nl], []byte("+"))
		code, err := strconv.Atoi(string(digits))
		if err != nil {
			return fmt.Errorf("look %q: unreadable exit code", l.Key)
		}
		a := Answer{Out: strings.TrimSuffix(text, "\n"), Exit: code}
		out = rest[nl+1:]
		if more {
			stderr, after, found := bytes.Cut(out, []byte("\n"+mark+"\n"))
			if !found {
				return fmt.Errorf("look %q: the host's answer ends early", l.Key)
			}
			a.Stderr, out = remote.Clean(string(stderr)), after
		}
		seen[l.Key] = a
	}
	return nil
}
