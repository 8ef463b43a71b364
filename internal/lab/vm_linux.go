package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/term"

	"hactl/internal/remote"
)

// A virtual machine of the lab is a qemu process in the hub's network namespace, with a tap
// device that is a port of the bridge and bears the host's name. Its pid file names qemu.

// machineParts are the files of a machine in its folder that replace makes anew.
var machineParts = []string{"seed", "initrd", "disk.qcow2", "uuid", "known_hosts"}

// makeMachine makes the disk of a machine, an overlay on the base's, and the initial RAM disk
// that makes it this host and no other.
func (l *Lab) makeMachine(ctx context.Context, h hostState, files []hostFile, hostKey string) error {
	dir := l.Path("hosts", h.Name)
	seed := filepath.Join(dir, "seed")
	if err := os.MkdirAll(seed, 0o755); err != nil {
		return err
	}
	files = append(files, hostFile{path: "etc/systemd/network/10-lab.network", content: []byte(networkFile(h)), mode: 0o644})
	for _, f := range files {
		if err := overlayFile(filepath.Join(l.state.Base, "root"), seed, f); err != nil {
			return fmt.Errorf("prepare seed of %s: %w", h.Name, err)
		}
	}
	if err := l.joinInitrd(seed, filepath.Join(dir, "initrd")); err != nil {
		return fmt.Errorf("prepare initial RAM disk of %s: %w", h.Name, err)
	}
	uuid, err := newUUID()
	if err != nil {
		return err
	}
	for name, content := range map[string]string{"uuid": uuid, "known_hosts": h.Address + " " + hostKey} {
		if err := writeAtomic(filepath.Join(dir, name), []byte(content+"\n"), 0o600); err != nil {
			return err
		}
	}
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", l.state.Disk, filepath.Join(dir, "disk.qcow2")).CombinedOutput() //nolint:gosec // paths of our own
	if err != nil {
		return fmt.Errorf("make disk of %s: %w: %s", h.Name, err, lastLine(out))
	}
	return nil
}

func (l *Lab) joinInitrd(seed, to string) (err error) {
	base, err := os.Open(filepath.Join(l.state.Base, "initrd"))
	if err != nil {
		return err
	}
	defer base.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	return writeInitrd(out, base, seed)
}

// newUUID is one that the kernel makes.
func newUUID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	return strings.TrimSpace(string(text)), err
}

// connectMachine makes the tap of a machine.
func (l *Lab) connectMachine(ctx context.Context, h hostState) error {
	return ipBatch(ctx, l.netns(hub),
		"tuntap add dev "+h.Name+" mode tap",
		fmt.Sprintf("link set %s master br0 up", h.Name))
}

// startMachine starts qemu and returns when it runs; the system in it takes its time. It
// outlives this process, and has no tie to its terminal.
func (l *Lab) startMachine(h hostState) error {
	groups, err := hierarchies()
	if err != nil {
		return err
	}
	uuid, err := os.ReadFile(l.Path("hosts", h.Name, "uuid"))
	if err != nil {
		return err
	}
	log, err := os.Create(l.Path("hosts", h.Name, "qemu.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	argv := append([]string{"--net=" + netnsPath(l.netns(hub)), "sh", "-c", `read -r _ || exit 1; exec "$@" </dev/null`, "start"},
		l.machineOf(h, strings.TrimSpace(string(uuid))).argv()...)
	cmd := exec.Command("nsenter", argv...) //nolint:gosec,noctx // it outlives the context
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := l.launch(h, cmd, groups); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // reaps it when it ends before this process does
	return nil
}

// sshArgv runs a command as root in a machine: nothing of its own can be entered from
// outside, so it is ssh from the hub, with the host key that the machine has now.
func (l *Lab) sshArgv(h hostState, argv []string) []string {
	dir := l.Path("hosts", h.Name)
	out := []string{
		"nsenter", "--net=" + netnsPath(l.netns(hub)), "--",
		"ssh", "-F", "none", "-i", l.Path("ssh", "id_ed25519"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
		"-o", "UserKnownHostsFile=" + filepath.Join(dir, "known_hosts"), "-o", "StrictHostKeyChecking=yes",
		// An answer takes its time in an emulated machine that is busy.
		"-o", "ConnectTimeout=60", "-o", "ServerAliveInterval=30", "-o", "ServerAliveCountMax=10",
	}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		out = append(out, "-t")
	}
	out = append(out, "root@"+h.Address, "--")
	for _, word := range argv {
		out = append(out, remote.Quote(word)) // ssh hands one line to the shell there
	}
	return out
}
