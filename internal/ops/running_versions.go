package ops

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hactl/internal/exitcode"
	"hactl/internal/facts"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/kubeadm"
)

// versionOf is one of the inventory's versions, where hosts have recorded it, and the
// programs on a host that have it.
var versionOf = []struct {
	field    string
	wanted   func(*inventory.Versions) *string
	recorded func(facts.Versions) string
	programs []string
}{
	{"versions.kubernetes", func(v *inventory.Versions) *string { return &v.Kubernetes }, func(v facts.Versions) string { return v.Kubernetes },
		[]string{"kubelet", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}},
	{"versions.etcd", func(v *inventory.Versions) *string { return &v.Etcd }, func(v facts.Versions) string { return v.Etcd }, []string{"etcd"}},
	{"versions.containerd", func(v *inventory.Versions) *string { return &v.Containerd }, func(v facts.Versions) string { return v.Containerd }, []string{"containerd"}},
}

// keepVersions makes the versions of a running cluster the wanted ones where the
// inventory names none. It refuses others: a change of versions has an order of its
// own, which up does not keep. An upgrade, which does, has chosen the versions before.
func (s *session) keepVersions() error {
	if !s.established() || s.upgrades {
		return nil
	}
	var errs []error
	for i, part := range versionOf {
		running := s.running(i)
		want, named := part.wanted(&s.inv.Versions), *part.wanted(&s.inv.NamedVersions)
		if named == "" && len(running) == 1 {
			for v := range running {
				*want = v
			}
			continue
		}
		if named == "" {
			if len(running) > 1 {
				errs = append(errs, interrupted(part.field, running))
			}
			continue
		}
		for v, hosts := range running {
			if v != *want {
				errs = append(errs, &kubeadm.ImmutableError{Field: part.field, Was: v, Now: *want, Hosts: hosts})
			}
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return remote.Hint(errors.Join(errs...), "hactl up never changes the versions of a running cluster; nothing was changed. hactl upgrade --dry-run shows the way to the versions in %[1]s, "+
		"hactl upgrade walks it, also where it was interrupted. To stay: write the versions that run into %[1]s, or leave them out", s.inv.Path)
}

// interrupted is the error for hosts of several versions of a part that the inventory does
// not name.
func interrupted(field string, running map[string][]string) error {
	var parts []string
	for _, v := range slices.Sorted(maps.Keys(running)) {
		parts = append(parts, fmt.Sprintf("%s (%s)", v, strings.Join(running[v], ", ")))
	}
	return exitcode.With(exitcode.Unsafe, fmt.Errorf("%s is not in the inventory, and an upgrade was interrupted: hosts run %s", field, strings.Join(parts, " and ")))
}

// running is which version the nodes have of a part of versionOf, with the hosts that
// have it: by the host's record, which is written last, and by its units and static pods,
// which change one after another. So a host in the middle of an upgrade has two.
func (s *session) running(part int) map[string][]string {
	out := map[string][]string{}
	for i := range s.inv.Hosts {
		name := s.inv.Hosts[i].Name
		f := s.facts[name]
		if f == nil || f.KubeletCA == "" {
			continue
		}
		seen := []string{versionOf[part].recorded(f.Record.Versions)}
		for _, p := range versionOf[part].programs {
			seen = append(seen, f.Programs[p])
		}
		slices.Sort(seen)
		for _, v := range slices.Compact(seen) {
			if v != "" {
				out[v] = append(out[v], name)
			}
		}
	}
	return out
}

// versionsOf is what a host of that role gets.
func versionsOf(v inventory.Versions, h *inventory.Host) facts.Versions {
	out := facts.Versions{Kubernetes: v.Kubernetes, Containerd: v.Containerd}
	if h.Role == inventory.ControlPlane {
		out.Etcd = v.Etcd
	}
	return out
}
