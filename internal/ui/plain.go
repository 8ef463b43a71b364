package ui

import (
	"fmt"
	"io"
	"sync"
	"time"

	"hactl/internal/plan"
)

// stillWaiting is how often a step that goes on is mentioned in plain output.
const stillWaiting = 10 * time.Second

// Plain writes one line per event of interest, with the time since the start
// of the run, and says every 10 s what is still going on.
type Plain struct {
	w       io.Writer
	now     func() time.Time
	start   time.Time
	verbose bool

	mu      sync.Mutex
	board   *board
	held    []string // finished lines that wait for the end of a pause
	paused  bool
	closed  bool
	done    chan struct{}
	stopped sync.WaitGroup
}

// NewPlain returns a reporter that writes to w, usually stderr.
func NewPlain(w io.Writer, o Options) *Plain {
	o = o.filled()
	p := &Plain{w: w, now: o.Now, start: o.Now(), verbose: o.Verbose, board: newBoard(), done: make(chan struct{})}
	p.stopped.Go(p.remind)
	return p
}

// Report prints what is of interest in e.
func (p *Plain) Report(e plan.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	e = cleaned(e)
	p.board.see(e, p.now())
	if line := p.line(e); line != "" {
		p.print(line)
	}
}

func (p *Plain) line(e plan.Event) string {
	switch e.Kind {
	case plan.StageStart:
		return join(e.Stage, e.Text)
	case plan.StepStart:
		return "  " + join(string(e.Step), opText(e))
	case plan.StepSay:
		return "  " + join(string(e.Step), e.Text)
	case plan.StepDone:
		if !p.verbose && e.Elapsed < time.Second {
			return "" // its start has been printed a moment ago
		}
		return "  " + join(string(e.Step), "done in "+Took(e.Elapsed))
	case plan.StepFailed:
		return "  " + join(string(e.Step), "failed after "+Took(e.Elapsed)+": "+e.Err)
	case plan.StageDone:
		if e.Err != "" {
			return join(e.Stage, "stopped after "+Took(e.Elapsed))
		}
		return join(e.Stage, "done in "+Took(e.Elapsed))
	case plan.Note:
		return join(e.Host, e.Text)
	}
	return ""
}

func (p *Plain) print(line string) {
	line = clock(p.now().Sub(p.start)) + " " + flat(line)
	if p.paused {
		p.held = append(p.held, line)
		return
	}
	_, _ = fmt.Fprintln(p.w, line)
}

// resume prints what a pause held back.
func (p *Plain) resume() {
	for _, line := range p.held {
		_, _ = fmt.Fprintln(p.w, line)
	}
	p.held, p.paused = nil, false
}

// remind says what is still running until Close.
func (p *Plain) remind() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-t.C:
			p.tick()
		}
	}
}

// tick mentions every step that has been silent for stillWaiting.
func (p *Plain) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for _, r := range p.board.running() {
		if now.Sub(r.mentioned) < stillWaiting {
			continue
		}
		r.mentioned = now
		what := r.say
		if what == "" {
			what = r.text
		}
		p.print("  " + join(string(r.id), "still waiting after "+Took(now.Sub(r.started))+": "+what))
	}
}

// Close stops the reminders.
func (p *Plain) Close() error {
	p.mu.Lock()
	if !p.closed {
		p.resume()
		p.closed = true
		close(p.done)
	}
	p.mu.Unlock()
	p.stopped.Wait()
	return nil
}

func join(a, b string) string {
	switch {
	case a == "":
		return b
	case b == "":
		return a
	}
	return a + ": " + b
}

func opText(e plan.Event) string {
	if e.Text != "" {
		return e.Text
	}
	return string(e.Op)
}

// clock is the time since the start, mm:ss.t; an hour is 60:00.0.
func clock(d time.Duration) string {
	t := max(0, d.Milliseconds()/100)
	return fmt.Sprintf("%02d:%02d.%d", t/600, t/10%60, t%10)
}
