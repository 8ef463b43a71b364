//go:build e2e

package e2e

import (
	"maps"
	"strings"
	"testing"

	"hactl/internal/lab"
)

// restarts are the processes of the control plane on each master, by name.
func (r *rig) restarts(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, m := range r.names(lab.Master) {
		out[m] = labOutput(t, r.Lab, m, `for n in etcd kube-apiserver kube-controller kube-scheduler; do echo "$n $(pgrep -x "$n" | head -n 1)"; done`)
	}
	return out
}

// serials are the certificates of the report, by where they are on disks.
func (c certReport) serials() map[string]string {
	out := map[string]string{}
	for _, r := range c.Certificates {
		for _, p := range r.Places {
			if strings.HasPrefix(p, "disk ") && !r.CA {
				out[p] = r.Serial
			}
		}
	}
	return out
}

// TestCertificatesAreRenewedWithoutARestart renews every certificate of a running
// cluster while requests are sent.
func TestCertificatesAreRenewedWithoutARestart(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	before, processes := r.must(t, 0, "certs", "-o", "json").certs(t).serials(), r.restarts(t)
	if res := r.must(t, 2, "certs", "renew", "--only", "etcd", "--dry-run"); !strings.Contains(res.out, "/etc/etcd/pki/peer.crt") && !strings.Contains(res.out, "etcd") {
		t.Errorf("%s", res)
	}
	then(t, "renew all", func(t *testing.T) {
		took(t, "certs renew --all, measured", r.measured(t, "certs", "renew", "--all").took)
	})
	then(t, "no process of a control plane was started anew", func(t *testing.T) {
		if after := r.restarts(t); !maps.Equal(processes, after) {
			t.Errorf("before %v\nafter %v", processes, after)
		}
	})
	then(t, "every certificate is another one, and in use", func(t *testing.T) {
		after := r.must(t, 0, "certs", "-o", "json").certs(t).serials()
		for place, serial := range before {
			if strings.Contains(place, "kubelet-client-") || strings.HasSuffix(place, ".kube/config") {
				continue // another file by now
			}
			if after[place] == serial || after[place] == "" {
				t.Errorf("%s: serial %s, was %s", place, after[place], serial)
			}
		}
	})
	r.healthy(t)
	r.inSync(t)
}
