package ops

import (
	"context"
	"fmt"
	"hactl/internal/fakehost"
	"reflect"
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
		d := h.Disk()
		owned := d.Get(ownedFile)
		if owned == nil {
			continue
		}
		of := reset.Host{
			Name: h.name, Made: plan.ReadOwned(owned.Content), Noted: d.Get("var/lib/hactl/former/folders") != nil, PkgManager: "apt",
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
	sh := fakehost.Remembered(t)
	w := newCrashWorld(t, 1, 1).fresh(t, sh)
	o := w.hosts[0].Order()
	want := w.stateAfterReset()
	_, err := w.up(t.Context())
	must(t, err)
	points := []cutPoint{w.cut(0, "nothing")}
	o.After = func(host, title string) {
		if title != "look" {
			points = append(points, w.cut(len(points), host+" "+title))
		}
	}
	_, err = w.reset(t.Context())
	must(t, err)
	o.After = nil
	if got := w.stateAfterReset(); got != want {
		t.Fatalf("not as before: %s", difference(want, got))
	}
	t.Logf("cut at %d points", len(points))
	for _, at := range resumed(t, points) {
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
	w := newCrashWorld(t, 1, 1).fresh(t, fakehost.Real(t))
	theirs := map[string]string{
		"etc/cni/net.d/99-theirs.conflist": "theirs\n", "usr/bin/kubelet": "their kubelet\n", "etc/sysctl.d/90-hactl.conf": "# theirs\n",
		"etc/systemd/system/etcd.service.d/x.conf": "theirs\n", "usr/local/libexec/theirs": "theirs\n",
	}
	for _, h := range w.hosts {
		var files []*fakehost.Entry
		files = append(files, fakehost.File("proc/sys/kernel/panic", "0\n"))
		for path, content := range theirs {
			files = append(files, fakehost.File(path, content))
		}
		h.SetDisk(h.Disk().With(files...))
	}
	want := w.stateAfterReset()
	_, err := w.up(t.Context())
	must(t, err)
	if e := w.hosts[0].Disk().Get("usr/bin/kubelet"); e == nil || !strings.HasPrefix(e.Content, "/opt/hactl/kubelet/") {
		t.Fatalf("the name of the kubelet: %+v", e)
	}
	for _, h := range w.hosts { // as the kubelet does
		h.SetDisk(h.Disk().With(fakehost.File("proc/sys/kernel/panic", "10\n")))
	}
	_, err = w.reset(t.Context())
	must(t, err)
	if got := w.stateAfterReset(); got != want {
		t.Errorf("not as before: %s", difference(want, got))
	}
}

func TestPastOfAHostIsReadWhole(t *testing.T) {
	t.Parallel()
	const line = `{"kind":"file","name":"/etc/x"}` + "\n"
	for answer, want := range map[string]past{
		"record\nend\n":   {},
		"record\n\nend\n": {},
		"noted\nothers\nrecord\n" + line + "\nend":  {made: plan.ReadOwned(line), noted: true, others: true},
		"record\n" + line + `{"kind":"fi` + "\nend": {made: plan.ReadOwned(line)}, // the last line was cut when it was written
	} {
		if got, err := askPast.Parse(answer); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v", answer, got, err)
		}
	}
	for _, answer := range []string{"", "noted\n", "record\n", "record\n" + line, "end\n", "none\n", "noted\nend\n", line + "end\n", "record\n" + line + "\nen"} {
		if got, err := askPast.Parse(answer); err == nil {
			t.Errorf("%q gives %+v", answer, got)
		}
	}
}
