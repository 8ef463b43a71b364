package remote

import (
	"bytes"
	"strings"
	"sync"
)

// Bounds of what is kept of a command's output.
const (
	maxStdout = 16 << 20
	maxStderr = 1 << 20
	maxNoise  = 8 << 10  // of what came before the mark
	maxLine   = 64 << 10 // of one line shown while it runs
)

// capture keeps one output stream of a command: what comes before the mark is
// noise from the login, what comes after it is the command's.
type capture struct {
	mark   []byte
	max    int
	lines  *lineWriter // may be nil
	onFull func()      // called once, when there is more than max

	mu    sync.Mutex
	noise []byte
	begun bool
	tag   string // what stood behind the mark on its line
	buf   bytes.Buffer
	full  bool
}

// Write never fails: a reader that stops would block the command on the host.
func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(p)
	if !c.begun {
		if p = c.begin(p); p == nil {
			return n, nil
		}
	}
	if c.lines != nil {
		c.lines.write(p)
	}
	room := c.max - c.buf.Len()
	if len(p) > room {
		if !c.full && c.onFull != nil {
			c.onFull()
		}
		c.full = true
		p = p[:room]
	}
	c.buf.Write(p)
	return n, nil
}

// begin looks for the mark's line and returns what follows it, nil while the
// mark has not come.
func (c *capture) begin(p []byte) []byte {
	c.noise = append(c.noise, p...)
	if i := bytes.Index(c.noise, c.mark); i >= 0 {
		line := c.noise[i+len(c.mark):]
		end := bytes.IndexByte(line, '\n')
		if end < 0 {
			return nil
		}
		c.begun, c.tag = true, strings.TrimSpace(string(line[:end]))
		rest := bytes.Clone(line[end+1:])
		c.noise = c.noise[:i]
		if rest == nil {
			rest = []byte{}
		}
		return rest
	}
	if over := len(c.noise) - maxNoise; over > 0 {
		c.noise = append(c.noise[:0], c.noise[over:]...)
	}
	return nil
}

// finish shows the last line when it had no newline; nothing is shown after it.
func (c *capture) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lines != nil {
		c.lines.flush()
		c.lines = nil
	}
}

func (c *capture) state() (begun bool, tag string, out, noise []byte, full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.begun, c.tag, c.buf.Bytes(), c.noise, c.full
}

// lineWriter hands on whole lines, cleaned. Stdout and stderr share one.
type lineWriter struct {
	mu   *sync.Mutex // shared, so that one line is shown at a time
	show func(line string)
	part []byte
}

func (w *lineWriter) write(p []byte) {
	for len(p) > 0 {
		// A carriage return ends a line too: progress bars are made of them.
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			w.part = append(w.part, p...)
			if len(w.part) > maxLine {
				w.flush()
			}
			return
		}
		w.part = append(w.part, p[:i]...)
		p = p[i+1:]
		w.flush()
	}
}

func (w *lineWriter) flush() {
	line := Clean(string(w.part))
	w.part = w.part[:0]
	if strings.TrimSpace(line) == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.show(line)
}

// tail is the last n bytes or fewer, from the beginning of a line when cut.
func tail(p []byte, n int) string {
	if len(p) > n {
		p = p[len(p)-n:]
		if i := bytes.IndexByte(p, '\n'); i >= 0 && i < len(p)-1 {
			p = p[i+1:]
		}
	}
	return strings.TrimSpace(Clean(string(p)))
}
