package ops

import (
	"strings"
	"testing"

	"hactl/internal/fakehost"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory/inventorytest"
)

// A dead member is removed when the etcd of no other master writes to it any longer. What
// other programs send there, and the little that a follower has, is not waited for.
func TestMemberGoesWhenNoEtcdWritesToIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		connections string // those of the first two looks
		looks       int
	}{
		"a write is under way":   {"0 64449 192.0.2.12:40000 192.0.2.11:2380", 3},
		"an answer is under way": {"0 30250 192.0.2.12:2380 192.0.2.11:40000", 3},
		"a follower's":           {"0 1456 192.0.2.12:2380 192.0.2.11:40000", 1},
		"nothing is written":     {"0 0 192.0.2.12:40000 192.0.2.11:2380", 1},
		"another program's":      {"0 49442 192.0.2.12:40000 192.0.2.11:6443", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inv := inventorytest.Three(t)
			d := fakehost.NewFolderHost(t, "master-2")
			d.Program("sleep", ":")
			d.Program("ss", `echo "$*" >>/state/looks; [ "$(wc -l </state/looks)" -gt 2 ] || echo "`+c.connections+`"`)
			s := &session{Console: quiet{}, hosts: plan.Hosts{
				"master-2": remote.NewFake("master-2", func(c remote.Call) (*remote.Result, error) { return d.Run(t.Context(), c.Cmd) }),
			}}
			s.awaitStreams(t.Context(), inv.Masters()[0], inv)
			looks := strings.Split(strings.TrimSpace(d.Content("/state/looks")), "\n")
			if len(looks) != c.looks || !strings.Contains(looks[0], "dst "+inv.Masters()[0].PrivateAddress.String()) {
				t.Errorf("looked %d times: %q", len(looks), looks)
			}
		})
	}
}
