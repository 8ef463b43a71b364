//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"hactl/internal/lab"
)

// labUp makes a lab that goes with the test, or stays with KEEP=1.
func labUp(t *testing.T, c lab.Config) *lab.Lab {
	t.Helper()
	l := bootLab(t, c)
	t.Cleanup(func() {
		if !slices.Contains(lab.Names(), l.Name()) {
			return // the test has taken it down
		}
		if err := removeOrKeep(l); err != nil {
			t.Errorf("lab down: %v", err)
		}
	})
	return l
}

// labTraces lists what a lab of that name has on the machine.
func labTraces(t *testing.T, name, dir string) []string {
	t.Helper()
	var out []string
	namespaces, _ := filepath.Glob("/run/netns/hactl." + name + ".*")
	cgroups, _ := filepath.Glob("/sys/fs/cgroup/*/hactl-lab-" + name)
	unified, _ := filepath.Glob("/sys/fs/cgroup/hactl-lab-" + name)
	registered, _ := filepath.Glob("/run/hactl-lab/*" + name + "*")
	out = slices.Concat(out, namespaces, cgroups, unified, registered)
	if _, err := os.Stat(dir); err == nil {
		out = append(out, dir)
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, dir) || strings.Contains(line, "hactl."+name+".") {
			out = append(out, "mount "+strings.Fields(line)[4])
		}
	}
	// A process with a mount namespace in which the lab's disk is mounted.
	procs, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, p := range procs {
		if b, err := os.ReadFile(p); err == nil && bytes.Contains(b, []byte("upperdir="+dir+"/")) {
			out = append(out, "process "+filepath.Base(filepath.Dir(p)))
		}
	}
	return out
}

func labOutput(t *testing.T, l *lab.Lab, host, script string) string {
	t.Helper()
	out, err := l.Output(t.Context(), host, script)
	if err != nil {
		t.Fatalf("%s: %s: %v", host, script, err)
	}
	return strings.TrimSpace(out)
}

func labInject(t *testing.T, l *lab.Lab, f lab.Fault, host string) {
	t.Helper()
	if err := l.Inject(t.Context(), f, host); err != nil {
		t.Fatalf("%s %s: %v", f, host, err)
	}
}

func labState(t *testing.T, l *lab.Lab, host string) lab.HostStatus {
	t.Helper()
	all, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.Name == host {
			return s
		}
	}
	t.Fatalf("no status of %s", host)
	return lab.HostStatus{}
}

// labSSH logs in from the hub and runs a command.
func labSSH(t *testing.T, l *lab.Lab, user, key, addr string) error {
	t.Helper()
	client, err := labLogin(t, l, user, key, addr)
	if err != nil {
		return err
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	return session.Run("true")
}

// labLogin logs in from the hub, with the lab's key and known_hosts.
func labLogin(t *testing.T, l *lab.Lab, user, key, addr string) (*ssh.Client, error) {
	t.Helper()
	pem, err := os.ReadFile(l.Path("ssh", key))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	known, err := knownhosts.New(l.Path("ssh", "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	addr = net.JoinHostPort(addr, "22")
	conn, err := l.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c, chans, reqs, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: known, HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	})
	if err != nil {
		_ = conn.Close() // the handshake's own error counts
		return nil, err
	}
	return ssh.NewClient(c, chans, reqs), nil
}

func TestLabHostsAreRealAndDownLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	c := lab.Config{Name: named("real"), Dir: dir, Masters: 2, Workers: 1, Bastion: true}
	l := labUp(t, c)
	for _, h := range l.Hosts() {
		user, key := "root", "id_ed25519"
		if h.Role == lab.Bastion {
			user, key = "jump", "bastion_ed25519"
		}
		for _, addr := range []string{h.Address, h.Address6} {
			if err := labSSH(t, l, user, key, addr); err != nil {
				t.Errorf("log in on %s by %s: %v", h.Name, addr, err)
			}
		}
		if got := labOutput(t, l, h.Name, "hostname; ps -o comm= -p 1"); got != h.Name+"\nsystemd" {
			t.Errorf("%s: %q", h.Name, got)
		}
	}
	if err := labSSH(t, l, "root", "id_ed25519", "10.77.0.5"); err == nil {
		t.Error("the hosts' key opens the bastion")
	}
	if err := labSSH(t, l, "ops", "id_ed25519", "10.77.0.11"); err != nil {
		t.Errorf("the sudo user: %v", err)
	}
	if a, b := labOutput(t, l, "master-1", "cat /etc/machine-id"), labOutput(t, l, "master-2", "cat /etc/machine-id"); a == b || len(a) != 32 {
		t.Errorf("machine-ids %q and %q", a, b)
	}
	labOutput(t, l, "master-1", "runuser -u ops -- sudo -n true; findmnt -no FSTYPE /; systemctl is-active ssh")
	if got := labOutput(t, l, "master-1", "findmnt -no PROPAGATION /"); got != "shared" {
		t.Errorf("root is %s; the kubelet needs it shared", got)
	}
	if out, err := l.Output(t.Context(), "master-1", "ping -c1 -W1 192.0.2.1"); err == nil {
		t.Errorf("there is a route out: %s", out)
	}
	var lines []string
	c.Report = func(line string) { lines = append(lines, line) }
	if _, err := lab.Up(t.Context(), c); err != nil || !strings.Contains(strings.Join(lines, "\n"), "already running") {
		t.Errorf("second up: %v, said %q", err, lines)
	}
	if len(labTraces(t, c.Name, dir)) == 0 {
		t.Fatal("a running lab left no trace: this test looks in the wrong place")
	}
	for i := range 2 {
		if found, err := lab.Down(t.Context(), c.Name, dir); err != nil || found != (i == 0) {
			t.Errorf("down number %d: found %v, %v", i+1, found, err)
		}
	}
	if left := labTraces(t, c.Name, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestLabCutOffHostIsSilentAndRunsOn(t *testing.T) {
	l := labUp(t, lab.Config{Name: named("cut"), Masters: 2})
	before := labState(t, l, "master-1").PID
	labInject(t, l, lab.Cut, "master-1")
	if s := labState(t, l, "master-1"); s.State != lab.StateCut || s.SSH || s.PID != before {
		t.Errorf("cut: %+v", s)
	}
	if out, err := l.Output(t.Context(), "master-2", "ping -c1 -W1 10.77.0.11"); err == nil {
		t.Errorf("it answers its peer: %s", out)
	}
	labOutput(t, l, "master-1", "systemctl is-active ssh")
	labInject(t, l, lab.Heal, "master-1")
	if s := labState(t, l, "master-1"); s.State != lab.StateRunning || !s.SSH || s.PID != before {
		t.Errorf("healed: %+v", s)
	}
}

// A word that names no host or no fault is a mistake on the command line.
func TestLabCommandsNameTheHostsThereAre(t *testing.T) {
	l := labUp(t, lab.Config{Name: named("words"), Masters: 1})
	for words, says := range map[string]string{
		"exec master-9 -- true":       "its hosts are [master-1]",
		"exec master-9":               "its hosts are [master-1]",
		"exec master-1":               "lacks COMMAND",
		"fault cut master-1 master-9": "its hosts are [master-1]",
		"fault flood master-1":        "flood",
	} {
		args := strings.Fields(words)
		args = append([]string{"lab", args[0], "--name", l.Name(), "--dir", l.Dir}, args[1:]...)
		out, err := exec.CommandContext(t.Context(), hactlBinary(t), args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 4 || !strings.Contains(string(out), says) {
			t.Errorf("%s: %v: %s", words, err, out)
		}
	}
	if st, err := l.Status(t.Context()); err != nil || st[0].State != lab.StateRunning {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestLabPowerCutKeepsDisksAndNothingElse(t *testing.T) {
	l := labUp(t, lab.Config{Name: named("off"), Masters: 2})
	labOutput(t, l, "master-1", `echo kept >/root/file; echo kept >/var/lib/etcd/file; echo gone >/run/file; sync
ip addr add 10.77.0.100/32 dev eth0; ip link add dummy0 type dummy; nft add table ip leftover
systemd-run --unit stays sleep 1000`)
	for _, id := range []lab.Fault{lab.Off, lab.Off} { // the second changes nothing
		labInject(t, l, id, "master-1")
	}
	if s := labState(t, l, "master-1"); s.State != lab.StateOff || s.PID != 0 {
		t.Errorf("off: %+v", s)
	}
	if out, err := l.Output(t.Context(), "master-2", "ping -c1 -W1 10.77.0.100"); err == nil {
		t.Errorf("an address of the dead host answers: %s", out)
	}
	if _, err := l.Exec(t.Context(), "master-1", "true"); err == nil {
		t.Error("a command was accepted for a host that is off")
	}
	labInject(t, l, lab.Boot, "master-1")
	if got := labOutput(t, l, "master-1", "cat /root/file /var/lib/etcd/file"); got != "kept\nkept" {
		t.Errorf("disks hold %q", got)
	}
	got := labOutput(t, l, "master-1", `test ! -e /run/file; ip -o addr show to 10.77.0.100; ip -o link show dummy0 2>/dev/null; nft list tables; pgrep -x sleep || true`)
	if got != "" {
		t.Errorf("survived the power cut: %q", got)
	}
	if err := labSSH(t, l, "root", "id_ed25519", "10.77.0.11"); err != nil {
		t.Errorf("it is no longer the same host: %v", err)
	}
}

func TestLabReplacedHostIsEmptyAndAnotherOne(t *testing.T) {
	l := labUp(t, lab.Config{Name: named("replace"), Masters: 1})
	id := labOutput(t, l, "master-1", "echo x >/var/lib/etcd/x; echo x >/root/x; cat /etc/machine-id")
	labInject(t, l, lab.Replace, "master-1")
	if got := labOutput(t, l, "master-1", "ls /var/lib/etcd /root/x 2>/dev/null | grep -x x || true"); got != "" {
		t.Errorf("its disks hold %q", got)
	}
	if got := labOutput(t, l, "master-1", "cat /etc/machine-id"); got == id {
		t.Error("it has the machine-id of the old one")
	}
	var mismatch *knownhosts.KeyError
	if err := labSSH(t, l, "root", "id_ed25519", "10.77.0.11"); !errors.As(err, &mismatch) || len(mismatch.Want) == 0 {
		t.Errorf("want a host key mismatch, got %v", err)
	}
}

func TestLabBareHostInstallsItsPackagesWithoutTheInternet(t *testing.T) {
	l := labUp(t, lab.Config{Name: named("bare"), Masters: 1, Bare: true})
	if out, err := l.Output(t.Context(), "master-1", "command -v keepalived"); err == nil {
		t.Fatalf("a bare host has %s", out)
	}
	labOutput(t, l, "master-1", "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy keepalived runc nftables conntrack socat ethtool")
	labOutput(t, l, "master-1", "keepalived --version 2>&1 && runc --version && nft --version && conntrack --version && socat -V && ethtool --version")
}

func TestLabsWithDifferentNamesDoNotMeet(t *testing.T) {
	a := labUp(t, lab.Config{Name: named("one"), Masters: 1})
	b := labUp(t, lab.Config{Name: named("two"), Masters: 1})
	labOutput(t, a, "master-1", "echo one >/root/who")
	labOutput(t, b, "master-1", "echo two >/root/who")
	labInject(t, a, lab.Off, "master-1")
	if got := labOutput(t, b, "master-1", "cat /root/who"); got != "two" {
		t.Errorf("got %q", got)
	}
	if _, err := lab.Up(t.Context(), lab.Config{Name: named("one"), Masters: 1, Dir: t.TempDir()}); err == nil {
		t.Error("one name was given to two labs")
	}
}

// labUpChild is the body of the process that the next test kills.
func labUpChild(name, dir string) {
	if _, err := lab.Up(context.Background(), lab.Config{Name: name, Dir: dir, Masters: 3}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Two programs that never wait get the time of half a processor, also after a
// host was switched off and on again.
func TestLabBoundsTheProcessorsOfAHost(t *testing.T) {
	inTurn(t)
	l := labUp(t, lab.Config{Name: named("cpus"), Masters: 1, CPUs: 0.5})
	for _, again := range []bool{false, true} {
		if again {
			labInject(t, l, lab.Off, "master-1")
			labInject(t, l, lab.Boot, "master-1")
		}
		start := time.Now()
		out := labOutput(t, l, "master-1", "for i in 1 2; do timeout 2 sh -c 'while :; do :; done' & done; wait; times")
		elapsed := time.Since(start)
		var used time.Duration
		for _, f := range strings.Fields(out)[2:] { // of the children, user and system
			d, err := time.ParseDuration(f)
			if err != nil {
				t.Fatalf("%q: %v", out, err)
			}
			used += d
		}
		// A busy machine gives them less. More than the bound is one quota of a period.
		if share := used.Seconds() / elapsed.Seconds(); used == 0 || share > 0.6 {
			t.Errorf("%v of processor time in %v; booted again: %t", used, elapsed, again)
		}
	}
}

func TestLabDownCleansUpAfterAKilledUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	labUp(t, lab.Config{Name: named("base"), Masters: 1}) // the base is there: only the boot is timed
	for ms := 20; ms <= 1200; ms = ms*3/2 + 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), labUpChildEnv+"="+named("kill")+":"+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(ms)*time.Millisecond, func() { cmd.Process.Kill() }) //nolint:errcheck // it may have ended
		err := cmd.Wait()
		kill.Stop()
		t.Run(fmt.Sprintf("killed after %d ms", ms), func(t *testing.T) {
			t.Logf("child: %v; on the machine: %d traces", err, len(labTraces(t, named("kill"), dir)))
			if ms%2 == 0 { // up again goes on from there
				if _, err := lab.Up(t.Context(), lab.Config{Name: named("kill"), Dir: dir, Masters: 3}); err != nil {
					t.Errorf("up after the kill: %v", err)
				}
			}
			if _, err := lab.Down(t.Context(), named("kill"), dir); err != nil {
				t.Errorf("down after the kill: %v", err)
			}
			if left := labTraces(t, named("kill"), dir); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestLabDownWorksWithoutTheLabsFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	l := labUp(t, lab.Config{Name: named("lost"), Dir: dir, Masters: 1})
	// A host that still boots makes files in the folders that are being removed.
	labOutput(t, l, "master-1", "timeout 60 systemctl is-system-running --wait || :")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if found, err := lab.Down(t.Context(), named("lost"), dir); err != nil || !found {
		t.Errorf("down: found %v, %v", found, err)
	}
	if left := labTraces(t, named("lost"), dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
