package drill

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/testneeds"
)

func TestWatchLineKnowsItsTwoFormsAndIgnoresTheRest(t *testing.T) {
	t.Parallel()
	vip := netip.MustParseAddr("10.0.0.100")
	at := time.Date(2026, 3, 14, 9, 0, 0, 0, time.UTC)
	for line, want := range map[string]string{
		"[2026-03-14T09:00:00.250000] 3: eth0    inet 10.0.0.100/32 scope global eth0":         "on",
		"[2026-03-14T09:00:00.250000] Deleted 3: eth0    inet 10.0.0.100/32 scope global eth0": "off",
		"[2026-03-14T09:00:00.250000] 3: eth0    inet 10.0.0.10/32 scope global eth0":          "",
		"[2026-03-14T09:00:00.250000] 3: eth0    inet 10.0.0.1/24 brd 10.0.0.100 scope global": "",
		"hactl 1773478800.250000000 1":            "on",
		"hactl 1773478800.250000000 0":            "off",
		"hactl 1773478800.25 1":                   "",
		"hactl x.000000000 1":                     "",
		"Dump terminated":                         "",
		"[not a time] 3: eth0 inet 10.0.0.100/32": "",
		"": "",
	} {
		got := ""
		// The host's clock is three seconds behind: the first line fixes that.
		watchLine(line, at.Add(3250*time.Millisecond), vip, &hostClock{}, func(when time.Time, holds bool) {
			got = map[bool]string{true: "on", false: "off"}[holds]
			if !when.Equal(at.Add(3250 * time.Millisecond)) {
				t.Errorf("%q: at %s", line, when)
			}
		})
		if got != want {
			t.Errorf("%q: got %q, expected %q", line, got, want)
		}
	}
}

// blind is a master whose watch of the VIP breaks off, at once or later.
type blind struct {
	remote.Host
	after time.Duration // 0: without a word
}

func (h blind) Run(ctx context.Context, c remote.Cmd) (*remote.Result, error) {
	if c.Title != titleWatch {
		return h.Host.Run(ctx, c)
	}
	if h.after > 0 {
		bounded, cancel := context.WithTimeout(ctx, h.after)
		defer cancel()
		_, _ = h.Host.Run(bounded, c)
	}
	return nil, &remote.UnreachableError{Host: h.Name(), Op: "run", Err: errors.New("no answer")}
}

// Not to see a host is not to see that it holds nothing.
func TestMasterThatIsNotSeen(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		m := s.cluster.Member("master-2")
		m.Host = blind{Host: m.Host}
		_, err := s.drill(testScenario(300*ms, stays())).Run(t.Context())
		var unsafe *UnsafeError
		if !errors.As(err, &unsafe) || !strings.Contains(err.Error(), "watch of the VIP on master-2") || len(s.said(titleFault)) > 0 {
			t.Errorf("from the start: got %v", err)
		}
	})
	simTest(t, func(t *testing.T, s *sim) {
		m := s.cluster.Member("master-1") // the owner
		m.Host = blind{m.Host, s1}
		rep, err := s.drill(testScenario(3*s1, stays())).Run(t.Context())
		run := rep.Scenarios[0].Runs[0]
		if err == nil || !strings.Contains(strings.Join(run.Problems, " "), "the watch of the VIP on master-1 was lost") {
			t.Errorf("later: got %v, %q", err, run.Problems)
		}
		if v := run.Values["stays"]; !v.Met {
			t.Errorf("a watch that is lost counts as a move: %+v", v)
		}
	})
}

func TestStateThatIsOlderThanAnEventIsDropped(t *testing.T) {
	t.Parallel()
	l := newHolderLog()
	l.set("a", 100, true)
	l.set("a", 90, false) // looked before the event, arrived after it
	if got := l.holders(); len(got) != 1 {
		t.Errorf("holders: %v", got)
	}
}

// The script that runs on hosts, against the kernel, in a network of its own.
func TestWatchScriptTellsAnAddressComingAndGoing(t *testing.T) {
	t.Parallel()
	if _, err := sh(t, "command -v ip unshare && unshare -n ip link"); err != nil {
		testneeds.Missing(t, "ip does not run in a network namespace here: %v", err)
	}
	cmd := exec.Command("unshare", "-n", "sh", "-c", "ip link set lo up\n( sleep 0.3; ip addr add 10.9.9.9/32 dev lo; sleep 0.3; ip addr del 10.9.9.9/32 dev lo ) &\n"+sys.With(followAddress(netip.MustParseAddr("10.9.9.9"), 0)))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	l, zero, clock := newHolderLog(), time.Now(), &hostClock{known: true}
	for line := range strings.Lines(string(out)) {
		watchLine(strings.TrimSpace(line), time.Now(), netip.MustParseAddr("10.9.9.9"), clock, func(at time.Time, holds bool) {
			l.set("here", at.Sub(zero)+time.Hour, holds)
		})
	}
	spans := l.until(2 * time.Hour)["here"]
	if len(spans) != 1 || spans[0].Len() <= 0 || len(l.holders()) != 0 {
		t.Errorf("spans %v of\n%s", spans, out)
	}
}

// Every fourth request fails, before the fault, too: no gap to speak of.
func TestPartialOutageShowsInTheFailedRequests(t *testing.T) {
	t.Parallel()
	track := Track{Name: vipReady, Pace: 20 * ms}
	for i := range 120 {
		at := time.Duration(i) * 20 * ms
		track.Samples = append(track.Samples, Sample{Start: at, End: at, OK: i%4 != 3})
	}
	o := &Observations{Tracks: []Track{track}, Fault: 200 * ms, End: 2380 * ms}
	for _, c := range []Check{gap(vipReady, 50*ms), healed(gap(vipReady, 50*ms))} {
		if got := c.judge(o); !got.Met || got.Failed != 30 || got.Sent != 120 {
			t.Errorf("%s: %+v", c.Name(), got)
		}
	}
	if got := lossless(vipReady, "").judge(o); got.Verdict != Missed || got.Measured < 20 {
		t.Errorf("a quarter is lost: %+v", got)
	}
}

func TestGapsAtTheEdgesOfTheWindow(t *testing.T) {
	t.Parallel()
	at := func(ms ...int) (out []Sample) {
		for _, m := range ms {
			d := time.Duration(m) * time.Millisecond
			out = append(out, Sample{Start: d, End: d, OK: true})
		}
		return out
	}
	for name, c := range map[string]struct {
		samples  []Sample
		from, to int
		want     time.Duration
	}{
		"begins before the window":       {at(0, 80, 300, 400), 100, 400, 220},
		"never comes back":               {at(0, 80, 100), 90, 1000, 900},
		"no success at all":              {nil, 100, 400, 300},
		"ends after the window":          {at(0, 100, 900), 100, 500, 400},
		"a slow answer hides no gap":     {append(at(0, 100), Sample{Start: 110 * ms, End: 600 * ms, OK: true}), 50, 600, 500},
		"a failure does not end the gap": {[]Sample{{0, 0, true}, {100 * ms, 100 * ms, false}, {200 * ms, 200 * ms, true}}, 0, 200, 200},
	} {
		if got := longestGap(c.samples, time.Duration(c.from)*ms, time.Duration(c.to)*ms).Len(); got != c.want*ms {
			t.Errorf("%s: got %s, expected %s", name, got, c.want*ms)
		}
	}
}
