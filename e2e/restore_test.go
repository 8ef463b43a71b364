//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"hactl/internal/lab"
)

// saved is the path of a new snapshot.
func (r *rig) saved(t *testing.T) string {
	t.Helper()
	var s savedSnapshot
	res := r.must(t, 0, "snapshot", "save", "--dir", r.Path("snapshots"), "-o", "json")
	if err := json.Unmarshal([]byte(res.out), &s); err != nil {
		t.Fatalf("%v: %s", err, res)
	}
	return s.File
}

func (r *rig) restores(t *testing.T, what string, args ...string) {
	t.Helper()
	res := r.must(t, 0, append([]string{"restore", "--yes-restore", r.Name()}, args...)...)
	took(t, what, res.took)
	r.inSync(t)
	r.threeVoters(t)
}

// objects are the config maps of the default namespace.
func (r *rig) objects(t *testing.T) string {
	t.Helper()
	return r.kubectlSays(t, "get", "configmap", "-o", "name")
}

// TestRestoreAfterALostQuorum wipes the data of two members of three. What the survivor
// has is restored, and then an older snapshot, in a run that is killed.
func TestRestoreAfterALostQuorum(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")
	file := r.saved(t)
	r.kubectlDoes(t, "create", "configmap", "newer")
	then(t, "a restore has to be confirmed", func(t *testing.T) {
		if res := r.must(t, 4, "restore", file); !strings.Contains(res.err, "--yes-restore "+r.Name()) {
			t.Errorf("%s", res)
		}
	})
	for _, m := range []string{"master-2", "master-3"} {
		labOutput(t, r.Lab, m, "systemctl stop etcd; rm -rf /var/lib/etcd/member")
	}
	then(t, "what the survivor has", func(t *testing.T) {
		r.restores(t, "restore of what a survivor has", "--survivor")
		if got := r.objects(t); !strings.Contains(got, "/newer") || !strings.Contains(got, "/kept") {
			t.Errorf("objects: %s", got)
		}
	})
	then(t, "an older snapshot, by a run that is killed and one that completes it", func(t *testing.T) {
		x := r.start(t, nil, "restore", file, "--yes-restore", r.Name())
		eventually(t, "the data of a master is exchanged", func() error {
			out, err := r.Output(t.Context(), "master-1", "ls /var/lib/etcd")
			if err == nil && !strings.Contains(out, "member.before-r3") {
				err = errors.New(out)
			}
			return err
		})
		_ = x.cmd.Process.Kill()
		x.wait(t)
		r.restores(t, "restore that goes on after a kill", file)
		if got := r.objects(t); strings.Contains(got, "/newer") || !strings.Contains(got, "/kept") {
			t.Errorf("objects: %s", got)
		}
	})
	r.kubectlDoes(t, "delete", "configmap", "kept")
}

// TestRestoreOnEmptyMasters puts empty machines in the place of all masters.
func TestRestoreOnEmptyMasters(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")
	file := r.saved(t)
	masters := r.names(lab.Master)
	for _, m := range masters {
		labInject(t, r.Lab, lab.Replace, m)
	}
	r.must(t, 0, append([]string{"trust", "--yes"}, masters...)...)
	if res := r.must(t, 7, "up", "--yes"); !strings.Contains(res.err, "an empty cluster would take its place") {
		t.Errorf("%s", res)
	}
	r.restores(t, "restore on three empty masters", file)
	if got := r.objects(t); !strings.Contains(got, "/kept") {
		t.Errorf("objects: %s", got)
	}
	r.nodesReady(t, 4)
	r.kubectlDoes(t, "delete", "configmap", "kept")
}

// TestExpiredClusterIsBroughtBack lets every certificate of the control plane come to
// its end, and starts every process again. Renewal alone brings the cluster back.
func TestExpiredClusterIsBroughtBack(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	for _, m := range r.names(lab.Master) {
		r.expire(t, m)
	}
	then(t, "nothing works", func(t *testing.T) {
		if res := r.must(t, 5, "certs"); !strings.Contains(res.out, "expired: expired on") {
			t.Errorf("%s", res)
		}
	})
	then(t, "renewal brings it back", func(t *testing.T) {
		took(t, "certs renew of an expired cluster", r.must(t, 0, "certs", "renew", "--yes").took)
	})
	r.healthy(t)
	r.nodesReady(t, 4)
	r.inSync(t)
	r.must(t, 0, "certs")
}

// expire puts certificates that have just ended in the place of a master's, each as it
// was but for its time, and starts every process again.
func (r *rig) expire(t *testing.T, on string) {
	t.Helper()
	script := `set -e
sign() { # FILE KEY CA
  openssl x509 -in "$1" -x509toreq -signkey "$2" -copy_extensions copyall -out /root/csr 2>/dev/null
  openssl ca -batch -notext -config /root/ca.cnf -cert "$3.crt" -keyfile "$3.key" -in /root/csr -out /root/crt -startdate "$from" -enddate "$to" 2>/root/ca.log || { cat /root/ca.log >&2; exit 1; }
}
from=$(date -u -d '-2 hours' +%Y%m%d%H%M%SZ); to=$(date -u -d '-1 hour' +%Y%m%d%H%M%SZ)
rm -rf /root/ca; mkdir -p /root/ca; : >/root/ca/index; echo 77$(od -An -N6 -tx1 /dev/urandom | tr -d ' ') >/root/ca/serial
printf '[ca]\ndefault_ca=d\n[d]\nnew_certs_dir=/root/ca\ndatabase=/root/ca/index\nserial=/root/ca/serial\ndefault_md=sha256\npolicy=p\ncopy_extensions=copyall\nunique_subject=no\n[p]\ncommonName=supplied\norganizationName=optional\n' >/root/ca.cnf
k=/etc/kubernetes/pki
for f in $k/apiserver $k/apiserver-kubelet-client $k/serving/server $k/serving/controller-manager-client $k/serving/scheduler-client /var/lib/kubelet/pki/kubelet; do
  sign $f.crt $f.key $k/ca; cat /root/crt >$f.crt
done
sign $k/front-proxy-client.crt $k/front-proxy-client.key $k/front-proxy-ca; cat /root/crt >$k/front-proxy-client.crt
c=/var/lib/kubelet/pki/kubelet-client-current.pem
sign $c $c $k/ca; openssl pkey -in $c >/root/key; cat /root/crt /root/key >$c
for f in /etc/etcd/pki/server /etc/etcd/pki/peer $k/apiserver-etcd-client; do sign $f.crt $f.key /root/etcd-ca; cat /root/crt >$f.crt; done
rm -f /root/etcd-ca.*
systemctl restart --no-block etcd; systemctl restart --no-block kubelet
for n in kube-apiserver kube-controller kube-scheduler; do for p in $(pgrep $n); do kill $p; done; done`
	for _, part := range []string{"cert.pem", "key.pem"} {
		name := map[string]string{"cert.pem": "crt", "key.pem": "key"}[part]
		text := readText(t, r.Path("pki-"+r.Name(), "authorities", "etcd-ca", part))
		labOutput(t, r.Lab, on, "cat >/root/etcd-ca."+name+" <<'END'\n"+text+"END\n")
	}
	labOutput(t, r.Lab, on, script)
}
