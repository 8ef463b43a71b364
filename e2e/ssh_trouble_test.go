//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hactl/internal/lab"
)

// The hosts of TestSSHTrouble.
const (
	master = "master-1"
	worker = "worker-1"
)

// TestSSHTrouble puts proxies between hactl and the sshd of real hosts and
// breaks, one after another, the line, sshd, the login, sudo and the disks.
// What matters is named within its bound and leaves the other host alone; what
// should not matter does not. Then up goes on from there.
func TestSSHTrouble(t *testing.T) {
	l := newLine(t, lab.Config{Name: named("ssh"), Masters: 1, Workers: 1})
	bare := l.must(t, 2, "plan", "-o", "json").out

	l.noise(t, bare)
	l.refusals(t, bare)
	l.cuts(t)
	l.disks(t)
	t.Run("banner, noise and one session a connection do not matter to up", func(t *testing.T) {
		for _, c := range []change{banner, noisyProfile, oneSession} {
			defer l.everywhere(t, c)()
		}
		l.must(t, 0, "up", "--yes")
		l.inSync(t)
		l.isUp = true
	})
	l.converged(t)
}

// bringUp goes on until the hosts are a cluster, for parts that need one.
func (l *line) bringUp(t *testing.T) {
	t.Helper()
	if !l.isUp {
		l.must(t, 0, "up", "--yes")
		l.isUp = true
	}
}

// change is something done to a host by hand, and its opposite.
type change struct{ do, undo string }

var (
	banner = change{
		`printf 'KEEP OUT\n\033[31mALL OF YOU\033[0m\n%0512d\n' 0 >/etc/issue.net && echo 'Banner /etc/issue.net' >/etc/ssh/sshd_config.d/20-banner.conf && systemctl reload ssh`,
		`rm /etc/ssh/sshd_config.d/20-banner.conf && systemctl reload ssh`}
	// noisyProfile leaves a trace by which it is known that it ran.
	noisyProfile = change{
		`for u in root:/root ops:/home/ops; do f=${u#*:}/.bashrc; cp -p $f $f.kept
{ printf 'echo "welcome to $(hostname)"; echo "no newline" >&2; printf "quote of the day"; printf "more" >&2; : >/tmp/noise-%s\n' ${u%:*}; cat $f.kept; } >$f; done
cp -p /etc/profile /etc/profile.kept; echo 'echo profile; echo profile >&2' >>/etc/profile
echo 'echo rc; echo rc >&2; : >/tmp/noise-rc-$USER' >/etc/ssh/sshrc`,
		`for f in /root/.bashrc /home/ops/.bashrc /etc/profile; do mv $f.kept $f; done; rm -f /etc/ssh/sshrc /tmp/noise-*`}
	oneSession = change{
		`echo 'MaxSessions 1' >/etc/ssh/sshd_config.d/20-sessions.conf && systemctl reload ssh`,
		`rm /etc/ssh/sshd_config.d/20-sessions.conf && systemctl reload ssh`}
)

// on makes the change on a host; the returned func undoes it, once.
func (l *line) on(t *testing.T, host string, c change) (undo func()) {
	t.Helper()
	labOutput(t, l.Lab, host, "set -e\n"+c.do)
	return sync.OnceFunc(func() {
		t.Helper()
		labOutput(t, l.Lab, host, "set -e\n"+c.undo)
	})
}

func (l *line) everywhere(t *testing.T, c change) (undo func()) {
	t.Helper()
	var all []func()
	for _, h := range l.everyHost() {
		all = append(all, l.on(t, h, c))
	}
	return func() {
		t.Helper()
		for _, f := range all {
			f()
		}
	}
}

// noise is what must not matter: the plan is the same as without it.
func (l *line) noise(t *testing.T, bare string) {
	t.Run("a login banner does not matter", func(t *testing.T) {
		defer l.everywhere(t, banner)()
		res := l.asPlanned(t, bare)
		if log := readText(t, res.log); strings.Count(log, "banner: KEEP OUT") != 2 || strings.Contains(log, "\033") {
			t.Errorf("the banners are not in the log, or not cleaned:\n%s", tail(log))
		}
	})
	t.Run("a profile that prints does not matter", func(t *testing.T) {
		defer l.everywhere(t, noisyProfile)()
		defer l.through(t, "inventory.yaml")
		for _, file := range []string{"inventory.yaml", "inventory-sudo.yaml"} {
			l.through(t, file)
			l.asPlanned(t, bare)
		}
		for _, h := range l.everyHost() {
			if got := labOutput(t, l.Lab, h, "cd /tmp; ls -d noise-*"); got != "noise-ops\nnoise-rc-ops\nnoise-rc-root\nnoise-root" {
				t.Errorf("on %s it ran for %q", h, got)
			}
		}
	})
	t.Run("sudo with a lecture and a terminal of its own does not matter", func(t *testing.T) {
		defer l.everywhere(t, change{"echo 'Defaults use_pty,lecture=always' >/etc/sudoers.d/00-pty", "rm /etc/sudoers.d/00-pty"})()
		defer l.through(t, "inventory.yaml")
		for _, file := range []string{"inventory-sudo.yaml", "inventory-sudo-password.yaml"} {
			l.through(t, file)
			l.env = []string{lab.SudoPasswordEnv + "=" + l.SudoPassword()}
			l.asPlanned(t, bare)
			l.env = nil
		}
	})
	t.Run("one session a connection does not matter", func(t *testing.T) {
		defer l.everywhere(t, oneSession)()
		l.asPlanned(t, bare)
		c, err := labLogin(t, l.Lab, "root", "id_ed25519", addressOf(t, l.rig, master))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.NewSession(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.NewSession(); err == nil {
			t.Error("sshd allows a second session: nothing was tried")
		}
	})
	t.Run("a slow line is not silent", func(t *testing.T) {
		for _, p := range l.to {
			p.Throttle(30_000, 300*time.Millisecond)
			defer p.Throttle(0, 0)
		}
		res := l.asPlanned(t, bare)
		took(t, "ssh: plan over 30 KB/s and 300 ms", res.took)
		if res.took < 2*time.Second {
			t.Error("the line was not slow")
		}
	})
}

// refusals are troubles that are found before anything is changed.
func (l *line) refusals(t *testing.T, bare string) {
	t.Run("a host that accepts and says nothing is named", func(t *testing.T) {
		l.to[worker].Hang()
		defer l.to[worker].Resume()
		res := l.untouched(t, func() result { return l.hactl(t, "up", "--yes") })
		saysWhy(t, res, 3, "is the host up", worker, "dial 127.0.0.1:", "no answer to the ssh handshake within "+connectTimeout.String())
		took(t, "ssh: two dials", res.took)
	})
	t.Run("a host that hangs after the handshake is named", func(t *testing.T) {
		defer l.to[worker].Resume()
		var hung time.Time
		res := l.untouched(t, func() result {
			x := l.start(t, nil, "up", "--yes")
			x.logs(t, worker+`: run "take the lock"`)
			l.to[worker].Hang()
			hung = time.Now()
			return x.wait(t)
		})
		saysWhy(t, res, 3, "run the same command again", worker, "no answer for 15s")
		took(t, "ssh: silence", time.Since(hung))
	})
	for _, c := range []sudoTrouble{
		{"no sudo right is named", "inventory-sudo.yaml", change{"mv /etc/sudoers.d/ops /root/", "mv /root/ops /etc/sudoers.d/"},
			"become root as ops: sudo asks for a password", "sudo -l -U ops"},
		{"no sudo right, with a password, is named", "inventory-sudo-password.yaml", change{"mv /etc/sudoers.d/opspw /root/", "mv /root/opspw /etc/sudoers.d/"},
			"become root as opspw: sudo does not let the user", "visudo: opspw ALL=(ALL) ALL"},
		{wrongPassword, "inventory-sudo-password.yaml", change{"cp -p /etc/shadow /root/; echo opspw:another | chpasswd", "mv /root/shadow /etc/shadow"},
			"become root as opspw: sudo refused the password", "export " + lab.SudoPasswordEnv},
		{"requiretty is named", "inventory-sudo.yaml", change{"echo 'Defaults requiretty' >/etc/sudoers.d/tty", "rm /etc/sudoers.d/tty"},
			"become root as ops: sudo wants a terminal (requiretty)", "visudo: Defaults:ops !requiretty"},
	} {
		t.Run(c.what, func(t *testing.T) { l.sudo(t, c, bare) })
	}
	t.Run("a read-only /etc/kubernetes is found by the preflight", func(t *testing.T) {
		defer l.on(t, worker, change{"mkdir /etc/kubernetes; " + readOnly("/etc/kubernetes").do, "umount /etc/kubernetes; rmdir /etc/kubernetes"})()
		res := l.untouched(t, func() result { return l.hactl(t, "up", "--yes") })
		saysWhy(t, res, 1, "remount the file system", worker, "preflight mount-options", "/etc/kubernetes, which is read-only")
	})
}

// sudoTrouble is something wrong with sudo on the worker.
type sudoTrouble struct {
	what, file   string
	change       change
	reason, hint string
}

const wrongPassword = "a wrong sudo password is named, and tried once a run"

// sudo runs plan and up, which are both refused, and plan again once it was put
// right.
func (l *line) sudo(t *testing.T, c sudoTrouble, bare string) {
	defer l.through(t, "inventory.yaml")
	l.through(t, c.file)
	password := []string{lab.SudoPasswordEnv + "=" + l.SudoPassword()}
	undo := l.on(t, worker, c.change)
	defer undo()
	for _, verb := range [][]string{{"plan"}, {"up", "--yes"}} {
		res := l.untouched(t, func() result { return l.start(t, password, verb...).wait(t) })
		saysWhy(t, res, 3, c.hint, worker, c.reason)
		took(t, "ssh: "+verb[0]+" until sudo is refused", res.took)
		if strings.Contains(res.err, master) {
			t.Errorf("it speaks of the host without trouble: %s", res)
		}
	}
	if c.what == wrongPassword {
		if got := labOutput(t, l.Lab, worker, "journalctl -q -t sudo | grep -c 'authentication failure'"); got != "2" {
			t.Errorf("two runs tried the password %s times", got)
		}
	}
	undo()
	if res := l.start(t, password, "plan", "-o", "json").wait(t); res.code != 2 || res.out != bare {
		t.Errorf("after it was put right: %s", res)
	}
}

// gate puts a program that hangs in the place of one that a step runs.
func gate(name string) change {
	return change{
		fmt.Sprintf(`printf '#!/bin/sh\necho x >>/run/began\nsleep 314\n' >/usr/local/sbin/%s; chmod +x /usr/local/sbin/%[1]s`, name),
		fmt.Sprintf(`rm /usr/local/sbin/%s /run/began`, name)}
}

// unprepared makes something to do on a host that is prepared.
func (l *line) unprepared(t *testing.T, hosts ...string) {
	t.Helper()
	for _, h := range hosts {
		labOutput(t, l.Lab, h, "rm -f /opt/cni/bin/portmap")
	}
}

// ended checks that the program in the gate ran once and goes on no longer.
func (l *line) ended(t *testing.T, host string) {
	t.Helper()
	if _, err := l.Output(t.Context(), host, `n=0; while pgrep -x -f 'sleep 314'; do n=$((n+1)); [ $n -lt 100 ] || exit 1; sleep 0.05; done`); err != nil {
		t.Errorf("the command goes on on %s: %v", host, err)
	}
	if got := labOutput(t, l.Lab, host, "cat /run/began"); got != "x" {
		t.Errorf("the command began %d times", strings.Count(got, "x"))
	}
}

// killSSHD ends the listener and every session of a host, not what they run.
const killSSHD = `for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" != sshd ] || kill -9 ${p#/proc/}; done; sleep 0.5; systemctl restart ssh`

// cuts are connections that are lost while something is changed.
func (l *line) cuts(t *testing.T) {
	const stage = "prepare hosts"
	for _, c := range []struct {
		what string
		cut  func(*testing.T)
	}{
		{"a connection cut in the middle of a command is named", func(*testing.T) { l.to[master].Cut() }},
		{"sshd killed in the middle of a command is named", func(t *testing.T) { labOutput(t, l.Lab, master, killSSHD) }},
	} {
		t.Run(c.what, func(t *testing.T) {
			l.unprepared(t, worker)
			before := l.must(t, 2, "plan", "-o", "json").out
			defer l.on(t, master, gate("useradd"))()
			x := l.start(t, nil, "up", "--yes", "-o", "json")
			labOutput(t, l.Lab, master, `n=0; until [ -e /run/began ]; do n=$((n+1)); [ $n -lt 600 ] || exit 1; sleep 0.05; done`)
			at := time.Now()
			c.cut(t)
			res := x.wait(t)
			saysWhy(t, res, 3, "run the same command again", "host/"+master+"/etcd-user", "user etcd: connection lost", "outcome unknown")
			took(t, "ssh: the loss is seen", res.failedAfter(t, master, at))
			l.ended(t, master)
			l.stopped(t, worker, stage, before)
		})
	}
	t.Run("a connection cut in the middle of an upload is named", func(t *testing.T) {
		l.unprepared(t, worker)
		kubelet := labOutput(t, l.Lab, master, "f=$(readlink /usr/bin/kubelet); rm -f $f; echo $f")
		before := l.must(t, 2, "plan", "-o", "json").out
		l.to[master].CutAfter(20 << 20) // the kubelet comes first, and is larger
		res := l.hactl(t, "up", "--yes", "-o", "json")
		saysWhy(t, res, 3, "run the same command again", "host/"+master+"/binary-kubelet", "send "+kubelet+": connection lost", "outcome unknown")
		l.nothingAt(t, master, kubelet)
		l.stopped(t, worker, stage, before)
	})
}

// nothingAt: neither the file is there nor a part of it under another name.
func (l *line) nothingAt(t *testing.T, host, path string) {
	t.Helper()
	script := fmt.Sprintf(`n=0; while ls -d %s || ls -d %s/.hactl-*; do n=$((n+1)); [ $n -lt 100 ] || exit 1; sleep 0.05; done 2>/dev/null`, path, filepath.Dir(path))
	if got, err := l.Output(t.Context(), host, script); err != nil {
		t.Errorf("left on %s: %.300s", host, got)
	}
}

// readOnly makes a folder read-only.
func readOnly(dir string) change {
	return change{fmt.Sprintf("mount --bind %s %[1]s && mount -o remount,bind,ro %[1]s", dir), "umount " + dir}
}

// disks are file systems that take no more; the other host finishes the stage.
func (l *line) disks(t *testing.T) {
	for _, c := range []struct {
		what, stage string
		change      change
		hint, step  string
		cause, file string
	}{
		{"a full disk is named", "prepare hosts", change{"mkdir -p /opt/hactl/containerd && mount -t tmpfs -o size=20m tmpfs /opt/hactl/containerd", "umount /opt/hactl/containerd"},
			"df -h /opt/hactl/containerd/", "binary-containerd", "no space left on the host's disk: send", "/opt/hactl/containerd/"},
		{"a disk without inodes is named", "prepare hosts", change{"mount -t tmpfs -o nr_inodes=1 tmpfs /etc/sysctl.d", "umount /etc/sysctl.d"},
			"df -i /etc/sysctl.d", "sysctl-file", "no space left on the host's disk: write", "/etc/sysctl.d/90-hactl.conf"},
		{"a read-only /etc/systemd/system is named", "runtime, etcd and VIP", readOnly("/etc/systemd/system"),
			"remount,rw the file system of /etc/systemd/system", "containerd-unit", "the host's file system is read-only: write", "/etc/systemd/system/containerd.service"},
	} {
		t.Run(c.what, func(t *testing.T) {
			l.unprepared(t, master)
			before := l.must(t, 2, "plan", "-o", "json").out
			undo := l.on(t, worker, c.change)
			defer undo()
			res := l.hactl(t, "up", "--yes", "-o", "json")
			saysWhy(t, res, 1, c.hint, "host/"+worker+"/"+c.step, c.cause+" "+c.file)
			took(t, "ssh: the refusal", res.failedAfter(t, worker, res.begun(t, worker)))
			l.nothingAt(t, worker, c.file)
			undo()
			l.stopped(t, master, c.stage, before)
		})
	}
}

// converged are faults that need a cluster which is up.
func (l *line) converged(t *testing.T) {
	t.Run("a read-only file system under a command is named", func(t *testing.T) {
		l.bringUp(t)
		labOutput(t, l.Lab, worker, "systemctl disable kubelet")
		defer l.on(t, worker, readOnly("/etc/systemd/system"))()
		res := l.hactl(t, "up", "--yes")
		saysWhy(t, res, 1, "remount,rw the file system", "kubeadm/"+worker+"/kubelet", "the host's file system is read-only", "/etc/systemd/system/")
		took(t, "ssh: up", res.took)
	})
	t.Run("sshd restarted during a run does not matter", func(t *testing.T) {
		l.bringUp(t)
		l.must(t, 0, "up", "--yes")
		l.drift(t, master)
		l.drift(t, worker)
		x := l.start(t, nil, "up", "--yes", "-o", "json")
		for _, h := range l.everyHost() {
			x.logs(t, h+`: run "take the lock"`)
			labOutput(t, l.Lab, h, "systemctl restart ssh")
		}
		if log := readText(t, x.res.log); strings.Contains(log, "end: exit=") {
			t.Errorf("the run was over by then:\n%s", tail(log))
		}
		// The two parameters.
		if res := x.wait(t); res.code != 0 || res.up(t).Changed != 2 {
			t.Errorf("%s", res)
		}
	})
}
