package ops

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hactl/etcd"
	"hactl/internal/bundle"
	"hactl/internal/drill"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/kubeadm"
)

// drillCluster is the session's cluster as a drill wants it.
func (s *session) drillCluster(ctx context.Context, o *DrillOptions) (*drill.Cluster, func(), error) {
	if err := s.loadStore(ctx); err != nil {
		return nil, nil, err
	}
	m := s.material
	conf, err := kubeadm.AdminTLS(m)
	if err != nil {
		return nil, nil, err
	}
	etcdTLS, err := m.TLSConfig()
	if err != nil {
		return nil, nil, err
	}
	inv := cmp.Or(s.steady, s.inv)
	members, err := etcd.Dial(ctx, etcd.MembersOf(inv, s.hosts), etcdTLS)
	if err != nil {
		return nil, nil, err
	}
	c := o.cluster(inv, s.hosts)
	c.TLS, c.Etcd, c.PlanEmpty = conf, drillEtcd{members}, s.planEmpty
	return c, members.Close, nil
}

// cluster is what the inventory and the flags tell of the cluster; with nil hosts
// nothing can be done to it yet.
func (o *DrillOptions) cluster(inv *inventory.Inventory, hosts plan.Hosts) *drill.Cluster {
	c := &drill.Cluster{Settings: drill.Settings{Advert: inv.VIP.AdvertInterval, Heartbeat: time.Duration(inv.Etcd.HeartbeatInterval), Election: time.Duration(inv.Etcd.ElectionTimeout)},
		Name: inv.Cluster, VIP: inv.VIP.Address, API: hostPort(inv.VIP.Address, inv.VIP.Port)}
	if inv.Artifacts.Demo != nil && *inv.Artifacts.Demo {
		c.Demo = bundle.DemoImage
	}
	for _, h := range append(inv.Masters(), inv.Workers()...) {
		c.Members = append(c.Members, drillMember(h, hosts[h.Name], inv.VIP.Port))
	}
	if o.PowerOff != "" {
		c.Power = commandPower{off: o.PowerOff, on: o.PowerOn}
	}
	return c
}

func drillMember(h *inventory.Host, conn remote.Host, apiPort int) *drill.Member {
	m := &drill.Member{Name: h.Name, Addr: h.PrivateAddress, Master: h.Role == inventory.ControlPlane, Host: conn, SSHPorts: []int{22}}
	if port := cmp.Or(remote.SSHPort(conn), h.SSH.Port, 22); port != 22 {
		m.SSHPorts = append(m.SSHPorts, port) // behind a forwarded port sshd may still be on 22
	}
	if conn != nil {
		m.Echo = remote.EchoOf(conn)
	}
	if m.Master {
		m.API = hostPort(h.PrivateAddress, apiPort)
	}
	return m
}

func hostPort(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }

// drillEtcd is etcd for a drill: one client over all members.
type drillEtcd struct{ *etcd.Cluster }

// Put writes one key.
func (e drillEtcd) Put(ctx context.Context, key, value string) error {
	c, err := e.Client()
	if err == nil {
		_, err = c.Put(ctx, key, value)
	}
	return err
}

// Keys lists the keys under prefix.
func (e drillEtcd) Keys(ctx context.Context, prefix string) ([]string, error) {
	c, err := e.Client()
	if err != nil {
		return nil, err
	}
	res, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	var out []string
	for _, kv := range res.Kvs {
		out = append(out, string(kv.Key))
	}
	return out, nil
}

// Clear removes the keys under prefix.
func (e drillEtcd) Clear(ctx context.Context, prefix string) error {
	c, err := e.Client()
	if err == nil {
		_, err = c.Delete(ctx, prefix, clientv3.WithPrefix())
	}
	return err
}

// commandPower switches hosts by commands of the operator's.
type commandPower struct{ off, on string }

func (p commandPower) Off(ctx context.Context, host string) error {
	return powerCommand(ctx, p.off, host)
}

func (p commandPower) On(ctx context.Context, host string) error {
	return powerCommand(ctx, p.on, host)
}

func forHost(command, host string) string {
	return strings.ReplaceAll(command, "{host}", remote.Quote(host))
}

func powerCommand(ctx context.Context, command, host string) error {
	command = forHost(command, host)
	out, err := exec.CommandContext(ctx, "sh", "-c", command).CombinedOutput() //nolint:gosec // the operator's own command
	if err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(remote.Clean(string(out))))
	}
	return nil
}

// Watch starts a process in a session of its own, which outlives this one, and
// switches the host on after a time unless it is called off.
func (p commandPower) Watch(host string, seconds int) (func(), error) {
	c := exec.Command("sh", "-c", fmt.Sprintf("sleep %d; %s", seconds, forHost(p.on, host))) //nolint:gosec,noctx // outlives every context on purpose
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start the watch: %w", err)
	}
	return func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
	}, nil
}
