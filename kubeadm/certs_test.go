package kubeadm

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hactl/internal/fakehost"
	"hactl/internal/kubeapi/kubeapitest"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
	"hactl/pki"
)

func TestMain(m *testing.M) { os.Exit(fakehost.Main(m)) }

// disk is a master whose scripts really run; kubeadm is a script of the test's own.
type disk struct {
	*fakehost.FolderHost
	until time.Time // of what the test's kubeadm makes
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{FolderHost: fakehost.NewFolderHost(t, "host"), until: time.Now().Add(365 * 24 * time.Hour)}
	for _, s := range []string{servingDir, kubeDir + "/manifests", "/var/lib/kubelet/pki"} {
		if err := os.MkdirAll(d.On(s), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d.Unit("kubelet.service", "[Service]\n", ":", true) // it is restarted where there is no apiserver
	return d
}

func (d *disk) run(ctx context.Context, script string) (*remote.Result, error) {
	return d.Run(ctx, remote.Cmd{Script: script})
}

func (d *disk) write(file, content string) { d.Write(file, content, 0o600) }

// pemPair is a certificate that ends then, and its key.
func pemPair(t *testing.T, end time.Time) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: end.Add(-time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kder}))
}

func kubeconfig(cert, key string) string {
	b := base64.StdEncoding.EncodeToString
	return "apiVersion: v1\ncurrent-context: a@demo\nusers:\n- user:\n    client-certificate-data: " + b([]byte(cert)) + "\n    client-key-data: " + b([]byte(key)) + "\n"
}

// make writes one of kubeadm's files.
func (d *disk) make(t *testing.T, file string, end time.Time) {
	t.Helper()
	cert, key := pemPair(t, end)
	if strings.HasSuffix(file, ".conf") {
		d.write(kubeDir+"/"+file, kubeconfig(cert, key))
		return
	}
	d.write(kubeDir+"/"+file, cert)
	d.write(kubeDir+"/"+strings.TrimSuffix(file, ".crt")+".key", key)
}

// initialised is a master whose certificates are good until the given times, and
// for a year where none is given.
func (d *disk) initialised(t *testing.T, ends map[string]time.Time) *disk {
	t.Helper()
	for _, f := range renewable {
		end, ok := ends[f]
		if !ok {
			end = d.until
		}
		d.make(t, f, end)
	}
	d.write(markerFile, "x\n")
	d.write(kubeDir+"/manifests/kube-apiserver.yaml", "x\n")
	d.write("/var/lib/kubelet/config.yaml", "x\n")
	return d
}

// certWorld is masters with one disk, which is the first one's, and apiservers of
// those that serve.
type certWorld struct {
	Cluster
	disk   *disk
	serves map[string]bool
	hosts  plan.Hosts
	ran    []string // titles
	also   func(Group) bool
	keeps  bool               // the apiservers serve the certificate that they began with
	before func(title string) // called before each script; may be nil
}

func newCertWorld(t *testing.T, inv *inventory.Inventory, d *disk) *certWorld {
	t.Helper()
	w := &certWorld{Cluster: clusterOf(t, inv, true), disk: d, serves: map[string]bool{}, hosts: plan.Hosts{}}
	addrs := map[string]func(context.Context) (net.Conn, error){}
	for _, m := range inv.Masters() {
		w.serves[m.Name] = true
		srv := kubeapitest.Serve(t, w.PKI.KubernetesCA.CertPEM, w.PKI.KubernetesCA.KeyPEM, m.PrivateAddress.AsSlice(), http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "ok") }))
		t.Cleanup(srv.Close)
		srv.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) { return w.served(srv.TLS, hello), nil }
		addrs[w.apiAddress(m)] = func(ctx context.Context) (net.Conn, error) {
			if !w.serves[m.Name] {
				return nil, errors.New("connection refused")
			}
			var dialer net.Dialer
			return dialer.DialContext(ctx, "tcp", srv.Listener.Addr().String())
		}
	}
	first := inv.Masters()[0].Name
	host := remote.NewFake(first, func(c remote.Call) (*remote.Result, error) {
		switch c.Kind {
		case "run":
			w.ran = append(w.ran, c.Cmd.Title)
			if w.before != nil {
				w.before(c.Cmd.Title)
			}
			return d.run(t.Context(), c.Cmd.Script)
		case "put":
			return nil, d.Put(t.Context(), c.Files...)
		}
		return nil, nil
	})
	host.DialWith(func(ctx context.Context, _, addr string) (net.Conn, error) { return addrs[addr](ctx) })
	w.hosts[first] = host
	return w
}

// served is the configuration of an apiserver with the pair that is on the disk, for a
// client that only looks at it. Requests get the apiserver's own pair: those of the disk
// name no address.
func (w *certWorld) served(own *tls.Config, hello *tls.ClientHelloInfo) *tls.Config {
	at := w.disk.On(pkiDir + "/apiserver.")
	pair, err := tls.LoadX509KeyPair(at+"crt", at+"key")
	out := own.Clone()
	out.GetConfigForClient = nil
	if err == nil && !w.keeps && len(hello.SupportedProtos) == 0 {
		out.Certificates = []tls.Certificate{pair}
	}
	return out
}

func (w *certWorld) plan(t *testing.T) *plan.Plan {
	t.Helper()
	p, err := plan.Make(t.Context(), []plan.Stage{{Name: "static pods", Serial: true, Steps: []plan.Step{w.Renewal(w.Inv.Masters()[0], w.also)}}}, w.hosts, plan.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func summaryOf(p *plan.Plan) string {
	out := ""
	for _, i := range p.Pending() {
		out += i.Change.Summary
	}
	return out
}

func TestCertificatesOfKubeadmAreRenewedBeforeTheyExpire(t *testing.T) {
	now := time.Now()
	day := func(n int) time.Time { return now.Add(time.Duration(n)*24*time.Hour + time.Hour).UTC() }
	on := func(n int) string { return day(n).Format(time.DateOnly) }
	all := map[string]time.Time{}
	for _, f := range renewable {
		all[f] = day(20)
	}
	for name, c := range map[string]struct {
		ends map[string]time.Time
		want string
	}{
		"a year left":                {nil, ""},
		"a day more than the margin": {map[string]time.Time{"pki/apiserver.crt": day(30), "admin.conf": day(31)}, ""},
		"within the margin":          {map[string]time.Time{"pki/apiserver.crt": day(29)}, "apiserver.crt expires " + on(29)},
		"in a kubeconfig":            {map[string]time.Time{"scheduler.conf": day(3)}, "scheduler.conf expires " + on(3)},
		"expired":                    {map[string]time.Time{"super-admin.conf": day(-2)}, "super-admin.conf expired " + on(-2)},
		"two, the first one first":   {map[string]time.Time{"pki/apiserver.crt": day(5), "admin.conf": day(4)}, "admin.conf expires " + on(4) + ", apiserver.crt expires " + on(5)},
		"as after a year":            {all, "apiserver.crt, apiserver-kubelet-client.crt, front-proxy-client.crt, controller-manager.conf, scheduler.conf, admin.conf, super-admin.conf, controller-manager-client.crt, scheduler-client.crt expire " + on(20)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newCertWorld(t, inventorytest.One(t), newDisk(t).initialised(t, c.ends))
			p := w.plan(t)
			want := c.want
			if want != "" {
				want = "renew certificates: " + want
			}
			if got := summaryOf(p); got != want || p.Err() != nil || len(w.ran) != 1 {
				t.Errorf("%q, %v, want %q; %q", got, p.Err(), want, w.ran)
			}
		})
	}
}

func TestHostWithoutKubeadmHasNothingToRenew(t *testing.T) {
	d := newDisk(t)
	d.make(t, "pki/apiserver.crt", time.Now()) // of a bring-up that was cut off: init's matter
	w := newCertWorld(t, inventorytest.One(t), d)
	if p := w.plan(t); len(p.Pending()) != 0 || p.Err() != nil {
		t.Errorf("%q, %v", summaryOf(p), p.Err())
	}
	d.initialised(t, nil)
	if err := os.Remove(d.On(kubeDir + "/super-admin.conf")); err != nil {
		t.Fatal(err)
	}
	if p := w.plan(t); len(p.Pending()) != 0 || p.Err() != nil {
		t.Errorf("without super-admin.conf: %q, %v", summaryOf(p), p.Err())
	}
}

func TestCertificateThatCannotBeReadIsUnknownAndNoKeyIsSent(t *testing.T) {
	cert, key := pemPair(t, time.Now().Add(1000*time.Hour))
	for name, spoil := range map[string]func(*disk){
		"empty":        func(d *disk) { d.write(pkiDir+"/apiserver.crt", "") },
		"cut short":    func(d *disk) { d.write(pkiDir+"/apiserver.crt", cert[:300]) },
		"zeros":        func(d *disk) { d.write(pkiDir+"/apiserver.crt", strings.Repeat("\x00", 1000)) },
		"a kubeconfig": func(d *disk) { d.write(kubeDir+"/admin.conf", "client-key-data: x\n") },
		"an odd one":   func(d *disk) { d.write(kubeDir+"/admin.conf", kubeconfig("x", "y")) },
		"a folder": func(d *disk) {
			_ = os.Remove(d.On(kubeDir + "/admin.conf"))
			_ = os.Mkdir(d.On(kubeDir+"/admin.conf"), 0o755)
		},
		"the key inside": func(d *disk) { d.write(pkiDir+"/apiserver.crt", cert[:300]+"\n"+key) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk(t).initialised(t, nil)
			spoil(d)
			w := newCertWorld(t, inventorytest.One(t), d)
			p := w.plan(t)
			if len(p.Unknown()) != 1 || remote.HintOf(p.Err()) == "" {
				t.Errorf("pending %q, %v", summaryOf(p), p.Err())
			}
			res, err := d.run(t.Context(), readCertificates(renewable...))
			if err != nil {
				t.Fatal(err)
			}
			out := string(res.Stdout)
			for line := range strings.Lines(key) {
				if l := strings.TrimSpace(line); l[0] != '-' && strings.Contains(out, l) {
					t.Errorf("a line of a key left the host: %s", l)
				}
			}
			if strings.Contains(out, "client-key-data") {
				t.Errorf("a key left the host:\n%s", out)
			}
		})
	}
	// Neither is a host without the programs.
	for _, cut := range []string{"", "stale kube-scheduler", "renewing", "none\nnone"} {
		if got, err := howSigned.Parse(cut); err == nil {
			t.Errorf("%q: %+v", cut, got)
		}
	}
	if _, err := howSigned.Parse("has pki/apiserver.crt\nend"); err == nil {
		t.Error("a file that was not read is fine")
	}
}

// kubelet plays it: a process of a static pod that ends is followed by another.
func (d *disk) kubelet(t *testing.T, ended chan<- string) {
	t.Helper()
	for i, name := range []string{"kube-controller", "kube-scheduler", "kube-apiserver"} {
		p := exec.CommandContext(t.Context(), "sleep", "1000")
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		is := func(pid int) string {
			dir := d.On("/proc/" + strconv.Itoa(pid))
			_ = os.MkdirAll(dir, 0o755)
			_ = os.WriteFile(dir+"/comm", []byte(name+"\n"), 0o600)
			return dir
		}
		dir := is(p.Process.Pid)
		gone := make(chan struct{})
		t.Cleanup(func() { <-gone })
		go func() {
			defer close(gone)
			_ = p.Wait()
			_ = os.RemoveAll(dir)
			is(1<<23 + i) // of no user
			ended <- name
		}()
	}
}

// restarted are the processes that ended, in order.
func restarted(t *testing.T, ended <-chan string) (names []string) {
	t.Helper()
	for range 3 {
		select {
		case n := <-ended:
			names = append(names, n)
		case <-time.After(2 * time.Second):
			return names
		}
	}
	return names
}

func (d *disk) read(t *testing.T, file string) string {
	t.Helper()
	if !d.Has(kubeDir + "/" + file) {
		t.Fatal(file + " is not there")
	}
	return d.Content(kubeDir + "/" + file)
}

// mounted has the processes of the test see the kubeconfigs that are there now, as
// their pods have them mounted.
func (d *disk) mounted(t *testing.T) {
	t.Helper()
	procs, err := os.ReadDir(d.On("/proc"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		root := d.On("/proc/" + p.Name() + "/root" + kubeDir)
		if err := os.MkdirAll(root, 0o755); err != nil { //nolint:gosec // a folder of the test
			t.Fatal(err)
		}
		for _, f := range []string{"controller-manager.conf", "scheduler.conf"} {
			if err := os.WriteFile(root+"/"+f, []byte(d.read(t, f)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (w *certWorld) apply(t *testing.T) error {
	t.Helper()
	_, err := w.plan(t).Apply(t.Context(), w.hosts, plan.Discard, nil)
	return err
}

// The apiserver of the test serves what is on the disk in every new handshake.
func TestRenewalSignsEverythingThatIsDueAndRestartsNoApiserver(t *testing.T) {
	soon := time.Now().Add(time.Hour)
	d := newDisk(t).initialised(t, map[string]time.Time{"pki/apiserver.crt": soon, "controller-manager.conf": soon, "scheduler.conf": soon, controllerCert: soon, schedulerCert: soon, "admin.conf": soon})
	ended := make(chan string, 3)
	d.kubelet(t, ended)
	d.mounted(t)
	w := newCertWorld(t, inventorytest.One(t), d)
	before := map[string]string{}
	for _, f := range renewable {
		before[f] = d.read(t, f)
	}
	if err := w.apply(t); err != nil {
		t.Fatal(err)
	}
	got := restarted(t, ended)
	slices.Sort(got)
	if !slices.Equal(got, []string{"kube-controller", "kube-scheduler"}) {
		t.Errorf("restarted %q", got)
	}
	for f, old := range before {
		due := f != "pki/apiserver-kubelet-client.crt" && f != "pki/front-proxy-client.crt" && f != "super-admin.conf"
		if got := d.read(t, f) != old; got != due {
			t.Errorf("%s changed: %v, want %v", f, got, due)
		}
	}
	if conf := d.read(t, "scheduler.conf"); !strings.Contains(conf, "client-certificate: "+kubeDir+"/"+schedulerCert) || strings.Contains(conf, "client-key-data") {
		t.Errorf("the kubeconfig does not refer to files:\n%s", conf)
	}
	if p := w.plan(t); len(p.Pending()) != 0 || p.Err() != nil || d.Has(renewingFile) {
		t.Errorf("afterwards: %q, %v", summaryOf(p), p.Err())
	}
}

// A run that dies before the restart leaves processes with the old kubeconfigs.
func TestProcessWithAnEarlierKubeconfigIsRestarted(t *testing.T) {
	d := newDisk(t).initialised(t, nil)
	ended := make(chan string, 3)
	d.kubelet(t, ended)
	d.mounted(t)
	cert, key := pemPair(t, d.until)
	d.write(kubeDir+"/scheduler.conf", kubeconfig(cert, key))
	w := newCertWorld(t, inventorytest.One(t), d)
	if got := summaryOf(w.plan(t)); got != "renew certificates: kube-scheduler runs with an earlier kubeconfig" {
		t.Fatalf("%q", got)
	}
	if err := w.apply(t); err != nil {
		t.Fatal(err)
	}
	if got := restarted(t, ended); !slices.Equal(got, []string{"kube-scheduler"}) {
		t.Errorf("restarted %q", got)
	}
}

// A run that dies while it writes can leave a certificate with another key.
func TestRenewalThatWasCutOffIsCompleted(t *testing.T) {
	d := newDisk(t).initialised(t, nil)
	d.write(renewingFile, "")
	d.write(pkiDir+"/apiserver.key", "") // by a power cut
	d.write(pkiDir+"/ca.key", "")        // hactl's: not its business
	d.make(t, "kubelet.conf", d.until)
	d.Program("kubeadm", `echo "$*" >>`+kubeDir+`/asked; cp /new.crt `+pkiDir+`/apiserver.crt; cp /new.key `+pkiDir+`/apiserver.key`)
	cert, key := pemPair(t, d.until)
	d.write("/new.crt", cert)
	d.write("/new.key", key)
	old := d.read(t, "pki/front-proxy-client.crt")
	w := newCertWorld(t, inventorytest.One(t), d)
	if got := summaryOf(w.plan(t)); got != "renew certificates: a renewal was cut off" {
		t.Fatalf("%q", got)
	}
	if err := w.apply(t); err != nil {
		t.Fatal(err)
	}
	if d.read(t, "pki/front-proxy-client.crt") == old || d.Has(renewingFile) || !d.Has(pkiDir+"/ca.key") {
		t.Error("it was not completed")
	}
	if got := d.read(t, "asked"); got != "init phase certs apiserver --config "+initFile+"\n" {
		t.Errorf("kubeadm was asked %q", got)
	}
}

func TestRenewalIsNotOverUntilTheApiserverServesTheCertificate(t *testing.T) {
	d := newDisk(t).initialised(t, map[string]time.Time{"pki/apiserver.crt": time.Now()})
	w := newCertWorld(t, inventorytest.One(t), d)
	w.keeps = true
	st := w.Renewal(w.Inv.Masters()[0], nil)
	env := plan.Env{Host: w.hosts["master-1"], Say: func(string, ...any) {}}
	if err := st.Apply(t.Context(), env, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := st.Ready(ctx, env); err == nil || !strings.Contains(err.Error(), "serve the renewed certificate") || !d.Has(renewingFile) {
		t.Errorf("%v", err)
	}
	if got := summaryOf(w.plan(t)); got == "" {
		t.Error("in sync although the apiserver serves the old certificate")
	}
}

func TestRenewalOfAGroupThatIsNotDue(t *testing.T) {
	d := newDisk(t).initialised(t, nil)
	w := newCertWorld(t, inventorytest.One(t), d)
	w.also = func(g Group) bool { return g == Admin }
	want := "renew certificates: asked for: admin.conf, super-admin.conf"
	p := w.plan(t)
	if got := summaryOf(p); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	// What was asked for is done once in a run.
	if _, err := p.Apply(t.Context(), w.hosts, plan.Discard, nil); err != nil {
		t.Error(err)
	}
}

func TestKubeletThatDidNotRenewItsCertificateGetsOne(t *testing.T) {
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		left       time.Duration
		asked, due bool
	}{
		"in order":  {100 * day, false, false},
		"asked for": {100 * day, true, true},
		"expired":   {-time.Hour, false, true},
		"too late":  {time.Minute, false, true}, // of an hour
	} {
		cert, _ := pemPair(t, time.Now().Add(c.left))
		if c.left == 100*day { // a pair of pemPair lives for an hour
			pair, err := clusterOf(t, inventorytest.One(t), true).PKI.KubernetesCA.ForNode("master-1", 200*day)
			if err != nil {
				t.Fatal(err)
			}
			cert = string(pair.CertPEM)
		}
		seen, err := howKubeletSigned.Parse(cert)
		if why := seen.due(c.asked, time.Now()); err != nil || (why != "") != c.due {
			t.Errorf("%s: %q, %v", name, why, err)
		}
	}
	if seen, err := howKubeletSigned.Parse("none"); seen.due(true, time.Now()) != "" || err != nil {
		t.Errorf("a host that has not joined: %+v, %v", seen, err)
	}
	if seen, err := howKubeletSigned.Parse("cut"); seen.due(false, time.Now()) == "" || err != nil {
		t.Errorf("a renewal that was cut off: %+v, %v", seen, err)
	}
	for _, damaged := range []string{"", "text"} {
		if _, err := howKubeletSigned.Parse(damaged); remote.HintOf(err) == "" {
			t.Errorf("%q: %v", damaged, err)
		}
	}
}

func TestCertificatesOfAHostAreReadInOneCall(t *testing.T) {
	d := newDisk(t).initialised(t, map[string]time.Time{"front-proxy-client.crt": time.Now()})
	cert, key := pemPair(t, time.Now().Add(48*time.Hour))
	d.write(kubeletPair, cert+key)
	w := newCertWorld(t, inventorytest.One(t), d)
	got, err := Certificates(t.Context(), w.hosts["master-1"])
	if err != nil || len(got) != 10 || got[0].Name != "kubelet-client-current.pem" || len(w.ran) != 1 {
		t.Errorf("%+v, %v, %q", got, err, w.ran)
	}
}

// The template gives kubeadm's certificates the year that pki.RenewBefore is for.
func TestKubeadmsCertificatesLiveLongerThanTheMargin(t *testing.T) {
	c := clusterOf(t, inventorytest.One(t), true)
	conf, err := c.InitConfig(c.Inv.Masters()[0])
	if err != nil || !strings.Contains(string(conf), "\ncertificateValidityPeriod: 8760h0m0s\n") {
		t.Errorf("%v: a lifetime below three times %s would be renewed on every run\n%s", err, pki.RenewBefore, conf)
	}
}

// Kubeconfigs that an earlier step of the same run makes anew leave processes with the old
// ones: the step has to be in the plan, or the run after it would find work.
func TestRenewalIsPlannedBehindKubeconfigsThatAreMadeAnew(t *testing.T) {
	t.Parallel()
	r := &renewal{}
	seen, err := howSigned.Parse("remade")
	if then := r.check(seen, time.Now()); err != nil || then == nil || !then.Then || !slices.Equal(then.Acts, r.change("later").Acts) {
		t.Errorf("%+v, %v", then, err)
	}
	seen, err = howSigned.Parse("none")
	if c := r.check(seen, time.Now()); err != nil || c != nil {
		t.Errorf("a host on which nothing runs: %+v, %v", c, err)
	}
}
