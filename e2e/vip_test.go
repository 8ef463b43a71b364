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
	t.Parallel()
	r := newRig(t, lab.Config{Name: named("vip"), Masters: 3})
	r.must(t, 0, "up", "--yes")
	then(t, "two faults at once leave it to the third", r.twoFaults)
	then(t, "a flapping apiserver loses it once", r.flapping)
	then(t, "the check script moves it, too", r.withoutProber)
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
	eventually(t, 10*time.Second, "the address with "+third, func() error {
		// Who is cut off hears nobody and may hold it too, for itself.
		seen := slices.DeleteFunc(r.holders(t), func(h string) bool { return h == cut })
		if !slices.Equal(seen, []string{third}) {
			return fmt.Errorf("it is with %q", seen)
		}
		return nil
	})
	if got := r.kubectlSays(t, "get", "--raw", "/readyz"); got != "ok" {
		t.Errorf("through the VIP: %q", got)
	}
	healed := time.Now()
	labInject(t, r.Lab, lab.Heal, cut)
	r.healthy(t, 2*time.Minute)
	if now := r.owner(t); now != third && !r.fellSilent(t, third, healed) {
		t.Errorf("it moved to %s when the others were back", now)
	}
}

// flapping stops the owner's apiserver and lets it go on again, several times. The
// address leaves once, and comes back no more.
func (r *rig) flapping(t *testing.T) {
	owner, others := r.backups(t)
	for _, h := range others { // a peer counts once it has answered for ten seconds
		labOutput(t, r.Lab, h, `n=0; i=0; while [ $n -lt 24 ]; do
if curl -sf --max-time 0.5 --cacert /etc/kubernetes/pki/ca.crt -o /dev/null https://127.0.0.1:6443/readyz; then n=$((n+1)); else n=0; fi
i=$((i+1)); [ $i -lt 200 ] || { echo "not ready for 12 s without a break" >&2; exit 1; }
sleep 0.5; done`)
	}
	begun := time.Now()
	done := make(chan error, 1)
	go func() {
		_, err := r.Output(t.Context(), owner, `p=$(pidof kube-apiserver); for i in 1 2 3 4 5; do kill -STOP $p; sleep 1.8; kill -CONT $p; sleep 0.3; done`)
		done <- err
	}()
	owners := []string{owner}
	look := func() {
		if now := r.holders(t); len(now) == 1 && now[0] != owners[len(owners)-1] {
			owners = append(owners, now[0])
		}
	}
	for flaps := true; flaps; look() {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			flaps = false
		case <-time.After(200 * time.Millisecond):
		}
	}
	r.healthy(t, 2*time.Minute)
	look()
	if len(owners) < 2 || slices.Contains(owners[1:], owner) {
		t.Errorf("the owners, one after another: %q", owners)
	}
	for i := 2; i < len(owners); i++ {
		if !r.fellSilent(t, owners[i-1], begun) {
			t.Errorf("%s lost it without a reason: %q", owners[i-1], owners)
		}
	}
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
	eventually(t, 15*time.Second, "the address with another", func() error {
		if now := r.holders(t); len(now) != 1 || now[0] == owner {
			return fmt.Errorf("it is with %q", now)
		}
		return nil
	})
	r.signal(t, owner, "CONT")
	r.healthy(t, 2*time.Minute)
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
	nobody := 0 // looks, one after another; a move takes less time than two
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		if nobody++; len(r.holders(t)) > 0 {
			nobody = 0
		}
		if nobody == 2 {
			t.Error("nobody has it while no apiserver answers")
		}
	}
	for _, h := range r.names(lab.Master) {
		r.signal(t, h, "CONT")
	}
	r.healthy(t, 2*time.Minute)
}
