package host

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/bundle"
	"hactl/internal/fakehost"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/inventory"
)

// What a host is to have, of a bundle that has everything.
func TestImagesFollowTheInventory(t *testing.T) {
	var all []bundle.Artifact
	refs := map[string]string{"demo-v1": bundle.DemoImage, "demo-v2": bundle.DemoImageNext}
	for _, n := range []string{"kube-proxy", "coredns", "kube-apiserver", "kube-scheduler", "pause", "kube-controller-manager", "flannel", "demo-v1", "demo-v2"} {
		ref := cmp.Or(refs[n], "example.invalid/"+n+":v1")
		all = append(all, bundle.Artifact{Name: n, Kind: bundle.Image, File: "images/" + n + ".tar", Version: "v1", Image: ref, SHA256: strings.Repeat("5", 64)})
	}
	yes, no := true, false
	for name, c := range map[string]struct {
		preset string
		demo   *bool
		want   string
	}{
		"nothing of its own": {"routes", &no, ""},
		"demo":               {"routes", &yes, ", demo-v1 v1, demo-v2 v1"},
		"flannel":            {"flannel", &no, ", flannel v1"},
	} {
		t.Run(name, func(t *testing.T) {
			inv := &inventory.Inventory{Network: inventory.Network{Preset: c.preset}, Artifacts: inventory.Artifacts{Demo: c.demo}}
			h := Host{Inv: inv, Host: &inventory.Host{Name: "m1", Role: inventory.ControlPlane}, Bundle: &bundle.Bundle{Manifest: bundle.Manifest{Artifacts: all}}}
			p, err := plan.Make(t.Context(), []plan.Stage{{Name: "images", Steps: []plan.Step{h.FirstImages(), h.OtherImages()}}}, plan.Hosts{"m1": fakehost.New(t, "m1")}, plan.Discard)
			if err != nil || p.Err() != nil {
				t.Fatal(err, p.Err())
			}
			for i, want := range []string{"kube-apiserver v1, pause v1", "kube-scheduler v1, kube-controller-manager v1, kube-proxy v1, coredns v1" + c.want} {
				if got := p.Pending()[i].Change.Summary; got != "import "+want {
					t.Errorf("%q, want %q", got, want)
				}
			}
		})
	}
}

func TestMain(m *testing.M) { os.Exit(fakehost.Main(m)) }

// The images of a containerd that does not run are unknown, not missing.
func TestImagesOfAContainerdThatDoesNotRunAreNotSaidToBeMissing(t *testing.T) {
	a := bundle.Artifact{Name: "pause", Kind: bundle.Image, File: "images/pause.tar", Version: "v1", Image: "example.invalid/pause:v1", SHA256: strings.Repeat("5", 64)}
	h := Host{Inv: &inventory.Inventory{}, Host: &inventory.Host{Name: "m1", Role: inventory.ControlPlane}, Bundle: &bundle.Bundle{Manifest: bundle.Manifest{Artifacts: []bundle.Artifact{a}}}}
	for name, c := range map[string]struct {
		state string
		ran   bool // it left something on the disk
		want  string
	}{
		"it has never run":    {"inactive", false, "import pause v1"},
		"it ran before":       {"inactive", true, "import what containerd lacks, once it runs, of pause v1"},
		"it runs without it":  {"active", true, "import pause v1"},
		"it failed, has some": {"failed", true, "import what containerd lacks, once it runs, of pause v1"},
	} {
		t.Run(name, func(t *testing.T) {
			host := fakehost.New(t, "m1", fakehost.Program("usr/local/sbin/ctr", "echo REF LABELS"), fakehost.File("state/units/containerd.service.active", c.state+"\n"))
			if c.ran {
				host.Add(fakehost.File(containerdStore[1:], "x"))
			}
			p, err := plan.Make(t.Context(), []plan.Stage{{Name: "images", Steps: []plan.Step{h.FirstImages()}}}, plan.Hosts{"m1": host}, plan.Discard)
			if err != nil || p.Err() != nil {
				t.Fatal(err, p.Err())
			}
			if got := p.Pending()[0].Change.Summary; got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// While containerd does not run, it is not known what it has: once it runs, fewer
// images are imported, or only their archives are removed. More than was shown is
// refused.
func TestImagesBeyondThoseOfThePlanAreNotImported(t *testing.T) {
	a := bundle.Artifact{Name: "pause", Kind: bundle.Image, File: "images/pause.tar", Version: "v1", Image: "example.invalid/pause:v1", SHA256: strings.Repeat("5", 64)}
	b := bundle.Artifact{Name: "kube-apiserver", Kind: bundle.Image, File: "images/api.tar", Version: "v1", Image: "example.invalid/api:v1", SHA256: strings.Repeat("6", 64)}
	h := Host{Inv: &inventory.Inventory{}, Host: &inventory.Host{Name: "m1", Role: inventory.ControlPlane}, Bundle: &bundle.Bundle{Manifest: bundle.Manifest{Artifacts: []bundle.Artifact{a, b}}}}
	// host has the images, or an unknown number while containerd does not run, and pause.tar.
	host := func(t *testing.T, unknown, archive bool, as ...bundle.Artifact) *fakehost.Host {
		listing, state := "", "active\n"
		for _, a := range as {
			listing += a.Image + " " + a.ArchiveLabel() + "\n"
		}
		if unknown {
			state = "inactive\n"
		}
		m := fakehost.New(t, "m1", fakehost.Program("usr/local/sbin/ctr", "cat /state/images"), fakehost.File("state/images", listing),
			fakehost.File("state/units/containerd.service.active", state), fakehost.File(containerdStore[1:], "x"))
		if archive {
			m.Add(fakehost.File("var/lib/hactl/images/pause.tar", ""))
		}
		return m
	}
	for name, c := range map[string]struct {
		was, is *fakehost.Host
		refused bool
	}{
		"containerd has some by now":     {was: host(t, true, false), is: host(t, false, false, a)},
		"it has all, an archive is left": {was: host(t, true, false), is: host(t, false, true, a, b)},
		"it lost one":                    {was: host(t, false, false, a), is: host(t, false, false), refused: true},
		"an archive of an image it has":  {was: host(t, false, false, a), is: host(t, false, true, a), refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			did := 0
			st := h.FirstImages()
			st.Apply = func(context.Context, plan.Env, *plan.Change) error {
				did++
				c.was.SetDisk(host(t, false, false, a, b).Disk())
				return nil
			}
			hosts := plan.Hosts{"m1": c.was}
			p, err := plan.Make(t.Context(), []plan.Stage{{Name: "images", Steps: []plan.Step{st}}}, hosts, plan.Discard)
			if err != nil || p.Err() != nil || len(p.Pending()) != 1 {
				t.Fatal(err, p.Err())
			}
			c.was.SetDisk(c.is.Disk())
			_, err = p.Apply(t.Context(), hosts, plan.Discard, nil)
			if errors.Is(err, plan.ErrChanged) != c.refused || (did == 0) != c.refused {
				t.Errorf("applied %d times, %v", did, err)
			}
		})
	}
}

// A real shell waits until both are there, whatever else is. When that takes long it
// ends: what brings them may need its session.
func TestImagesAreAwaited(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// Its sleep takes no time.
	if err := os.WriteFile(filepath.Join(dir, "sleep"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Of one more image a second call.
	ctr := `#!/bin/sh
echo >>` + dir + `/calls
n=$(wc -l <` + dir + `/calls)
[ $n != 1 ] || exit 1
printf '%s\n' example.invalid/pause:v1 example.invalid/kube-scheduler:v12 example.invalid/kube-controller-manager:v1
[ $n -lt 4 ] || echo example.invalid/kube-scheduler:v1
`
	if err := os.WriteFile(filepath.Join(dir, "ctr"), []byte(ctr), 0o755); err != nil {
		t.Fatal(err)
	}
	b := &bundle.Bundle{}
	if got := AwaitImages(b); got != "" {
		t.Errorf("nothing to wait for: %s", got)
	}
	for _, n := range []string{"pause", "kube-controller-manager", "kube-scheduler"} {
		b.Artifacts = append(b.Artifacts, bundle.Artifact{Name: n, Kind: bundle.Image, Image: "example.invalid/" + n + ":v1"})
	}
	sh := exec.CommandContext(t.Context(), "sh", "-ec", sys.With(AwaitImages(b)+"echo go on"))
	sh.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	if out, err := sh.CombinedOutput(); err != nil || string(out) != "go on\n" {
		t.Errorf("%v: %s", err, out)
	}
	if calls, err := os.ReadFile(filepath.Join(dir, "calls")); err != nil || len(calls) != 4 {
		t.Errorf("asked %d times, wanted 4; %v", len(calls), err)
	}
	b.Artifacts = append(b.Artifacts[:2], bundle.Artifact{Name: "kube-scheduler", Kind: bundle.Image, Image: "example.invalid/not-imported:v1"})
	sh = exec.CommandContext(t.Context(), "sh", "-ec", sys.With(AwaitImages(b)+"echo go on"))
	sh.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	if out, _ := sh.CombinedOutput(); sh.ProcessState.ExitCode() != remote.NotYet || len(out) > 0 {
		t.Errorf("exit code %d: %s", sh.ProcessState.ExitCode(), out)
	}
}

func TestArchivesThatCannotBeListedAreUnknown(t *testing.T) {
	a := bundle.Artifact{Name: "pause", Kind: bundle.Image, File: "images/pause.tar", Version: "v1", Image: "example.invalid/pause:v1", SHA256: strings.Repeat("5", 64)}
	h := Host{Inv: &inventory.Inventory{}, Host: &inventory.Host{Name: "m1", Role: inventory.ControlPlane}, Bundle: &bundle.Bundle{Manifest: bundle.Manifest{Artifacts: []bundle.Artifact{a}}}}
	host := fakehost.New(t, "m1", fakehost.File("var/lib/hactl/images/pause.tar", ""), fakehost.Program("usr/local/sbin/ls", "echo 'ls: input/output error' >&2; exit 2"))
	p, err := plan.Make(t.Context(), []plan.Stage{{Name: "images", Steps: []plan.Step{h.FirstImages()}}}, plan.Hosts{"m1": host}, plan.Discard)
	if err != nil || p.Err() == nil || !strings.Contains(p.Err().Error(), "look at the archives of images: exit 2: ls: input/output error") {
		t.Errorf("%v, %v", err, p.Err())
	}
}
