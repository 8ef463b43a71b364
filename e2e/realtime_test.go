//go:build e2e

package e2e

import (
	"testing"

	"hactl/internal/lab"
)

// TestProcessesHaveRealTimePriority looks at the processes: a unit whose priority is
// refused runs all the same, and would only show in late adverts.
func TestProcessesHaveRealTimePriority(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	for _, m := range r.names(lab.Master) {
		got := labOutput(t, r.Lab, m, `for name in keepalived hactl-prober; do
for d in /proc/[0-9]*; do [ "$(cat $d/comm 2>/dev/null)" != $name ] || chrt -p ${d#/proc/}; done | grep -c 'policy: SCHED_RR'; done`)
		if got != "2\n1" { // keepalived's parent, which starts the other anew, and the one that speaks the protocol
			t.Errorf("%s: processes of keepalived and of the prober in SCHED_RR: %q", m, got)
		}
	}
}
