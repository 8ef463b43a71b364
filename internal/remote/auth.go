package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// keyring keeps decrypted private keys, so that thirty hosts ask for one
// passphrase once.
type keyring struct {
	mu   sync.Mutex
	ask  func(file string) ([]byte, error)
	keys map[string]ssh.Signer
}

func newKeyring(ask func(string) ([]byte, error)) *keyring {
	return &keyring{ask: ask, keys: map[string]ssh.Signer{}}
}

// credentials are the ways to log in to one target, and how to name them in an
// error. Close ends the talk with the agent.
type credentials struct {
	signers []ssh.Signer
	tried   []string
	conn    net.Conn
}

func (c *credentials) Close() {
	if c.conn != nil {
		_ = c.conn.Close() // a talk that only read
	}
}

func (c *credentials) methods() []ssh.AuthMethod {
	return []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { return c.signers, nil })}
}

// credentialsFor gathers the keys for t: its key file alone when one is named,
// else the agent's keys and then the usual files.
func (o Options) credentialsFor(t *target) (*credentials, error) {
	c := &credentials{}
	var fromAgent []ssh.Signer
	if t.agent {
		fromAgent = c.askAgent(o.Environment.AgentSocket)
	}
	if t.key != "" {
		s, err := o.keys.load(t.key, fromAgent)
		if err != nil {
			c.Close()
			return nil, err
		}
		c.signers = []ssh.Signer{s}
		c.tried = []string{fmt.Sprintf("key %s (%s)", t.key, ssh.FingerprintSHA256(s.PublicKey()))}
		return c, nil
	}
	files := t.identities
	if len(files) == 0 {
		for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
			files = append(files, filepath.Join(o.Environment.Home, ".ssh", name))
		}
	}
	err := c.addFiles(o, files, fromAgent)
	switch {
	case t.identitiesOnly && len(t.identities) > 0:
	case len(t.identities) > 0:
		c.signers = append(c.signers, fromAgent...)
	default:
		c.signers = append(fromAgent, c.signers...)
	}
	if err != nil && len(c.signers) == 0 {
		c.Close()
		return nil, err
	}
	if len(c.signers) == 0 {
		c.Close()
		return nil, Hint(fmt.Errorf("no key to log in with (%s)", strings.Join(c.tried, ", ")),
			"name a private key as ssh.key in the inventory, or run ssh-add")
	}
	return c, nil
}

// addFiles loads those of the private key files that exist. A file that cannot be
// used is no error while another key can be.
func (c *credentials) addFiles(o Options, files []string, fromAgent []ssh.Signer) error {
	var firstErr error
	for _, file := range files {
		s, err := o.keys.load(file, fromAgent)
		if errors.Is(err, fs.ErrNotExist) {
			c.tried = append(c.tried, "no "+file)
			continue
		}
		if err != nil {
			c.tried = append(c.tried, err.Error())
			firstErr = orDefault(firstErr, err)
			continue
		}
		c.tried = append(c.tried, "key "+file)
		c.signers = append(c.signers, s)
	}
	return firstErr
}

// askAgent returns the keys of the ssh agent behind sock.
func (c *credentials) askAgent(sock string) []ssh.Signer {
	if sock == "" {
		c.tried = append(c.tried, "no agent (SSH_AUTH_SOCK is not set)")
		return nil
	}
	conn, err := net.Dial("unix", sock) //nolint:noctx // a socket of this machine
	if err != nil {
		c.tried = append(c.tried, fmt.Sprintf("agent: %v", err))
		return nil
	}
	c.conn = conn
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		c.tried = append(c.tried, fmt.Sprintf("agent: %v", err))
		return nil
	}
	c.tried = append(c.tried, fmt.Sprintf("agent with %d keys", len(signers)))
	return signers
}

// load reads a private key file. A locked one is taken from the agent when that
// holds it, else the passphrase is asked for.
func (k *keyring) load(file string, fromAgent []ssh.Signer) (ssh.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.keys[file]; s != nil {
		return s, nil
	}
	if public := publicKeyIn(file); public != nil { // as ssh -i id.pub: the agent has the other half
		if s := heldBy(fromAgent, public); s != nil {
			return s, nil
		}
		return nil, Hint(fmt.Errorf("%s is a public key, and a private one is needed", file), "name the private key: %s", Quote(strings.TrimSuffix(file, ".pub")))
	}
	pem, err := readKey(file)
	if err != nil {
		return nil, err
	}
	s, err := ssh.ParsePrivateKey(pem)
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		if held := heldBy(fromAgent, locked.PublicKey); held != nil {
			return held, nil // not kept: it works only while the agent's connection is open
		}
		if s, err = k.unlock(file, pem); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, Hint(fmt.Errorf("read private key %s: %w", file, err), "ssh-keygen -y -f %s must print its public key", Quote(file))
	}
	k.keys[file] = s
	return s, nil
}

// heldBy returns the agent's key with that public half, or nil.
func heldBy(fromAgent []ssh.Signer, public ssh.PublicKey) ssh.Signer {
	for _, a := range fromAgent {
		if public != nil && string(a.PublicKey().Marshal()) == string(public.Marshal()) {
			return a
		}
	}
	return nil
}

// publicKeyIn returns the public key that the file holds, nil when it holds none.
func publicKeyIn(file string) ssh.PublicKey {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil
	}
	return key
}

func (k *keyring) unlock(file string, pem []byte) (ssh.Signer, error) {
	if k.ask == nil {
		return nil, Hint(fmt.Errorf("private key %s is protected by a passphrase", file), "ssh-add %s", Quote(file))
	}
	pass, err := k.ask(file)
	if err != nil {
		return nil, fmt.Errorf("ask for the passphrase of %s: %w", file, err)
	}
	s, err := ssh.ParsePrivateKeyWithPassphrase(pem, pass)
	if err != nil {
		return nil, Hint(fmt.Errorf("unlock private key %s: wrong passphrase", file), "ssh-add %s", Quote(file))
	}
	return s, nil
}

// readKey refuses a key that others can read, as ssh does: it is not a secret
// any more, and on a shared machine another user's.
func readKey(file string) ([]byte, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, Hint(fmt.Errorf("read private key: %w", err), "correct ssh.key in the inventory, or make one with ssh-keygen -f %s", Quote(file))
	}
	if st.Mode().IsRegular() && st.Mode().Perm()&0o077 != 0 {
		return nil, Hint(fmt.Errorf("private key %s can be read by others (mode %04o)", file, st.Mode().Perm()), "chmod 600 %s", Quote(file))
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, Hint(fmt.Errorf("read private key: %w", err), "check who owns %s", Quote(file))
	}
	return pem, nil
}
