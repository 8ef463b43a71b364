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
	"hactl/internal/wait"
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
	var s strings.Builder
	fmt.Fprintf(&s, "LC_ALL=C; export LC_ALL; exec 9>&1\n"+answer, mark)
	s.WriteString(prelude(looks))
	for i, l := range looks {
		fmt.Fprintf(&s, "look() {\n%s\n}\nanswer %d\n", l.Script, i)
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

// prelude looks at all files and units of the batch and defines the functions
// by which the looks get their part.
//
// about_file PATH sets s to "MODE OWNER:GROUP TYPE" and h to a regular file's
// SHA-256, else to nothing; it returns 1 when nothing is there and 2, with the
// reason on stderr, when it could not look. about_unit UNIT sets s to the unit's properties, and about_process
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

// Only ENOENT and ENOTDIR mean absent; any other error of stat means unknown. A
// path stands at the end of its line, after a mark that no mode, owner or hash
// holds. Lines are read one by one: ${M##*...} is quadratic in dash (0.25 s for
// sixty files).
const aboutFiles = `M=$(stat -c '%a %U:%G %F@%n' -- "$@" 2>&1)
n=$#; for f; do [ ! -f "$f" ] || [ -L "$f" ] || set -- "$@" "$f"; done; shift $n
H=; [ $# = 0 ] || H=$(sha256sum -- "$@" 2>&1)
set --
about_file() {
set -f; IFS=$N; s=; h=
for l in $M; do case $l in *"@$1") s=${l%"@$1"};; *"'$1': No such file"*|*"'$1': Not a directory"*) return 1;; esac; done
case $s in *' regular'*) for l in $H; do case $l in *"  $1") h=${l%%" "*}; return;; esac; done;; ?*) return;; esac
for l in $M$N$H; do case $l in *" '$1': "*|*": $1: "*) echo "$l" >&2;; esac; done
return 2
}
`

const showUnits = `show_units() { systemctl show -p Id,LoadState,ActiveState,SubState,UnitFileState,MainPID,NeedDaemonReload -- "$@" 2>&1; }
`

// Between fork and exec the main PID of a unit is systemd's own process, with
// systemd's environment and the name (PROGRAM) or systemd-executor. While the
// program is loaded, and after its end, the environment is empty. And the process
// may have ended since the units were listed. The loop waits up to 10 s for the
// unit's program; after that the unit could not be looked at.
const aboutUnits = `about_unit() {
r=$U$N$N
while [ -n "$r" ]; do
s=${r%%"$N$N"*}; r=${r#*"$N$N"}
case $N$s$N in *"$N"Id="$1$N"*) return;; esac
done
echo "systemctl says nothing of $1: ${U%%"$N"*}" >&2
return 1
}
about_process() {
about_unit "$1" || return
i=0; while e= p=${s##*MainPID=} p=${p%%[!0-9]*}; [ "${p:-0}" -gt 0 ]; do
c=; { read -r c <"/proc/$p/comm"; } 2>/dev/null
case $c in "("*|systemd|systemd-exec*) ;; ?*) e=$(tr '\0' '\n' <"/proc/$p/environ"); [ -z "$e" ] || return 0;; esac
i=$((i+1)); [ $i -lt $((100*` + wait.Shell + `)) ] || { echo "process $p ($c) did not become the program of $1 within $((10*` + wait.Shell + `)) s" >&2; return 1; }
sleep 0.1; s=$(show_units "$1")
done
}
`
