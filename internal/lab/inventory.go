package lab

import (
	"fmt"
	"path/filepath"
	"strings"
)

// SudoPasswordEnv is the variable that inventory-sudo-password.yaml names.
const SudoPasswordEnv = "HACTL_SUDO_PASSWORD"

// login is one way to reach the hosts.
type login struct {
	file  string
	about string
	ssh   string // lines below "ssh:", after key and knownHosts
}

func (l *Lab) logins(bastionKey string) []login {
	all := []login{
		{"inventory.yaml", "root, by key", "  user: root\n"},
		{"inventory-sudo.yaml", "a user with sudo and no password", "  user: ops\n"},
		{"inventory-sudo-password.yaml", "a user whose sudo asks for the password in " + SudoPasswordEnv,
			"  user: opspw\n  sudoPasswordEnv: " + SudoPasswordEnv + "\n"},
	}
	for _, h := range l.state.Hosts {
		if h.Role != Bastion {
			continue
		}
		all = append(all, login{"inventory-bastion.yaml", "root, through a bastion with its own user, key and host key", fmt.Sprintf(
			"  user: root\n  bastion:\n    address: %q\n    user: jump\n    key: %q\n    hostKey: %q\n",
			l.state.inventoryAddress(h.Host), l.Path("ssh", "bastion_ed25519"), bastionKey)})
	}
	return all
}

// writeInventories writes one inventory per way to log in. inventory.yaml is
// the last: where it is, the others are.
func (l *Lab) writeInventories(bastionKey string) error {
	all := l.logins(bastionKey)
	for i := len(all) - 1; i >= 0; i-- {
		if err := writeAtomic(l.Path(all[i].file), []byte(l.inventory(all[i])), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// system is what a person calls the system of the hosts.
func (l *Lab) system() string {
	switch l.OS() {
	case EL9:
		return "an imitation of Enterprise Linux 9"
	case Ubuntu:
		return "an imitation of Ubuntu"
	}
	if l.state.VM {
		return "virtual machines with Debian " + l.OS()
	}
	return "Debian " + l.OS()
}

// emulationFactor is how many times as long everything takes on a machine that is emulated
// in software, as its inventories say.
const emulationFactor = 10

// inventory renders one inventory. It is written out rather than marshalled,
// so that it reads like one that an operator wrote.
func (l *Lab) inventory(in login) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Local hosts of hactl lab %s (%s): %s.\n", l.state.Name, l.system(), in.about)
	fmt.Fprintf(&b, "# They are reached from the lab's hub only: hactl lab hub --name %s -- hactl up -i %s\n", l.state.Name, filepath.Join(l.Dir, in.file))
	fmt.Fprintf(&b, "apiVersion: hactl/v1\nkind: Cluster\ncluster: %s\nvip:\n  address: %q\n", l.state.Name, planFor(l.state.IPv6).vip)
	if l.state.emulated() {
		// etcd's timers are settings, which the factor leaves alone.
		fmt.Fprintf(&b, "slowHosts: %d\netcd: {electionTimeout: 5s, heartbeatInterval: 500ms}\n", emulationFactor)
	}
	fmt.Fprintf(&b, "ssh:\n%s  key: %q\n  knownHosts: %q\n  agent: false\n", in.ssh, l.Path("ssh", "id_ed25519"), l.Path("ssh", "known_hosts"))
	if !l.state.VM {
		// The machine's kernel has no modules and no config file for kubeadm to read.
		b.WriteString("kubernetes:\n  ignorePreflight: [SystemVerification]\n")
		// All hosts have the disk of the machine, however full that is.
		b.WriteString("  kubelet:\n    evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}\n")
	}
	packages := "present"
	if l.state.Bare {
		packages = "install"
	}
	fmt.Fprintf(&b, "artifacts:\n  source: upload\n  osPackages: %s\nhosts:\n", packages)
	for _, h := range l.state.Hosts {
		role := "control-plane"
		switch h.Role {
		case Worker:
			role = "worker"
		case Bastion:
			continue
		}
		fmt.Fprintf(&b, "  - name: %s\n    address: %q\n    role: %s\n", h.Name, l.state.inventoryAddress(h.Host), role)
	}
	return b.String()
}
