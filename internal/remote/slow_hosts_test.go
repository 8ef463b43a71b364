package remote

import (
	"context"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote/sshdtest"
	"hactl/internal/wait"
)

func TestACommandOnASlowHostMayTakeLongerAndKnowsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	var bounds []time.Duration
	w.opts.expire = func(ctx context.Context, after time.Duration) (context.Context, context.CancelFunc) {
		bounds = append(bounds, after)
		return ctx, func() {}
	}
	c := w.connect(t)
	res, err := c.Run(wait.Slow(t.Context(), 4), Cmd{Title: "bounds", Timeout: time.Minute,
		Script: "echo " + wait.Times(30) + "; tr '\\0' ' ' </proc/$PPID/cmdline"})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bounds {
		if b != 4*time.Minute {
			t.Errorf("the call ends after %s, want 4m", b)
		}
	}
	said := string(res.Stdout)
	if !strings.HasPrefix(said, "120\n") || !strings.Contains(said, "timeout -k 5 250 ") {
		t.Errorf("the script's own bound and the host's limit are %.300s", said)
	}
}

func TestSilenceIsStretchedForSlowHosts(t *testing.T) {
	t.Parallel()
	o := Options{}.withDefaults(wait.Slow(t.Context(), 4))
	if got := o.silence(); got != 4*keepAliveEvery {
		t.Errorf("a sign of life is asked for every %s", got)
	}
	if keepAliveMissed*keepAliveEvery >= lockExpiry*time.Second {
		t.Error("the host lets go of the lock before hactl knows that the connection is lost")
	}
}
