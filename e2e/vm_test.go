//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hactl/internal/bundle"
	"hactl/internal/lab"
	"hactl/internal/preflight"
)

// TestVirtualMachine takes one master through what hosts in namespaces cannot show: a kernel,
// a boot, a clock and a disk of its own. It is one test with one bring-up, since a boot
// takes minutes where the machine is emulated.
func TestVirtualMachine(t *testing.T) {
	inTurn(t)
	r := vmRig(t)
	then(t, "a clock that is ten minutes behind is named and refused", r.clockBehind)
	then(t, "cloud-init gives the machine another hostname at a real reboot", r.cloudNames)
	then(t, "one up, and a second one that changes nothing", func(t *testing.T) {
		took(t, "up of a virtual machine", r.must(t, 0, "up", "--yes").took)
		r.nodesReady(t, 1)
		u := r.must(t, 0, "up", "--yes", "-o", "json")
		took(t, "second up of a virtual machine", u.took)
		if u := u.up(t); u.Changed != 0 || !u.Status.Healthy {
			t.Errorf("a second up: %+v", u)
		}
	})
	then(t, "pods are confined by AppArmor", r.podsConfined)
	then(t, "systemd-networkd is restarted", r.networkdRestarts)
	then(t, "netplan takes the interface over", r.netplanApplies)
	then(t, "swap of a unit and of zram is switched off for good", r.swapGoes)
	then(t, "a real reboot: the node is back, without swap, under its name", func(t *testing.T) {
		before := r.bootID(t)
		r.rebootInside(t)
		took(t, "healthy after a real reboot", r.healthy(t))
		if now := r.bootID(t); now == before {
			t.Error("it has not rebooted")
		}
		r.asInventoried(t)
	})
	then(t, "a power cut: what was acknowledged is there", func(t *testing.T) {
		w := &writer{name: "vm"}
		eventually(t, "a write is acknowledged", func() error { return w.write(t, r) })
		before := r.bootID(t)
		labInject(t, r.Lab, lab.Off, "master-1")
		labInject(t, r.Lab, lab.Boot, "master-1")
		took(t, "healthy after a power cut", r.healthy(t))
		if now := r.bootID(t); now == before {
			t.Error("it was not off")
		}
		w.allThere(t, r)
		r.asInventoried(t)
		r.comesInSync(t)
	})
}

// vmRig boots one machine whose disk has the bundle.
func vmRig(t *testing.T) *rig {
	t.Helper()
	dir, err := bundle.Find(bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	hang, runTimeout, askEvery = 4*hang, 4*runTimeout, 10*time.Second
	return newRig(t, lab.Config{Name: nextName("vm"), Masters: 1, VM: true, Golden: dir})
}

// clockBehind sets the machine's own clock back. Certificates made now would not be valid
// there yet.
func (r *rig) clockBehind(t *testing.T) {
	labOutput(t, r.Lab, "master-1", "date -s '-10 minutes'")
	k := r.checks(t, 1)["clock-skew"]
	if k.State != preflight.Failed || len(k.Findings) != 1 || !strings.Contains(k.Findings[0].Message, "off that of this machine") {
		t.Errorf("clock-skew: %+v", k)
	}
	if res := r.hactl(t, "up", "--yes"); res.code != 7 || !strings.Contains(res.err+res.out, "clock") {
		t.Errorf("up with that clock: want exit 7: %s", res)
	}
	labOutput(t, r.Lab, "master-1", "date -s '+10 minutes'")
}

// cloudNames enables cloud-init, with a hostname of its own for the machine, as in a cloud
// whose machine has another name than the inventory gives it.
func (r *rig) cloudNames(t *testing.T) {
	labOutput(t, r.Lab, "master-1", `set -e
mkdir -p /var/lib/cloud/seed/nocloud
printf 'instance-id: one\nlocal-hostname: cloud-name\n' >/var/lib/cloud/seed/nocloud/meta-data
printf '#cloud-config\nusers: []\nssh_deletekeys: false\ndisable_root: false\n' >/var/lib/cloud/seed/nocloud/user-data
printf 'datasource_list: [NoCloud, None]\nnetwork: {config: disabled}\n' >/etc/cloud/cloud.cfg.d/90-test.cfg
rm /etc/cloud/cloud-init.disabled
sync`)
	r.rebootInside(t)
	eventually(t, "cloud-init has given the machine its name", func() error {
		if got := labOutput(t, r.Lab, "master-1", "hostname"); got != "cloud-name" {
			return fmt.Errorf("the hostname is %q", got)
		}
		return nil
	})
}

// bootID is another one after each boot of the kernel.
func (r *rig) bootID(t *testing.T) string {
	t.Helper()
	var id string
	eventually(t, "the machine answers", func() (err error) {
		id, err = r.Output(t.Context(), "master-1", "cat /proc/sys/kernel/random/boot_id")
		return err
	})
	return id
}

// rebootInside reboots the machine as its operator would, and waits until it has booted.
func (r *rig) rebootInside(t *testing.T) {
	t.Helper()
	before := r.bootID(t)
	// The connection may end before the command does.
	if _, err := r.Output(t.Context(), "master-1", "systemctl reboot"); err != nil {
		t.Logf("systemctl reboot: %v", err)
	}
	took(t, "boot of a virtual machine, from the command to ssh", eventually(t, "the machine has rebooted", func() error {
		id, err := r.Output(t.Context(), "master-1", "cat /proc/sys/kernel/random/boot_id")
		if err == nil && id == before {
			err = fmt.Errorf("it has not")
		}
		return err
	}))
}

// networkdRestarts restarts the service that set the machine's addresses, which used to
// remove the VIP for good. One master has no pod routes to lose.
func (r *rig) networkdRestarts(t *testing.T) {
	labOutput(t, r.Lab, "master-1", "systemctl restart systemd-networkd; systemctl is-active systemd-networkd")
	r.healthy(t)
	if owner := r.owner(t); owner != "master-1" {
		t.Errorf("the VIP is on %q", owner)
	}
	r.inSync(t)
}

// podsConfined looks at a process of a pod: the kernel has AppArmor, and containerd loads the
// profile of pods that name none.
func (r *rig) podsConfined(t *testing.T) {
	got := labOutput(t, r.Lab, "master-1", `for d in /proc/[0-9]*; do [ "$(cat $d/comm 2>/dev/null)" != coredns ] || cat $d/attr/current; done | sort -u`)
	if got != "cri-containerd.apparmor.d (enforce)" {
		t.Errorf("CoreDNS runs as %q", got)
	}
	if k := r.checks(t, 0)["apparmor"]; k.State != preflight.Passed {
		t.Errorf("apparmor: %+v", k)
	}
}

// netplanApplies has netplan write the settings of the interface instead of the file that the
// machine was made with, which takes what networkd does not know from the interface.
func (r *rig) netplanApplies(t *testing.T) {
	t.Log(labOutput(t, r.Lab, "master-1", `set -e
i=$(ip -o -4 route show default | sed 's/.* dev \([^ ]*\).*/\1/'); g=$(ip route show default | sed -n '1s/.* via \([^ ]*\) .*/\1/p')
a=$(ip -o address show dev "$i" scope global | grep -v ' 10.77.0.100/' | sed 's/.* inet6* \([^ ]*\).*/"\1"/' | paste -sd, -)
printf 'network:\n  version: 2\n  renderer: networkd\n  ethernets:\n    %s:\n      addresses: [%s]\n      routes: [{to: default, via: %s}]\n' "$i" "$a" "$g" >/etc/netplan/10-lab.yaml
chmod 600 /etc/netplan/10-lab.yaml; rm -f /etc/systemd/network/10-lab.network
netplan apply 2>&1
networkctl status "$i" | grep -E 'State|Network File'`))
	r.healthy(t)
	if owner := r.owner(t); owner != "master-1" {
		t.Errorf("the VIP is on %q", owner)
	}
	r.inSync(t)
}

// swapGoes makes swap of two kinds that come back at a boot, and has up switch them off.
func (r *rig) swapGoes(t *testing.T) {
	labOutput(t, r.Lab, "master-1", `set -e
fallocate -l 64M /swapfile
chmod 600 /swapfile
mkswap /swapfile >/dev/null
printf '[Swap]\nWhat=/swapfile\n[Install]\nWantedBy=swap.target\n' >/etc/systemd/system/swapfile.swap
systemctl daemon-reload
systemctl enable --now --quiet swapfile.swap zramswap.service
[ "$(sed 1d /proc/swaps | wc -l)" = 2 ]`)
	if res := r.must(t, 2, "plan"); !strings.Contains(res.out, "swap") {
		t.Errorf("plan does not name swap: %s", res)
	}
	r.must(t, 0, "up", "--yes")
	if got := labOutput(t, r.Lab, "master-1", "sed 1d /proc/swaps"); got != "" {
		t.Errorf("swap is still on: %s", got)
	}
}

// asInventoried holds the name and the swap of the machine after a boot.
func (r *rig) asInventoried(t *testing.T) {
	t.Helper()
	r.nodesReady(t, 1)
	if got := labOutput(t, r.Lab, "master-1", "hostname; sed 1d /proc/swaps"); got != "master-1" {
		t.Errorf("hostname and swap: %q", got)
	}
	if got := r.kubectlSays(t, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"); got != "master-1" {
		t.Errorf("the nodes are %q", got)
	}
}
