package remote

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"hactl/internal/remote/sshdtest"
	"hactl/inventory"
)

func (w *world) refused(t *testing.T, text, hint string) error {
	t.Helper()
	c, err := Connect(t.Context(), w.inv, w.host(), w.opts)
	if err == nil {
		c.Close()
		t.Fatal("connected")
	}
	wantUnreachable(t, err, text, hint)
	return err
}

func TestUnknownHostIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	w.host().SSH.KnownHosts = filepath.Join(t.TempDir(), "none")
	w.refused(t, "is not known yet; it shows ssh-ed25519 SHA256:", "hactl trust master-1")
	if n := w.srv.Connections(); n != 1 {
		t.Errorf("%d tries for a host key failure", n)
	}
}

func TestChangedHostKeyNamesFileLineAndBothFingerprints(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	other := sshdtest.NewKey(t).PublicKey()
	file := write(t, filepath.Join(t.TempDir(), "known_hosts"), "# hosts\n"+knownhosts.Line([]string{knownhosts.Normalize(w.srv.Addr)}, other)+"\n", 0o600)
	w.host().SSH.KnownHosts = file
	err := w.refused(t, "("+file+":2)", "hactl trust master-1")
	for _, want := range []string{"changed", ssh.FingerprintSHA256(other), w.srv.HostKey().Type()} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
	var hk *HostKeyError
	if !errors.As(err, &hk) || hk.Why != "changed" {
		t.Errorf("no HostKeyError in %v", err)
	}
}

func TestUnreadableKnownHostsLineIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	w.host().SSH.KnownHosts = write(t, filepath.Join(t.TempDir(), "kh"), "\n\nhost ssh-ed25519 garbage\n", 0o600)
	w.refused(t, "read known_hosts", "line 3 of")
}

func TestRevokedKeyIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	line := string(ssh.MarshalAuthorizedKey(w.srv.HostKey()))
	w.host().SSH.KnownHosts = write(t, filepath.Join(t.TempDir(), "kh"), "@revoked * "+line, 0o600)
	w.refused(t, "revoked", "hactl trust")
}

// The server prefers ed25519; only its ECDSA key is known.
func TestKnownKeyTypeIsAskedFor(t *testing.T) {
	t.Parallel()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	known, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	for name, pin := range map[string]string{
		"known_hosts": "", "pinned key": string(ssh.MarshalAuthorizedKey(known.PublicKey())), "pinned fingerprint": ssh.FingerprintSHA256(known.PublicKey()),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, sshdtest.Config{HostKeys: []ssh.Signer{known, sshdtest.NewKey(t)}})
			if pin != "" {
				w.host().SSH.HostKey, w.host().SSH.KnownHosts = pin, "/nonexistent"
			}
			w.connect(t)
		})
	}
}

func TestWrongPinIsRefused(t *testing.T) {
	t.Parallel()
	other := sshdtest.NewKey(t).PublicKey()
	for _, pin := range []string{string(ssh.MarshalAuthorizedKey(other)), ssh.FingerprintSHA256(other)} {
		w := newWorld(t, sshdtest.Config{})
		w.host().SSH.HostKey = pin
		w.refused(t, "changed", "correct hostKey in the inventory")
	}
	w := newWorld(t, sshdtest.Config{})
	w.host().SSH.HostKey = "nonsense"
	w.refused(t, "read hostKey of master-1", "ssh-ed25519 AAAA...")
}

func TestKeyFileTroubleIsNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make       func(t *testing.T, w *world) string
		text, hint string
	}{
		"missing": {func(t *testing.T, _ *world) string { return filepath.Join(t.TempDir(), "id") }, "no such file", "ssh-keygen"},
		"world-readable": {func(t *testing.T, w *world) string {
			b, _ := os.ReadFile(w.srv.ClientKey)
			return write(t, filepath.Join(t.TempDir(), "id"), string(b), 0o644)
		}, "can be read by others (mode 0644)", "chmod 600"},
		"not a key":  {func(t *testing.T, _ *world) string { return write(t, filepath.Join(t.TempDir(), "id"), "x", 0o600) }, "read private key", "ssh-keygen -y"},
		"passphrase": {func(t *testing.T, _ *world) string { return lockedKey(t) }, "protected by a passphrase", "ssh-add"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, sshdtest.Config{})
			w.host().SSH.Key = c.make(t, w)
			w.refused(t, c.text, c.hint)
			if w.srv.Connections() != 0 {
				t.Error("dialled without a key")
			}
		})
	}
}

// lockedKey is a private key whose passphrase is "open sesame". It was made with
// ssh-keygen -a 1: the usual 16 rounds take the race detector seconds.
func lockedKey(t *testing.T) string {
	t.Helper()
	return write(t, filepath.Join(t.TempDir(), "locked"), string(readFile(t, "testdata/locked_ed25519")), 0o600)
}

func lockedPublicKey(t *testing.T) ssh.PublicKey {
	t.Helper()
	key, _, _, _, err := ssh.ParseAuthorizedKey(readFile(t, "testdata/locked_ed25519.pub"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func readFile(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPassphraseIsAskedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{AuthorizedKeys: []ssh.PublicKey{lockedPublicKey(t)}})
	w.host().SSH.Key = lockedKey(t)
	asked := 0
	w.opts.Passphrase = func(string) ([]byte, error) { asked++; return []byte("open sesame"), nil }
	second := *w.host()
	second.Name = "master-2"
	up, down := ConnectAll(t.Context(), w.inv, []*inventory.Host{w.host(), &second}, w.opts)
	defer CloseAll(up)
	if len(up) != 2 || asked != 1 {
		t.Errorf("up %v, down %v, asked %d times", up, down, asked)
	}
	w.opts.Passphrase = func(string) ([]byte, error) { return []byte("wrong"), nil }
	w.refused(t, "wrong passphrase", "ssh-add")
}

func TestAgentLogsIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{AuthorizedKeys: []ssh.PublicKey{lockedPublicKey(t)}})
	raw, err := ssh.ParseRawPrivateKeyWithPassphrase(readFile(t, lockedKey(t)), []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: raw}); err != nil {
		t.Fatal(err)
	}
	w.env.AgentSocket = serveAgent(t, ring)
	locked := lockedKey(t)
	for _, key := range []string{"", locked} { // a locked key file that the agent holds needs no passphrase
		w.host().SSH.Key = key
		w.connect(t)
	}
	no := false
	w.host().SSH.Key, w.host().SSH.Agent = "", &no
	w.refused(t, "no key to log in with", "ssh-add")
}

// serveAgent is an ssh agent with those keys; it returns its socket.
func serveAgent(t *testing.T, ring agent.Agent) string {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "agent")
	ln, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(ring, c); _ = c.Close() }()
		}
	}()
	return sock
}

func newPrivateKey(t *testing.T) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pub, priv
}

func TestDefaultKeyFilesAreTried(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	b, _ := os.ReadFile(w.srv.ClientKey)
	if err := os.Mkdir(filepath.Join(w.env.Home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(w.env.Home, ".ssh", "id_ecdsa"), string(b), 0o600)
	w.host().SSH.Key = ""
	w.connect(t)
}

func TestRefusedLoginSaysWhatWasTried(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]sshdtest.Config{"key": {RefuseAllKeys: true}, "password only": {PasswordOnly: true}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, cfg)
			w.refused(t, "user tester was refused; tried key "+w.srv.ClientKey, "authorized_keys")
			if n := w.srv.Connections(); n != 1 {
				t.Errorf("%d tries for a refused login", n)
			}
		})
	}
}

func TestTransientDialFailuresAreTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{DropFirst: 2})
	w.connect(t)
	w = newWorld(t, sshdtest.Config{DropFirst: 3})
	w.refused(t, "(3 tries)", "is the host up")
}

func TestRefusedPortIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	p := w.throughProxy(t)
	p.Refuse()
	w.refused(t, "connection refused (3 tries)", "is sshd running")
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
	c := w.connect(t)
	p.Refuse() // sshd restarted under a connection that lives
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the loss is seen", func() bool { return !c.link.alive() })
	if got := mustRun(t, c, "echo on"); got != "on\n" {
		t.Error(got)
	}
}

func TestHostThatAcceptsAndHangsIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	w.opts.Dial = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		return ours, nil
	}
	w.host().SSH.ConnectTimeout = 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		w.refused(t, "no answer to the ssh handshake within 10s", "is the host up")
	})
}

func TestConnectStopsWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{HangAfterAccept: true})
	w.host().SSH.ConnectTimeout = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := Connect(ctx, w.inv, w.host(), w.opts)
	if !Unreachable(err) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestConnectAllReportsEachHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	bad := *w.host()
	bad.Name, bad.SSH.User, bad.SSH.HostKey = "master-2", "tester", ssh.FingerprintSHA256(sshdtest.NewKey(t).PublicKey())
	up, down := ConnectAll(t.Context(), w.inv, []*inventory.Host{w.host(), &bad}, w.opts)
	defer CloseAll(up)
	if up["master-1"] == nil || down["master-2"] == nil || len(up) != 1 || len(down) != 1 {
		t.Errorf("up %v, down %v", up, down)
	}
}

func withBastion(t *testing.T, w *world, cfg sshdtest.Config) *sshdtest.Server {
	t.Helper()
	jump := sshdtest.Start(t, cfg)
	w.inv.SSH.Bastion = &inventory.Bastion{Address: jump.Host, Port: jump.Port, User: "jumper", Key: jump.ClientKey, KnownHosts: jump.KnownHosts(t, "")}
	return jump
}

func TestBastionIsSharedAndVerified(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	jump := withBastion(t, w, sshdtest.Config{})
	second := *w.host()
	second.Name = "master-2"
	up, down := ConnectAll(t.Context(), w.inv, []*inventory.Host{w.host(), &second}, w.opts)
	if len(up) != 2 {
		t.Fatal(down)
	}
	if got := mustRun(t, up["master-2"], "echo on"); got != "on\n" {
		t.Error(got)
	}
	if n := jump.Connections(); n != 1 {
		t.Errorf("%d connections to the bastion", n)
	}
	jump.CloseConns()
	eventually(t, "a host is reached again", func() bool {
		_, err := up["master-1"].Run(t.Context(), Cmd{Script: "true"})
		return err == nil
	})
	CloseAll(up)

	w.inv.SSH.Bastion.KnownHosts = w.srv.KnownHosts(t, "")
	w.refused(t, "is not known yet", "hactl trust --bastion master-1")
}

func TestBastionTroubleIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	withBastion(t, w, sshdtest.Config{NoForwarding: true})
	w.refused(t, "prohibited", "AllowTcpForwarding")

	w = newWorld(t, sshdtest.Config{})
	withBastion(t, w, sshdtest.Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	w.host().SSH.Port, _ = strconv.Atoi(port)
	_ = ln.Close()
	w.refused(t, "Connection refused", "is the host up")
}
