package cmd

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// interrupt ends a run by SIGINT or SIGTERM in two steps, so that no change is cut
// in the middle. A verb that changes hosts takes Stop: the first signal closes it, the
// engine finishes the running steps and ends; the second signal cancels the context
// and aborts. For a verb that never asked for Stop the first signal cancels.
// After the context was cancelled a further signal kills the process.
type interrupt struct {
	cancel context.CancelFunc
	say    func(string) // tells the person; replaced while a reporter is open

	mu   sync.Mutex
	soft chan struct{} // nil until asked for
	told bool
}

// catchSignals starts listening; the returned context is the hard one.
func catchSignals(parent context.Context, say func(string)) (context.Context, *interrupt, func()) {
	ctx, cancel := context.WithCancel(parent)
	in := &interrupt{cancel: cancel, say: say}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				if in.signal() {
					signal.Stop(signals) // the next one kills
				}
			}
		}
	})
	return ctx, in, func() { signal.Stop(signals); cancel(); wg.Wait() }
}

// Stop returns the channel that the first signal closes.
func (in *interrupt) Stop() <-chan struct{} {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.soft == nil {
		in.soft = make(chan struct{})
	}
	return in.soft
}

// tell sets where a person is told; nil is not allowed.
func (in *interrupt) tell(say func(string)) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.say = say
}

// interrupted reports whether a signal came.
func (in *interrupt) interrupted() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.told
}

// signal handles one signal and reports whether the context is now cancelled.
func (in *interrupt) signal() bool {
	in.mu.Lock()
	say, first := in.say, !in.told
	in.told = true
	if in.soft != nil && first {
		close(in.soft)
		in.mu.Unlock()
		say("stopping: finishing the running step; press again to abort")
		return false
	}
	in.mu.Unlock()
	say("aborting")
	in.cancel()
	return true
}
