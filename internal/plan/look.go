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
)

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
	var s strings.Builder
	s.WriteString("LC_ALL=C; export LC_ALL\n" + prelude(looks))
	for i, l := range looks {
		fmt.Fprintf(&s, "(\n%s\n) 2>/dev/null; printf '\\n%s %d %%d\\n' \"$?\"\n", l.Script, mark, i)
	}
	res, err := h.Run(ctx, remote.Cmd{Script: s.String(), Title: "look"})
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
		code, err := strconv.Atoi(string(rest[:nl]))
		if err != nil {
			return fmt.Errorf("look %q: unreadable exit code", l.Key)
		}
		seen[l.Key] = Answer{Out: strings.TrimSuffix(text, "\n"), Exit: code}
		out = rest[nl+1:]
	}
	return nil
}

// prelude looks at all files and units of the batch and defines the functions
// by which the looks get their part.
//
// about_file PATH sets s to "MODE OWNER:GROUP TYPE" and h to a regular file's
// SHA-256, else to nothing; it returns 1 when nothing is there and 2 when there
// is no telling. about_unit UNIT sets s to the unit's properties, and about_process
// UNIT also p to its main process, 0 when there is none, and e to the environment of
// that. They set and do not print, since $(...) is one more process.
func prelude(looks []Look) string {
	var files, units []string
	for _, l := range looks {
		if l.File != "" {
			files = append(files, remote.Quote(l.File))
		}
		if l.Unit != "" {
			units = append(units, remote.Quote(l.Unit))
		}
	}
	s := "N='\n'\n"
	if len(files) > 0 {
		s += "set -- " + strings.Join(files, " ") + "\n" + aboutFiles
	}
	if len(units) > 0 {
		s += showUnits + "U=$(show_units " + strings.Join(units, " ") + ")\n" + aboutUnits
	}
	return s
}

// What stat said of a file that is not there is absence only when it says so
// (No such file, Not a directory). A path stands at the end of its line, after
// a mark that no mode, owner or hash holds. The answers are gone through line by
// line: to cut a line out of all of them by its end (${M##*...}) takes a shell
// the square of their length, which for sixty files was a quarter of a second.
const aboutFiles = `M=$(stat -c '%a %U:%G %F@%n' -- "$@" 2>&1)
n=$#; for f; do [ ! -f "$f" ] || [ -L "$f" ] || set -- "$@" "$f"; done; shift $n
H=; [ $# = 0 ] || H=$(sha256sum -- "$@" 2>/dev/null)
set --
about_file() {
set -f; IFS=$N; s=; h=
for l in $M; do case $l in *"@$1") s=${l%"@$1"};; *"'$1': No such file"*|*"'$1': Not a directory"*) return 1;; esac; done
case $s in '') return 2;; *' regular'*) ;; *) return;; esac
for l in $H; do case $l in *"  $1") h=${l%%" "*}; return;; esac; done
return 2
}
`

const showUnits = `show_units() { systemctl show -p Id,LoadState,ActiveState,SubState,UnitFileState,MainPID,NeedDaemonReload -- "$@" 2>/dev/null; }
`

// A unit of Type=simple is active once its process is forked: until that becomes
// the unit's program it is systemd's own, with systemd's environment, and has the
// name (PROGRAM) or that of systemd's helper. While the program is loaded, and after
// its end, the environment is empty. And a process may have ended since all units
// were looked at. All are a matter of moments, for which is waited: past 10 s the
// unit could not be looked at.
const aboutUnits = `about_unit() {
r=$U$N$N
while [ -n "$r" ]; do
s=${r%%"$N$N"*}; r=${r#*"$N$N"}
case $N$s$N in *"$N"Id="$1$N"*) return;; esac
done
return 1
}
about_process() {
about_unit "$1" || return
i=0; while e= p=${s##*MainPID=} p=${p%%[!0-9]*}; [ "${p:-0}" -gt 0 ]; do
c=; { read -r c <"/proc/$p/comm"; } 2>/dev/null
case $c in "("*|systemd|systemd-exec*) ;; ?*) e=$(tr '\0' '\n' <"/proc/$p/environ"); [ -z "$e" ] || return 0;; esac
i=$((i+1)); [ $i -lt 100 ] || return 1
sleep 0.1; s=$(show_units "$1")
done
}
`
