package ui

import (
	"sync"
	"time"

	"hactl/internal/plan"
)

// repaint is the shortest time between two paintings of the live view.
const repaint = 100 * time.Millisecond

// Live keeps a view of what is going on at the bottom of a terminal. Lines
// that are final (stages that ended, notes, failures) move up and stay.
type Live struct {
	now   func() time.Time
	style Style
	marks marks

	mu      sync.Mutex
	painter *Painter
	board   *board
	final   []string // lines to be printed above the view, not yet painted
	dirty   bool
	paused  bool // a question is on the screen
	closed  bool
	done    chan struct{}
	stopped sync.WaitGroup
}

// NewLive returns a live view that p paints.
func NewLive(p *Painter, st Style, o Options) *Live {
	o = o.filled()
	l := &Live{
		painter: p, now: o.Now, style: st, marks: marksFor(o.unicode()),
		board: newBoard(), done: make(chan struct{}),
	}
	l.stopped.Go(l.loop)
	return l
}

// Report takes e in; it shows within a tenth of a second.
func (l *Live) Report(e plan.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	e = cleaned(e)
	w, _ := l.painter.size()
	if line := l.finalLine(e, w-1); line != "" {
		l.final = append(l.final, line)
	}
	l.board.see(e, l.now())
	l.dirty = true
}

func (l *Live) loop() {
	t := time.NewTicker(repaint)
	defer t.Stop()
	for {
		select {
		case <-l.done:
			return
		case <-t.C:
			l.mu.Lock()
			l.paint()
			l.mu.Unlock()
		}
	}
}

// Close paints the last state and leaves it on the screen.
func (l *Live) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.paused = false
		l.paint()
		l.closed = true
		close(l.done)
	}
	l.mu.Unlock()
	l.stopped.Wait()
	return nil
}

// paint draws the present state, unless nothing changed or a question is open.
func (l *Live) paint() {
	if l.paused || !l.dirty && len(l.painter.drawn) == 0 {
		return
	}
	w, h := l.painter.size()
	l.draw(l.view(w-1, h-1))
}

// draw puts lines in the place of the view, below what is final.
func (l *Live) draw(lines []line) {
	l.painter.paint(l.style, l.final, lines)
	l.final, l.dirty = nil, false
}
