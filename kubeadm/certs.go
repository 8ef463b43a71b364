package kubeadm

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/pki"
)

const (
	// renewingFile is there from before the first certificate is renewed until all of
	// them are in use: of a pair, a run that is cut can leave one half behind.
	renewingFile = kubeDir + "/hactl-renewing"
	// kubeletPair is the kubelet's own, which it renews by itself.
	kubeletPair = kubeletDir + "/kubelet-client-current.pem"
)

// renewable is what kubeadm makes on a master and hactl renews, below kubeDir. The
// operator may have removed super-admin.conf, as Kubernetes recommends.
var renewable = []string{
	"pki/apiserver.crt", "pki/apiserver-kubelet-client.crt", "pki/front-proxy-client.crt",
	"controller-manager.conf", "scheduler.conf", "admin.conf", "super-admin.conf",
	controllerCert, schedulerCert,
}

// The client pairs of the controller manager and the scheduler, once their kubeconfigs
// refer to files: both then read a renewed pair by themselves. Their pods have the
// folder of serving pairs mounted.
const (
	controllerCert = "pki/serving/controller-manager-client.crt"
	schedulerCert  = "pki/serving/scheduler-client.crt"
)

// Certificate is one that kubeadm or the kubelet keeps on a host.
type Certificate struct {
	Name     string // of its file, "apiserver.crt"
	NotAfter time.Time

	file string // below kubeDir
	cert *x509.Certificate
}

// readCertificates names those of the files that are there and prints their
// certificates, for two processes in all; no line of a key leaves the host. What
// is not there cannot expire: whether it has to be is the step's matter that made
// it.
func readCertificates(files ...string) string {
	return `cd ` + kubeDir + ` || exit
set --
for f in ` + strings.Join(files, " ") + `; do [ ! -e "$f" ] || { echo "has $f"; set -- "$@" "$f"; }; done
[ $# = 0 ] || head -v -c 65536 -- "$@" | sed -n -E -e '/^==> .* <==$/p' -e '/^-----BEGIN CERTIFICATE-/,/^(-----|==> )/p' -e 's/^ *client-certificate-data: //p' -e 's/^ *client-certificate: .*/file/p'
echo end`
}

// parseCertificates reads what readCertificates printed. A file without a readable
// certificate is an error: its end is not known.
func parseCertificates(out string) ([]Certificate, error) {
	var has []string
	text, file := map[string]string{}, ""
	lines, err := sys.Lines(out)
	if err != nil {
		return nil, err
	}
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if f, ok := strings.CutPrefix(line, "has "); ok {
			has = append(has, f)
		} else if f, ok := strings.CutPrefix(line, "==> "); ok {
			file = strings.TrimSuffix(f, " <==")
		} else {
			text[file] += line + "\n"
		}
	}
	var certs []Certificate
	for _, f := range has {
		pem := []byte(text[f])
		if text[f] == "file\n" { // a kubeconfig that refers to one
			continue
		}
		if strings.HasSuffix(f, ".conf") {
			var err error
			if pem, err = base64.StdEncoding.DecodeString(strings.TrimSpace(text[f])); err != nil {
				pem = nil
			}
		}
		parsed, err := pki.ParseCertificates(pem)
		if err != nil {
			return nil, unreadable(f, err)
		}
		certs = append(certs, Certificate{path.Base(f), parsed[0].NotAfter, f, parsed[0]})
	}
	slices.SortStableFunc(certs, func(a, b Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	return certs, nil
}

func unreadable(file string, err error) error {
	file = path.Join(kubeDir, remote.Clean(file)) // the kubelet's stays as it is
	made := file
	if base, ok := strings.CutSuffix(file, ".crt"); ok {
		made = file + " and " + base + ".key"
	}
	return remote.Hint(fmt.Errorf("read %s: %w", file, err), "if it is damaged, remove %s: hactl up has kubeadm make what is missing", made)
}

// Certificates reads, in one call, until when the certificates that kubeadm and
// the kubelet keep on a host are good, the first to expire first.
func Certificates(ctx context.Context, h remote.Host) ([]Certificate, error) {
	return remote.Ask(ctx, h, certificatesAt(append(slices.Clone(renewable), kubeletPair)...), 0)
}

// certificatesAt asks for certificates and kubeconfigs, by their paths.
func certificatesAt(files ...string) sys.Question[[]Certificate] {
	return sys.Question[[]Certificate]{Title: "read certificates", Script: readCertificates(files...), Parse: parseCertificates}
}

// due says which certificates have to be made anew and why, "" for none.
func due(certs []Certificate, now time.Time) string {
	var out []string
	for i := 0; i < len(certs) && certs[i].NotAfter.Sub(now) < pki.RenewBefore; {
		var names []string
		end := certs[i].NotAfter
		for ; i < len(certs) && certs[i].NotAfter.Format(time.DateOnly) == end.Format(time.DateOnly); i++ {
			names = append(names, certs[i].Name)
		}
		verb := "expire"
		switch {
		case !end.After(now):
			verb = "expired"
		case len(names) == 1:
			verb = "expires"
		}
		out = append(out, strings.Join(names, ", ")+" "+verb+" "+end.Format(time.DateOnly))
	}
	return strings.Join(out, ", ")
}
