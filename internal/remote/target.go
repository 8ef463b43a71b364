package remote

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hactl/inventory"
)

// target is one sshd to log in to: a host or a bastion, every default filled in.
type target struct {
	name       string // inventory name of the host
	bastion    bool   // this is the jump host in front of it
	addr       string // host:port, as known_hosts is asked
	user       string
	key        string // "" means agent, then the default keys
	agent      bool
	knownHosts string
	hostKey    string // pinned; "" means known_hosts
	timeout    time.Duration
	via        *target // its bastion
}

// targetOf merges the host's ssh settings over the inventory's.
func targetOf(inv *inventory.Inventory, h *inventory.Host, home string) target {
	s := mergeSSH(inv.SSH, h.SSH)
	file := func(p string) string { return resolve(p, home) }
	t := target{
		name:       h.Name,
		addr:       net.JoinHostPort(strings.Trim(h.Address, "[]"), strconv.Itoa(orDefault(s.Port, 22))),
		user:       orDefault(s.User, "root"),
		key:        file(s.Key),
		agent:      s.Agent == nil || *s.Agent,
		knownHosts: file(orDefault(s.KnownHosts, "~/.ssh/known_hosts")),
		hostKey:    s.HostKey,
		timeout:    orDefault(s.ConnectTimeout, defaultConnect),
	}
	if b := s.Bastion; b != nil {
		jump := t
		jump.bastion = true
		jump.addr = net.JoinHostPort(strings.Trim(b.Address, "[]"), strconv.Itoa(orDefault(b.Port, 22)))
		jump.user = orDefault(b.User, t.user)
		jump.hostKey = b.HostKey
		if b.Key != "" {
			jump.key = file(b.Key)
		}
		if b.KnownHosts != "" {
			jump.knownHosts = file(b.KnownHosts)
		}
		t.via = &jump
	}
	return t
}

func mergeSSH(base, over inventory.SSH) inventory.SSH {
	return inventory.SSH{
		User:            orDefault(over.User, base.User),
		Port:            orDefault(over.Port, base.Port),
		Key:             orDefault(over.Key, base.Key),
		Agent:           orDefault(over.Agent, base.Agent),
		KnownHosts:      orDefault(over.KnownHosts, base.KnownHosts),
		HostKey:         orDefault(over.HostKey, base.HostKey),
		Sudo:            orDefault(over.Sudo, base.Sudo),
		SudoPasswordEnv: orDefault(over.SudoPasswordEnv, base.SudoPasswordEnv),
		ConnectTimeout:  orDefault(over.ConnectTimeout, base.ConnectTimeout),
		Bastion:         orDefault(over.Bastion, base.Bastion),
	}
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// resolve expands ~, as in the default of known_hosts. Relative paths have been
// taken from the inventory's folder when it was loaded.
func resolve(p, home string) string {
	if p == "~" || strings.HasPrefix(p, "~/") {
		return filepath.Join(home, p[1:])
	}
	return p
}

// trustCommand is the command that accepts this target's host key.
func (t *target) trustCommand() string {
	if t.bastion {
		return "hactl trust --bastion " + t.name
	}
	return "hactl trust " + t.name
}

func (t *target) String() string {
	if t.bastion {
		return "bastion " + t.addr
	}
	return t.addr
}
