package remote

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"

	"hactl/internal/sys"
)

// Call is one thing that was asked of a [Fake].
type Call struct {
	Kind   string // "run", "put", "send" or "dial"
	Cmd    Cmd
	Files  []File
	Upload Upload
	Addr   string // of a dial, "network addr"
}

// Fake is a Host for tests: it records every call and answers as it is told, and its
// connection is lost on demand. It plays the connection and nothing behind it: a test whose
// scripts have to run hands them to a host of internal/fakehost. A script has the functions
// that it calls, as on a host.
type Fake struct {
	name   string
	answer func(Call) (*Result, error)
	dialer func(ctx context.Context, network, addr string) (net.Conn, error)

	mu    sync.Mutex
	calls []Call
	sent  map[string]string // path to hash
	owner string
	asked int // calls so far, lost ones included
	lost  int // from this call on the connection is lost; 0: never
}

// ErrLost is the cause of every error of a [Fake] after LoseAt.
var ErrLost = errors.New("connection lost on purpose")

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

// LoseAt makes the n-th call from now on, counted from 1, and every later one
// fail with [ErrLost]. The host does not get these calls.
func (f *Fake) LoseAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = f.asked + n
}

// Calls returns what was asked so far, in order, without lost calls.
func (f *Fake) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Name is the name it was made with.
func (f *Fake) Name() string { return f.name }

func (f *Fake) ask(ctx context.Context, c Call) (*Result, error) {
	if err := f.record(ctx, c); err != nil {
		return nil, &UnreachableError{Host: f.name, Op: c.Kind, Err: err}
	}
	var res *Result
	var err error
	if f.answer != nil {
		res, err = f.answer(c)
	}
	if res == nil {
		res = &Result{}
	}
	return res, err
}

func (f *Fake) record(ctx context.Context, c Call) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.lost > 0 && f.asked >= f.lost {
		return ErrLost
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	f.calls = append(f.calls, c)
	return nil
}

// Run implements [Host].
func (f *Fake) Run(ctx context.Context, cmd Cmd) (*Result, error) {
	cmd.Script = sys.With(cmd.Script)
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
