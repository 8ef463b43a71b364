package kubeadm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hactl/internal/kubeapi"
	"hactl/internal/plan"
	"hactl/internal/wait"
	"hactl/inventory"
	"hactl/pki"
)

const (
	// askTimeout bounds one question to one apiserver.
	askTimeout = 5 * time.Second
	// askAgain bounds when the last round of questions begins.
	askAgain = 20 * time.Second
)

// onceUp is when a step is done that could not look, because no apiserver answers
// yet.
const onceUp = "once the control plane is up"

// Control is the control plane as one client: whichever apiserver answers. The
// connection to that one is kept, so that the next question costs no dial. It
// is safe for use by several goroutines; Close ends it.
type Control struct {
	Inv   *inventory.Inventory
	Hosts plan.Hosts // masters without a connection are missing
	PKI   *pki.Material

	again time.Duration // in place of askAgain

	mu   sync.Mutex
	kept *API
}

// Ask calls f with the apiserver that answered last, and then with one after
// the other until f succeeds or one refuses: an answer below 500 is final. Where
// one of them was silent, they are asked again for 20 s. f may be called more than
// once.
func (c *Control) Ask(ctx context.Context, f func(context.Context, *API) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for end := time.Now().Add(wait.Bound(ctx, cmp.Or(c.again, askAgain))); ; {
		err := c.round(ctx, f)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil || !time.Now().Before(end) {
			return err
		}
	}
}

// round asks each apiserver once.
func (c *Control) round(ctx context.Context, f func(context.Context, *API) error) error {
	var errs []error
	if c.kept != nil {
		err := bounded(ctx, c.kept, f)
		if err == nil || kubeapi.Final(err) {
			return err
		}
		c.kept.Close()
		c.kept = nil
	}
	for _, m := range c.Inv.Masters() {
		h := c.Hosts[m.Name]
		if h == nil {
			continue
		}
		api, err := NewAPI(h, c.Inv, c.PKI, m.PrivateAddress)
		if err != nil {
			return err
		}
		err = bounded(ctx, api, f)
		if err == nil || kubeapi.Final(err) {
			c.kept = api
			return err
		}
		api.Close()
		errs = append(errs, fmt.Errorf("%s: %w", m.Name, err))
	}
	if len(errs) == 0 {
		return errors.New("no master is connected")
	}
	return errors.Join(errs...)
}

func bounded(ctx context.Context, api *API, f func(context.Context, *API) error) error {
	ctx, cancel := wait.Within(ctx, "an answer of an apiserver", askTimeout)
	defer cancel()
	return f(ctx, api)
}

// Close drops the connection.
func (c *Control) Close() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept != nil {
		c.kept.Close()
		c.kept = nil
	}
}
