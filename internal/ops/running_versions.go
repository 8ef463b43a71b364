package ops

import (
	"errors"
	"slices"
	"strings"

	"hactl/internal/facts"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/kubeadm"
)

// versionOf is one of the inventory's versions, and where hosts have recorded it.
var versionOf = []struct {
	field    string
	wanted   func(*inventory.Versions) *string
	recorded func(facts.Versions) string
}{
	{"versions.kubernetes", func(v *inventory.Versions) *string { return &v.Kubernetes }, func(v facts.Versions) string { return v.Kubernetes }},
	{"versions.etcd", func(v *inventory.Versions) *string { return &v.Etcd }, func(v facts.Versions) string { return v.Etcd }},
	{"versions.containerd", func(v *inventory.Versions) *string { return &v.Containerd }, func(v facts.Versions) string { return v.Containerd }},
}

// keepVersions makes the versions of a running cluster the wanted ones where the
// inventory names none. It refuses others: a change of versions has an order of its
// own, which up does not keep.
func (s *session) keepVersions() error {
	if !s.established() {
		return nil
	}
	var errs []error
	for _, part := range versionOf {
		running := s.running(part.recorded)
		want, named := part.wanted(&s.inv.Versions), *part.wanted(&s.inv.NamedVersions)
		if named == "" && len(running) == 1 {
			for v := range running {
				*want = v
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
	return remote.Hint(errors.Join(errs...), "hactl up never changes the versions of a running cluster, and this hactl has no upgrade; "+
		"nothing was changed: write the versions that run into %s, or leave them out", s.inv.Path)
}

// running is which version the nodes have of a part, with the hosts that have it.
func (s *session) running(recorded func(facts.Versions) string) map[string][]string {
	out := map[string][]string{}
	for i := range s.inv.Hosts {
		name := s.inv.Hosts[i].Name
		f := s.facts[name]
		if f == nil || f.KubeletCA == "" {
			continue
		}
		if v := recorded(f.Record.Versions); v != "" {
			out[v] = append(out[v], name)
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
