package host

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"hactl/internal/bundle"
	"hactl/internal/facts"
	"hactl/internal/others"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory/inventorytest"
)

// apt is an apt-get that removes what it has to, unless it is told not to.
const apt = `case $* in
*update*) echo "W: one source does not answer" >&2; exit 100 ;;
-s*) echo 'Inst runc'; echo 'Remv docker-ce [5:27]'; echo 'Remv containerd.io [1.7]' ;;
*--no-remove*) echo 'E: Packages need to be removed but remove is disabled.' >&2; exit 100 ;;
*) echo "installs $*" ;;
esac`

func TestPackagesOfOthersAreRemovedOnlyWhenAllOfThemArePermitted(t *testing.T) {
	for _, c := range []struct {
		may  []string
		says string
	}{
		{nil, "apt would remove docker-ce containerd.io to install runc; permit it: --take-over package:docker-ce --take-over package:containerd.io"},
		{[]string{"docker-ce"}, "apt would remove containerd.io to install runc"},
		{[]string{"docker-ce", "containerd.io"}, "installs -y --no-install-recommends"},
	} {
		_, script := packageScripts("apt", "runc", c.may)
		out, err := run(t, script, map[string]string{"dpkg": "", "apt-get": apt})
		if !strings.Contains(out, c.says) || (err == nil) != strings.HasPrefix(c.says, "installs") {
			t.Errorf("permitted %q: %v: %s", c.may, err, out)
		}
	}
}

func TestPackagesComeFromTheSourcesThatAnswer(t *testing.T) {
	_, script := packageScripts("apt", "runc", nil)
	out, err := run(t, script, map[string]string{"dpkg": "", "apt-get": `case $*:$(ls) in
update:*) : >lists; echo 'E: The repository http://gone.example.com stable Release does not have a Release file.' >&2; exit 100 ;;
*:*lists*) echo "installs $*" ;;
*) echo 'E: Unable to locate package runc' >&2; exit 100 ;;
esac`})
	if err != nil || !strings.Contains(out, "installs") || !strings.Contains(out, "going on with the others") || !strings.Contains(out, "gone.example.com") {
		t.Errorf("%v: %s", err, out)
	}
}

// othersPlan is the plan of the first step on a host that answers so.
func othersPlan(t *testing.T, answer string, record facts.Record, takeOver ...string) *plan.Plan {
	t.Helper()
	inv := inventorytest.Three(t)
	m := machine(inv, facts.Brief{PkgManager: "apt", Record: record}, bundle.Artifact{Name: "kubelet", Kind: bundle.Binary, Dest: "/usr/local/bin/kubelet"})
	m.TakeOver = takeOver
	h := remote.NewFake(m.Host.Name, func(call remote.Call) (*remote.Result, error) {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", call.Cmd.Script).Output()
		return &remote.Result{Stdout: out}, err
	})
	steps := m.OthersStep()
	for i := range steps {
		steps[i].Look[0].Script = "printf '%s' " + remote.Quote(answer)
	}
	p, err := plan.Make(t.Context(), []plan.Stage{{Name: "prepare", Steps: steps}}, plan.Hosts{m.Host.Name: h}, plan.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const docker = "engine\tdocker\tpid 7\ncni\t10-calico.conflist\tcalico\nend"

func TestFirstStepOfAHostRefusesWhatBelongsToOthers(t *testing.T) {
	p := othersPlan(t, docker, facts.Record{}, "cni:10-calico.conflist")
	var refused *others.RefusedError
	if err := p.Err(); !errors.As(err, &refused) || len(refused.Things) != 1 || refused.Things[0].Word() != "engine:docker" {
		t.Errorf("%v", p.Err())
	}
	if p = othersPlan(t, docker, facts.Record{}, "cni:10-calico.conflist", "engine:docker"); p.Err() != nil || len(p.Pending()) != 1 {
		t.Errorf("%v, %v", p.Err(), p.Pending())
	}
	if s := p.Pending()[0].Change.Summary; s != "make room, as permitted: cni:10-calico.conflist" {
		t.Errorf("%q", s)
	}
	if p = othersPlan(t, "half an answ", facts.Record{}); p.Err() == nil {
		t.Error("could not look, and no error says so")
	}
	if p = othersPlan(t, docker, facts.Record{Cluster: "demo-1"}); p.Err() != nil || len(p.Pending()) != 0 {
		t.Errorf("a host of hactl: %v", p.Err())
	}
}

func TestOnlyWhatIsPermittedIsCleared(t *testing.T) {
	f, err := others.Parse(docker)
	if err != nil {
		t.Fatal(err)
	}
	allowed, _ := f.Split([]string{"cni:10-calico.conflist"})
	if got := clearScript(allowed); !strings.Contains(got, "mv -- /etc/cni/net.d/10-calico.conflist /etc/cni/net.d/10-calico.conflist.before-hactl") || strings.Contains(got, "docker") {
		t.Errorf("%s", got)
	}
	if got := clearable(f.Things); !slices.Equal(got, []string{"cni:10-calico.conflist"}) {
		t.Errorf("%q", got)
	}
}
