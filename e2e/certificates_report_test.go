//go:build e2e

package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// certReport is hactl certs -o json.
type certReport struct {
	Certificates []struct {
		Name, Host, Serial string
		CA                 bool
		Places             []string
		Findings           []struct{ Kind, Where, Text string }
	}
	Unseen map[string]string
}

func (r result) certs(t *testing.T) certReport {
	t.Helper()
	var c certReport
	if err := json.Unmarshal([]byte(r.out), &c); err != nil {
		t.Fatalf("%v: %s", err, r)
	}
	return c
}

func (c certReport) kinds() string {
	var out []string
	for _, r := range c.Certificates {
		for _, f := range r.Findings {
			out = append(out, f.Kind+" "+f.Where)
		}
	}
	return strings.Join(out, ", ")
}

// TestCertificatesAreReported plants what hactl certs has to find.
func TestCertificatesAreReported(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	res := r.must(t, 0, "certs", "-o", "json")
	took(t, "certs", res.took)
	then(t, "every certificate of a disk is in the report", func(t *testing.T) {
		report := res.certs(t)
		all := res.out
		if len(report.Unseen) > 0 || report.kinds() != "" {
			t.Errorf("findings %q, unseen %v", report.kinds(), report.Unseen)
		}
		files := labOutput(t, r.Lab, "master-1", `grep -rlE 'BEGIN CERTIFICATE-|certificate(-authority)?-data:' /etc/etcd/pki /etc/kubernetes /root/.kube/config 2>/dev/null; readlink -f /var/lib/kubelet/pki/kubelet-client-current.pem; echo /var/lib/kubelet/pki/kubelet.crt`)
		for _, f := range strings.Fields(files) {
			if !strings.Contains(all, "disk master-1:"+f) {
				t.Errorf("%s is not in the report", f)
			}
		}
	})
	then(t, "what is wrong is found", func(t *testing.T) {
		labOutput(t, r.Lab, "master-2", `cd /etc/kubernetes/pki && cp -a apiserver.crt /root/keep.crt && cp serving/server.crt apiserver.crt && chmod 644 serving/server.key`)
		report := r.must(t, 5, "certs", "-o", "json").certs(t)
		labOutput(t, r.Lab, "master-2", `cd /etc/kubernetes/pki && mv /root/keep.crt apiserver.crt && chmod 600 serving/server.key`)
		for _, want := range []string{"key-differs disk master-2:/etc/kubernetes/pki/apiserver.key", "not-in-use disk master-2:/etc/kubernetes/pki/apiserver.crt", "key-mode disk master-2:/etc/kubernetes/pki/serving/server.key"} {
			if !strings.Contains(report.kinds(), want) {
				t.Errorf("want %s in %s", want, report.kinds())
			}
		}
	})
	r.must(t, 2, "certs", "--within", "17520h")
	r.must(t, 0, "certs")
}
