package etcd

import (
	"context"
	"testing"
	"time"

	"hactl/internal/plan"
)

// The leadership moves away from a member that leads, and only from that. While no
// leader is known, no member is taken for one that does not lead.
func TestLeadershipMovesFromAMemberThatLeads(t *testing.T) {
	t.Parallel()
	m := material(t, 3)
	f := &fakeEtcd{t: t, leader: 1, keys: map[string]string{}}
	for i, name := range []string{"m1", "m2", "m3"} {
		f.start(m, name, uint64(i+1))
	}
	inv := masters(t, 3)
	dial := func(context.Context) (*Cluster, error) { return f.connect(m), nil }
	env := plan.Env{Say: func(string, ...any) {}}

	if c, err := MoveLeadership(inv.Host("m2"), dial).Check(t.Context(), env); err != nil || c != nil {
		t.Errorf("m2 does not lead: %v, %v", c, err)
	}
	st := MoveLeadership(inv.Host("m1"), dial)
	c, err := st.Check(t.Context(), env)
	if err != nil || c == nil {
		t.Fatalf("m1 leads: %v, %v", c, err)
	}
	if err := st.Apply(t.Context(), env, c); err != nil {
		t.Fatal(err)
	}
	if c, err := st.Check(t.Context(), env); err != nil || c != nil {
		t.Errorf("m1 leads no more: %v, %v", c, err)
	}
	for _, name := range []string{"m1", "m2", "m3"} {
		f.kill(name)
	}
	within, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if c, err := st.Check(within, env); err == nil {
		t.Errorf("no leader is known: %v", c)
	}
}
