package remote

import (
	"cmp"
	"fmt"
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

	identities     []string // IdentityFile of the ssh configuration, when key is ""
	identitiesOnly bool     // no keys but these
}

// targetOf merges the host's ssh settings over the inventory's, and these over the
// operator's ssh configuration, in which the host's address is the alias.
func targetOf(inv *inventory.Inventory, h *inventory.Host, env *Environment) (target, error) {
	s := mergeSSH(inv.SSH, h.SSH)
	file := func(p string) string { return resolve(p, env.Home) }
	t := target{
		name:       h.Name,
		user:       s.User,
		key:        file(s.Key),
		agent:      s.Agent == nil || *s.Agent,
		knownHosts: file(orDefault(s.KnownHosts, "~/.ssh/known_hosts")),
		hostKey:    s.HostKey,
		timeout:    orDefault(s.ConnectTimeout, defaultConnect),
	}
	cfg, err := loadSSHConfig(env.SSHConfig, env.Home, 0)
	if err != nil {
		return t, unreachable(&t, "read the ssh configuration", err)
	}
	r := resolver{cfg: cfg, home: env.Home, login: env.Getenv("USER")}
	jumps, err := r.fill(&t, h.Address, s.Port)
	if err != nil {
		return t, unreachable(&t, "read the ssh configuration", err)
	}
	if b := s.Bastion; b != nil {
		jump := t
		jump.bastion, jump.user, jump.hostKey = true, b.User, b.HostKey
		jump.key = orDefault(file(b.Key), file(s.Key))
		jump.knownHosts = orDefault(file(b.KnownHosts), t.knownHosts)
		further, err := r.fillFor(&jump, b.Address, b.Port, t.user)
		if err == nil {
			jump.via, err = r.chain(&jump, further)
		}
		if err != nil {
			return t, unreachable(&t, "read the ssh configuration", err)
		}
		t.via = &jump
		return t, nil
	}
	if t.via, err = r.chain(&t, jumps); err != nil {
		return t, unreachable(&t, "read the ssh configuration", err)
	}
	return t, nil
}

// resolver completes targets from the ssh configuration.
type resolver struct {
	cfg   *sshConfig
	home  string
	login string // the operator's login name here, which ssh takes for jump hosts
	depth int
}

// fill completes t for the alias: what t has already wins. It returns the jump
// hosts that the configuration puts in front of it.
func (r *resolver) fill(t *target, alias string, port int) ([]string, error) {
	return r.fillFor(t, alias, port, "root")
}

func (r *resolver) fillFor(t *target, alias string, port int, user string) ([]string, error) {
	s, err := r.cfg.settings(strings.Trim(alias, "[]"), r.home)
	if err != nil {
		return nil, err
	}
	t.user = cmp.Or(t.user, s.user, user)
	t.addr = net.JoinHostPort(strings.Trim(s.hostName, "[]"), strconv.Itoa(cmp.Or(port, s.port, 22)))
	t.identities, t.identitiesOnly = s.identities, s.only
	return s.jumps, nil
}

// chain makes the targets of jump hosts in front of t: the last one is dialled
// through the one before it.
func (r *resolver) chain(t *target, jumps []string) (via *target, err error) {
	if len(jumps) == 0 {
		return nil, nil
	}
	if r.depth++; r.depth > maxJumps {
		return nil, Hint(fmt.Errorf("more than %d jump hosts in front of %s", maxJumps, t.name), "does a host of the ssh configuration jump through itself?")
	}
	user, alias, port, err := jumpSpec(jumps[len(jumps)-1])
	if err != nil {
		return nil, err
	}
	jump := target{name: t.name, bastion: true, user: user, agent: t.agent, knownHosts: t.knownHosts, timeout: t.timeout}
	own, err := r.fillFor(&jump, alias, port, cmp.Or(r.login, "root"))
	if err != nil {
		return nil, err
	}
	if rest := jumps[:len(jumps)-1]; len(rest) > 0 {
		own = rest // as ssh does: a list replaces what the jump host says itself
	}
	if jump.via, err = r.chain(&jump, own); err != nil {
		return nil, err
	}
	return &jump, nil
}

// maxJumps bounds a chain of jump hosts.
const maxJumps = 8

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

// SSHPort returns the port that the host's sshd was dialled at, whether the
// inventory or the ssh configuration names it; 0 for a host without a connection.
func SSHPort(h Host) int {
	if c, ok := h.(interface{ SSHPort() int }); ok {
		return c.SSHPort()
	}
	return 0
}

// SSHPort is for the function of that name.
func (c *Conn) SSHPort() int {
	_, port, _ := net.SplitHostPort(c.t.addr)
	n, _ := strconv.Atoi(port) // written by us
	return n
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
