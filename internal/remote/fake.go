package remote

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
)

// Call is one thing that was asked of a [Fake].
type Call struct {
	Kind   string // "run", "put", "send" or "dial"
	Cmd    Cmd
	Files  []File
	Upload Upload
	Addr   string // of a dial, "network addr"
}

// Fake is a Host for tests: it records every call and answers as it is told.
type Fake struct {
	name   string
	answer func(Call) (*Result, error)
	dialer func(ctx context.Context, network, addr string) (net.Conn, error)

	mu    sync.Mutex
	calls []Call
	sent  map[string]string // path to hash
	owner string
	cut   *Cut
}

// NewFake returns a host of that name. answer, which may be nil, gives the result
// of a Run and the error of any call; it may be called from several goroutines.
// A result with a non-zero Exit and no error becomes an [*ExitError].
func NewFake(name string, answer func(Call) (*Result, error)) *Fake {
	return &Fake{name: name, answer: answer, sent: map[string]string{}}
}

// DialWith sets what Dial does; without it Dial is an error.
func (f *Fake) DialWith(d func(ctx context.Context, network, addr string) (net.Conn, error)) {
	f.dialer = d
}

// DieAt makes the n-th call from the first on, and every later one, fail with
// [ErrCut], the n-th before or after it took effect.
func (f *Fake) DieAt(n int, when When) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = NewCut(n, when)
	f.cut.calls = len(f.calls)
}

// Calls returns what was asked so far, in order; calls cut before their effect
// are not among them.
func (f *Fake) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Name is the name it was made with.
func (f *Fake) Name() string { return f.name }

func (f *Fake) ask(ctx context.Context, c Call) (res *Result, err error) {
	f.mu.Lock()
	cut := f.cut
	f.mu.Unlock()
	err = cut.around(f.name, func() error {
		if err := ctx.Err(); err != nil {
			return &UnreachableError{Host: f.name, Op: c.Kind, Err: err}
		}
		f.mu.Lock()
		f.calls = append(f.calls, c)
		f.mu.Unlock()
		if f.answer == nil {
			return nil
		}
		var err error
		res, err = f.answer(c)
		return err
	})
	if errors.Is(err, ErrCut) {
		return nil, err
	}
	if res == nil {
		res = &Result{}
	}
	return res, err
}

// Run implements [Host].
func (f *Fake) Run(ctx context.Context, cmd Cmd) (*Result, error) {
	res, err := f.ask(ctx, Call{Kind: "run", Cmd: cmd})
	if err == nil && res.Exit != 0 {
		err = &ExitError{Host: f.name, Title: cmd.Title, Exit: res.Exit, Stderr: Clean(string(res.Stderr))}
	}
	return res, err
}

// Put implements [Host].
func (f *Fake) Put(ctx context.Context, files ...File) error {
	files = slices.Clone(files)
	for i := range files {
		files[i].Content = slices.Clone(files[i].Content)
	}
	_, err := f.ask(ctx, Call{Kind: "put", Files: files})
	return err
}

// Send implements [Host]: a path sent before with the same hash is not sent.
func (f *Fake) Send(ctx context.Context, u Upload) (bool, error) {
	f.mu.Lock()
	same := f.sent[u.Path] == u.SHA256
	f.mu.Unlock()
	if _, err := f.ask(ctx, Call{Kind: "send", Upload: u}); err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent[u.Path] = u.SHA256
	return !same, nil
}

// Dial implements [Host].
func (f *Fake) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, err := f.ask(ctx, Call{Kind: "dial", Addr: network + " " + addr}); err != nil {
		return nil, err
	}
	if f.dialer == nil {
		return nil, errors.New("dial " + addr + " from " + f.name + ": connection refused")
	}
	return f.dialer(ctx, network, addr)
}

// Hold implements [Holder].
func (f *Fake) Hold(_ context.Context, holder string) (func(), error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.owner != "" {
		return nil, &LockedError{Host: f.name, Holder: f.owner}
	}
	f.owner = holder
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.owner = ""
	}), nil
}
