package kubeadm

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
)

// AwaitServed waits until the process at addr, as seen from the step's host, serves this
// certificate in a new handshake.
func AwaitServed(ctx context.Context, env plan.Env, addr string, want *x509.Certificate) error {
	env.Say("waiting up to %s for %s to serve the renewed certificate", wait.Bound(ctx, inUseWithin), addr)
	within, cancel := wait.Within(ctx, addr+" to serve the renewed certificate", inUseWithin)
	defer cancel()
	for {
		got, err := remote.Served(within, env.Host, addr)
		if err == nil && got.Equal(want) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it serves the one of %s", got.NotBefore.UTC().Format(time.DateTime))
		}
		if pause(within, askEvery); within.Err() != nil {
			return remote.Hint(wait.Over(within, err), "hactl certs shows what is served; run the same command again")
		}
	}
}
