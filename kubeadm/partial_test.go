package kubeadm

import (
	"os"
	"strings"
	"testing"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory/inventorytest"
)

// cutOff is a master whose power went in the middle of its first kubeadm init.
func cutOff(t *testing.T) *disk {
	t.Helper()
	d := newDisk(t).initialised(t, nil)
	d.make(t, "kubelet.conf", d.until)
	if err := os.Remove(d.On(markerFile)); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"ca", "front-proxy-ca", "sa", "etcd/ca"} {
		if err := os.MkdirAll(d.On(pkiDir+"/etcd"), 0o755); err != nil {
			t.Fatal(err)
		}
		d.write(pkiDir+"/"+f+".key", "")
		d.write(pkiDir+"/"+f+".crt", "")
	}
	d.write(pkiDir+"/apiserver-etcd-client.key", "") // alone, and hactl's
	return d
}

func TestWhatAPowerCutLeftOfKubeadmsFilesIsMadeAnew(t *testing.T) {
	remove := func(files ...string) func(*testing.T, *disk) {
		return func(t *testing.T, d *disk) {
			t.Helper()
			for _, f := range files {
				if err := os.Remove(d.On(kubeDir+"/") + f); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	write := func(file, text string) func(*testing.T, *disk) {
		return func(t *testing.T, d *disk) { t.Helper(); d.write(kubeDir+"/"+file, text) }
	}
	cert, key := pemPair(t, time.Now().Add(1000*time.Hour))
	_, other := pemPair(t, time.Now())
	const rotated = "current-context: x\n    client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem\n    client-key: /var/lib/kubelet/pki/kubelet-client-current.pem\n"
	for name, c := range map[string]struct {
		cut  func(*testing.T, *disk)
		want string // in the plan
		gone string
	}{
		"nothing":                         {func(*testing.T, *disk) {}, "", ""},
		"an empty certificate":            {write("pki/apiserver.crt", ""), "apiserver.crt (empty)", "pki/apiserver.crt pki/apiserver.key"},
		"an empty key":                    {write("pki/front-proxy-client.key", ""), "front-proxy-client.key (empty)", "pki/front-proxy-client.crt pki/front-proxy-client.key"},
		"a key alone":                     {remove("pki/apiserver.crt"), "apiserver.key (without its certificate)", "pki/apiserver.crt pki/apiserver.key"},
		"a certificate alone":             {remove("pki/apiserver.key"), "apiserver.crt (without its key)", "pki/apiserver.crt pki/apiserver.key"},
		"neither yet":                     {remove("pki/apiserver.key", "pki/apiserver.crt", "admin.conf"), "", "pki/apiserver.crt pki/apiserver.key admin.conf"},
		"zeros":                           {write("pki/apiserver.crt", strings.Repeat("\x00", 800)), "apiserver.crt (does not match its key)", "pki/apiserver.crt pki/apiserver.key"},
		"a key of another certificate":    {write("pki/apiserver-kubelet-client.key", other), "apiserver-kubelet-client.crt (does not match its key)", "pki/apiserver-kubelet-client.crt pki/apiserver-kubelet-client.key"},
		"an empty kubeconfig":             {write("admin.conf", ""), "admin.conf (empty)", "admin.conf"},
		"a kubeconfig without a context":  {write("scheduler.conf", strings.Replace(kubeconfig(cert, key), "a@demo", `""`, 1)), "scheduler.conf (no current-context)", "scheduler.conf"},
		"a kubeconfig of zeros":           {write("kubelet.conf", strings.Repeat("\x00", 800)), "kubelet.conf (no current-context)", "kubelet.conf"},
		"a kubeconfig without its end":    {write("admin.conf", kubeconfig(cert, key)[:400]), "admin.conf (cut short)", "admin.conf"},
		"a kubeconfig with half a key":    {write("admin.conf", strings.TrimSuffix(kubeconfig(cert, key), "=\n")[:len(kubeconfig(cert, key))-40]), "admin.conf (cut short)", "admin.conf"},
		"a kubeconfig that ends in zeros": {write("admin.conf", kubeconfig(cert, key)[:900]+strings.Repeat("\x00", 100)), "admin.conf (cut short)", "admin.conf"},
		"a kubeconfig, and zeros":         {write("admin.conf", kubeconfig(cert, key)+strings.Repeat("\x00", 100)), "admin.conf (cut short)", "admin.conf"},
		"a rotated kubeconfig, all there": {func(t *testing.T, d *disk) {
			t.Helper()
			write("kubelet.conf", rotated)(t, d)
			d.write(kubeletPair, "x")
		}, "", ""},
		"a rotated kubeconfig alone": {write("kubelet.conf", rotated), "kubelet.conf (its certificate is missing)", "kubelet.conf"},
		"two": {func(t *testing.T, d *disk) {
			t.Helper()
			write("admin.conf", "")(t, d)
			write("pki/apiserver.key", "")(t, d)
		}, "apiserver.key (empty), admin.conf (empty)", "admin.conf pki/apiserver.crt pki/apiserver.key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := cutOff(t)
			if strings.Contains(c.want, "does not match") {
				d.Borrow("openssl") // only that can tell
			}
			before := d.files(t)
			c.cut(t, d)
			w := newCertWorld(t, inventorytest.One(t), d)
			st, err := w.Init(w.Inv.Masters()[0])
			if err != nil {
				t.Fatal(err)
			}
			p, err := plan.Make(t.Context(), []plan.Stage{{Name: "control plane", Steps: []plan.Step{st}}}, w.hosts, plan.Discard)
			if err != nil {
				t.Fatal(err)
			}
			want := "kubeadm init (not initialised)"
			if c.want != "" {
				want = "kubeadm init (not initialised; made anew: " + c.want + ")"
			}
			if got := summaryOf(p); got != want || p.Err() != nil {
				t.Errorf("%q, %v, want %q", got, p.Err(), want)
			}
			if res, err := d.run(t.Context(), "set -e\n"+removePartial); err != nil || (c.want == "") != (len(res.Stdout) == 0) {
				t.Errorf("%s, %v", res.Stdout, err)
			}
			for f := range before {
				if gone := strings.Contains(" "+c.gone+" ", " "+f+" "); gone == d.Has(kubeDir+"/"+f) {
					t.Errorf("%s: removed is %t", f, !d.Has(kubeDir+"/"+f))
				}
			}
		})
	}
}

func (d *disk) files(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, dir := range []string{"", "pki/", "pki/etcd/", "manifests/"} {
		l, err := os.ReadDir(d.On(kubeDir+"/") + dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range l {
			if !e.IsDir() {
				out[dir+e.Name()] = true
			}
		}
	}
	return out
}

// A master that serves is never touched: only init's first part, or a renewal,
// can have been cut off.
func TestNothingIsRemovedFromAMasterThatWasInitialised(t *testing.T) {
	d := cutOff(t)
	d.write(markerFile, "x")
	d.write(pkiDir+"/apiserver.key", "")
	if res, err := d.run(t.Context(), removePartial); err != nil || len(res.Stdout) > 0 || !d.Has(pkiDir+"/apiserver.crt") {
		t.Errorf("%s, %v", res.Stdout, err)
	}
	d.write(renewingFile, "")
	if _, err := d.run(t.Context(), removePartial); err != nil || d.Has(pkiDir+"/apiserver.crt") || d.Has(pkiDir+"/apiserver.key") {
		t.Errorf("after a renewal that was cut off: %v", err)
	}
}

func TestInitMendsBeforeKubeadmAndSyncsBeforeItIsDone(t *testing.T) {
	w := newInitWorld(t, func(w *initWorld, _ []string) {
		for a := range w.code {
			w.set(a, 200)
		}
	})
	for _, m := range w.Inv.Masters()[:2] {
		w.set(w.apiAddress(m), 200)
	}
	for _, m := range w.Inv.Masters()[:2] { // the first one, and another
		before := len(w.host.Calls())
		if err := w.init(t.Context(), plan.Env{Host: w.host, Say: func(string, ...any) {}}, m, "x"); err != nil {
			t.Fatal(err)
		}
		var scripts []string
		for _, c := range w.host.Calls()[before:] {
			if c.Kind == "run" {
				scripts = append(scripts, c.Cmd.Script)
			}
		}
		first, last := scripts[0], scripts[len(scripts)-1]
		if i, j := strings.Index(first, removePartial), strings.Index(first, "kubeadm init"); i < 0 || i > j {
			t.Errorf("%s: mended at %d, kubeadm at %d", m.Name, i, j)
		}
		if i, j, k := strings.LastIndex(last, "kubeadm init"), strings.Index(last, fsyncKubeadmFiles), strings.Index(last, ">"+markerFile); i > j || j < 0 || j > k {
			t.Errorf("%s: kubeadm at %d, synced at %d, recorded at %d", m.Name, i, j, k)
		}
	}
}

// A worker's join that a power cut ended is begun anew with the CA from the cluster.
func TestJoinTakesNothingOfOneThatWasCutOff(t *testing.T) {
	w := newNodeWorld(t).joined(t)
	d := newDisk(t)
	for _, f := range []string{"/kubelet.conf", "/bootstrap-kubelet.conf", "/pki/ca.crt"} {
		d.write(kubeDir+f, "")
	}
	d.Program("kubeadm", `for f in `+kubeDir+`/*.conf `+pkiDir+`/ca.crt; do [ ! -e $f ] || { echo "$f is there" >&2; exit 1; }; done
echo x >`+kubeDir+`/kubelet.conf; echo x >`+pkiDir+`/ca.crt; echo x >/var/lib/kubelet/config.yaml`)
	host := remote.NewFake("worker-1", func(c remote.Call) (*remote.Result, error) { return d.run(t.Context(), c.Cmd.Script) })
	master := remote.NewFake("master-1", func(remote.Call) (*remote.Result, error) {
		return &remote.Result{Stdout: []byte("abcdef.0123456789abcdef\n")}, nil
	})
	st := w.Join(w.worker(), func() remote.Host { return master })
	p, err := plan.Make(t.Context(), []plan.Stage{{Name: "workers", Steps: []plan.Step{st}}}, plan.Hosts{"worker-1": host}, plan.Discard)
	if err != nil || len(p.Pending()) != 1 {
		t.Fatal(err, p.Err())
	}
	if _, err := p.Apply(t.Context(), plan.Hosts{"worker-1": host}, plan.Discard, nil); err != nil {
		t.Fatal(err)
	}
}
