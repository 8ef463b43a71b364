//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hactl/internal/lab"
)

// TestVIPIsWithAHealthyApiserver has what no scenario of the drill has: two faults
// at once, an apiserver that flaps, and masters without the prober.
func TestVIPIsWithAHealthyApiserver(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	t.Run("two faults at once leave it to the third", r.twoFaults)
	t.Run("a flapping apiserver loses it", r.flapping)
	t.Run("the check script moves it, too", r.withoutProber)
}

// signal sends a signal to a host's apiserver.
func (r *rig) signal(t *testing.T, host, signal string) {
	t.Helper()
	labOutput(t, r.Lab, host, "kill -"+signal+" $(pidof kube-apiserver)")
}

// backups are the masters that do not hold the VIP.
func (r *rig) backups(t *testing.T) (owner string, others []string) {
	t.Helper()
	owner = r.owner(t)
	return owner, slices.DeleteFunc(r.names(lab.Master), func(h string) bool { return h == owner })
}

func (r *rig) twoFaults(t *testing.T) {
	owner, others := r.backups(t)
	cut, third := others[0], others[1]
	labInject(t, r.Lab, lab.Cut, cut)
	r.signal(t, owner, "KILL")
	eventually(t, "the address with "+third, func() error {
		// The host that is cut off receives no adverts and may hold the address too.
		seen := slices.DeleteFunc(r.holders(t), func(h string) bool { return h == cut })
		if !slices.Equal(seen, []string{third}) {
			return fmt.Errorf("it is with %q", seen)
		}
		return nil
	})
	if got := r.kubectlSays(t, "get", "--raw", "/readyz"); got != "ok" {
		t.Errorf("through the VIP: %q", got)
	}
	labInject(t, r.Lab, lab.Heal, cut)
	r.healthy(t)
	t.Logf("when the others are back it is with %s", r.owner(t))
	r.comesInSync(t)
}

// flapping stops the owner's apiserver and lets it go on again until the address has
// left.
func (r *rig) flapping(t *testing.T) {
	owner, _ := r.backups(t)
	flaps := 0
	took(t, "address left a flapping apiserver", eventually(t, "the address has left "+owner, func() error {
		flaps++
		labOutput(t, r.Lab, owner, `p=$(pidof kube-apiserver); kill -STOP $p; sleep 1.8; kill -CONT $p; sleep 0.3`)
		if now := r.holders(t); len(now) != 1 || now[0] == owner {
			return fmt.Errorf("it is with %q", now)
		}
		return nil
	}))
	record(t, "flaps of an apiserver until the address left", "count", float64(flaps))
	r.healthy(t)
	r.owner(t)
	r.comesInSync(t)
}

// withoutProber has the check script alone.
func (r *rig) withoutProber(t *testing.T) {
	r.inventory(t, "inventory.yaml", func(s string) string { return strings.Replace(s, "vip:\n", "vip:\n  prober: false\n", 1) })
	r.must(t, 0, "up", "--yes")
	for _, h := range r.names(lab.Master) {
		if got := labOutput(t, r.Lab, h, "systemctl is-active hactl-prober || :; systemctl is-enabled hactl-prober || :"); got != "inactive\ndisabled" {
			t.Errorf("%s: the prober is %s", h, got)
		}
	}
	owner, _ := r.backups(t)
	r.signal(t, owner, "STOP")
	eventually(t, "the address with another", func() error {
		if now := r.holders(t); len(now) != 1 || now[0] == owner {
			return fmt.Errorf("it is with %q", now)
		}
		return nil
	})
	r.signal(t, owner, "CONT")
	r.healthy(t)
	r.inSync(t)
	var stops sync.WaitGroup // at once: it may move while another one answers
	for _, h := range r.names(lab.Master) {
		stops.Go(func() {
			if _, err := r.Output(t.Context(), h, "kill -STOP $(pidof kube-apiserver)"); err != nil {
				t.Error(err)
			}
		})
	}
	stops.Wait()
	// Keepalived keeps the address with one of them: the weight of the check is less
	// than what would make all of them give it up.
	time.Sleep(8 * time.Second) // until every check has failed
	t.Logf("while no apiserver answers the address is with %s", r.owner(t))
	for _, h := range r.names(lab.Master) {
		r.signal(t, h, "CONT")
	}
	r.healthy(t)
	r.inventory(t, "inventory.yaml", func(s string) string { return s })
	r.must(t, 0, "up", "--yes") // the prober again
	r.inSync(t)
}
