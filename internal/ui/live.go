package ui

import (
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"hactl/internal/plan"
)

// repaint is the shortest time between two paintings of the live view.
const repaint = 100 * time.Millisecond

// Live keeps a view of what is going on at the bottom of a terminal. Lines
// that are final (stages that ended, notes, failures) move up and stay.
type Live struct {
	w     io.Writer
	size  func() (width, height int) // asked at every painting, so that a resize shows
	now   func() time.Time
	style Style
	marks marks

	mu      sync.Mutex
	board   *board
	final   []string // lines to be printed above the view, not yet painted
	drawn   []int    // columns of each line of the view that is on the screen
	dirty   bool
	paused  bool // a question is on the screen
	closed  bool
	done    chan struct{}
	stopped sync.WaitGroup
}

// NewLive returns a live view on w, whose size is asked before each painting.
func NewLive(w io.Writer, size func() (width, height int), st Style, o Options) *Live {
	o = o.filled()
	l := &Live{
		w: w, size: size, now: o.Now, style: st, marks: marksFor(o.unicode()),
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
	w, _ := l.size()
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
	if l.paused || !l.dirty && len(l.drawn) == 0 {
		return
	}
	w, h := l.size()
	l.draw(l.view(w-1, h-1))
}

// draw replaces the view by lines in one write, so that nothing flickers: the
// cursor goes up to where the view begins, each line is overwritten and its
// rest erased, and what is left below is erased last.
func (l *Live) draw(lines []line) {
	w, _ := l.size()
	var b strings.Builder
	if up := rows(l.drawn, w); up > 0 {
		b.WriteString("\x1b[" + strconv.Itoa(up) + "A")
	}
	b.WriteByte('\r')
	for _, s := range l.final {
		b.WriteString(s + "\x1b[K\r\n")
	}
	l.drawn = l.drawn[:0]
	for _, s := range lines {
		l.drawn = append(l.drawn, s.columns())
		b.WriteString(s.paint(l.style) + "\x1b[K\r\n")
	}
	b.WriteString("\x1b[J")
	l.final, l.dirty = nil, false
	_, _ = io.WriteString(l.w, b.String())
}

// rows is how many rows of a terminal of that width the drawn lines take now.
// After the window became narrower, lines drawn before have been wrapped.
func rows(drawn []int, width int) int {
	n := 0
	for _, c := range drawn {
		n += max(1, (c+width-1)/max(1, width))
	}
	return n
}
