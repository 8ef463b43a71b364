package remote

import (
	"context"
	"fmt"
	"time"

	"hactl/internal/sys"
)

// Ask puts a question to a host and reads the answer. Timeout is that of a [Cmd]. A
// question without a script takes no round trip.
func Ask[T any](ctx context.Context, h Host, q sys.Question[T], timeout time.Duration) (answer T, err error) {
	var res Result
	if q.Script != "" {
		r, err := h.Run(ctx, Cmd{Title: q.Title, Script: q.Alone(), Timeout: timeout})
		if err != nil {
			return answer, err
		}
		res = *r
	}
	if answer, err = q.Parse(string(res.Stdout)); err != nil {
		return answer, fmt.Errorf("%s: %w", q.Title, err)
	}
	return answer, nil
}
