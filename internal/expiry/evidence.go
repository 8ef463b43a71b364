// Package expiry joins what the store, the disks, the listening ports and the API show
// of certificates, one row for each, and says what is wrong with it.
package expiry

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"path"
	"strings"
	"time"

	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/pki"
)

// Place is where a certificate was seen.
type Place string

// The places.
const (
	Store Place = "store" // on the operator's machine
	Disk  Place = "disk"  // a file of a host
	Wire  Place = "wire"  // what a process serves
	API   Place = "api"   // an object of the cluster
)

// Sighting is one certificate in one place.
type Sighting struct {
	Place Place
	Host  string // of disk and wire
	What  string // file, port, object or name in the store
	Cert  *x509.Certificate
	// Conf is true for the certificate of a user inside a kubeconfig.
	Conf bool
	// Others is true for a certificate that was not made for the cluster, such as that of a
	// webhook: only its time is judged.
	Others bool
	// Problem is why there is no certificate where one has to be.
	Problem string
}

// Key is a private key on a host.
type Key struct {
	Host, File string
	Mode       string // octal
	Public     string // base64 of its public key, "" when the host has no openssl
}

// Evidence is everything that was seen.
type Evidence struct {
	Seen   []Sighting
	Keys   []Key
	Clocks map[string]time.Duration // how far a host's clock is ahead of this machine's
	Unseen map[string]error         // hosts and parts that could not be looked at
}

// folders are where certificates lie on a host.
var folders = []string{"/etc/etcd/pki", "/etc/kubernetes", "/var/lib/kubelet/pki", "/root/.kube/config"}

// diskScript prints the clock, and then of each file its certificates, of a kubeconfig
// those in it, and of a key its mode and its public half. No line of a key leaves the host.
func diskScript() string {
	return sys.Clock().Script + `
has=; ! command -v openssl >/dev/null 2>&1 || has=1
find ` + strings.Join(folders, " ") + ` -type f ! -name '*.old' 2>/dev/null | while IFS= read -r f; do
case $f in
*/hactl-patches/*|*/manifests/*) continue;;
*.crt|*.pem) echo "cert $f"; sed -n '/^-----BEGIN CERTIFICATE-/,/^-----END CERTIFICATE-/p' "$f";;
*.conf|*/config) echo "conf $f"; sed -n 's/^ *\(client-certificate-data\|certificate-authority-data\|client-certificate\|certificate-authority\): /\1 /p' "$f";;
esac
case $f in
*.key|*.pem)
grep -q 'PRIVATE KEY-' "$f" || continue
p=; [ -z "$has" ] || p=$(openssl pkey -in "$f" -pubout 2>/dev/null | grep -v '^-----' | tr -d '\n')
echo "key $(stat -c %a "$f") ${p:--} $f";;
esac
done
[ ! -L /var/lib/kubelet/pki/kubelet-client-current.pem ] || echo "current $(readlink -f /var/lib/kubelet/pki/kubelet-client-current.pem)"
echo end`
}

// LookAtDisk reads a host's certificates, in one call.
func LookAtDisk(ctx context.Context, h remote.Host) (Evidence, error) {
	before := time.Now()
	return remote.Ask(ctx, h, sys.Question[Evidence]{
		Title: "read certificates", Script: diskScript(),
		Parse: func(answer string) (Evidence, error) { return parseDisk(h.Name(), answer, before, time.Now()) },
	}, 0)
}

// diskParser reads the answer line by line.
type diskParser struct {
	host string
	e    Evidence
	file string
	conf bool
	pem  strings.Builder
}

func parseDisk(host, out string, before, after time.Time) (Evidence, error) {
	p := &diskParser{host: host}
	clock, rest, _ := strings.Cut(out, "\n")
	lines, err := sys.Lines(rest)
	if err != nil {
		return p.e, err
	}
	at, err := sys.ParseTime(clock)
	if err != nil {
		return p.e, err
	}
	p.e.Clocks = map[string]time.Duration{host: sys.Ahead(at, before, after)}
	for _, line := range lines {
		p.line(line)
	}
	p.flush()
	return p.e, nil
}

func (p *diskParser) line(line string) {
	key, value, _ := strings.Cut(line, " ")
	switch key {
	case "cert", "conf":
		p.flush()
		p.file, p.conf = remote.Clean(value), key == "conf"
	case "key":
		f := strings.SplitN(value, " ", 3)
		if len(f) == 3 {
			p.e.Keys = append(p.e.Keys, Key{Host: p.host, File: remote.Clean(f[2]), Mode: remote.Clean(f[0]), Public: strings.TrimPrefix(f[1], "-")})
		}
	case "client-certificate-data", "certificate-authority-data":
		text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
		if err != nil {
			text = nil
		}
		p.add(text, key == "certificate-authority-data", key == "client-certificate-data")
	case "client-certificate", "certificate-authority": // a file, which is seen by itself
	case "current":
		p.flush()
		p.keepCurrent(remote.Clean(value))
	default:
		p.pem.WriteString(line + "\n")
	}
}

// flush ends a file of certificates.
func (p *diskParser) flush() {
	if p.file != "" && !p.conf {
		text := p.pem.String()
		if text != "" || strings.HasSuffix(p.file, ".crt") {
			p.add([]byte(text), isCA(p.file), false)
		}
	}
	p.file = ""
	p.pem.Reset()
}

// isCA reports whether a file holds what is trusted.
func isCA(file string) bool {
	base := path.Base(file)
	return base == "ca.crt" || base == "front-proxy-ca.crt"
}

// add notes the certificates of a PEM text: all of what is trusted, the first of a chain.
func (p *diskParser) add(pem []byte, trust, conf bool) {
	s := Sighting{Place: Disk, Host: p.host, What: p.file, Conf: conf}
	certs, err := pki.ParseCertificates(pem)
	if err != nil {
		s.Problem = "unreadable: " + err.Error()
		p.e.Seen = append(p.e.Seen, s)
		return
	}
	for i, c := range certs {
		if i > 0 && !trust {
			break // the chain of a leaf
		}
		s.Cert = c
		p.e.Seen = append(p.e.Seen, s)
	}
}

// keepCurrent drops the kubelet's earlier pairs, which it keeps beside the current one.
func (p *diskParser) keepCurrent(file string) {
	old := func(f string) bool {
		return f != file && path.Dir(f) == "/var/lib/kubelet/pki" && strings.HasPrefix(path.Base(f), "kubelet-client-")
	}
	var seen []Sighting
	for _, s := range p.e.Seen {
		if !old(s.What) {
			seen = append(seen, s)
		}
	}
	p.e.Seen = seen
}

// Add joins other evidence to e.
func (e *Evidence) Add(o Evidence) {
	e.Seen, e.Keys = append(e.Seen, o.Seen...), append(e.Keys, o.Keys...)
	if e.Clocks == nil {
		e.Clocks, e.Unseen = map[string]time.Duration{}, map[string]error{}
	}
	for k, v := range o.Clocks {
		e.Clocks[k] = v
	}
	for k, v := range o.Unseen {
		e.Unseen[k] = v
	}
}
