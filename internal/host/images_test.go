package host

import (
	"cmp"
	"os/exec"
	"strings"
	"testing"

	"hactl/internal/bundle"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
)

// bare is a host without containerd, or any program at all.
func bare() *remote.Fake {
	return remote.NewFake("m1", func(c remote.Call) (*remote.Result, error) {
		sh := exec.Command("/bin/sh", "-c", c.Cmd.Script)
		sh.Env = []string{"PATH=/nonexistent"}
		out, err := sh.Output()
		return &remote.Result{Stdout: out}, err
	})
}

// What a host is to have, of a bundle that has everything.
func TestImagesFollowTheInventory(t *testing.T) {
	var all []bundle.Artifact
	refs := map[string]string{"demo-v1": bundle.DemoImage, "demo-v2": bundle.DemoImageNext}
	for _, n := range []string{"kube-apiserver", "pause", "kube-proxy", "coredns", "flannel", "demo-v1", "demo-v2"} {
		ref := cmp.Or(refs[n], "example.invalid/"+n+":v1")
		all = append(all, bundle.Artifact{Name: n, Kind: bundle.Image, File: "images/" + n + ".tar", Version: "v1", Image: ref, SHA256: strings.Repeat("5", 64)})
	}
	yes, no := true, false
	for name, c := range map[string]struct {
		preset string
		demo   *bool
		want   string
	}{
		"nothing of its own": {"routes", &no, "kube-proxy v1, coredns v1"},
		"demo":               {"routes", &yes, "kube-proxy v1, coredns v1, demo-v1 v1, demo-v2 v1"},
		"flannel":            {"flannel", &no, "kube-proxy v1, coredns v1, flannel v1"},
	} {
		t.Run(name, func(t *testing.T) {
			inv := &inventory.Inventory{Network: inventory.Network{Preset: c.preset}, Artifacts: inventory.Artifacts{Demo: c.demo}}
			h := Host{Inv: inv, Host: &inventory.Host{Name: "m1", Role: inventory.ControlPlane}, Bundle: &bundle.Bundle{Manifest: bundle.Manifest{Artifacts: all}}}
			p, err := plan.Make(t.Context(), []plan.Stage{{Name: "images", Steps: []plan.Step{h.FirstImages(), h.OtherImages()}}}, plan.Hosts{"m1": bare()}, plan.Discard)
			if err != nil || p.Err() != nil {
				t.Fatal(err, p.Err())
			}
			for i, want := range []string{"kube-apiserver v1, pause v1", c.want} {
				if got := p.Pending()[i].Change.Summary; got != "import "+want {
					t.Errorf("%q, want %q", got, want)
				}
			}
		})
	}
}
