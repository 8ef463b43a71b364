package remote

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// stdinMode says what a script's stdin is.
type stdinMode int

const (
	stdinNone   stdinMode = iota // /dev/null; the session's own stdin is the lifeline
	stdinBytes                   // bytes, then EOF
	stdinStream                  // whatever the caller writes, then EOF
)

// maxArg: one argument may have 128 KiB (MAX_ARG_STRLEN), quoting included.
const maxArg = 100 << 10

// hostGrace is how much longer than here a command may run on the host. The
// limit there is for when hactl cannot end it: it is gone, or the line is.
const hostGrace = 10 * time.Second

// wrapper is the script's frame on the host.
//
//   - coreutils' timeout leads a process group of its own, so ending it ends all
//     that the script started, except what left the group (setsid, systemd-run).
//   - The mark tells the script's output from what a login shell's profile
//     prints; the number after it is the leader of that group.
//   - With stdinNone a watcher reads the session's stdin: sshd closes it when the
//     connection is lost or hactl is killed, and the command ends. With bytes on
//     stdin there is no such watcher: those scripts see EOF themselves, and the
//     time limit holds.
//   - The password line is skipped up to the mark here, since sudo leaves it
//     unread when it does not ask.
type wrapper struct {
	mark    string // random
	label   string // shown in the host's process list
	mode    stdinMode
	skip    bool // stdin begins with lines up to the mark
	script  string
	inline  bool          // the script comes over stdin, before anything else
	timeout time.Duration // 0: none
}

func newWrapper(mark, label string, c call, skip bool) wrapper {
	w := wrapper{mark: mark, label: label, mode: c.mode(), skip: skip, script: c.script}
	if c.timeout > 0 {
		w.timeout = c.timeout + hostGrace
	}
	w.inline = len(Quote(c.script)) > maxArg
	return w
}

func (w wrapper) command() string {
	script := w.script
	if w.inline {
		script = ""
	}
	secs := strconv.FormatInt(int64(w.timeout/time.Second), 10)
	return "timeout -k 5 " + secs + " sh -c " + Quote(w.frame()) + " " + Quote(w.label) + " " + Quote(script)
}

func (w wrapper) frame() string {
	var b strings.Builder
	b.WriteString("export LC_ALL=C; PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin\n")
	if w.skip {
		fmt.Fprintf(&b, "while IFS= read -r l; do [ \"$l\" = %s ] && break; done; l=\n", w.mark)
	}
	b.WriteString("S=$1; set --\n")
	if w.inline {
		// The dot keeps the newlines that $() would cut off.
		fmt.Fprintf(&b, "S=$(head -c %d; echo .); S=${S%%.}\n", len(w.script))
	}
	fmt.Fprintf(&b, "printf '\\n%s %%s\\n' $PPID; printf '\\n%s\\n' >&2\n", w.mark, w.mark)
	if w.mode != stdinNone {
		b.WriteString("eval \"$S\"\n")
		return b.String()
	}
	b.WriteString("exec 3<&0 </dev/null\n" +
		"( read -r _ <&3; kill -TERM $PPID ) >/dev/null 2>&1 &\n" +
		"exec 3<&-\n" +
		"( eval \"$S\" ); r=$?\n" +
		"exec 2>/dev/null; kill $!; exit $r\n")
	return b.String()
}
