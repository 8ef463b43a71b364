package nearest

import (
	"slices"
	"strings"
	"testing"
)

func TestWordsFindWhatWasMeant(t *testing.T) {
	fields := []string{"etcd", "knownHosts", "virtualRouterID", "address", "vip", "ssh"}
	verbs := []string{"up", "plan", "status", "diff", "drill", "init", "validate", "kubeconfig", "preflight", "trust"}
	drills := []string{"owner-cut-off", "owner-powered-off", "etcd-leader-killed", "etcd-leader-stopped", "etcd-leader-hung", "worker-lost"}
	for _, c := range []struct {
		typed string
		known []string
		want  []string
	}{
		{"etdc", fields, []string{"etcd"}},
		{"known_hosts", fields, []string{"knownHosts"}},
		{"virtualRouterId", fields, []string{"virtualRouterID"}},
		{"adress", fields, []string{"address"}},
		{"VIP", fields, []string{"vip"}},
		{"shs", fields, []string{"ssh"}},
		{"colour", fields, nil},
		{"x", fields, nil},
		{"", fields, nil},
		{"stats", verbs, []string{"status"}},
		{"inti", verbs, []string{"init"}},
		{"val", verbs, []string{"validate"}},
		{"u", verbs, nil},
		{"drlil", verbs, []string{"drill"}},
		{"etcd-leader", drills, drills[2:5]},
		{"stat", []string{"started", "stats", "status"}, []string{"stats"}},
		{"owner-cutoff", drills, []string{"owner-cut-off"}},
		{strings.Repeat("x", 65), verbs, nil},
	} {
		got := Words(c.typed, c.known)
		slices.Sort(got)
		want := slices.Clone(c.want)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", c.typed, got, c.want)
		}
	}
}
