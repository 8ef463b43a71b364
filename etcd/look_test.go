package etcd

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory/inventorytest"
)

func observed(t *testing.T, dataDir string) (Disk, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", observeScript(dataDir)).Output()
	if err != nil {
		return Disk{}, err
	}
	return parseDisk(string(out))
}

func TestDataDirectoryThatCannotBeReadIsNotEmpty(t *testing.T) {
	dir := t.TempDir()
	if d, err := observed(t, dir); err != nil || d.Data {
		t.Errorf("an empty one: %+v, %v", d, err)
	}
	if d, err := observed(t, dir+"/not/there"); err != nil || d.Data {
		t.Errorf("none: %+v, %v", d, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "member"), 0o700); err != nil {
		t.Fatal(err)
	}
	if d, err := observed(t, dir); err != nil || !d.Data {
		t.Errorf("a member: %+v, %v", d, err)
	}
	if d, err := observed(t, dir+"/"+strings.Repeat("n", 300)); err == nil { // ENAMETOOLONG, for root too
		t.Errorf("what cannot be looked at passes for %+v", d)
	}
}

func TestMemberThatCannotBeAskedIsNotRestartedUnasked(t *testing.T) {
	p := planOf(t, inventorytest.Three(t))
	m := p.Inv.Masters()[0]
	asked := errors.New("the cluster was asked")
	dial := func(context.Context) (*Cluster, error) { return nil, asked }
	for name, c := range map[string]struct {
		says string
		err  error
		asks bool // the cluster, whether it can spare the member
		ok   bool
	}{
		"it runs":              {says: "71\n", asks: true},
		"it does not":          {says: "0\n", ok: true},
		"systemd says nothing": {},
		"the session is lost":  {err: &remote.UnreachableError{Host: m.Name, Op: "run", Err: errors.New("cut")}},
	} {
		t.Run(name, func(t *testing.T) {
			h := remote.NewFake(m.Name, func(remote.Call) (*remote.Result, error) { return &remote.Result{Stdout: []byte(c.says)}, c.err })
			_, err := p.guardRestart(t.Context(), plan.Env{Host: h}, m, dial)
			if errors.Is(err, asked) != c.asks || (err == nil) != c.ok {
				t.Errorf("%v", err)
			}
		})
	}
}
