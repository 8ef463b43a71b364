package ui

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"sync"
)

// Masked stands where a secret was.
const Masked = "***"

// Redactor takes secrets out of text: those it was told of, in every form in
// which they may turn up, and what looks like one (see patterns). It may be
// used from several goroutines; secrets may be added at any time.
type Redactor struct {
	mu    sync.RWMutex
	forms [256][][]byte // by first byte, longest first
	known map[string]bool
}

// NewRedactor returns a Redactor that knows only the patterns.
func NewRedactor() *Redactor { return &Redactor{known: map[string]bool{}} }

// Add registers exact secrets; empty ones are ignored. Registered are the text
// itself, its long lines, its base64 forms at every alignment, and its JSON form.
func (r *Redactor) Add(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range secrets {
		for _, f := range formsOf(s) {
			if f == "" || r.known[f] {
				continue
			}
			r.known[f] = true
			list := append(r.forms[f[0]], []byte(f))
			slices.SortStableFunc(list, func(a, b []byte) int { return len(b) - len(a) })
			r.forms[f[0]] = list
		}
	}
}

// shortForm is the length below which a derived form (a line, a piece of
// base64) would mask innocent text.
const shortForm = 8

func formsOf(s string) []string {
	out := []string{s}
	trimmed := strings.TrimSpace(s)
	if trimmed != s && len(trimmed) >= shortForm {
		out = append(out, trimmed)
	}
	if strings.Contains(trimmed, "\n") {
		for l := range strings.Lines(trimmed) {
			if l = strings.TrimSpace(l); len(l) >= 2*shortForm && !strings.HasPrefix(l, "-----") {
				out = append(out, l)
			}
		}
	}
	if j, err := json.Marshal(s); err == nil && string(j[1:len(j)-1]) != s {
		out = append(out, string(j[1:len(j)-1]))
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		out = append(out, enc.EncodeToString([]byte(s)))
		for shift := range 3 {
			if f := aligned(enc, s, shift); len(f) >= shortForm {
				out = append(out, f)
			}
		}
	}
	return out
}

// aligned is the part of base64 text that depends on s alone when s stands
// inside something longer, shift bytes after a multiple of three.
func aligned(enc *base64.Encoding, s string, shift int) string {
	all := enc.EncodeToString(append(make([]byte, shift), s...))
	return all[(shift*8+5)/6 : (shift+len(s))*8/6]
}

// String returns s without secrets.
func (r *Redactor) String(s string) string {
	var b bytes.Buffer
	w := r.Writer(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}

// Writer returns a writer that passes text on to w without secrets, however
// the text is cut into writes. What may be the beginning of a secret and the
// unfinished last line are held back until more comes or Close, which does not
// close w.
func (r *Redactor) Writer(w io.Writer) io.WriteCloser {
	lines := &lineRedactor{w: w}
	return &exactRedactor{r: r, next: lines}
}

// exactRedactor masks registered secrets.
type exactRedactor struct {
	r    *Redactor
	next *lineRedactor

	mu     sync.Mutex
	held   []byte
	masked int // the first bytes of held that belong to a secret
}

// Write takes p in.
func (x *exactRedactor) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.held = append(x.held, p...)
	if _, err := x.next.Write(x.release(false)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close passes on what was held back.
func (x *exactRedactor) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, err := x.next.Write(x.release(true)); err != nil {
		return err
	}
	return x.next.Close()
}

// release cuts off the beginning of held whose fate is known. Overlapping
// secrets are masked together.
func (x *exactRedactor) release(end bool) []byte {
	x.r.mu.RLock()
	defer x.r.mu.RUnlock()
	var out []byte
	i := 0
	for ; i < len(x.held); i++ {
		full, partial := x.r.at(x.held[i:])
		if partial && !end {
			break
		}
		x.masked = max(x.masked, i+full)
		switch {
		case i >= x.masked:
			out = append(out, x.held[i])
		case i == x.masked-1:
			out = append(out, Masked...)
		}
	}
	x.masked = max(0, x.masked-i)
	x.held = append(x.held[:0], x.held[i:]...)
	return out
}

// at returns the length of the longest secret that text begins with, and
// whether text could be the beginning of a longer one.
func (r *Redactor) at(text []byte) (full int, partial bool) {
	for _, f := range r.forms[text[0]] {
		switch {
		case len(f) > len(text):
			partial = partial || bytes.HasPrefix(f, text)
		case bytes.HasPrefix(text, f):
			return len(f), partial
		}
	}
	return 0, partial
}
