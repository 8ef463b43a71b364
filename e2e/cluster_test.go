//go:build e2e

package e2e

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"hactl/internal/lab"
)

// TestThreeMastersAndAWorker takes one cluster through an operator's life: up
// from bare hosts, a second up, demo pods, hosts that fail and come back.
func TestThreeMastersAndAWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Config{Name: named("ha"), Masters: 3, Workers: 1})
	then(t, "preflight of bare hosts passes", r.preflight)
	then(t, "up from bare hosts by upload, one run at a time, no secret in any argv", r.bringUp)
	then(t, "nodes are Ready through the VIP and the kubeconfig is the operator's alone", func(t *testing.T) {
		r.nodesReady(t, 4, time.Minute)
		info, err := os.Stat(r.Path(r.Name() + ".kubeconfig"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("kubeconfig: %v, %v", info, err)
		}
	})
	then(t, "the demo's pods and service answer", func(t *testing.T) { r.deploy(t, "before", "master-2", 3*time.Minute) })
	then(t, "keepalived and the prober have real-time priority", r.realTime)
	then(t, "a second up changes nothing in at most ten round trips", r.secondUp)
	then(t, "preflight of the running cluster passes, and keepalived does not notice", r.preflightBesideKeepalived)
	then(t, "drift of every kind is named and undone, and nothing else", r.everyDrift)
	then(t, "labels and taints follow the inventory, and somebody else's stay", r.labelsEdited)
	then(t, "a removed package is named", r.packageRemoved)
	then(t, "what the first master was lost before it made is made", r.madeOnce)
	then(t, "another CA on a host is never replaced", r.foreignCA)
	t.Run("etcd refuses a connection without a client certificate", r.etcdWantsCertificate)
	t.Run("the apiserver refuses an anonymous request", r.anonymousIsRefused)
	t.Run("every node serves with a certificate of the cluster's CA, and no other is taken", r.nodesAreVerified)
	then(t, "a host that is down stops up with a clear error and leaves the others alone", r.hostDown)
	then(t, "the first master powered off: the API and new deployments go on, its return moves nothing", func(t *testing.T) {
		r.powerCut(t, "master-1", "after-first")
	})
	if owner := r.owner(t); owner != "master-1" {
		then(t, "the owner of the VIP powered off: the same", func(t *testing.T) { r.powerCut(t, owner, "after-owner") })
	}
	then(t, "all hosts powered off and on: healthy again without hactl", r.allRebooted)
	then(t, "a changed host key is refused with file, line and hactl trust", r.hostKeyChanged)
	then(t, "no secret in anything that a run wrote", r.noSecretsInRuns)
}

func (r *rig) bringUp(t *testing.T) {
	stop := argvWatch()
	first := r.start(t, nil, "up", "--yes", "-o", "json")
	eventually(t, 3*time.Minute, "the first run is at work", func() error {
		if !strings.Contains(readText(t, first.out), `"stage-start"`) {
			return fmt.Errorf("no stage yet")
		}
		return nil
	})
	second := r.hactl(t, "up", "--yes")
	res := first.wait(t)
	lines, looks := stop()
	if second.code != 8 || !strings.Contains(second.err, fmt.Sprintf("pid %d, hactl up since", first.cmd.Process.Pid)) {
		t.Errorf("a second run beside the first: %s", second)
	}
	if res.code != 0 {
		t.Fatalf("%s", res)
	}
	u := res.up(t)
	if !u.Status.Healthy || u.Changed == 0 || len(u.Status.Checks) < 15 {
		t.Errorf("result: %+v", u)
	}
	for _, k := range u.Status.Checks {
		if k.State != "ok" {
			t.Errorf("%+v", k)
		}
	}
	t.Logf("up took %s for %d steps", res.took.Round(100*time.Millisecond), u.Changed)
	noSecrets(t, "a command line", strings.Join(lines, "\n"), r.secrets(t))
	t.Logf("%d command lines seen in %d looks", len(lines), looks)
	if looks < 100 || len(lines) < 100 {
		t.Error("too few looks at the processes to mean anything")
	}
}

// realTime looks at the processes: a unit whose priority is refused runs all the
// same, and would only show in late adverts.
func (r *rig) realTime(t *testing.T) {
	for _, m := range r.names(lab.Master) {
		got := labOutput(t, r.Lab, m, `for name in keepalived hactl-prober; do
for d in /proc/[0-9]*; do [ "$(cat $d/comm 2>/dev/null)" != $name ] || chrt -p ${d#/proc/}; done | grep -c 'policy: SCHED_RR'; done`)
		if got != "1\n1" { // keepalived's parent has no part in the protocol
			t.Errorf("%s: processes of keepalived and of the prober in SCHED_RR: %q", m, got)
		}
	}
}

func (r *rig) secondUp(t *testing.T) {
	r.healthy(t, time.Minute)
	// A connection of the API client that was dropped costs one round trip more, so
	// the best of three runs counts. That nothing is changed counts in all.
	const most = 10
	trips := most + 1
	for run := 0; run < 3 && trips > most; run++ {
		res := r.must(t, 0, "up", "--yes", "-o", "json")
		u := res.up(t)
		if u.Changed != 0 || !u.Status.Healthy || u.Trips < 1 {
			t.Errorf("result: %+v", u)
		}
		trips = u.Trips
		t.Logf("second up: %s, %d round trips a host at most", res.took.Round(time.Millisecond), trips)
	}
	if trips > most {
		t.Errorf("%d round trips to one host", trips)
	}
	r.inSync(t)
}

func (r *rig) etcdWantsCertificate(t *testing.T) {
	for _, port := range []string{"2379", "2380"} {
		conn, err := r.Dial(t.Context(), "tcp", net.JoinHostPort("10.77.0.11", port))
		if err != nil {
			t.Fatal(err)
		}
		// Not verified: the question is what the server asks of us.
		c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // see above
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		err = c.HandshakeContext(t.Context())
		if err == nil { // in TLS 1.3 the refusal comes after the handshake
			_, _ = fmt.Fprint(c, "GET /version HTTP/1.1\r\nHost: etcd\r\n\r\n")
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("port %s without a certificate: %v", port, err)
		}
		_ = c.Close()
	}
	conn, err := r.Dial(t.Context(), "tcp", "10.77.0.11:2381")
	if err == nil {
		_ = conn.Close()
		t.Error("the metrics listener, which asks for no certificate, can be reached from outside")
	}
	labOutput(t, r.Lab, "master-1", "curl -sf --max-time 30 http://127.0.0.1:2381/metrics >/dev/null") // it is that port
}

func (r *rig) anonymousIsRefused(t *testing.T) {
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext: r.Dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // no secret is sent
	}}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/api/v1/nodes", "/api/v1/namespaces/kube-system/secrets"} {
		var res *http.Response
		eventually(t, unanswered, "an answer to nobody's "+path, func() (err error) {
			if res, err = client.Get("https://" + net.JoinHostPort(r.VIP(), "6443") + path); err == nil { //nolint:noctx // bounded by the client
				_ = res.Body.Close()
			}
			return err
		})
		if res.StatusCode != http.StatusForbidden && res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s answers %s to nobody", path, res.Status)
		}
	}
}

// nodesAreVerified asks what serves on the hosts for its certificate, and then has
// a kubelet serve with one of its own making, of which the apiserver must not take
// any logs.
func (r *rig) nodesAreVerified(t *testing.T) {
	for _, h := range r.everyHost() {
		ports := []string{"10250"}
		if strings.HasPrefix(h, "master") {
			ports = append(ports, "10257", "10259") // controller manager, scheduler
		}
		for _, p := range ports {
			eventually(t, 3*time.Minute, h+" serves port "+p+" with a certificate of the cluster's CA", func() error {
				_, err := r.Output(t.Context(), h, "openssl s_client -connect 127.0.0.1:"+p+" -CAfile /etc/kubernetes/pki/ca.crt -verify_ip 127.0.0.1 -verify_return_error </dev/null")
				return err
			})
		}
	}
	const on = "worker-1"
	logs := func() error {
		// One that was deleted a while ago may still be in the list.
		pods, err := r.kubectl(t, "", "-n", "kube-system", "get", "pods", "-l", "k8s-app=kube-proxy", "--field-selector", "spec.nodeName="+on,
			"-o", "go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}")
		if err != nil {
			return err
		}
		_, err = r.kubectl(t, "", append([]string{"-n", "kube-system", "logs", "--tail=1"}, strings.Fields(pods)...)...)
		return err
	}
	eventually(t, time.Minute, "logs from "+on, logs)
	labOutput(t, r.Lab, on, `cd /var/lib/kubelet/pki
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout kubelet.key -out kubelet.crt -subj /CN=`+on+` -days 1 2>/dev/null
systemctl restart kubelet.service`)
	eventually(t, time.Minute, "logs of a kubelet that nobody knows are refused", func() error {
		switch err := logs(); {
		case err == nil:
			return errors.New("kubectl logs answers")
		case !strings.Contains(err.Error(), "failed to verify certificate"):
			return err
		}
		return nil
	})
	r.must(t, 0, "up", "--yes")
	eventually(t, 2*time.Minute, "logs again, without a restart of the kubelet", logs)
	r.inSync(t)
}

func (r *rig) hostDown(t *testing.T) {
	labInject(t, r.Lab, lab.Off, "worker-1")
	before := map[string]string{}
	for _, h := range r.names(lab.Master) {
		before[h] = r.touched(t, h)
	}
	// A pending change on another host: it must stay pending.
	labOutput(t, r.Lab, "master-3", "sysctl -qw net.ipv4.ip_forward=0")
	res := r.must(t, 3, "up", "--yes")
	if !strings.Contains(res.err, "worker-1") || !strings.Contains(res.err, "hint:") {
		t.Errorf("not a clear error: %s", res)
	}
	if res.took > 2*time.Minute {
		t.Errorf("it took %s to say so", res.took)
	}
	for h, b := range before {
		if got := r.touched(t, h); got != b {
			t.Errorf("%s was touched", h)
		}
	}
	if got := labOutput(t, r.Lab, "master-3", "sysctl -n net.ipv4.ip_forward"); got != "0" {
		t.Errorf("the sysctl of master-3 was set although a host was down")
	}
	labInject(t, r.Lab, lab.Boot, "worker-1")
	if u := r.must(t, 0, "up", "--yes", "-o", "json").up(t); u.Changed == 0 {
		t.Errorf("the sysctl of master-3 was not set: %+v", u)
	}
}

// settled is how long after a power cut nothing may hold up a write any more. Before,
// one may be late: a silent owner that is at work keeps the address for 5 s, and one
// whose peers have just lost etcd's leader for longer.
const settled = 10 * time.Second

// writesGoOn writes through the VIP until a write is acknowledged, and on until
// six were begun after things have settled: all of these have to be acknowledged.
// A write that was on its way to a leader that died is lost in etcd, whose client
// waits 7 s for it (5 s and two election timeouts). Each has 10 s: a client of etcd
// that waits for a connection to the member that is gone still hangs 10 to 25 s after
// the cut.
func (r *rig) writesGoOn(t *testing.T, name string, cut time.Time) {
	t.Helper()
	n := 0
	write := func() error {
		n++
		_, err := r.kubectl(t, "", "create", "configmap", fmt.Sprintf("%s-written-%d", name, n), "--from-literal=a=b", "--request-timeout=10s")
		return err
	}
	eventually(t, time.Minute, "a write through the VIP is acknowledged", write)
	t.Logf("the first acknowledged write ended %s after the power cut", time.Since(cut).Round(10*time.Millisecond))
	slowest, late, excused := time.Duration(0), 0, 0
	owner, term := r.owner(t), r.raftTerm(t)
	for late < 6 {
		start := time.Now()
		err := write()
		if start.Sub(cut) < settled {
			continue
		}
		if err != nil {
			// The address moves from an owner that falls silent, and etcd may elect again.
			before, was := owner, term
			owner, term = r.owner(t), r.raftTerm(t)
			if excused++; excused <= 2 && (term > was || owner != before && r.fellSilent(t, before, start.Add(-5*time.Second))) {
				t.Logf("a write %s after the power cut: %v; owner %s, was %s; etcd's term %d, was %d", start.Sub(cut).Round(10*time.Millisecond), err, owner, before, term, was)
				continue
			}
			t.Errorf("a write %s after the power cut: %v", start.Sub(cut).Round(10*time.Millisecond), err)
		}
		late++
		slowest = max(slowest, time.Since(start))
	}
	t.Logf("%d writes by %s after it, the slowest of the last six took %s", n, time.Since(cut).Round(10*time.Millisecond), slowest.Round(10*time.Millisecond))
}

// raftTerm is that of etcd, which rises with each election.
func (r *rig) raftTerm(t *testing.T) (term uint64) {
	t.Helper()
	all, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		if h.Role != lab.Master || h.State == lab.StateOff {
			continue
		}
		var says []struct{ Status struct{ RaftTerm uint64 } }
		out, err := r.etcdctl(t, h.Name, "endpoint status -w json")
		if err == nil {
			err = json.Unmarshal([]byte(out), &says)
		}
		if err != nil {
			t.Logf("etcd of %s: %v", h.Name, err)
			continue
		}
		for _, s := range says {
			term = max(term, s.Status.RaftTerm)
		}
	}
	return term
}

// powerCut powers a master off and on.
func (r *rig) powerCut(t *testing.T, victim, name string) {
	cut := time.Now()
	labInject(t, r.Lab, lab.Off, victim)
	eventually(t, 2*time.Minute, "the API answers through the VIP", func() error {
		_, err := r.kubectl(t, "", "get", "nodes")
		return err
	})
	r.writesGoOn(t, name, cut)
	// Before that the scheduler may still send pods there.
	eventually(t, 5*time.Minute, "the node of "+victim+" is known to be gone", func() error {
		out, err := r.kubectl(t, "", "get", "node", victim, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err == nil && out == "True" {
			err = errors.New("it counts as Ready")
		}
		return err
	})
	from := "master-2"
	if victim == from {
		from = "master-3"
	}
	r.deploy(t, name, from, 5*time.Minute)
	if res := r.hactl(t, "status"); (res.code != 3 && res.code != 5) || !strings.Contains(res.out, victim) {
		t.Errorf("status with %s off: %s", victim, res)
	}
	owner, booted := r.owner(t), time.Now()
	labInject(t, r.Lab, lab.Boot, victim)
	r.healthy(t, 5*time.Minute)
	// The host that boots may take so much of the processors that all share that the
	// owner falls silent, for seconds: then its prober says so and gives the address
	// up, to whoever is fit. And while the whole machine stands still adverts are late.
	if now := r.owner(t); now != owner && !r.fellSilent(t, owner, booted) && !r.tookDuringStall(t, now, booted) {
		t.Errorf("the VIP was on %q and is on %q after %s came back", owner, now, victim)
	}
	r.inSync(t)
}

// tookDuringStall reports whether this machine stood still in the two seconds in
// which a host, after from, found that it is to have the VIP.
func (r *rig) tookDuringStall(t *testing.T, host string, from time.Time) bool {
	t.Helper()
	said := labOutput(t, r.Lab, host, fmt.Sprintf("journalctl -q -o short-unix -u keepalived --since=@%d | grep -F 'Entering MASTER STATE' | tail -n 1", from.Unix()))
	t.Logf("keepalived of %s: %s", host, said)
	at, err := strconv.ParseFloat(strings.Split(said, " ")[0], 64)
	if err != nil {
		return false
	}
	took := time.UnixMicro(int64(at * 1e6))
	return stalls.longest(t, took.Add(-2*time.Second), took) > 0
}

// fellSilent reports whether the prober of a host said after from that the
// apiserver beside it is silent and another one is not.
func (r *rig) fellSilent(t *testing.T, host string, from time.Time) bool {
	t.Helper()
	said := labOutput(t, r.Lab, host, fmt.Sprintf("journalctl -q -o cat -u hactl-prober --since=@%d | grep -F 'unfit for the virtual IP' || :", from.Unix()))
	t.Logf("the prober of %s: %s", host, said)
	return strings.Contains(said, "the local apiserver is silent for")
}

func (r *rig) allRebooted(t *testing.T) {
	if err := r.InjectAll(t.Context(), lab.Off, r.everyHost()); err != nil {
		t.Fatal(err)
	}
	if err := r.InjectAll(t.Context(), lab.Boot, r.everyHost()); err != nil {
		t.Fatal(err)
	}
	r.healthy(t, 8*time.Minute)
	r.inSync(t)
	r.answers(t, "before", "master-2")
}

func (r *rig) hostKeyChanged(t *testing.T) {
	labInject(t, r.Lab, lab.Replace, "worker-1")
	before := map[string]string{}
	for _, h := range r.everyHost() {
		before[h] = r.touched(t, h)
	}
	for _, verb := range [][]string{{"plan"}, {"up", "--yes"}} {
		res := r.must(t, 3, verb...)
		line := 0
		for i, l := range strings.Split(readText(t, r.Path("ssh", "known_hosts")), "\n") {
			if strings.HasPrefix(l, "10.77.0.21") {
				line = i + 1
			}
		}
		for _, want := range []string{"worker-1", fmt.Sprintf("%s:%d", r.Path("ssh", "known_hosts"), line), "hactl trust"} {
			if !strings.Contains(res.err, want) {
				t.Errorf("%q is not in: %s", want, res)
			}
		}
	}
	for h, b := range before {
		if got := r.touched(t, h); got != b {
			t.Errorf("%s was touched", h)
		}
	}
	if res := r.hactl(t, "trust", "--yes", "worker-1"); res.code != 0 {
		t.Fatalf("%s", res)
	}
	r.must(t, 0, "up", "--yes")
	r.nodesReady(t, 4, time.Minute)
	r.inSync(t)
}
