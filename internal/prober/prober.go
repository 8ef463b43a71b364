// Package prober decides, ten times a second, whether this host is fit to hold
// the virtual IP, and tells keepalived through a file that it watches. It exists
// because keepalived 2.2 runs scripts no more often than once a second.
//
// A host is unfit when its own apiserver is sick while a peer's is healthy. One
// that is only silent makes the VIP's owner unfit while a peer's answers briskly
// and reaches etcd, and any other host while a peer's is healthy: the address is
// not taken from the busy for nothing, nor does it go to them. An owner that is
// silent and at work is given five times as long.
// When all are sick everybody is fit: the VIP stays somewhere.
package prober

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Config is what a Prober watches. Durations are bounds, not averages.
type Config struct {
	Local string   // base URL of this host's apiserver
	Peers []string // base URLs of the other hosts' apiservers
	// Etcd are HOST:PORT of the peers' etcd members, in the order of Peers, or
	// empty: Dial and Reset are for them, see unstick.
	Etcd  []string
	Dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	Reset func(ctx context.Context, addr string) error
	// Self is this host's address in the certificates of its peers' apiservers, which name
	// every master; see leftOut. The zero Addr: nothing is concluded from them.
	Self netip.Addr
	File string // the track file: 1 is unfit
	// Minority is a second track file, unless empty: 1 while no majority of
	// the apiservers answers here. keepalived only lowers its priority then: an
	// owner that was cut off keeps the address, and yields when the others are
	// back.
	Minority string
	Interval time.Duration
	// Slow is how long a running probe may stay unanswered before the apiserver
	// counts as hung. It is longer than a busy apiserver takes under load.
	Slow time.Duration
	// Rise is how many answers in a row make a sick apiserver healthy again.
	Rise int
	// Owns reports whether the VIP is on this host; nil means that it is.
	Owns func() bool
	// ProcessorTime is how much of it the local apiserver has used or waited for so
	// far; nil counts a silent one as hung always.
	ProcessorTime func() (time.Duration, error)
	// Handover, unless nil, lets connections to the VIP outlive its move when this
	// host's apiserver or a peer's stops gracefully.
	Handover Handover
	// Client is used for every probe; it verifies the apiserver's certificate.
	Client *http.Client
	// Lost, when set, tells that a connection to the local apiserver has ended: a
	// process that dies is seen at once, not at the next probe.
	Lost <-chan struct{}

	patience patience // with silent peers; the usual one when zero
}

// path leaves etcd out: its outage makes every apiserver unready at once, and
// moving the VIP would not help.
const path = "/readyz?exclude=etcd&exclude=etcd-readiness"

// wholePath asks for the connection to etcd too. What it includes cannot be
// narrowed without credentials: the paths of single checks are forbidden.
const wholePath = "/readyz"

// A peer reaches etcd when it has said so wholeRise times in a row, wholeEvery
// intervals apart: ten seconds, in which the others catch their breath after an
// outage.
const (
	wholeEvery = 5
	wholeRise  = 20
)

// Prober watches one local apiserver and its peers.
type Prober struct {
	cfg   Config
	peers []*target
	local *target
	whole map[*target]*target // by peer: its apiserver asked again, etcd included
	wrote map[string]int      // last value written, by file
	parts chan struct{}       // poked when an apiserver begins to leave, or is back
	first bool                // the track file was not there: the host has just booted
	work  work                // of the local apiserver while it is late; only Run touches it
	many  time.Time           // since when a majority answers; zero: it does not
}

// settle is how long a majority has to answer before this host counts as back:
// the owners of both sides have met by then.
const settle = 2 * time.Second

// New returns a Prober; it does nothing before Run.
func New(cfg Config) *Prober {
	if cfg.patience == (patience{}) {
		cfg.patience = usual
	}
	p := &Prober{cfg: cfg, wrote: map[string]int{}, local: newTarget(cfg, cfg.Local+path), whole: map[*target]*target{}, parts: make(chan struct{}, 1)}
	p.local.parts = p.parts
	for i, u := range cfg.Peers {
		t := newTarget(cfg, u+path)
		t.parts = p.parts
		t.addr = hostOf(u)
		if len(cfg.Etcd) == len(cfg.Peers) {
			t.etcd = cfg.Etcd[i]
		}
		p.peers = append(p.peers, t)
		whole := newTarget(cfg, u+wholePath)
		whole.cfg.Rise = wholeRise
		p.whole[t] = whole
	}
	// Until its first answer or refusal this host's apiserver is silent, not sick: a
	// prober that was started anew must not move the address for nothing.
	p.local.quiet.Store(true)
	p.local.well.set(time.Now())
	_, err := os.Stat(cfg.File)
	p.first = errors.Is(err, fs.ErrNotExist)
	return p
}

// Run probes until ctx ends. alive is called once a round, for a watchdog. It
// returns an error only when the track file cannot be written.
func (p *Prober) Run(ctx context.Context, alive func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, t := range p.peers {
		go t.watch(ctx, 3*p.cfg.Interval, nil)
		go p.whole[t].watch(ctx, wholeEvery*p.cfg.Interval, nil)
		if t.etcd != "" {
			go t.unstick(ctx, func() bool { return p.answersBeside(t) })
		}
	}
	go p.local.watch(ctx, p.cfg.Interval, p.cfg.Lost)
	if p.cfg.Handover != nil {
		handed := make(chan struct{})
		go func() { p.handOver(ctx); close(handed) }()
		defer func() { cancel(); <-handed }()
	}
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		tick.Reset(p.pulse())
		unfit, why := p.verdict(time.Now())
		before, known := p.wrote[p.cfg.File]
		if err := p.write(p.cfg.File, unfit); err != nil {
			return err
		}
		if why != "" && (!known || before != unfit) {
			fmt.Fprintf(os.Stderr, "unfit for the virtual IP: %s\n", why)
		}
		if err := p.write(p.cfg.Minority, p.minority(time.Now())); err != nil {
			return err
		}
		alive()
		select {
		case <-ctx.Done():
			return nil
		case <-p.local.changed:
		case <-tick.C:
		}
	}
}

// pulse is how soon the verdict may be another although no probe has ended. While
// the local apiserver is well and in time, an interval is soon enough to see that it
// no longer is; each time a process wakes up costs more than what it then does.
func (p *Prober) pulse() time.Duration {
	if p.local.healthy() && !p.local.late() {
		return p.cfg.Interval
	}
	return p.cfg.Interval / 4
}

// answersBeside reports whether a peer other than t is healthy.
func (p *Prober) answersBeside(t *target) bool {
	for _, o := range p.peers {
		if o != t && o.healthy() {
			return true
		}
	}
	return false
}

// verdict is 1 when another host should hold the VIP, else 0.
//
// An owner's apiserver that only keeps silent may be as busy as all the others:
// then moving the address would help nobody, so somebody else has to be brisk. And
// it has to reach etcd: without a leader there every apiserver opens its watches
// anew without a pause, for half a minute (client-go's reflector after an internal
// error), the one that gets the requests is the busiest of them, and the next one
// would be.
//
// Nor is the address taken from one that is silent and at work, before busyFor
// times Slow: see there.
//
// An owner's apiserver that is leaving still serves: its peers hear of it first.
func (p *Prober) verdict(now time.Time) (unfit int, why string) {
	p.watchWork(now)
	if why := p.leftOut(); why != "" {
		return 1, why
	}
	if p.local.healthy() {
		return 0, ""
	}
	if p.cfg.Handover != nil && p.local.leaves() && !p.announced(now) && p.owns() {
		return 0, ""
	}
	silent, silence := p.local.silent(), p.local.silence(now).Round(10*time.Millisecond)
	busy, doing := silent && p.work.busy(p.cfg.Slow), "not at work"
	if busy {
		doing = "at work"
	}
	for _, t := range p.peers {
		switch {
		case !t.healthy():
		case !silent:
			return 1, "the local apiserver is not ready, " + t.url + " is"
		case !p.owns(): // asked last: it asks the kernel for all addresses
			return 1, fmt.Sprintf("the local apiserver is silent for %v, %s is ready", silence, t.url)
		case t.brisk() && p.whole[t].healthy() && (!busy || silence >= busyFor*p.cfg.Slow):
			return 1, fmt.Sprintf("the local apiserver is silent for %v and %s, %s answers and reaches etcd", silence, doing, t.url)
		}
	}
	return 0, ""
}

// watchWork looks at what the local apiserver does while it is late, as long as
// that matters: reading it costs a look at every process of the host.
func (p *Prober) watchWork(now time.Time) {
	switch {
	case p.cfg.ProcessorTime == nil || p.local.silence(now) >= busyFor*p.cfg.Slow:
	case p.local.late() || !p.local.ok.Load() && p.local.quiet.Load():
		p.work.note(now, p.cfg.Slow, p.cfg.ProcessorTime)
	default:
		p.work = work{}
	}
}

func (p *Prober) owns() bool { return p.cfg.Owns == nil || p.cfg.Owns() }

// Holds reports whether an address is on an interface of this host. Where that
// cannot be read it says yes: the owner is the one that must not be hasty.
func Holds(addr netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	return slices.ContainsFunc(all, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == addr.Unmap()
	})
}

// minority is 1 while no majority of the apiservers answers, this host's own
// counted as if it did, and for a while after.
func (p *Prober) minority(now time.Time) int {
	answer := 1
	for _, t := range p.peers {
		if t.healthy() {
			answer++
		}
	}
	switch {
	case 2*answer <= len(p.peers)+1:
		p.many = time.Time{}
		return 1
	case p.many.IsZero():
		p.many = now
	}
	if now.Sub(p.many) < settle {
		return 1
	}
	return 0
}

// write tells keepalived, only when there is something new to tell. An empty
// name is a file that nobody wants.
func (p *Prober) write(file string, v int) error {
	if last, ok := p.wrote[file]; file == "" || ok && last == v {
		return nil
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, "%d\n", v), 0o644); err != nil {
		return fmt.Errorf("write track file: %w", err)
	}
	p.wrote[file] = v
	return nil
}

// target is one apiserver and what is known of it.
type target struct {
	cfg     Config
	url     string
	addr    netip.Addr    // of a peer
	etcd    string        // of the same host; "" when nobody looks after it
	changed chan struct{} // poked when the state changes
	ok      atomic.Bool
	since   instant                          // start of the probe that is running; zero: none
	took    atomic.Int64                     // how long the last answer took, in nanoseconds
	well    instant                          // when it last answered as a healthy one; at first: when it was first looked at
	quiet   atomic.Bool                      // the last probe that failed ended without any answer
	leaving instant                          // since when it has said that it stops; zero: it has not
	parts   chan<- struct{}                  // poked when leaving changes, unless nil
	good    int                              // answers in a row; only watch touches it
	asked   atomic.Bool                      // a probe has ended
	cert    atomic.Pointer[x509.Certificate] // of the last answer; nil after a probe without one
	closed  time.Time                        // when a connection was ended for its certificate; only watch touches it
}

// instant is a point in time that goroutines share, on the monotonic clock: a
// host's wall clock may be set at any moment.
type instant struct{ sinceStart atomic.Int64 } // plus one; 0: none

var processStart = time.Now()

func (i *instant) set(t time.Time) { i.sinceStart.Store(stamp(t)) }

func (i *instant) get() time.Time {
	d := i.sinceStart.Load()
	if d == 0 {
		return time.Time{}
	}
	return processStart.Add(time.Duration(d - 1))
}

func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return 1 + int64(t.Sub(processStart))
}

func newTarget(cfg Config, url string) *target {
	return &target{cfg: cfg, url: url, changed: make(chan struct{}, 1)}
}

// healthy is false also while a probe has been waiting for longer than Slow: a
// hung apiserver is seen by its silence, without waiting for the timeout.
func (t *target) healthy() bool {
	s := t.since.get()
	return t.ok.Load() && (s.IsZero() || time.Since(s) < t.cfg.Slow)
}

// silent tells an apiserver that does not answer from one that answers that it is
// sick, or whose connections are refused or ended.
func (t *target) silent() bool { return t.ok.Load() || t.quiet.Load() }

// silence is how long it has not been healthy; a single answer does not end it.
func (t *target) silence(now time.Time) time.Duration {
	return now.Sub(t.well.get())
}

// brisk is true while answers take less than half of what counts as hung, the
// one that is waited for included.
func (t *target) brisk() bool { return t.took.Load() < int64(t.cfg.Slow)/2 && !t.late() }

// late is true while an answer has been waited for half as long as counts as hung.
func (t *target) late() bool {
	s := t.since.get()
	return !s.IsZero() && time.Since(s) >= t.cfg.Slow/2
}

func (t *target) watch(ctx context.Context, every time.Duration, lost <-chan struct{}) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		start := time.Now()
		t.since.set(start)
		err := t.probe(ctx)
		if ctx.Err() != nil {
			return // it says nothing about the apiserver
		}
		t.asked.Store(true)
		took := time.Since(start)
		t.took.Store(int64(took))
		if err == nil && took >= t.cfg.Slow {
			err = fmt.Errorf("ready, but only after %v: %w", took.Round(time.Millisecond), os.ErrDeadlineExceeded)
		}
		if err != nil { // the first answers after a silence do not make it sick by saying so
			t.quiet.Store(noAnswer(err))
		}
		t.noteLeaving(err, time.Now())
		t.judge(err)
		if t.ok.Load() {
			t.well.set(time.Now())
		}
		t.since.set(time.Time{})
		ended := lost
		if !t.ok.Load() {
			ended = nil // a sick one that ends every connection is asked no more often
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-ended:
		}
	}
}

// WatchEnds returns dial with a channel that tells when a connection it made has
// ended on the other side.
func WatchEnds(dial func(ctx context.Context, network, addr string) (net.Conn, error)) (func(ctx context.Context, network, addr string) (net.Conn, error), <-chan struct{}) {
	ended := make(chan struct{}, 1)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &watched{conn, ended}, nil
	}, ended
}

// watched relies on http.Transport, which reads on a connection that idles.
type watched struct {
	net.Conn
	ended chan<- struct{}
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil {
		select {
		case w.ended <- struct{}{}:
		default:
		}
	}
	return n, err
}

// mostOfAnswer, in bytes, is more than any list of checks that an apiserver that
// is not ready sends.
const mostOfAnswer = 1 << 20

// noAnswer reports whether a probe ended without one in time, rather than with a refusal,
// an ended connection or an answer that is no 200. A handshake that takes too long
// is silence too, though it is no context.DeadlineExceeded.
func noAnswer(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func (t *target) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*t.cfg.Slow)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return err
	}
	// A certificate that does not name this host may be renewed meanwhile: only a new
	// connection shows it.
	if c := t.cert.Load(); t.cfg.Self.IsValid() && c != nil && !names(c, t.cfg.Self) && time.Since(t.closed) > lookAgain {
		req.Close, t.closed = true, time.Now()
	}
	res, err := t.cfg.Client.Do(req)
	if err != nil {
		t.cert.Store(nil)
		return err
	}
	if res.TLS != nil && len(res.TLS.PeerCertificates) > 0 {
		t.cert.Store(res.TLS.PeerCertificates[0])
	}
	defer func() { _ = res.Body.Close() }()
	// Only an answer that was read to its end leaves the connection open for the
	// next probe: a new one costs both sides a handshake.
	body, err := io.ReadAll(io.LimitReader(res.Body, mostOfAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return &notReadyError{res.Status, failing(string(body)), strings.Contains(string(body), stopping)}
	}
	return nil
}

// failing names the checks that an answer says have failed, "[-]NAME failed: ...".
func failing(answer string) []string {
	var names []string
	for line := range strings.Lines(answer) {
		if name, ok := strings.CutPrefix(line, "[-]"); ok && len(names) < 10 {
			name, _, _ = strings.Cut(name, " ")
			names = append(names, name)
		}
	}
	return names
}

// judge makes one failure enough to be sick and Rise answers enough to be
// healthy: a flapping apiserver counts as sick.
func (t *target) judge(err error) {
	if err != nil {
		t.good = 0
	} else {
		t.good++
	}
	now := err == nil && (t.ok.Load() || t.good >= t.cfg.Rise)
	if t.ok.Swap(now) != now {
		if now {
			fmt.Fprintf(os.Stderr, "%s is ready\n", t.url)
		} else {
			fmt.Fprintf(os.Stderr, "%s: %v\n", t.url, err)
		}
		select {
		case t.changed <- struct{}{}:
		default:
		}
	}
}
