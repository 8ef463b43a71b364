//go:build sweep

package ops

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"hactl/internal/remote"
)

// dieAtEnv makes hactl kill itself at its N-th call to a host, before the call
// ("17") or right after it took effect ("17+"). The crash tests on real hosts
// end a run at every boundary with it. Only a build with the tag sweep has it.
const dieAtEnv = "HACTL_TEST_DIE_AT"

func init() { faults = dieAtCall(os.Getenv) }

// dieAtCall reads dieAtEnv and wraps hosts accordingly.
func dieAtCall(getenv func(string) string) func(remote.Host) remote.Host {
	text, after := strings.CutSuffix(getenv(dieAtEnv), "+")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return func(h remote.Host) remote.Host { return h }
	}
	c := &callCounter{die: n, after: after, kill: func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }}
	return func(h remote.Host) remote.Host { return &dyingHost{Host: h, calls: c} }
}

// callCounter counts the calls to all hosts and kills the process at one of them.
type callCounter struct {
	die   int64
	after bool // the call takes effect first
	kill  func()
	made  atomic.Int64
}

func (c *callCounter) around(call func()) {
	at := c.made.Add(1) == c.die
	if at && !c.after {
		c.kill()
	}
	call()
	if at {
		c.kill()
	}
}

type dyingHost struct {
	remote.Host
	calls *callCounter
}

func (h *dyingHost) Run(ctx context.Context, cmd remote.Cmd) (res *remote.Result, err error) {
	h.calls.around(func() { res, err = h.Host.Run(ctx, cmd) })
	return res, err
}

func (h *dyingHost) Put(ctx context.Context, files ...remote.File) (err error) {
	h.calls.around(func() { err = h.Host.Put(ctx, files...) })
	return err
}

func (h *dyingHost) Send(ctx context.Context, u remote.Upload) (sent bool, err error) {
	h.calls.around(func() { sent, err = h.Host.Send(ctx, u) })
	return sent, err
}

func (h *dyingHost) Dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	h.calls.around(func() { conn, err = h.Host.Dial(ctx, network, addr) })
	return conn, err
}

// Hold implements [remote.Holder] where the host does.
func (h *dyingHost) Hold(ctx context.Context, holder string) (func(), error) {
	return remote.Lock(ctx, h.Host, holder)
}

// Close closes the host where it can be closed.
func (h *dyingHost) Close() { remote.CloseAll(map[string]remote.Host{"": h.Host}) }
