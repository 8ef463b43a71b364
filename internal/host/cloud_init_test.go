package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory/inventorytest"
)

// At a boot cloud-init would give a host the name of its machine again.
func TestCloudInitIsToldToLeaveTheName(t *testing.T) {
	h := Host{Inv: inventorytest.One(t)}
	h.Host = &h.Inv.Hosts[0]
	st, dir := h.cloudInit(), filepath.Join(t.TempDir(), "cloud.cfg.d")
	run := func(script string) string {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(script, cloudDir, dir)).CombinedOutput()
		if err != nil {
			t.Fatal(err, string(out))
		}
		return strings.TrimSpace(string(out))
	}
	if got := run(st.Look[0].Script); got != "ok" {
		t.Errorf("no cloud-init: %s", got)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := run(st.Look[0].Script); got != "has not been told" {
		t.Errorf("with cloud-init: %s", got)
	}
	host := remote.NewFake("m", func(c remote.Call) (*remote.Result, error) { run(c.Cmd.Script); return &remote.Result{}, nil })
	if err := st.Apply(t.Context(), plan.Env{Host: host}, nil); err != nil {
		t.Fatal(err)
	}
	if got := run(st.Look[0].Script); got != "ok" {
		t.Errorf("told: %s", got)
	}
	text, err := os.ReadFile(filepath.Join(dir, "99-hactl.cfg"))
	if err != nil || string(text) != cloudContent {
		t.Errorf("%s, %v", text, err)
	}
}
