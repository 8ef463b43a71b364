package goldentest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hactl/internal/testneeds"
)

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), testneeds.Path(t, name), args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
}

// Keepalived has keepalived read the configuration, in a network of its own
// that has an eth0. 0 is the only good exit code: 5 means that something was
// dropped, 6 that a script is not safe to run. Files of the host that must be
// there are, in the copy that is read, files of this machine.
func Keepalived(t testing.TB, conf []byte) {
	t.Helper()
	dir := t.TempDir()
	track := filepath.Join(dir, "track")
	write(t, track, "0\n")
	text := regexp.MustCompile(`(?m)^(\s+file) /\S+$`).ReplaceAllString(string(conf), "$1 "+track)
	text = regexp.MustCompile(`(?m)^(\s+script) /\S+$`).ReplaceAllString(text, "$1 /usr/bin/true")
	file := filepath.Join(dir, "keepalived.conf")
	write(t, file, text)
	testneeds.Tool(t, "ip")
	keepalived := testneeds.Path(t, "keepalived")
	args := testneeds.NetworkNamespace(t)
	if os.Getuid() != 0 {
		// Programs of this machine's root have no owner in there, and so not
		// safe to run: that check is for root alone.
		text = regexp.MustCompile(`(?s)vrrp_script .*?\n}\n`).ReplaceAllString(text, "")
		text = regexp.MustCompile(`(?s)    track_script \{.*?\n    }\n`).ReplaceAllString(text, "")
		write(t, file, text)
	}
	run(t, "unshare", append(args, "sh", "-c",
		`PATH=$PATH:/usr/sbin:/sbin; ip link add eth0 type veth peer name eth1 && ip link set eth0 up && exec "$0" -t -f "$1"`, keepalived, file)...)
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

var execLine = regexp.MustCompile(`(?m)^(Exec\w+=[-@:+!]*)(/\S+)`)

// Units has systemd read units together, by name; a drop-in has its folder in
// its name. Programs that they start need not be on this machine.
func Units(t testing.TB, units map[string][]byte) {
	t.Helper()
	dir := t.TempDir()
	args := []string{"verify", "--man=no", "--recursive-errors=no"}
	for name, b := range units {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, file, string(execLine.ReplaceAll(b, []byte("${1}/bin/true"))))
		if filepath.Dir(name) == "." {
			args = append(args, file)
		}
	}
	out, err := exec.CommandContext(t.Context(), testneeds.Path(t, "systemd-analyze"), args...).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	for name := range units {
		if strings.Contains(string(out), filepath.Base(name)) {
			t.Errorf("systemd-analyze verify %s:\n%s", name, out)
		}
	}
}

// Shell has sh and shellcheck read scripts. except are shellcheck's codes that
// do not apply, each with its reason at the caller.
func Shell(t testing.TB, scripts map[string]string, except ...string) {
	t.Helper()
	dir := t.TempDir()
	args := []string{"--shell=sh", "--severity=style", "--format=gcc", "--exclude=" + strings.Join(append(except, "SC2148"), ",")} // scripts of sh -c have no #! line
	n := 0
	for name, s := range scripts {
		n++
		file := filepath.Join(dir, fmt.Sprintf("%03d-%s", n, strings.Map(plain, name)))
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "sh", "-n", file)
		args = append(args, file)
	}
	run(t, "shellcheck", args...)
}

func plain(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}
