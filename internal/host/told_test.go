package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/testneeds"
	"hactl/inventory/inventorytest"
)

// At a boot cloud-init would give a host the name of its machine again, and after an apt
// needrestart would restart keepalived on all masters.
func TestOtherProgramsAreToldWhereTheyAre(t *testing.T) {
	h := Host{Inv: inventorytest.One(t)}
	h.Host = &h.Inv.Hosts[0]
	for what, c := range map[string]struct {
		step           plan.Step
		at, name, says string
	}{
		"cloud-init":  {h.cloudInit(), cloudDir, "99-hactl.cfg", "preserve_hostname: true"},
		"needrestart": {h.needrestart(), needrestartDir, "90-hactl.conf", "keepalived"},
	} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "conf.d")
			run := func(script string) string {
				out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(script, c.at, dir)).CombinedOutput()
				if err != nil {
					t.Fatal(err, string(out))
				}
				return strings.TrimSpace(string(out))
			}
			look := c.step.Look[0].Script
			if got := run(look); got != "ok" {
				t.Errorf("without the program: %s", got)
			}
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if got := run(look); got != "has not been told" {
				t.Errorf("with the program: %s", got)
			}
			host := remote.NewFake("m", func(c remote.Call) (*remote.Result, error) { run(c.Cmd.Script); return &remote.Result{}, nil })
			if err := c.step.Apply(t.Context(), plan.Env{Host: host}, nil); err != nil {
				t.Fatal(err)
			}
			if got := run(look); got != "ok" {
				t.Errorf("told: %s", got)
			}
			text, err := os.ReadFile(filepath.Join(dir, c.name))
			if err != nil || !strings.Contains(string(text), c.says) || !strings.HasPrefix(string(text), "# Written by hactl") {
				t.Errorf("%s, %v", text, err)
			}
		})
	}
}

// needrestart reads its configuration as perl: the file is read as it reads it, and asked
// for units as it asks.
func TestNeedrestartLeavesTheUnitsOfTheClusterAlone(t *testing.T) {
	perl := testneeds.Path(t, "perl")
	h := Host{Inv: inventorytest.One(t)}
	h.Host = &h.Inv.Hosts[0]
	var content string
	host := remote.NewFake("m", func(c remote.Call) (*remote.Result, error) { content = c.Cmd.Script; return &remote.Result{}, nil })
	if err := h.needrestart().Apply(t.Context(), plan.Env{Host: host}, nil); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "x.conf")
	script := strings.ReplaceAll(content, needrestartDir, filepath.Dir(file))
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	ask := `our %nrconf = (override_rc => {}); my $text = do { local (@ARGV, $/) = ($ARGV[0]); <> }; shift;
eval $text or die $@; for my $u (@ARGV) { for my $r (keys %{$nrconf{override_rc}}) { print "$u=$nrconf{override_rc}{$r}\n" if $u =~ /$r/ } }`
	out, err := exec.CommandContext(t.Context(), perl, "-e", ask, filepath.Join(filepath.Dir(file), "90-hactl.conf"),
		"keepalived.service", "containerd.service", "etcd.service", "kubelet.service", "hactl-prober.service", "hactl-network.service", "cron.service", "etcdx.service").CombinedOutput()
	want := "keepalived.service=0\ncontainerd.service=0\netcd.service=0\nkubelet.service=0\nhactl-prober.service=0\nhactl-network.service=0\n"
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s", err, out)
	}
}
