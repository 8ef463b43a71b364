//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

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
		r.validUntil(t, m, "-1 hour")
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

// TestRenewedCertificatesOutliveTheOldOnes gives a cluster certificates that end in ten
// minutes, renews them, and looks when those have ended: every process uses the new ones. A
// process reads a client's certificate again within five minutes.
func TestRenewedCertificatesOutliveTheOldOnes(t *testing.T) {
	inTurn(t)
	const life = 10 * time.Minute
	r := cluster(t)
	end := time.Now().Add(life)
	for _, m := range r.names(lab.Master) {
		r.validUntil(t, m, end.UTC().Format("2006-01-02 15:04:05"))
	}
	eventually(t, "every process serves with a certificate that ends soon", func() error {
		if res := r.hactl(t, "certs"); res.code != 2 {
			return errors.New(res.String())
		}
		return nil
	})
	r.nodesReady(t, 4)
	r.measured(t, "certs", "renew")
	r.must(t, 0, "certs")
	processes := r.restarts(t)
	time.Sleep(time.Until(end.Add(time.Minute)))
	then(t, "everything works after the end of the old ones", func(t *testing.T) {
		r.healthy(t)
		r.must(t, 0, "certs")
		r.nodesReady(t, 4)
		r.kubectlDoes(t, "create", "deployment", "later", "--image=registry.k8s.io/pause", "--replicas=0")
		eventually(t, "the controller manager works", func() error {
			out, err := r.kubectl(t, "", "get", "replicasets", "-l", "app=later", "-o", "name")
			if err == nil && out == "" {
				err = errors.New("no replica set")
			}
			return err
		})
		r.kubectlDoes(t, "delete", "deployment", "later")
		if now := r.restarts(t); !maps.Equal(processes, now) {
			t.Errorf("before %v\nafter %v", processes, now)
		}
		r.inSync(t)
	})
}

// validUntil puts certificates that end at the given time, in a form that date knows, in
// the place of a master's, each as it was but for its time, and starts every process again.
func (r *rig) validUntil(t *testing.T, on, end string) {
	t.Helper()
	script := "set -e\nto=$(date -u -d '" + end + "' +%Y%m%d%H%M%SZ)" + `
sign() { # FILE KEY CA
  openssl x509 -in "$1" -x509toreq -signkey "$2" -copy_extensions copyall -out /root/csr 2>/dev/null
  openssl ca -batch -notext -config /root/ca.cnf -cert "$3.crt" -keyfile "$3.key" -in /root/csr -out /root/crt -startdate "$from" -enddate "$to" 2>/root/ca.log || { cat /root/ca.log >&2; exit 1; }
}
from=$(date -u -d '-2 hours' +%Y%m%d%H%M%SZ)
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

// TestRestoreWithoutADeadMaster restores one file twice: without a master that has no
// power, and again with all. The revision never falls, so that a process which goes on
// watching sees what came back; the dead master returns with its old data, and stays out
// until that is moved away.
func TestRestoreWithoutADeadMaster(t *testing.T) {
	inTurn(t)
	const dead = "master-3"
	r := cluster(t)
	r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")
	r.kubectlDoes(t, "create", "service", "clusterip", "watched", "--tcp=80")
	r.resolves(t, "watched", true)
	file := r.saved(t)
	r.kubectlDoes(t, "delete", "configmap", "kept")
	r.kubectlDoes(t, "delete", "service", "watched")
	r.resolves(t, "watched", false)
	before := r.revision(t)
	labInject(t, r.Lab, lab.Off, dead)
	then(t, "the dead master has to be named", func(t *testing.T) {
		if res := r.must(t, 3, "restore", file, "--yes-restore", r.Name()); !strings.Contains(res.err, "--dead "+dead) {
			t.Errorf("%s", res)
		}
	})
	then(t, "restore without it", func(t *testing.T) {
		took(t, "restore without a dead master", r.must(t, 0, "restore", file, "--dead", dead, "--yes-restore", r.Name()).took)
		if got := r.objects(t); !strings.Contains(got, "/kept") {
			t.Errorf("objects: %s", got)
		}
		if now := r.revision(t); now <= before {
			t.Errorf("revision %d, was %d", now, before)
		}
		r.resolves(t, "watched", true)
	})
	then(t, "it returns with its old data, and stays out", func(t *testing.T) {
		labInject(t, r.Lab, lab.Boot, dead)
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Second) {
			if out, err := r.etcdctl(t, dead, "--command-timeout=2s get --prefix /registry/configmaps/default/ --keys-only"); err == nil {
				t.Fatalf("%s serves: %s", dead, out)
			}
			if out := labOutput(t, r.Lab, dead, "ip -o addr show to "+r.VIP()); out != "" {
				t.Fatalf("%s holds the VIP: %s", dead, out)
			}
		}
		if res := r.hactl(t, "status"); res.code == 0 || !strings.Contains(res.out+res.err, dead) {
			t.Errorf("%s", res)
		}
	})
	then(t, "up refuses it with its old data, and brings it in without", func(t *testing.T) {
		const aside = "mv /var/lib/etcd/member /var/lib/etcd/member.old; rm /etc/etcd/established"
		if res := r.must(t, 7, "up", "--yes"); !strings.Contains(res.err, aside) {
			t.Errorf("%s", res)
		}
		labOutput(t, r.Lab, dead, aside)
		r.must(t, 0, "up", "--yes")
		r.threeVoters(t)
		r.inSync(t)
	})
	then(t, "the same file again, on all", func(t *testing.T) {
		before := r.revision(t)
		r.kubectlDoes(t, "delete", "configmap", "kept")
		r.restores(t, "restore of the same file", file)
		if now := r.revision(t); now <= before {
			t.Errorf("revision %d, was %d", now, before)
		}
	})
	r.kubectlDoes(t, "delete", "configmap", "kept")
	r.kubectlDoes(t, "delete", "service", "watched")
}

// revision is that of the store.
func (r *rig) revision(t *testing.T) (n int64) {
	t.Helper()
	eventually(t, "the revision", func() error {
		out, err := r.etcdctl(t, "master-1", "get x -w json")
		if err != nil {
			return err
		}
		var answer struct{ Header struct{ Revision int64 } }
		err = json.Unmarshal([]byte(out), &answer)
		n = answer.Header.Revision
		return err
	})
	return n
}

// resolves waits until the cluster's DNS, which watches services, knows the name of one,
// or does not know it any more.
func (r *rig) resolves(t *testing.T, service string, want bool) {
	t.Helper()
	ask := "unshare -m sh -c 'echo nameserver 10.96.0.10 >/run/asked.conf; mount --bind /run/asked.conf /etc/resolv.conf; getent ahostsv4 " + service + ".default.svc.cluster.local || echo unknown'"
	eventually(t, "the cluster's DNS knows "+service, func() error {
		out, err := r.Output(t.Context(), "worker-1", ask)
		if err == nil && strings.Contains(out, "unknown") == want {
			err = errors.New(out)
		}
		return err
	})
}
