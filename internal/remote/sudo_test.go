package remote

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/remote/sshdtest"
	"hactl/internal/testneeds"
)

// fakeSudo behaves as sudo does where it matters: it reads the password byte by
// byte from stdin with -S, asks three times, leaves the rest of stdin alone, and
// reads nothing when it need not ask. It logs its arguments.
const fakeSudo = `#!/bin/sh
dir=$(dirname "$0")
echo "$*" >>"$dir/args"
n= S=
while [ $# -gt 0 ]; do
  case $1 in
    -n) n=1 ;; -k) ;; -S) S=1 ;; -p) shift ;; --) shift; break ;;
    *) echo "bad option $1" >&2; exit 1 ;;
  esac
  shift
done
run() { export SUDO_USER=tester; exec "$@"; }
[ "$MODE" != nopasswd ] || run "$@"
[ "$MODE" != tty ] || { echo "sudo: sorry, you must have a tty to run sudo" >&2; exit 1; }
[ -z "$n" ] || { echo "sudo: a password is required" >&2; exit 1; }
for i in 1 2 3; do
  IFS= read -r pw || { echo "sudo: no password was provided" >&2; exit 1; }
  echo x >>"$dir/attempts"
  if [ "$pw" = "s3cr3t pass'w" ]; then
    [ "$MODE" != notallowed ] || { echo "tester is not in the sudoers file." >&2; exit 1; }
    run "$@"
  fi
  echo "Sorry, try again." >&2
done
echo "sudo: 3 incorrect password attempts" >&2
exit 1
`

const sudoSecret = "s3cr3t pass'w"

func newSudoWorld(t *testing.T, mode string, cfg sshdtest.Config) (*world, string) {
	t.Helper()
	dir := t.TempDir()
	if mode != "missing" {
		write(t, filepath.Join(dir, "sudo"), fakeSudo, 0o755)
	}
	path := dir + ":" + os.Getenv("PATH")
	if mode == "missing" {
		path = emptyPath(t)
	}
	cfg.Env = append(cfg.Env, "PATH="+path, "MODE="+mode)
	w := newWorld(t, cfg)
	w.host().SSH.Sudo = nil // tester is not root, so sudo is the default
	return w, dir
}

// emptyPath has the tools that a command needs, and no sudo.
func emptyPath(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink("/usr/bin/env", filepath.Join(dir, "env")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSudoWithoutPassword(t *testing.T) {
	t.Parallel()
	w, dir := newSudoWorld(t, "nopasswd", sshdtest.Config{Profile: "echo noise"})
	c := w.connect(t)
	mustRun(t, c, "true")
	if args := string(readFile(t, filepath.Join(dir, "args"))); !strings.HasPrefix(args, "-n -- env -i ") || strings.Count(args, "-n -- env -i ") != 1 {
		t.Errorf("sudo ran with %q", args)
	}
	if n := w.srv.Sessions(); n != 1 {
		t.Errorf("%d sessions for one command", n)
	}
}

func TestSudoPasswordReachesNeitherArgvNorStdin(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"password", "nopasswd"} { // in the second sudo reads no password at all
		t.Run(mode, func(t *testing.T) {
			w, dir := newSudoWorld(t, mode, sshdtest.Config{})
			w.host().SSH.SudoPasswordEnv = "HACTL_TEST_SUDO"
			w.env.Getenv = func(name string) string {
				if name == "HACTL_TEST_SUDO" {
					return sudoSecret
				}
				return ""
			}
			var logged []string
			w.opts.Log = func(h, title, line string) { logged = append(logged, h+title+line) }
			c := w.connect(t)
			res, err := c.Run(t.Context(), Cmd{Script: "cat", Stdin: []byte("payload\n")})
			if string(res.Stdout) != "payload\n" {
				t.Errorf("script saw %q (%v)", res.Stdout, err)
			}
			if got := mustRun(t, c, "cat; echo end"); got != "end\n" {
				t.Errorf("script without stdin saw %q", got)
			}
			big := "# " + strings.Repeat("x", 200_000) + "\necho big; cat"
			if res, err := c.Run(t.Context(), Cmd{Script: big, Stdin: []byte("in")}); err != nil || string(res.Stdout) != "big\nin" {
				t.Errorf("long script: %v", err)
			}
			args, _ := os.ReadFile(filepath.Join(dir, "args"))
			for _, text := range append(logged, string(args)) {
				if strings.Contains(text, "s3cr3t") {
					t.Errorf("password found in %q", text)
				}
			}
		})
	}
}

func TestSudoRefusalsAreNamed(t *testing.T) {
	t.Parallel()
	ask := func(pw string) func(string) (string, error) {
		return func(string) (string, error) { return pw, nil }
	}
	for name, c := range map[string]struct {
		mode, reason, hint string
		ask                func(string) (string, error)
	}{
		"no password known": {"password", SudoNeedsPassword, "ssh.sudoPasswordEnv", nil},
		"wrong password":    {"password", SudoWrongPassword, "type the password of tester", ask("wrong")},
		"not in sudoers":    {"notallowed", SudoNotAllowed, "visudo: tester ALL", ask(sudoSecret)},
		"requiretty":        {"tty", SudoNeedsTTY, "!requiretty", nil},
		"no sudo":           {"missing", SudoMissing, "install sudo", nil},
	} {
		t.Run(name, func(t *testing.T) {
			w, dir := newSudoWorld(t, c.mode, sshdtest.Config{})
			w.opts.SudoPassword = c.ask
			conn := w.connect(t)
			for range 3 {
				_, err := conn.Run(t.Context(), Cmd{Script: "true", Stdin: []byte("secret payload")})
				wantUnreachable(t, err, c.reason, c.hint)
				var se *SudoError
				if !errors.As(err, &se) || se.Reason != c.reason {
					t.Errorf("error %v", err)
				}
			}
			if c.ask != nil && c.mode == "password" {
				if n, _ := os.ReadFile(filepath.Join(dir, "attempts")); string(n) != "x\n" {
					t.Errorf("attempts %q: a wrong password is tried once, and nothing else in its place", n)
				}
			}
		})
	}
}

func TestSudoPasswordPromptFailure(t *testing.T) {
	t.Parallel()
	w, _ := newSudoWorld(t, "password", sshdtest.Config{})
	w.opts.SudoPassword = func(string) (string, error) { return "", errors.New("no terminal") }
	_, err := w.connect(t).Run(t.Context(), Cmd{Script: "true"})
	wantUnreachable(t, err, SudoNeedsPassword+" (no terminal)", "sudo -l -U tester")
}

func TestNobodyIsAskedForAPasswordThatSudoDoesNotWant(t *testing.T) {
	t.Parallel()
	w, _ := newSudoWorld(t, "nopasswd", sshdtest.Config{})
	w.opts.SudoPassword = func(string) (string, error) { t.Error("asked"); return "", errors.New("no terminal") }
	mustRun(t, w.connect(t), "true")
}

func TestSudoTakesTheLockAndWritesFiles(t *testing.T) {
	testneeds.Tool(t, "flock")
	t.Parallel()
	w, _ := newSudoWorld(t, "password", sshdtest.Config{MaxSessions: 1})
	w.opts.SudoPassword = func(string) (string, error) { return sudoSecret, nil }
	c := w.connect(t)
	release, err := Lock(t.Context(), c, "me")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	file := filepath.Join(t.TempDir(), "a", "b")
	if err := c.Put(t.Context(), File{Path: file, Content: []byte("x\n"), Owner: w.owner}); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(file); string(b) != "x\n" {
		t.Errorf("content %q", b)
	}
}
