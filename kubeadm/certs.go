package kubeadm

import (
	"context"
	"encoding/base64"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/pki"
)

const (
	// renewingFile is there from before the first certificate is renewed until the
	// static pods run with all of them: "the process is older than its files" cannot
	// be seen from outside.
	renewingFile = kubeDir + "/hactl-renewing"
	// kubeletPair is the kubelet's own, which it renews by itself.
	kubeletPair = kubeletDir + "/kubelet-client-current.pem"
)

// renewable is what "kubeadm certs renew all" renews on a master, below kubeDir.
// The operator may have removed super-admin.conf, as Kubernetes recommends.
var renewable = []string{
	"pki/apiserver.crt", "pki/apiserver-kubelet-client.crt", "pki/front-proxy-client.crt",
	"controller-manager.conf", "scheduler.conf", "admin.conf", "super-admin.conf",
}

// Certificate is one that kubeadm or the kubelet keeps on a host.
type Certificate struct {
	Name     string // of its file, "apiserver.crt"
	NotAfter time.Time
}

// readCertificates names those of the files that are there and prints their
// certificates, for two processes in all; no line of a key leaves the host. What
// is not there cannot expire: whether it has to be is the step's matter that made
// it.
func readCertificates(files ...string) string {
	return `cd ` + kubeDir + ` || exit
set --
for f in ` + strings.Join(files, " ") + `; do [ ! -e "$f" ] || { echo "has $f"; set -- "$@" "$f"; }; done
[ $# = 0 ] || head -v -c 65536 -- "$@" | sed -n -E -e '/^==> .* <==$/p' -e '/^-----BEGIN CERTIFICATE-/,/^(-----|==> )/p' -e 's/^ *client-certificate-data: //p'
`
}

// parseCertificates reads what readCertificates printed. A file without a readable
// certificate is an error: its end is not known.
func parseCertificates(out string) ([]Certificate, error) {
	var has []string
	text, file := map[string]string{}, ""
	for line := range strings.Lines(out) {
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
		if strings.HasSuffix(f, ".conf") {
			var err error
			if pem, err = base64.StdEncoding.DecodeString(strings.TrimSpace(text[f])); err != nil {
				pem = nil
			}
		}
		end, err := pki.Expiry(pem)
		if err != nil {
			return nil, unreadable(f, err)
		}
		certs = append(certs, Certificate{path.Base(f), end})
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
	res, err := h.Run(ctx, remote.Cmd{Script: readCertificates(append(slices.Clone(renewable), kubeletPair)...), Title: "read certificates"})
	if err != nil {
		return nil, err
	}
	return parseCertificates(string(res.Stdout))
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

// renew has kubeadm make the certificates anew, each with a new key, and then the
// kubelet the static pods: a process that ends is started again with the files
// that are there. It has 30 s to end, as from the kubelet: an apiserver waits a
// minute for watches that are not ended. The apiserver is the last one, so that the
// others, which begin by asking it, find it.
const renew = `set -e
cd ` + kubeDir + `
` + pidsOf + `again() {
  old=$(pids_of "$1"); [ -n "$old" ] || return 0
  echo "waiting up to 120s for the kubelet to start $1 again"
  for p in $old; do kill "$p" || :; done
  n=0; while now=$(pids_of "$1"); [ -z "$now" ] || [ "$now" = "$old" ]; do
    n=$((n+1)); [ $n != 60 ] || for p in $old; do kill -9 "$p" 2>/dev/null || :; done
    [ $n -lt 240 ] || { echo "the kubelet did not start $1 again within 120 s" >&2; exit 1; }
    sleep 0.5
  done
}
` + mend + `: >` + renewingFile + `; sync ` + renewingFile + ` .
kubeadm certs renew all --config ` + initFile + `
for n in apiserver apiserver-kubelet-client front-proxy-client; do
  [ -e pki/$n.crt ] || kubeadm init phase certs $n --config ` + initFile + `
done
for n in admin kubelet controller-manager scheduler; do
  [ -e $n.conf ] || kubeadm init phase kubeconfig $n --config ` + initFile + `
done
` + settle + `again kube-controller
again kube-scheduler
again kube-apiserver
`

// Renewal returns the step that has kubeadm make its certificates anew before they
// expire, all of a master's at once. It restarts the apiserver, so it wants a stage
// that is serial, and it has to come before steps that use admin.conf.
func (c Cluster) Renewal(h *inventory.Host) plan.Step {
	const key = "certificates of kubeadm"
	return plan.Step{
		ID: id(h, "certificates"), Host: h.Name, Title: "certificates of kubeadm",
		Look: []plan.Look{{Key: key, Script: `[ -e ` + markerFile + ` ] || exit 0
[ ! -e ` + renewingFile + ` ] || { echo renewing; exit 0; }
` + readCertificates(renewable...)}},
		Check: func(_ context.Context, env plan.Env) (*plan.Change, error) {
			a, err := env.Saw(key)
			if err != nil {
				return nil, err
			}
			return renewal(a, time.Now())
		},
		Guard: func(ctx context.Context, env plan.Env) error { return c.Spare(ctx, env, h) },
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			_, err := env.Host.Run(ctx, remote.Cmd{Script: c.SearchPath + renew, Title: "renew certificates", Timeout: 8 * time.Minute, Output: func(line string) { env.Say("%s", line) }})
			return err
		},
		Ready: func(ctx context.Context, env plan.Env) error {
			if err := c.awaitAPI(ctx, env, h, apiserverTimeout, isReady); err != nil {
				return err
			}
			// Only now, as with the manifests: the next master is left alone until then.
			_, err := env.Host.Run(ctx, remote.Cmd{Title: "end the renewal", Script: "rm -f " + renewingFile})
			return err
		},
	}
}

func renewal(a plan.Answer, now time.Time) (*plan.Change, error) {
	if a.Exit != 0 {
		return nil, a.Failed("certificates")
	}
	why := "a renewal was cut off"
	if a.Out != "renewing" {
		certs, err := parseCertificates(a.Out)
		if err != nil {
			return nil, err
		}
		why = due(certs, now)
	}
	if why == "" {
		return nil, nil
	}
	// All are renewed, whichever are due: more of them may be by the step's turn.
	return &plan.Change{Op: plan.Update, Summary: "renew certificates: " + why, Acts: []string{"renew all"}}, nil
}
