package kubeadm

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory/inventorytest"
)

// kubeletWorld is a worker on whose disk scripts really run. Its kubelet works with some
// settings only, and ends again and again with others.
type kubeletWorld struct {
	*disk
	steps []plan.Step // of the settings, the unit and the process
	env   plan.Env
}

const oldSettings, oldUnit = "old settings\n", "[Service]\nold\n"

func newKubeletWorld(t *testing.T, works func(settings string) bool) *kubeletWorld {
	t.Helper()
	w := &kubeletWorld{disk: newDisk(t)}
	w.write(kubeletPatchFile, oldSettings)
	w.Unit("kubelet.service", oldUnit, "cp "+kubeletPatchFile+" "+kubeDir+"/started 2>/dev/null || : >"+kubeDir+"/started", true)
	w.Write("/state/units/kubelet.service.restarts", "7\n", 0o644)
	w.Program("journalctl", `echo 'I0101 fine'; echo 'E0102 run.go:72] "command failed" err="evictionHard: nonsense"'; echo 'I0103 bye'`)
	w.write(kubeDir+"/started", oldSettings)
	kubelet := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if !works(w.Content(kubeDir + "/started")) {
			rw.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(kubelet.Close)
	host := remote.NewFake("worker-1", func(c remote.Call) (*remote.Result, error) {
		switch c.Kind {
		case "run":
			return w.run(t.Context(), c.Cmd.Script)
		case "put":
			return nil, w.Put(t.Context(), c.Files...)
		}
		return nil, nil
	})
	host.DialWith(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, kubelet.Listener.Addr().String())
	})
	w.env = plan.Env{Host: host, Say: t.Logf}
	c := clusterOf(t, inventorytest.ThreeWithWorkers(t, 1), true)
	c.patience = 10 * time.Millisecond
	h := c.Inv.Host("worker-1")
	w.steps = []plan.Step{
		keepsKubelet(plan.File{ID: "settings", Host: h.Name, Path: kubeletPatchFile, Content: []byte("new settings\n")}.Step()),
		keepsKubelet(plan.File{ID: "unit", Host: h.Name, Path: kubeletUnitFile, Content: []byte("[Service]\nnew\n")}.Step()),
		c.putsKubeletBack(h, plan.Step{
			Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
				_, err := env.Host.Run(ctx, remote.Cmd{Script: "systemctl restart kubelet.service"})
				return err
			},
		}),
	}
	return w
}

// change has the steps done as the engine does them, up to that of the process.
func (w *kubeletWorld) change(t *testing.T, steps ...plan.Step) error {
	t.Helper()
	for _, st := range steps {
		if st.Guard != nil {
			if err := st.Guard(t.Context(), w.env); err != nil {
				return err
			}
		}
		if err := st.Apply(t.Context(), w.env, &plan.Change{}); err != nil {
			return err
		}
		if st.Ready != nil {
			if err := st.Ready(t.Context(), w.env); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *kubeletWorld) wants(t *testing.T, settings, unit, started string) {
	t.Helper()
	if a, b, c := w.Content(kubeletPatchFile), w.Content(kubeletUnitFile), w.Content(kubeDir+"/started"); a != settings || b != unit || c != started {
		t.Errorf("settings %q, unit %q, started with %q; want %q, %q, %q", a, b, c, settings, unit, started)
	}
	if w.Has(keptKubelet) {
		t.Error("the copies are still there")
	}
}

func TestKubeletsOldConfigurationComesBack(t *testing.T) {
	w := newKubeletWorld(t, func(s string) bool { return s == oldSettings })
	err := w.change(t, w.steps...)
	if err == nil {
		t.Fatal("it is said to have come up")
	}
	for _, want := range []string{"the kubelet of worker-1 does not come up", "it ends again and again", "its last lines:\nE0102", "evictionHard: nonsense", "its old configuration is back, and works"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	if strings.Contains(err.Error(), "I0103 bye") {
		t.Errorf("lines that are no errors: %q", err)
	}
	w.wants(t, oldSettings, oldUnit, oldSettings)
}

// Where there were no settings there are none again.
func TestKubeletWithoutSettingsHasNoneAgain(t *testing.T) {
	w := newKubeletWorld(t, func(s string) bool { return s == "" || s == oldSettings })
	if err := os.Remove(w.On(kubeletPatchFile)); err != nil {
		t.Fatal(err)
	}
	if err := w.change(t, w.steps...); err == nil || !strings.Contains(err.Error(), "is back, and works") {
		t.Fatal(err)
	}
	w.wants(t, "", oldUnit, "")
}

// A run that was cut off after it wrote has left the good files aside: the next one does
// not take the new ones for those.
func TestCutRunDoesNotLoseTheKubeletsOldFiles(t *testing.T) {
	w := newKubeletWorld(t, func(s string) bool { return s == oldSettings })
	if err := w.change(t, w.steps[:2]...); err != nil {
		t.Fatal(err)
	}
	if err := w.change(t, w.steps...); err == nil {
		t.Fatal("it is said to have come up")
	}
	w.wants(t, oldSettings, oldUnit, oldSettings)
}

func TestKubeletThatComesUpKeepsItsNewConfiguration(t *testing.T) {
	w := newKubeletWorld(t, func(string) bool { return true })
	if err := w.change(t, w.steps...); err != nil {
		t.Fatal(err)
	}
	w.wants(t, "new settings\n", "[Service]\nnew\n", "new settings\n")
}

// A kubelet that did not work before is not better with the files of before.
func TestKubeletThatDidNotWorkBeforeIsLeftWithTheNewFiles(t *testing.T) {
	w := newKubeletWorld(t, func(string) bool { return false })
	after := errors.New("not active within 60s")
	w.steps[2].Apply = func(context.Context, plan.Env, *plan.Change) error { return after }
	if err := w.change(t, w.steps...); !errors.Is(err, after) {
		t.Fatal(err)
	}
	if got := w.Content(kubeletPatchFile); got != "new settings\n" {
		t.Errorf("settings %q", got)
	}
}
