package versions

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/semver"
)

var form = regexp.MustCompile(`^v\d+\.\d+\.\d+$`)

func TestEverySetIsComplete(t *testing.T) {
	sets := Sets()
	if len(sets) < 4 {
		t.Fatalf("%d sets", len(sets))
	}
	for _, s := range sets {
		v := reflect.ValueOf(s)
		for i := range v.NumField() {
			name, version := v.Type().Field(i).Name, v.Field(i).String()
			if name == "Pause" {
				version = "v" + version
			}
			if !form.MatchString(version) {
				t.Errorf("%s: %s is %q", s.Kubernetes, name, version)
			}
		}
		if got, ok := For(s.Kubernetes); !ok || got != s {
			t.Errorf("%s: For says %+v", s.Kubernetes, got)
		}
	}
}

func TestMinorsStandInOrderWithTheirOwnPatches(t *testing.T) {
	var names []string
	for _, m := range Minors() {
		names = append(names, m.Name)
		for i, p := range m.Patches {
			if semver.MajorMinor(p) != m.Name || i > 0 && semver.Compare(p, m.Patches[i-1]) <= 0 {
				t.Errorf("%s: patch %s", m.Name, p)
			}
		}
		for _, v := range slices.Concat(m.Etcd, m.Containerd) {
			if !form.MatchString(v) {
				t.Errorf("%s: %q", m.Name, v)
			}
		}
		if _, err := time.Parse("2006-01", m.EndOfLife); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("order %v", names)
	}
}

func TestDefaultIsALatestPatchAndKnown(t *testing.T) {
	m, ok := MinorOf(Default)
	if !ok || m.Patches[len(m.Patches)-1] != Default {
		t.Errorf("%s of %+v", Default, m)
	}
	if OfDefault().Kubernetes != Default {
		t.Errorf("set %+v", OfDefault())
	}
}

// What an upgrade walks through exists at every stop: the next minor runs with an
// etcd and a containerd that this one runs with, or with one a minor later.
func TestPartsOverlapFromMinorToMinor(t *testing.T) {
	all := Minors()
	for i, m := range all[1:] {
		before := all[i]
		shared := func(a, b []string) bool {
			return slices.ContainsFunc(a, func(v string) bool { return slices.Contains(b, v) })
		}
		if !shared(before.Etcd, m.Etcd) || !shared(before.Containerd, m.Containerd) {
			t.Errorf("%s to %s: etcd %v to %v, containerd %v to %v", before.Name, m.Name, before.Etcd, m.Etcd, before.Containerd, m.Containerd)
		}
	}
}

func TestEveryEtcdIsSafe(t *testing.T) {
	for _, m := range Minors() {
		for _, v := range m.Etcd {
			if !SafeEtcd(v) {
				t.Errorf("%s: etcd %s", m.Name, v)
			}
		}
	}
	for version, want := range map[string]bool{"v3.6.14": true, "v3.6.13": false, "v3.7.1": true, "v3.7.0": false, "v3.7.2": true, "v3.5.99": false, "v3.8.0": false} {
		if SafeEtcd(version) != want {
			t.Errorf("%s: %v", version, !want)
		}
	}
}

func TestUnknownPatchGetsThePartsOfItsMinor(t *testing.T) {
	known, _ := For("v1.36.3")
	got, ok := For("v1.36.99")
	known.Kubernetes = "v1.36.99"
	if !ok || got != known {
		t.Errorf("%+v, %v", got, ok)
	}
	for _, v := range []string{"v1.34.4", "v1.38.0", "v2.36.3", "1.36.3", "v1.36", "v1", ""} {
		if got, ok := For(v); ok {
			t.Errorf("%q: %+v", v, got)
		}
	}
}

func TestFitTellsListedFromOlderAndForeign(t *testing.T) {
	known := []string{"v3.6.16", "v3.6.14", "v3.7.3"}
	for version, want := range map[string]Fit{
		"v3.6.14": Listed, "v3.6.15": Patch, "v3.6.99": Patch, "v3.6.13": Older, "v3.7.2": Older, "v3.7.4": Patch, "v3.8.0": Foreign, "v3.5.9": Foreign,
	} {
		if got := FitOf(version, known); got != want {
			t.Errorf("%s: %d, want %d", version, got, want)
		}
	}
}

// The table for people says what this one says.
func TestDocumentationListsEverySet(t *testing.T) {
	raw, err := os.ReadFile("../../docs/bundle.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range Minors() {
		p := m.parts
		name := strings.TrimPrefix(m.Name, "v")
		if m.Name == semver.MajorMinor(Default) {
			name += " (default: " + Default + ")"
		}
		row := "| " + strings.Join([]string{
			name, strings.Join(m.Patches, ", "), strings.Join(m.Etcd, ", "), strings.Join(m.Containerd, ", "), p.CNIPlugins, p.CoreDNS, p.Flannel, p.Pause, p.Runc, m.EndOfLife,
		}, " | ") + " |"
		if !strings.Contains(string(raw), row) {
			t.Errorf("docs/bundle.md has not the row\n%s", row)
		}
	}
}

func TestKubeadmIsToldOnlyOfAnotherCoreDNS(t *testing.T) {
	for kubernetes, want := range map[string]string{"v1.35.4": "", "v1.36.3": "", "v1.37.2": "v1.14.7"} {
		if s, _ := For(kubernetes); s.DNSTag() != want {
			t.Errorf("%s: %q", kubernetes, s.DNSTag())
		}
	}
}

func TestWhatIsGoneAddsUp(t *testing.T) {
	has := func(kubernetes, gate string) bool { return slices.Contains(GoneFrom(kubernetes).FeatureGates, gate) }
	for _, c := range []struct {
		kubernetes, gate string
		want             bool
	}{
		{"v1.35.4", "ComponentSLIs", true}, {"v1.37.2", "ComponentSLIs", true},
		{"v1.36.3", "SidecarContainers", false}, {"v1.37.2", "SidecarContainers", true},
	} {
		if has(c.kubernetes, c.gate) != c.want {
			t.Errorf("%s %s: %v", c.kubernetes, c.gate, !c.want)
		}
	}
}
