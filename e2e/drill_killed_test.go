//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"hactl/internal/drill"
)

// TestKilledDrillHeals kills hactl in the middle of the fault of each scenario. It is
// mostly waiting: scenarios run beside one another, each on a cluster of its own.
func TestKilledDrillHeals(t *testing.T) {
	for _, sc := range drill.Scenarios() {
		t.Run(sc.Name, func(t *testing.T) {
			inTurnPart(t)
			cluster(t).killedDrill(t, sc)
		})
	}
}

// briefly are the flags of a drill that is killed: the hosts' own timers undo the
// fault 12 s after hactl would have done. Nothing is measured, so there are few
// requests: the last --interval counts.
func (r *rig) briefly(scenario string) []string {
	return r.drillArgs(scenario, "--interval=500ms", "--hold=5s", "--armed=12s")
}

// armed fails while a host has an undo that is still to come.
func (r *rig) armed(t *testing.T) error {
	t.Helper()
	for _, h := range r.Hosts() {
		if left := labOutput(t, r.Lab, h.Name, "systemctl list-units --all --plain --no-legend 'hactl-undo-*.timer'"); left != "" {
			return fmt.Errorf("%s: %s", h.Name, left)
		}
	}
	return nil
}

// killedDrill kills hactl while the fault is in effect.
func (r *rig) killedDrill(t *testing.T, sc drill.Scenario) {
	x := r.start(t, nil, r.briefly(sc.Name)...)
	x.inEffect(t)
	if err := x.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if res := x.wait(t); res.code != killed || strings.Contains(res.err, "undone") {
		t.Fatalf("hactl was not killed before it undid the fault: %s", res)
	}
	// A host without power is switched on by a process here, not by its own timer.
	if !sc.Heals && !sc.Reboots {
		eventually(t, "the hosts have undone it", func() error { return r.armed(t) })
	}
	eventually(t, "the cluster to heal by itself", func() error {
		if res := r.hactl(t, "status"); res.code != 0 {
			return fmt.Errorf("%s", res)
		}
		if sc.Heals {
			// The cluster has, as a drill would have waited for it to: its undo is
			// for later, if at all.
			for _, h := range r.Hosts() {
				labOutput(t, r.Lab, h.Name, "systemctl stop 'hactl-undo-*.timer'")
			}
		}
		if err := r.armed(t); err != nil {
			return err
		}
		return nil
	})
	r.comesInSync(t)
}

// TestEndedDrillUndoesItsFault sends SIGTERM.
func TestEndedDrillUndoesItsFault(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	x := r.start(t, nil, r.briefly("apiserver-hung")...)
	x.inEffect(t)
	if err := x.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if res := x.wait(t); res.code != 130 {
		t.Errorf("%s", res)
	}
	if err := r.armed(t); err != nil {
		t.Errorf("it has ended, and its undo is still to come: %v", err)
	}
	r.healthy(t)
	r.comesInSync(t)
}
