//go:build e2e

package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/agent"

	"hactl/internal/lab"
	"hactl/internal/preflight"
)

// conditions are hosts as people have them, all at once, and what preflight finds: by
// kind of docs/hosts-as-they-are.md.
var conditions = []struct {
	what, host, make string
	check            string
	severity         preflight.Severity
	says             string
}{
	{"the interface of another pod network", "worker-1", "ip link add cilium_host type bridge; ip link set cilium_host up", "others", preflight.Error, "cilium_host"},
	{"a server of others on a port of etcd", "master-1", "systemd-run --quiet --unit=e2e-port /usr/sbin/sshd -D -p 2379", "ports-free", preflight.Error, "2379"},
	{"iptables drops what is forwarded", "worker-1", "iptables -P FORWARD DROP", "firewall", preflight.Error, "ip filter FORWARD"},
	{"nftables drops what is forwarded", "master-1", "nft add table inet site; nft 'add chain inet site f { type filter hook forward priority 0; policy drop; }'", "firewall", preflight.Error, "inet site f"},
	{"a disk with room, and less of it than the kubelet wants", "worker-1", "mkdir -p /var/lib/kubelet; mount -t tmpfs -o size=64M tmpfs /var/lib/kubelet; head -c 58M /dev/zero >/var/lib/kubelet/big", "disk-space", preflight.Error, "the kubelet evicts pods below 20 %"},
	{"swap of a unit", "master-1", `printf '[Swap]\nWhat=/swapfile\n[Install]\nWantedBy=swap.target\n' >/etc/systemd/system/swapfile.swap; systemctl enable --quiet swapfile.swap`, "swap", preflight.Warning, "when the host boots: swapfile.swap"},
	{"swap of zram", "worker-1", `printf '[Service]\nExecStart=true\n[Install]\nWantedBy=multi-user.target\n' >/etc/systemd/system/zramswap.service; systemctl enable --quiet zramswap.service`, "swap", preflight.Warning, "zramswap.service"},
	{"a proxy for everybody", "worker-1", "printf 'http_proxy=http://proxy.example:3128\nno_proxy=localhost\n' >>/etc/environment", "proxy", preflight.Warning, "no_proxy does not cover"},
	// The operator's clock is ahead of the hosts': they look ten minutes late.
	{"clocks ten minutes behind this machine's", "", `printf '#!/bin/sh\n[ "$#" = 1 ] && { [ "$1" = +%%s%%N ] || [ "$1" = +%%s.%%N ]; } || exec /bin/date "$@"\nexec /bin/date -d @$(($(/bin/date +%%s) - 600)).$(/bin/date +%%N) "$@"\n' >/usr/local/sbin/date; chmod 755 /usr/local/sbin/date`, "clock-skew", preflight.Error, "off that of this machine, which makes the certificates"},
}

// TestPreflightNamesHostsAsTheyAre: one look at hosts of Debian 13 that have everything at once
// names each thing on its host, with a hint.
func TestPreflightNamesHostsAsTheyAre(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: nextName("asis"), Masters: 1, Workers: 1, OS: "trixie"})
	then(t, "logins", r.logins)
	then(t, "the VIP is in another network than the masters", r.vipElsewhere)
	then(t, "all conditions at once", func(t *testing.T) {
		r.inventory(t, "inventory.yaml", func(s string) string { return strings.Replace(s, "nodefs.available: 1%", "nodefs.available: 20%", 1) })
		for _, c := range conditions {
			for _, h := range r.everyHost() {
				if c.host == "" || c.host == h {
					labOutput(t, r.Lab, h, c.make)
				}
			}
		}
		got := r.checks(t, 1)
		for _, c := range conditions {
			if !slices.ContainsFunc(got[c.check].Findings, func(f preflight.Finding) bool {
				return (c.host == "" || f.Host == c.host) && f.Severity == c.severity && strings.Contains(strings.ToLower(f.Message), strings.ToLower(c.says)) && f.Hint != ""
			}) {
				t.Errorf("%s: no %s on %q with %q and a hint: %+v", c.what, c.severity, c.host, c.says, got[c.check])
			}
		}
	})
	then(t, "settings that take a cluster down are refused without a host", r.refusedSettings)
}

// vipElsewhere: it is refused once, with both ways out, and one of them leads there.
func (r *rig) vipElsewhere(t *testing.T) {
	const vip = "10.99.0.100"
	elsewhere := func(s string) string { return strings.Replace(s, `"`+r.VIP()+`"`, vip, 1) }
	r.inventory(t, "inventory.yaml", elsewhere)
	res := r.hactl(t, "preflight")
	if res.code == 0 || strings.Count(res.out+res.err, "vip.address") != 1 || !strings.Contains(res.out+res.err, "as privateAddress") {
		t.Errorf("a VIP in the network of no master: %s", res)
	}
	private := func(s string) string {
		for i, h := range r.everyHost() {
			labOutput(t, r.Lab, h, fmt.Sprintf("ip address replace 10.99.0.%d/24 dev eth0", 11+i))
			line := fmt.Sprintf("    address: %q\n", addressOf(t, r, h))
			s = strings.Replace(s, line, fmt.Sprintf("%s    privateAddress: 10.99.0.%d\n", line, 11+i), 1)
		}
		return s
	}
	r.inventory(t, "inventory.yaml", func(s string) string { return private(elsewhere(s)) })
	for id, k := range r.checks(t, 0) {
		if strings.HasPrefix(id, "vip-") && k.State != preflight.Passed {
			t.Errorf("%s: %+v", id, k)
		}
	}
}

// logins: what the operator has wrong on this machine is named with what to write, and
// what ssh knows is read.
func (r *rig) logins(t *testing.T) {
	t.Helper()
	key := r.Path("ssh", "id_ed25519")
	says := func(what string, want ...string) {
		t.Helper()
		res := r.hactl(t, "plan")
		for _, w := range want {
			if res.code == 0 || res.code == 2 || !strings.Contains(strings.Join(strings.Fields(res.out+res.err), " "), w) {
				t.Errorf("%s: not said: %q: %s", what, w, res)
			}
		}
	}
	r.inventory(t, "inventory.yaml", func(s string) string { return strings.Replace(s, key, key+".pub", 1) })
	says("the public key", "id_ed25519.pub is a public key", "hint: name the private key: "+key)

	r.inventory(t, "inventory.yaml", func(s string) string {
		return strings.NewReplacer("  key: \""+key+"\"\n", "", "agent: false", "agent: true").Replace(s)
	})
	r.env = []string{"SSH_AUTH_SOCK=" + fullAgent(t), "HOME=" + t.TempDir()}
	says("an agent with eight keys", "hint: name the one key that may log in as ssh.key in the inventory, or set ssh.agent: false")

	// Hosts that only ~/.ssh/config knows, the worker by a jump through the master.
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("Host m1\n  HostName %s\nHost w1\n  HostName %s\n  ProxyJump m1\nHost *\n  User root\n  IdentityFile %s\n", addressOf(t, r, "master-1"), addressOf(t, r, "worker-1"), key)
	if err := os.WriteFile(filepath.Join(home, ".ssh", "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	r.inventory(t, "inventory.yaml", func(s string) string {
		s = strings.NewReplacer("  key: \""+key+"\"\n", "", "  user: root\n", "").Replace(s)
		for name, alias := range map[string]string{"master-1": "m1", "worker-1": "w1"} {
			a := addressOf(t, r, name)
			s = strings.Replace(s, fmt.Sprintf("    address: %q\n", a), fmt.Sprintf("    address: %s\n    privateAddress: %s\n", alias, a), 1)
		}
		return s
	})
	cache, err := os.UserCacheDir() // with the bundle
	if err != nil {
		t.Fatal(err)
	}
	r.env = []string{"HOME=" + home, "XDG_CACHE_HOME=" + cache}
	r.must(t, 2, "plan")
	r.reset()
}

// fullAgent is the socket of an agent with more keys than sshd lets a client try.
func fullAgent(t *testing.T) string {
	t.Helper()
	ring := agent.NewKeyring()
	for range 8 {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err == nil {
			err = ring.Add(agent.AddedKey{PrivateKey: key})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket) //nolint:noctx // it is there at once
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(ring, c) }()
		}
	}()
	return socket
}

// refusedSettings are known without a look at a host.
func (r *rig) refusedSettings(t *testing.T) {
	for setting, want := range map[string]string{
		"apiServerExtraArgs: {audit-policy-file: /etc/audit.yaml}":                "kubernetes.files",
		"apiServerExtraArgs: {oidc-ca-file: /etc/ssl/oidc.pem}":                   "kubernetes.files",
		"apiServerExtraArgs: {anonymous-auth: \"false\"}":                         "AuthenticationConfiguration",
		"files: {../policy.yaml: policy.yaml}":                                    "kubernetes.files",
		"kubelet: {clusterDNS: [192.0.2.1], evictionHard: {memory.available: 1}}": "clusterDNS",
	} {
		r.inventory(t, "inventory.yaml", func(s string) string {
			s = strings.Replace(s, "  kubelet:\n    evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}\n", "", 1)
			return strings.Replace(s, "kubernetes:\n", "kubernetes:\n  "+setting+"\n", 1)
		})
		res := r.hactl(t, "validate")
		if res.code == 0 || !strings.Contains(res.out+res.err, want) {
			t.Errorf("%s: it does not say %q: %s", setting, want, res)
		}
	}
	r.reset()
}
