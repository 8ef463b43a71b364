package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// HostKeyError says that a host showed a key that is not the known one, or that
// no key is known for it.
type HostKeyError struct {
	Addr  string
	Got   string   // "ssh-ed25519 SHA256:…"
	Known []string // the same of the keys known so far, each with "file:line"; empty for an unknown host
	Why   string   // "changed", "unknown" or "revoked"
}

// Error names the file and line and both fingerprints.
func (e *HostKeyError) Error() string {
	switch e.Why {
	case "unknown":
		return fmt.Sprintf("host key of %s is not known yet; it shows %s", e.Addr, e.Got)
	case "revoked":
		return fmt.Sprintf("host key of %s is marked as revoked: %s (%s)", e.Addr, e.Got, strings.Join(e.Known, ", "))
	}
	return fmt.Sprintf("host key of %s changed: known %s, it shows %s", e.Addr, strings.Join(e.Known, ", "), e.Got)
}

func describeKey(k ssh.PublicKey) string { return k.Type() + " " + ssh.FingerprintSHA256(k) }

// keyFamilies are the host key algorithms by type of key, best first.
var keyFamilies = []struct {
	types []string
	algos []string
}{
	{[]string{ssh.KeyAlgoED25519}, []string{ssh.KeyAlgoED25519}},
	{[]string{ssh.KeyAlgoECDSA256}, []string{ssh.KeyAlgoECDSA256}},
	{[]string{ssh.KeyAlgoECDSA384}, []string{ssh.KeyAlgoECDSA384}},
	{[]string{ssh.KeyAlgoECDSA521}, []string{ssh.KeyAlgoECDSA521}},
	{[]string{ssh.KeyAlgoRSA}, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}},
}

var certAlgos = []string{ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01,
	ssh.CertAlgoECDSA521v01, ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01}

// algosFor lists every algorithm, those of the known keys first: the server
// then shows the key that is known although it would rather show another, and
// a changed one can still be seen and named.
func algosFor(known []string) []string {
	var first, rest []string
	for _, f := range keyFamilies {
		if slices.Contains(known, f.types[0]) {
			first = append(first, f.algos...)
		} else {
			rest = append(rest, f.algos...)
		}
	}
	return append(first, rest...)
}

// verifier checks host keys of one target.
type verifier struct {
	check ssh.HostKeyCallback
	// algos are the offers to make, one after another: more than one only for a
	// pinned fingerprint, which does not tell the type of its key.
	algos [][]string
}

func newVerifier(t *target) (*verifier, error) {
	switch {
	case strings.HasPrefix(t.hostKey, "SHA256:"):
		return pinnedFingerprint(t), nil
	case t.hostKey != "":
		return pinnedKey(t)
	}
	return fromKnownHosts(t)
}

func pinnedFingerprint(t *target) *verifier {
	v := &verifier{check: func(addr string, _ net.Addr, key ssh.PublicKey) error {
		if ssh.FingerprintSHA256(key) == strings.TrimRight(t.hostKey, "=") {
			return nil
		}
		return &HostKeyError{Addr: addr, Got: describeKey(key), Known: []string{t.hostKey + " (hostKey in the inventory)"}, Why: "changed"}
	}}
	for _, f := range keyFamilies {
		v.algos = append(v.algos, f.algos)
	}
	return v
}

func pinnedKey(t *target) (*verifier, error) {
	want, _, _, _, err := ssh.ParseAuthorizedKey([]byte(t.hostKey))
	if err != nil {
		return nil, Hint(fmt.Errorf("read hostKey of %s: %w", t.name, err), "write it as 'ssh-ed25519 AAAA...' or 'SHA256:...'")
	}
	check := func(addr string, _ net.Addr, key ssh.PublicKey) error {
		if string(key.Marshal()) == string(want.Marshal()) {
			return nil
		}
		return &HostKeyError{Addr: addr, Got: describeKey(key), Known: []string{describeKey(want) + " (hostKey in the inventory)"}, Why: "changed"}
	}
	return &verifier{check: check, algos: [][]string{algosFor([]string{want.Type()})}}, nil
}

func fromKnownHosts(t *target) (*verifier, error) {
	cb, err := loadKnownHosts(t.knownHosts)
	if err != nil {
		return nil, err
	}
	known, err := knownKeys(cb, t.addr)
	if err != nil {
		return nil, err
	}
	var types []string
	for _, k := range known {
		types = append(types, k.Key.Type())
	}
	algos := algosFor(types)
	if hasAuthority(known) {
		algos = append(slices.Clone(certAlgos), algos...)
	}
	check := func(addr string, remote net.Addr, key ssh.PublicKey) error {
		return hostKeyError(addr, key, cb(addr, remote, key))
	}
	return &verifier{check: check, algos: [][]string{algos}}, nil
}

var badLine = regexp.MustCompile(`^knownhosts: (.*):(\d+): `)

// loadKnownHosts reads the file; one that is not there knows no host. A line
// that cannot be read is an error, not a host without a key: it might be the
// one that revokes a key.
func loadKnownHosts(file string) (ssh.HostKeyCallback, error) {
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return func(string, net.Addr, ssh.PublicKey) error { return &knownhosts.KeyError{} }, nil
	}
	cb, err := knownhosts.New(file)
	if err == nil {
		return cb, nil
	}
	if m := badLine.FindStringSubmatch(err.Error()); m != nil {
		return nil, Hint(fmt.Errorf("read known_hosts: %w", err), "correct or remove line %s of %s", m[2], m[1])
	}
	return nil, Hint(fmt.Errorf("read known_hosts: %w", err), "check %s", file)
}

// knownKeys asks the known_hosts database for the keys of addr, by showing it a
// key that does not exist.
func knownKeys(cb ssh.HostKeyCallback, addr string) ([]knownhosts.KnownKey, error) {
	err := cb(addr, &net.TCPAddr{}, nobodysKey{})
	var keyErr *knownhosts.KeyError
	if errors.As(err, &keyErr) {
		return keyErr.Want, nil
	}
	return nil, fmt.Errorf("look up %s in known_hosts: %w", addr, err)
}

type nobodysKey struct{}

func (nobodysKey) Type() string                        { return "none" }
func (nobodysKey) Marshal() []byte                     { return []byte("none") }
func (nobodysKey) Verify([]byte, *ssh.Signature) error { return errors.New("not a key") }

func hasAuthority(keys []knownhosts.KnownKey) bool {
	for _, k := range keys {
		if lines, err := readLines(k.Filename); err == nil && k.Line <= len(lines) &&
			strings.HasPrefix(strings.TrimSpace(lines[k.Line-1]), "@cert-authority") {
			return true
		}
	}
	return false
}

func hostKeyError(addr string, key ssh.PublicKey, err error) error {
	var mismatch *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &revoked):
		return &HostKeyError{Addr: addr, Got: describeKey(key), Known: []string{whereKnown(revoked.Revoked)}, Why: "revoked"}
	case errors.As(err, &mismatch):
		e := &HostKeyError{Addr: addr, Got: describeKey(key), Why: "unknown"}
		for _, k := range mismatch.Want {
			e.Known, e.Why = append(e.Known, whereKnown(k)), "changed"
		}
		return e
	}
	return &HostKeyError{Addr: addr, Got: describeKey(key) + " (" + err.Error() + ")", Why: "unknown"}
}

func whereKnown(k knownhosts.KnownKey) string {
	return fmt.Sprintf("%s (%s:%d)", describeKey(k.Key), k.Filename, k.Line)
}
