package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A lab's network: a hub namespace with the bridge br0, and per host a
// namespace whose eth0 is one end of a veth pair; the other end is a port of
// the bridge and bears the host's name. The hub forwards nothing and has no
// other interface.
const hub = "hub"

func (l *Lab) netns(host string) string { return "hactl." + l.state.Name + "." + host }

func netnsPath(name string) string { return filepath.Join("/run/netns", name) }

// ipBatch runs lines of ip commands; namespace "" is the machine's own.
func ipBatch(ctx context.Context, namespace string, lines ...string) error {
	args := []string{"-batch", "-"}
	if namespace != "" {
		args = append([]string{"-n", namespace}, args...)
	}
	cmd := exec.CommandContext(ctx, "ip", args...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("set up network %s: %w: %s", namespace, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (l *Lab) ensureHub(ctx context.Context) error {
	ns := l.netns(hub)
	if exists(netnsPath(ns)) {
		return nil
	}
	if err := ipBatch(ctx, "", "netns add "+ns); err != nil {
		return err
	}
	return ipBatch(ctx, ns,
		"link set lo up",
		"link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
		fmt.Sprintf("addr add %s/%d dev br0", plan4.gateway, plan4.bits),
		fmt.Sprintf("addr add %s/%d dev br0 nodad", plan6.gateway, plan6.bits),
		"link set br0 up")
}

// connect gives a host its network: as after plugging it in and switching it on.
func (l *Lab) connect(ctx context.Context, h hostState) error {
	if l.state.VM {
		return l.connectMachine(ctx, h)
	}
	ns := l.netns(h.Name)
	if exists(netnsPath(ns)) {
		return nil
	}
	if err := ipBatch(ctx, "", "netns add "+ns); err != nil {
		return err
	}
	err := ipBatch(ctx, l.netns(hub),
		fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %s", h.Name, h.MAC, ns),
		fmt.Sprintf("link set %s master br0 up", h.Name))
	if err != nil {
		return err
	}
	// Real hosts have a default route; this one ends at the hub. Without it a
	// host could not even try to reach a service address.
	return ipBatch(ctx, ns,
		"link set lo up", "link set eth0 up",
		fmt.Sprintf("addr add %s/%d dev eth0", h.Address, plan4.bits),
		fmt.Sprintf("addr add %s/%d dev eth0 nodad", h.Address6, plan6.bits),
		"route add default via "+plan4.gateway,
		"route add default via "+plan6.gateway)
}

// unplug removes the host's cable: no packet leaves it from here on.
func (l *Lab) unplug(ctx context.Context, name string) {
	exec.CommandContext(ctx, "ip", "-n", l.netns(hub), "link", "del", name).Run() //nolint:errcheck // gone is what we want
}

// disconnect removes the host's network with everything that was set in it:
// addresses of keepalived, rules of kube-proxy, interfaces of pods.
func (l *Lab) disconnect(ctx context.Context, name string) error {
	l.unplug(ctx, name)
	return deleteNetns(ctx, l.netns(name))
}

func deleteNetns(ctx context.Context, name string) error {
	if !exists(netnsPath(name)) {
		return nil
	}
	if out, err := exec.CommandContext(ctx, "ip", "netns", "del", name).CombinedOutput(); err != nil {
		return fmt.Errorf("remove network namespace %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// portState tells how the host's port on the bridge stands: "up", "down" or
// "missing".
func (l *Lab) portState(ctx context.Context, name string) string {
	out, err := exec.CommandContext(ctx, "ip", "-n", l.netns(hub), "-o", "link", "show", "dev", name).Output()
	if err != nil {
		return "missing"
	}
	_, flags, _ := strings.Cut(string(out), "<")
	flags, _, _ = strings.Cut(flags, ">")
	for _, f := range strings.Split(flags, ",") {
		if f == "UP" {
			return "up"
		}
	}
	return "down"
}

// Dial connects from the lab's hub, where the operator's machine would stand.
func (l *Lab) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// The thread moves into the hub's network and is never handed back: it
		// ends with this goroutine.
		runtime.LockOSThread()
		f, err := os.Open(netnsPath(l.netns(hub)))
		if err != nil {
			done <- result{err: err}
			return
		}
		defer f.Close()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{err: fmt.Errorf("enter the hub's network: %w", err)}
			return
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// answers tells whether an SSH server greets on the host.
func (l *Lab) answers(ctx context.Context, h Host) bool {
	patience := 2 * time.Second
	if l.state.VM {
		patience = 20 * time.Second // an emulated machine that is busy
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := l.Dial(ctx, "tcp", net.JoinHostPort(h.Address, "22"))
	if err != nil {
		return false
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	greeting := make([]byte, 4)
	if err := conn.SetReadDeadline(deadline); err != nil {
		return false
	}
	n, err := conn.Read(greeting)
	return err == nil && string(greeting[:n]) == "SSH-"
}
