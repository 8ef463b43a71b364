package remote

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/agent"

	"hactl/internal/remote/sshdtest"
	"hactl/inventory"
)

// sshConfigOf writes ~/.ssh/config of the world.
func (w *world) sshConfigOf(t *testing.T, text string) string {
	t.Helper()
	dir := filepath.Join(w.env.Home, ".ssh")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.env.SSHConfig = filepath.Join(dir, "config")
	return write(t, w.env.SSHConfig, text, 0o600)
}

// onlyAlias leaves nothing of the host in the inventory but an alias.
func (w *world) onlyAlias() {
	no := false
	w.host().Address = "box"
	w.host().SSH = inventory.SSH{Sudo: &no, KnownHosts: w.host().SSH.KnownHosts}
}

func TestHostKnownOnlyInTheSSHConfiguration(t *testing.T) {
	t.Parallel()
	for name, layout := range map[string]string{
		"one file":     "Host other\n  Port 1\nHost b?x !bax\n\tHostName=%[1]s\n  user tester\n  Port %[2]d # ours\n  IdentityFile \"%[3]s\"\nHost *\n  User nobody\n",
		"match":        "Match exec \"true\"\n  Port 1\nMatch user x\n  Port 2\nMatch originalhost box,bix\n HostName %[1]s\n User tester\n Port %[2]d\n IdentityFile %[3]s\n",
		"with include": "Include conf.d/*.conf ~/.ssh/none\nHost *\n  User nobody\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sshdtest.Config{})
			text := layout
			if strings.Contains(layout, "%[3]s") {
				text = fmt.Sprintf(layout, w.srv.Host, w.srv.Port, w.srv.ClientKey)
			}
			w.sshConfigOf(t, text)
			if name == "with include" {
				dir := filepath.Join(w.env.Home, ".ssh", "conf.d")
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(dir, "a.conf"), fmt.Sprintf("Host box\nHostName %s\nUser tester\nPort %d\nIdentityFile %s\n", w.srv.Host, w.srv.Port, w.srv.ClientKey), 0o600)
			}
			w.onlyAlias()
			c := w.connect(t)
			if got := mustRun(t, c, "echo on"); got != "on\n" || c.t.user != "tester" || SSHPort(NewCounting(c)) != w.srv.Port {
				t.Errorf("printed %q as %s at port %d", got, c.t.user, SSHPort(c))
			}
		})
	}
}

func TestInventoryWinsOverTheSSHConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	w.sshConfigOf(t, "Host *\n User other\n Port 1\n IdentityFile /no/such\n IdentitiesOnly yes\n ProxyJump none\n")
	if c := w.connect(t); c.t.user != "tester" {
		t.Errorf("logged in as %s", c.t.user)
	}
	withBastion(t, w, sshdtest.Config{})
	w.sshConfigOf(t, "Host box\n HostName 127.0.0.1\n ProxyJump nowhere\n")
	w.host().Address = "box"
	if via := w.target(t).via; via == nil || via.user != "jumper" {
		t.Errorf("jumps through %+v", via)
	}
}

func (w *world) target(t *testing.T) target {
	t.Helper()
	got, err := targetOf(w.inv, w.host(), &w.env)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestProxyJumpChain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	first, second := sshdtest.Start(t, sshdtest.Config{}), sshdtest.Start(t, sshdtest.Config{})
	known := string(readFile(t, w.host().SSH.KnownHosts)) + string(readFile(t, first.KnownHosts(t, ""))) + string(readFile(t, second.KnownHosts(t, "")))
	w.host().SSH.KnownHosts = write(t, filepath.Join(t.TempDir(), "known"), known, 0o600)
	for name, jumps := range map[string]string{
		"a list":  fmt.Sprintf("ProxyJump one,ssh://two@two:%d\n", second.Port),
		"by host": "ProxyJump two@two\nHost two\n ProxyJump one\n",
	} {
		before := [2]int{first.Connections(), second.Connections()}
		w.sshConfigOf(t, fmt.Sprintf("Host box\n HostName %s\n User tester\n Port %d\n IdentityFile %s\n %s", w.srv.Host, w.srv.Port, w.srv.ClientKey, jumps)+
			fmt.Sprintf("Host one\n HostName %s\n Port %d\n IdentityFile %s\n", first.Host, first.Port, first.ClientKey)+
			fmt.Sprintf("Host two\n HostName %s\n Port %d\n IdentityFile %s\n", second.Host, second.Port, second.ClientKey))
		w.onlyAlias()
		c := w.connect(t)
		if got := mustRun(t, c, "echo on"); got != "on\n" {
			t.Errorf("%s: %q", name, got)
		}
		if a, b := first.Connections()-before[0], second.Connections()-before[1]; a != 1 || b != 1 {
			t.Errorf("%s: %d and %d connections to the jump hosts", name, a, b)
		}
	}
	w.sshConfigOf(t, "Host box\n ProxyJump box\n")
	w.refused(t, "more than 8 jump hosts", "jump through itself")
}

func TestTroubleInTheSSHConfigurationIsNamedAndLocated(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Host *\n\nPort many\n":                     "config:3: Port many is not a port",
		"Host *\n ProxyCommand nc %h %p\n":          "config:2: ProxyCommand is not supported",
		"\nHost *\n ProxyJump a:b\n":                "ProxyJump a:b: b is not a port",
		"\nInclude ~/.ssh/config\n":                 "levels of Include",
		"Host *\n User\n":                           "config:2: User has no value",
		"Include sub\nHost box\n HostName x\n":      "sub:2: Port 99999 is not a port",
		"Host *\n Port 0\n":                         "config:2: Port 0 is not a port",
		"Host *\nProxyJump user@\n":                 "names no host",
		"Host *\n ProxyCommand none\n Port 70000\n": "config:3: Port 70000 is not a port",
	} {
		w := newWorld(t, sshdtest.Config{})
		w.sshConfigOf(t, text)
		write(t, filepath.Join(w.env.Home, ".ssh", "sub"), "Host box\nPort 99999\n", 0o600)
		w.onlyAlias()
		_, err := targetOf(w.inv, w.host(), &w.env)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

func TestPublicKeyGivenAsPrivateIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	w.host().SSH.Key = write(t, filepath.Join(t.TempDir(), "id.pub"), string(readFile(t, "testdata/locked_ed25519.pub")), 0o644)
	w.refused(t, "id.pub is a public key", "name the private key: "+strings.TrimSuffix(w.host().SSH.Key, ".pub"))
}

// An agent with many keys makes sshd hang up before the right one is tried.
func TestAgentWithTooManyKeysIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	ring := agent.NewKeyring()
	for range 8 {
		_, priv := newPrivateKey(t)
		if err := ring.Add(agent.AddedKey{PrivateKey: priv}); err != nil {
			t.Fatal(err)
		}
	}
	w.env.AgentSocket = serveAgent(t, ring)
	key := w.host().SSH.Key
	w.host().SSH.Key = ""
	w.refused(t, "too many keys (MaxAuthTries); tried", "name the one key that may log in as ssh.key")
	// What the ssh configuration names is tried first.
	w.sshConfigOf(t, "Host *\n IdentityFile "+key+"\n")
	w.connect(t)
}
