package lab

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// keyPair is an ed25519 pair as OpenSSH files hold it.
type keyPair struct {
	private []byte // PEM
	public  string // "ssh-ed25519 AAAA..."
}

func newKeyPair(comment string) (*keyPair, error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(priv, comment)
	if err != nil {
		return nil, err
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return nil, err
	}
	return &keyPair{private: pem.EncodeToMemory(block), public: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sshPub)))}, nil
}

// clientKey makes the key pair of a user of the lab in its ssh folder.
func clientKey(dir, name string) error {
	pair, err := newKeyPair("hactl-lab")
	if err != nil {
		return err
	}
	if err := writeAtomic(filepath.Join(dir, name), pair.private, 0o600); err != nil {
		return err
	}
	return writeAtomic(filepath.Join(dir, name+".pub"), []byte(pair.public+"\n"), 0o644)
}

// writeKnownHosts names every host by both addresses and by name.
func writeKnownHosts(path string, hosts []hostState, keys map[string]string) error {
	var b strings.Builder
	for _, h := range hosts {
		fmt.Fprintf(&b, "%s,%s,%s %s\n", h.Address, h.Address6, h.Name, keys[h.Name])
	}
	return writeAtomic(path, []byte(b.String()), 0o600)
}

func readPublicKey(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}
