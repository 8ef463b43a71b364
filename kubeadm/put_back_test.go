package kubeadm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hactl/internal/plan"
	"hactl/inventory/inventorytest"
)

// manifestWorld is a master on whose disk scripts really run. Its apiserver serves with
// some manifests only, and says why it does not with others.
type manifestWorld struct {
	*certWorld
	step plan.Step
	env  plan.Env
	ends int
}

const apiserverManifest = kubeDir + "/manifests/kube-apiserver.yaml"

func newManifestWorld(t *testing.T, serves func(manifest string) bool) *manifestWorld {
	t.Helper()
	d := newDisk(t).initialised(t, nil)
	d.write(kubeDir+"/manifests/kube-controller-manager.yaml", "x\n")
	d.write(kubeDir+"/manifests/kube-scheduler.yaml", "x\n")
	w := &manifestWorld{certWorld: newCertWorld(t, inventorytest.Three(t), d)}
	w.patience = 10 * time.Millisecond
	h := w.Inv.Masters()[0]
	d.Program("kubeadm", `case "$*" in *control-plane*) for p in apiserver controller-manager scheduler; do echo new >`+kubeDir+`/manifests/kube-$p.yaml; done;;
*certs*) echo x >`+pkiDir+`/apiserver.crt; echo x >`+pkiDir+`/apiserver.key;; esac
`)
	logs := d.On("/var/log/pods/kube-system_kube-apiserver-x_uid/kube-apiserver")
	w.before = func(title string) {
		if title == "see how often the apiserver ended" {
			if err := os.MkdirAll(logs, 0o755); err != nil {
				t.Error(err)
			}
			text := "2026-01-02T03:04:05.6Z stderr F flag provided but not defined: -nonsense\n"
			if err := os.WriteFile(filepath.Join(logs, fmt.Sprint(w.ends)+".log"), []byte(text), 0o600); err != nil {
				t.Error(err)
			}
			w.ends++
		}
	}
	w.env = plan.Env{Host: w.hosts[h.Name], Say: func(string, ...any) {
		b, err := os.ReadFile(d.On(apiserverManifest))
		w.serves[h.Name] = err == nil && serves(string(b))
	}}
	if _, err := d.run(t.Context(), record("y")); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.step, err = w.Manifests(h); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *manifestWorld) manifest(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(w.disk.On(apiserverManifest))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// change has the step done as the engine does it.
func (w *manifestWorld) change(t *testing.T) error {
	t.Helper()
	if err := w.step.Apply(t.Context(), w.env, &plan.Change{}); err != nil {
		return err
	}
	return w.step.Ready(t.Context(), w.env)
}

func TestManifestOfBeforeComesBackWhereTheNewApiserverEnds(t *testing.T) {
	w := newManifestWorld(t, func(m string) bool { return m == "x\n" })
	err := w.change(t)
	if err == nil || w.manifest(t) != "x\n" {
		t.Fatalf("%v; the manifest is %q", err, w.manifest(t))
	}
	for _, want := range []string{"it ends again and again", "its last lines:\nflag provided but not defined: -nonsense", "its old manifest is back, and serves"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	// The change stays due, and the next try begins from the manifests that serve.
	if out, lerr := w.disk.run(t.Context(), w.step.Look[0].Script); lerr != nil || !strings.Contains(string(out.Stdout), "another configuration") {
		t.Errorf("%s, %v", out.Stdout, lerr)
	}
	if err := w.change(t); err == nil || w.manifest(t) != "x\n" {
		t.Errorf("the second try: %v; the manifest is %q", err, w.manifest(t))
	}
}

// A run that was cut after it wrote new manifests has left the old ones aside: the next
// run does not take the new ones for those.
func TestCutRunDoesNotLoseTheManifestsOfBefore(t *testing.T) {
	w := newManifestWorld(t, func(m string) bool { return m == "x\n" })
	if err := w.step.Apply(t.Context(), w.env, &plan.Change{}); err != nil {
		t.Fatal(err)
	}
	if err := w.change(t); err == nil || w.manifest(t) != "x\n" {
		t.Errorf("%v; the manifest is %q", err, w.manifest(t))
	}
}

func TestNothingIsKeptOnceTheNewApiserverServes(t *testing.T) {
	w := newManifestWorld(t, func(string) bool { return true })
	if err := w.change(t); err != nil || w.manifest(t) != "new\n" || w.disk.Has(keptDir) {
		t.Errorf("%v; the manifest is %q, %v", err, w.manifest(t), w.disk.Has(keptDir))
	}
}

func TestManifestThatCannotBePutBackIsSaid(t *testing.T) {
	w := newManifestWorld(t, func(string) bool { return false })
	if err := w.step.Apply(t.Context(), w.env, &plan.Change{}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(w.disk.On(keptDir)); err != nil {
		t.Fatal(err)
	}
	if err := w.PutBack(t.Context(), w.env, w.Inv.Masters()[0], errEnds); err == nil || !strings.Contains(err.Error(), "put its old manifest back") {
		t.Error(err)
	}
}

func TestExitsOfTheApiserverAreThoseOfItsNewestFolder(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]exits{"none\n": {}, "/var/log/pods/a 7\n": {"/var/log/pods/a", 7}} {
		if got, err := apiserverExits.Parse(answer); err != nil || got != want {
			t.Errorf("%q: %+v, %v", answer, got, err)
		}
	}
	for _, answer := range []string{"", "/var/log/pods/a", "/var/log/pods/a x", "/var/log/pods/a -1", "ls: error 3", "none 3"} {
		if got, err := apiserverExits.Parse(answer); err == nil {
			t.Errorf("%q gives %+v", answer, got)
		}
	}
}
