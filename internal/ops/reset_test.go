package ops

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"hactl/internal/plan"
	"hactl/internal/reset"
)

// reset takes back what up made, by the records on the disks.
func (w *crashWorld) reset(ctx context.Context) (*plan.Applied, error) {
	p, err := w.resetPlan(ctx)
	if err != nil {
		return nil, err
	}
	return p.Apply(ctx, w.s.hosts, plan.Discard, nil)
}

func (w *crashWorld) resetPlan(ctx context.Context) (*plan.Plan, error) {
	stage := plan.Stage{Name: "reset"}
	for _, h := range w.hosts {
		d := h.disk.Load()
		owned := d.get(ownedFile)
		if owned == nil {
			continue
		}
		of := reset.Host{
			Name: h.name, Made: plan.ReadOwned(owned.content), Noted: d.get("var/lib/hactl/former/folders") != nil, PkgManager: "apt",
			VIP: w.s.inv.VIP.Address, EtcdData: w.s.inv.Etcd.DataDir,
		}
		stage.Steps = append(stage.Steps, of.Steps()...)
	}
	for i := range stage.Steps {
		stage.Steps[i].Lane = ""
	}
	return plan.Make(ctx, []plan.Stage{stage}, w.s.hosts, plan.Discard)
}

// notAfterReset are lines of a state that a reset leaves: what the machine itself keeps
// (processes, packages, images that no longer have a containerd, routes of a stub),
// modules that the kernel may keep, and the data that was moved away.
var notAfterReset = regexp.MustCompile(`(?m)^\S+ (state|proc/filesystems|proc/sys/net/bridge|lib/systemd/system/keepalived.service|var/lib/hactl/removed-)\S*.*\n`)

func (w *crashWorld) stateAfterReset() string { return notAfterReset.ReplaceAllString(w.state(), "") }

// After a reset the disks are as they were before up; cut after any command and run
// again, it ends there, too.
func TestResetCutAtAnyCommandEndsWhereUpBegan(t *testing.T) {
	t.Parallel()
	sh := remembered(t)
	w := newCrashWorld(t, 1, 1).fresh(t, sh)
	o := w.hosts[0].order
	want := w.stateAfterReset()
	_, err := w.up(t.Context())
	must(t, err)
	points := []cutPoint{w.cut(0, "nothing")}
	o.after = func(host, title string) {
		if title != "look" {
			points = append(points, w.cut(len(points), host+" "+title))
		}
	}
	_, err = w.reset(t.Context())
	must(t, err)
	o.after = nil
	if got := w.stateAfterReset(); got != want {
		t.Fatalf("not as before: %s", difference(want, got))
	}
	t.Logf("cut at %d points", len(points))
	for _, at := range resumed(points) {
		t.Run(fmt.Sprintf("cut %d after %s", at.number, at.after), func(t *testing.T) {
			t.Parallel()
			var hosts []*rootHost
			for i, h := range w.hosts {
				hosts = append(hosts, newRootHost(h.name, sh, nil, at.disks[i]))
			}
			c, done := w.on(t, hosts)
			defer done()
			if _, err := c.reset(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := c.stateAfterReset(); got != want {
				t.Errorf("not as before: %s", difference(want, got))
			}
			if p, err := c.resetPlan(t.Context()); err != nil || len(p.Pending()) > 0 {
				t.Errorf("and then: %s", problems(p, err))
			}
		})
	}
}

// What another program has on a host stays.
func TestResetLeavesWhatIsNotHactls(t *testing.T) {
	t.Parallel()
	w := newCrashWorld(t, 1, 1).fresh(t, realShells(t))
	theirs := map[string]string{
		"etc/cni/net.d/99-theirs.conflist": "theirs\n", "usr/bin/kubelet": "their kubelet\n", "etc/sysctl.d/90-hactl.conf": "# theirs\n",
		"etc/systemd/system/etcd.service.d/x.conf": "theirs\n", "usr/local/libexec/theirs": "theirs\n",
	}
	for _, h := range w.hosts {
		var files []*entry
		files = append(files, newEntry("proc/sys/kernel/panic", 0o644, "0\n"))
		for path, content := range theirs {
			files = append(files, newEntry(path, 0o644, content))
		}
		h.disk.Store(h.disk.Load().with(files...))
	}
	want := w.stateAfterReset()
	_, err := w.up(t.Context())
	must(t, err)
	if e := w.hosts[0].disk.Load().get("usr/bin/kubelet"); e == nil || !strings.HasPrefix(e.content, "/opt/hactl/kubelet/") {
		t.Fatalf("the name of the kubelet: %+v", e)
	}
	for _, h := range w.hosts { // as the kubelet does
		h.disk.Store(h.disk.Load().with(newEntry("proc/sys/kernel/panic", 0o644, "10\n")))
	}
	_, err = w.reset(t.Context())
	must(t, err)
	if got := w.stateAfterReset(); got != want {
		t.Errorf("not as before: %s", difference(want, got))
	}
}
