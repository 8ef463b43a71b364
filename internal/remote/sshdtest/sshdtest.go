// Package sshdtest is a real ssh server inside the test process. It runs
// commands with the local sh as the test's own user and can be told to
// misbehave in the ways in which hosts do.
package sshdtest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Config says how the server behaves; the zero value is a sound one.
type Config struct {
	HostKeys         []ssh.Signer    // default: one ed25519 key
	Banner           string          // shown before login
	Profile          string          // shell snippet that runs before every command, like a .bashrc
	Env              []string        // added to the commands' environment, "PATH=..." for a fake sudo
	MaxSessions      int             // per connection; 0 means no limit
	HangAfterAccept  bool            // accept and say nothing
	PasswordOnly     bool            // offer no public key login
	NoForwarding     bool            // refuse direct-tcpip, as AllowTcpForwarding no
	IgnoreKeepAlive  bool            // answer no global request
	DropFirst        int             // close that many connections before the handshake, as MaxStartups
	RefuseAllKeys    bool            // no key may log in
	AuthorizedKeys   []ssh.PublicKey // may log in beside Server.ClientKey
	DropSessionsOpen int             // close the connection at each of the first that many session requests
}

// Server is a running server. It ends with the test.
type Server struct {
	Addr      string // 127.0.0.1:port
	Host      string
	Port      int
	ClientKey string // path of a private key that may log in

	cfg    Config
	signer ssh.Signer // the client's
	ln     net.Listener

	mu       sync.Mutex
	conns    map[net.Conn]bool
	wg       sync.WaitGroup
	accepted atomic.Int64
	sessions atomic.Int64
}

// Start listens on loopback.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	if len(cfg.HostKeys) == 0 {
		cfg.HostKeys = []ssh.Signer{NewKey(t)}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{cfg: cfg, ln: ln, conns: map[net.Conn]bool{}, Addr: ln.Addr().String(), Host: "127.0.0.1"}
	s.Port = ln.Addr().(*net.TCPAddr).Port
	s.ClientKey, s.signer = newKeyFile(t)
	s.wg.Go(s.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		s.CloseConns()
		s.wg.Wait()
	})
	return s
}

// NewKey makes an ed25519 host key.
func NewKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newKeyFile(t testing.TB) (string, ssh.Signer) {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "id_ed25519")
	if err := os.WriteFile(file, pemBytes(block), 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return file, signer
}

// KnownHosts writes a known_hosts file with the server's first host key under
// addr, the server's own when empty.
func (s *Server) KnownHosts(t testing.TB, addr string) string {
	t.Helper()
	if addr == "" {
		addr = s.Addr
	}
	file := filepath.Join(t.TempDir(), "known_hosts")
	line := knownhosts.Line([]string{knownhosts.Normalize(addr)}, s.cfg.HostKeys[0].PublicKey())
	if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Connections returns how many TCP connections were accepted so far.
func (s *Server) Connections() int { return int(s.accepted.Load()) }

// Sessions returns how many sessions were opened so far.
func (s *Server) Sessions() int { return int(s.sessions.Load()) }

// CloseConns cuts every connection; commands see EOF, as with a real sshd.
func (s *Server) CloseConns() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close() // being closed already is fine
	}
}

func (s *Server) accept() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		n := s.accepted.Add(1)
		if n <= int64(s.cfg.DropFirst) {
			_ = c.Close()
			continue
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.wg.Go(func() { s.serve(c) })
	}
}

var errRefused = errors.New("key refused")

func (s *Server) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	if s.cfg.HangAfterAccept {
		_, _ = c.Read(make([]byte, 1<<16)) // the client's version; then nothing until it goes
		_, _ = c.Read(make([]byte, 1<<16))
		return
	}
	sc, chans, reqs, err := ssh.NewServerConn(c, s.config())
	if err != nil {
		return
	}
	if s.cfg.IgnoreKeepAlive {
		go func() {
			for range reqs { //nolint:revive // read and not answered, that is the point
			}
		}()
	} else {
		go ssh.DiscardRequests(reqs)
	}
	s.channels(sc, chans)
}

func (s *Server) config() *ssh.ServerConfig {
	cfg := &ssh.ServerConfig{}
	if s.cfg.Banner != "" {
		cfg.BannerCallback = func(ssh.ConnMetadata) string { return s.cfg.Banner }
	}
	if s.cfg.PasswordOnly {
		cfg.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, errRefused }
	} else {
		cfg.PublicKeyCallback = func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if s.cfg.RefuseAllKeys || !s.authorized(key) {
				return nil, fmt.Errorf("%w: %s", errRefused, ssh.FingerprintSHA256(key))
			}
			return nil, nil
		}
	}
	for _, k := range s.cfg.HostKeys {
		cfg.AddHostKey(k)
	}
	return cfg
}

func (s *Server) authorized(key ssh.PublicKey) bool {
	return slices.ContainsFunc(append(s.cfg.AuthorizedKeys, s.signer.PublicKey()), func(k ssh.PublicKey) bool {
		return bytes.Equal(k.Marshal(), key.Marshal())
	})
}

// HostKey is the public half of the first host key.
func (s *Server) HostKey() ssh.PublicKey { return s.cfg.HostKeys[0].PublicKey() }
