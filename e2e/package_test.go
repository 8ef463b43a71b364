//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/bundle"
	"hactl/internal/lab"
)

// TestDebMakesAHostTheOperatorsMachine installs the deb on a host that has nothing of
// hactl, and brings another host up from there.
func TestDebMakesAHostTheOperatorsMachine(t *testing.T) {
	inTurn(t)
	deb := buildDeb(t)
	dir, err := bundle.Find(bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, lab.Config{Name: nextName("deb"), Masters: 1, Workers: 1, Preload: dir})
	const operator = "worker-1"
	r.give(t, operator, "cat >/root/hactl.deb", deb)
	labOutput(t, r.Lab, operator, "dpkg -i /root/hactl.deb >/dev/null")
	then(t, "program, man page and completion are there", func(t *testing.T) {
		labOutput(t, r.Lab, operator, `hactl version && gzip -dcf /usr/share/man/man1/hactl-up.1* | grep -q "take-over" &&
bash -c '. /usr/share/bash-completion/completions/hactl && type __start_hactl' >/dev/null`)
	})
	then(t, "nothing of it runs on the operator's machine", func(t *testing.T) {
		if units := labOutput(t, r.Lab, operator, "find /usr/lib/systemd /etc/systemd -name 'hactl*'"); units != "" {
			t.Errorf("units: %s", units)
		}
	})
	then(t, "up of another host from there, and a second up that changes nothing", func(t *testing.T) {
		r.inventory(t, "inventory.yaml", without(operator))
		text := strings.Replace(readText(t, r.inv), "artifacts:\n", "artifacts:\n  bundle: "+lab.PreloadPath+"\n", 1)
		text = strings.ReplaceAll(withDemo(text), r.Path("ssh"), "/root/ssh")
		r.give(t, operator, "cat >/root/inventory.yaml", []byte(text))
		ssh, err := exec.CommandContext(t.Context(), "tar", "-C", r.Path(), "-c", "ssh").Output()
		if err != nil {
			t.Fatal(err)
		}
		r.give(t, operator, "tar -C /root -x", ssh)
		labOutput(t, r.Lab, operator, "cd /root && hactl up --yes 2>&1")
		labOutput(t, r.Lab, operator, "cd /root && hactl plan 2>&1")
	})
}

// give runs a script on a host with something on its standard input.
func (r *rig) give(t *testing.T, host, script string, stdin []byte) {
	t.Helper()
	cmd, err := r.Exec(t.Context(), host, "sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %s: %v: %s", host, script, err, out)
	}
}

// buildDeb is the deb that make packages builds.
func buildDeb(t *testing.T) []byte {
	t.Helper()
	build := exec.CommandContext(t.Context(), "make", "-C", "..", "packages")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make packages: %v\n%s", err, out)
	}
	debs, err := filepath.Glob("../out/packages/*.deb")
	if err != nil || len(debs) != 1 {
		t.Fatalf("packages: %q, %v", debs, err)
	}
	b, err := os.ReadFile(debs[0])
	if err != nil {
		t.Fatal(err)
	}
	return b
}
