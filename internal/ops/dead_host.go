package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hactl/internal/exitcode"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
)

// askAgain is how long after the first question a host that is taken for dead is asked
// a second time.
const askAgain = 5 * time.Second

// reachTimeout bounds one connection from another host to it. The network tells after three
// seconds that no host has an address, and a host that is only busy takes a connection later.
const reachTimeout = 5 * time.Second

// seemsDeadTwice is seemsDead, asked two times some seconds apart.
func (s *session) seemsDeadTwice(ctx context.Context, h *inventory.Host, rest *inventory.Inventory) error {
	if err := seemsDead(ctx, s.hosts, h, rest); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(cmp.Or(s.pace, askAgain)):
	}
	return seemsDead(ctx, s.hosts, h, rest)
}

// seemsDead asks those of the hosts that are in rest whether h takes a connection. It is an error with
// [exitcode.Unsafe] that names one that reaches it, an error with [exitcode.Unknown] if
// none of them could be asked, or nil: a question that was lost is not silence.
func seemsDead(ctx context.Context, hosts plan.Hosts, h *inventory.Host, rest *inventory.Inventory) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var heard error
	asked := 0
	for i := range rest.Hosts {
		from := hosts[rest.Hosts[i].Name]
		if from == nil {
			continue
		}
		wg.Go(func() {
			at := reaches(ctx, from, h)
			_, err := from.Run(ctx, remote.Cmd{Title: "is this host still there", Script: ":", Timeout: 10 * time.Second})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				asked++
			}
			if at != "" {
				heard = fmt.Errorf("%s reaches %s at %s", from.Name(), h.Name, at)
			}
		})
	}
	wg.Wait()
	switch {
	case heard != nil:
		return exitcode.With(exitcode.Unsafe, heard)
	case asked == 0:
		return exitcode.With(exitcode.Unknown, errors.New("no other host could be asked whether it reaches "+h.Name))
	}
	return nil
}

// reaches returns the address of h at which a connection from another host is taken, or "".
func reaches(ctx context.Context, from remote.Host, h *inventory.Host) string {
	ctx, cancel := wait.Within(ctx, "a connection to "+h.Name, reachTimeout)
	defer cancel()
	var wg sync.WaitGroup
	found := make(chan string, 4)
	for _, port := range []int{22, 2380, 6443, 10250} {
		wg.Go(func() {
			addr := hostPort(h.PrivateAddress, port)
			if conn, err := from.Dial(ctx, "tcp", addr); err == nil {
				_ = conn.Close()
				found <- addr
				cancel() // one is enough
			}
		})
	}
	wg.Wait()
	select {
	case addr := <-found:
		return addr
	default:
		return ""
	}
}

// streamsEndWithin bounds how long etcd may go on writing to a dead member, in seconds. On lab
// hosts it gave that up half a minute after the member had lost its power.
const streamsEndWithin = 40

// streamsEnd is a shell script that waits until no connection of etcd to the address has more
// than 4 KB of data that was not taken: the leader's had 30 to 64 KB, and a write waits only
// where the buffer is full. A follower's have one or two, for minutes.
const streamsEnd = `given_up() { ! has_unsent %s 2380 4096; }
wait_until %d "etcd did not give up a dead member" given_up
`

// giveUp waits, where a master that does not answer is about to leave, until the others have
// given up what they were sending to its etcd.
func (s *session) giveUp(ctx context.Context, answers bool, h *inventory.Host, rest *inventory.Inventory) {
	if !answers && h.Role == inventory.ControlPlane && h.PrivateAddress.IsValid() {
		s.awaitStreams(ctx, h, rest)
	}
}

// awaitStreams waits until the etcd of no master in rest still writes to a dead one. An etcd
// that removes a member waits for such a write, for up to five seconds, and sends no heartbeat
// meanwhile: in a replacement half a minute after the power was lost no write got through for
// 2.4 s. What cannot be waited for is no error: the member goes all the same.
func (s *session) awaitStreams(ctx context.Context, h *inventory.Host, rest *inventory.Inventory) {
	addr := h.PrivateAddress.String()
	if h.PrivateAddress.Is6() {
		addr = "[" + addr + "]"
	}
	defer time.AfterFunc(2*time.Second, func() { s.Note("waiting until etcd has given up its connections to " + h.Name) }).Stop()
	var wg sync.WaitGroup
	for _, m := range rest.Masters() {
		if on := s.hosts[m.Name]; on != nil {
			wg.Go(func() {
				_, _ = on.Run(ctx, remote.Cmd{Title: "wait for the connections to a dead member to end", Script: fmt.Sprintf(streamsEnd, remote.Quote(addr), streamsEndWithin), Timeout: time.Minute})
			})
		}
	}
	wg.Wait()
}
