//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"hactl/internal/drill"
	"hactl/internal/lab"
)

// TestDrillFindsAFaultThatDoesNothing takes its effect from a fault of each kind that
// can be had without it:
// a program that changes nothing in the place of nft, one that forgets to kill in that
// of systemctl, and a command that does not cut the power. The drill has to say so.
// The proofs of signals are tested with processes of this machine.
func TestDrillFindsAFaultThatDoesNothing(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	for _, c := range []struct {
		scenario, program, instead string
		args                       []string
	}{
		{"owner-cut-off", "nft", `case "$*" in *list*) exec /var/tmp/real-nft "$@" ;; esac`, nil}, // the plan looks at tables
		{"etcd-leader-killed", "systemctl", `[ "$1" = kill ] || exec /var/tmp/real-systemctl "$@"`, nil},
		{"owner-powered-off", "", "", []string{"--power-off-command=true", "--power-on-command=true"}},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			on := func(script string) {
				t.Helper()
				for _, h := range r.Hosts() {
					if h.Role == lab.Master && c.program != "" {
						labOutput(t, r.Lab, h.Name, "p=$(readlink -f $(command -v "+c.program+")); "+script)
					}
				}
			}
			on("cp $p /var/tmp/real-" + c.program + "; printf '#!/bin/sh\\n%s\\n' '" + c.instead + "' >/var/tmp/idle; chmod 755 /var/tmp/idle; mount --bind /var/tmp/idle $p")
			defer on("umount $p; rm /var/tmp/idle /var/tmp/real-" + c.program)
			res := r.hactl(t, r.drillArgs(append([]string{c.scenario}, c.args...)...)...)
			if res.code != 6 || !strings.Contains(res.out, "the fault did nothing") {
				t.Error(res)
			}
		})
	}
}

// TestDrillRefusesASecondOne starts a drill while another one runs.
func TestDrillRefusesASecondOne(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	x := r.start(t, nil, r.drillArgs("keepalived-stopped")...)
	x.inEffect(t)
	if res := r.hactl(t, r.drillArgs("keepalived-stopped")...); res.code != 8 || !strings.Contains(res.err, "drill") {
		t.Errorf("the second one: %s", res)
	}
	if res := x.wait(t); res.code != exitOf[drill.Met] && res.code != exitOf[drill.Unclear] {
		t.Errorf("the first one: %s", res)
	}
	r.comesInSync(t)
}

// TestDrillFindsASlowVIP gives the masters the keepalived configuration of the procedure by
// hand, whose check has to fail ten times, every three seconds. The drill has to say that
// both bounds are missed.
func TestDrillFindsASlowVIP(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: nextName("slow"), Masters: 3})
	r.must(t, 0, "up", "--yes")
	var script strings.Builder
	for _, file := range []string{"article-keepalived.sh", "article-vip.sh"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		script.Write(b)
	}
	for i := range 3 {
		name := fmt.Sprintf("master-%d", i+1)
		if _, err := r.Output(t.Context(), name, "set -- "+name+" 10.77.0.100\n"+script.String()); err != nil {
			t.Fatal(err)
		}
	}
	r.owner(t)
	res := r.hactl(t, r.drillArgs("apiserver-killed", "owner-cut-off", "--accept-risk=drift", "-o", "json")...)
	var rep drill.Report
	if err := json.Unmarshal([]byte(res.out), &rep); err != nil {
		t.Fatalf("%v: %s", err, res)
	}
	var missed []string
	for _, s := range rep.Scenarios {
		for _, c := range s.Checks {
			if c.Check == "gap vip/ready/new" && c.Verdict == drill.Missed {
				t.Logf("%s: the largest gap was %.1f s", s.Name, c.Max/1000)
				missed = append(missed, s.Name)
			}
		}
	}
	if len(missed) != 2 || rep.Verdict != drill.Missed || res.code != exitOf[drill.Missed] {
		t.Errorf("the wrong design was missed in %q, the verdict is %s: %s", missed, rep.Verdict, res)
	}
}
