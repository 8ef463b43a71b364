package host

import (
	"maps"
	"strings"
	"testing"

	"hactl/internal/bundle"
	"hactl/internal/facts"
	"hactl/internal/goldentest"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

func machine(inv *inventory.Inventory, f facts.Brief, artifacts ...bundle.Artifact) Host {
	return Host{Inv: inv, Host: &inv.Hosts[len(inv.Hosts)-1], Facts: &f, Bundle: &bundle.Bundle{Manifest: bundle.Manifest{Artifacts: append(artifacts, containerdBuild("0123")...)}}}
}

// containerdBuild is containerd and its shim.
func containerdBuild(sum string) (out []bundle.Artifact) {
	for _, name := range []string{"containerd", "containerd-shim-runc-v2"} {
		out = append(out, bundle.Artifact{Name: name, Kind: bundle.Binary, Version: "v2.2.1", SHA256: sum, Dest: "/usr/local/bin/" + name})
	}
	return out
}

func TestFilesOfAHost(t *testing.T) {
	for name, h := range map[string]Host{
		"cgroup-v1": machine(inventorytest.Three(t), facts.Brief{PkgManager: "apt"}),
		"cgroup-v2": machine(inventorytest.Three(t), facts.Brief{PkgManager: "dnf", CgroupV2: true, CapBnd: capSysResource}),
		"ipv6":      machine(inventorytest.ThreeIPv6(t), facts.Brief{PkgManager: "apt", CgroupV2: true, CapBnd: capSysResource}),
		"worker":    machine(inventorytest.ThreeWithWorkers(t, 1), facts.Brief{PkgManager: "apt", CgroupV2: true, CapBnd: capSysResource}),
	} {
		t.Run(name, func(t *testing.T) {
			runtime, err := h.Runtime()
			if err != nil {
				t.Fatal(err)
			}
			files := goldentest.Puts(t, h.OS())
			maps.Copy(files, goldentest.Puts(t, runtime))
			goldentest.Check(t, name, files)
			goldentest.Units(t, map[string][]byte{"containerd.service": files["/etc/systemd/system/containerd.service"].Content})
		})
	}
}

func TestContainerdIsNamedByConfigurationUnitAndBinary(t *testing.T) {
	name := func(f facts.Brief, sum string) string {
		steps, err := machine(inventorytest.One(t), f, containerdBuild(sum)...).Runtime()
		if err != nil {
			t.Fatal(err)
		}
		return string(goldentest.Puts(t, steps)["/etc/systemd/system/containerd.service"].Content)
	}
	was := name(facts.Brief{}, "a")
	if name(facts.Brief{}, "a") != was {
		t.Error("rendering twice gives two names")
	}
	if name(facts.Brief{}, "b") == was || name(facts.Brief{CgroupV2: true}, "a") == was {
		t.Error("a change keeps the name: the process would not be restarted")
	}
}

func TestMissingImagesAreToldByTheirLabel(t *testing.T) {
	a := bundle.Artifact{Name: "pause", Image: "registry.k8s.io/pause:3.10.2", SHA256: "0123456789abcdef0123"}
	for name, c := range map[string]struct {
		listing string
		missing bool
	}{
		"none":             {"", true},
		"with the label":   {"REF TYPE LABELS\nregistry.k8s.io/pause:3.10.2 x io.cri-containerd.pinned=pinned,io.hactl.archive=0123456789abcdef \n", false},
		"of an older one":  {"registry.k8s.io/pause:3.10.2 x io.hactl.archive=ffff456789abcdef\n", true},
		"without a label":  {"registry.k8s.io/pause:3.10.2 x -\n", true},
		"of another image": {"registry.k8s.io/pause:3.10 x io.hactl.archive=0123456789abcdef\n", true},
		"cut off":          {"registry.k8s.io/pause:3.10.2", true},
	} {
		t.Run(name, func(t *testing.T) {
			seen, err := Host{Bundle: &bundle.Bundle{}}.imagesThere().Parse(c.listing)
			if got := len(seen.lacks([]bundle.Artifact{a})) == 1; err != nil || got != c.missing {
				t.Errorf("missing: %t, %v", got, err)
			}
		})
	}
}

func TestArchivesLeftOnTheHostAreFound(t *testing.T) {
	want := []bundle.Artifact{{Name: "pause", File: "images/pause.tar"}, {Name: "coredns", File: "images/coredns.tar"}}
	for listing, names := range map[string]string{
		"":                         "",
		"pause.tar\nnote.txt\n":    "pause",
		"coredns.tar\npause.tar\n": "pause,coredns",
		"coredns.tar.hactl-send\n": "",
		"other-pause.tar\n":        "",
	} {
		var got []string
		there, err := archives.Parse(listing)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range archivesIn(there, want) {
			got = append(got, a.Name)
		}
		if strings.Join(got, ",") != names {
			t.Errorf("%q: %v", listing, got)
		}
	}
}
