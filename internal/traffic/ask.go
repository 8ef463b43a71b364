package traffic

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"

	"hactl/internal/wait"
)

// Ask puts the question that is read from in to the probe of this host and writes its
// answer to out. The factor of ctx stretches how long that may take.
func Ask(ctx context.Context, socket string, in io.Reader, out io.Writer) error {
	c, err := net.DialTimeout("unix", socket, wait.Bound(ctx, time.Second))
	if err != nil {
		return fmt.Errorf("ask the probe: %w", err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(wait.Bound(ctx, Patience+time.Second)))
	if _, err := io.Copy(c, in); err != nil {
		return fmt.Errorf("ask the probe: %w", err)
	}
	var a json.RawMessage
	if err := json.NewDecoder(c).Decode(&a); err != nil {
		return fmt.Errorf("read the probe's answer: %w", err)
	}
	_, err = fmt.Fprintf(out, "%s\n", a)
	return err
}
