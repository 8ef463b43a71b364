package remote

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"hactl/internal/wait"
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

// hostGrace is added to a command's timeout for the limit on the host. That limit
// ends the command when hactl cannot: hactl was killed, or the connection is lost.
const hostGrace = 10 * time.Second

// hostPath is the PATH of every command on a host. sudo's secure_path (without
// /usr/local/bin on EL) and the login's own PATH do not matter.
const hostPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// frame is what a script on a host runs in. It is the same for every command and
// every login:
//
//   - env -i gives a known environment: PATH, HOME and LC_ALL=C. Proxies, ENV,
//     BASH_ENV and everything else of the login or of /etc/environment is gone:
//     kubeadm copies proxy variables into static pods, and bash runs BASH_ENV.
//   - HACTL_SLOW_HOSTS, where the run has a factor, stretches the script's own bounds.
//   - umask 022, so that parents of new folders can be entered by the users of
//     the services. A script that needs a narrower one sets it.
//   - coreutils' timeout leads a process group of its own. Ending it ends every
//     process of the script, except those that left the group (setsid,
//     systemd-run).
//   - The mark separates the script's output from what a login shell's profile
//     prints. The number after the mark is the pid of the group's leader.
//   - With stdinNone a background process reads the session's stdin. sshd closes
//     it when the connection is lost or hactl is killed, and the command ends.
//     With bytes on stdin there is no such process: those scripts read EOF
//     themselves, and the time limit holds.
//   - The frame skips the password line up to the mark, because sudo leaves it
//     unread when it does not ask.
type frame struct {
	path    string // PATH
	mark    string // random
	label   string // shown in the host's process list
	mode    stdinMode
	skip    bool // stdin begins with lines up to the mark
	script  string
	inline  bool          // the script comes over stdin, before anything else
	timeout time.Duration // 0: none
	slow    int           // factor for the bounds of the script; 1 or less: none
}

func newFrame(path, mark, label string, c call, skip bool) frame {
	f := frame{path: path, mark: mark, label: label, mode: c.mode(), skip: skip, script: c.script, slow: c.slow}
	if c.timeout > 0 {
		f.timeout = c.timeout + hostGrace
	}
	f.inline = len(Quote(c.script)) > maxArg
	return f
}

// command is the line that sshd hands to the login shell.
func (f frame) command() string {
	script := f.script
	if f.inline {
		script = ""
	}
	secs := strconv.FormatInt(int64(f.timeout/time.Second), 10)
	slow := ""
	if f.slow > wait.Usual {
		slow = wait.Env + "=" + strconv.Itoa(f.slow) + " "
	}
	return "env -i HOME=/root LC_ALL=C " + slow + "PATH=" + Quote(f.path) + " timeout -k 5 " + secs + " sh -c " + Quote(f.shell()) + " " + Quote(f.label) + " " + Quote(script)
}

// shell is what runs the script.
func (f frame) shell() string {
	var b strings.Builder
	b.WriteString("umask 022\n")
	if f.skip {
		fmt.Fprintf(&b, "while IFS= read -r l; do [ \"$l\" = %s ] && break; done; l=\n", f.mark)
	}
	b.WriteString("S=$1; set --\n")
	if f.inline {
		// The dot keeps the newlines that $() would cut off.
		fmt.Fprintf(&b, "S=$(head -c %d; echo .); S=${S%%.}\n", len(f.script))
	}
	fmt.Fprintf(&b, "printf '\\n%s %%s\\n' $PPID; printf '\\n%s\\n' >&2\n", f.mark, f.mark)
	if f.mode != stdinNone {
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
