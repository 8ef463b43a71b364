package ui

import (
	"encoding/json"
	"io"
	"sync"

	"hactl/internal/plan"
	"hactl/internal/remote"
)

// JSON writes one event a line.
type JSON struct {
	mu  sync.Mutex
	enc *json.Encoder
	err error
}

// NewJSON returns a reporter that writes to w, usually stdout.
func NewJSON(w io.Writer) *JSON {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &JSON{enc: enc}
}

// Report writes the event.
func (j *JSON) Report(e plan.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = j.enc.Encode(cleaned(e))
	}
}

// Close returns the first error of writing, such as a closed pipe.
func (j *JSON) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// cleaned is e with every text of it cleaned. IDs and names are ours, but
// cleaning them costs nothing and a mistake elsewhere stays harmless.
func cleaned(e plan.Event) plan.Event {
	e.Stage, e.Host, e.Step = remote.Clean(e.Stage), remote.Clean(e.Host), plan.ID(remote.Clean(string(e.Step)))
	e.Text, e.Err = remote.Clean(e.Text), remote.Clean(e.Err)
	return e
}
