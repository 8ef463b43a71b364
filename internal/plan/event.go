package plan

import "time"

// Kind says what an Event tells.
type Kind string

// The kinds of events, in the order in which a run emits them.
const (
	StageStart Kind = "stage-start"
	StepStart  Kind = "step-start"
	StepSay    Kind = "step-say" // progress, or what is being waited for
	StepDone   Kind = "step-done"
	StepFailed Kind = "step-failed"
	StageDone  Kind = "stage-done"
	Note       Kind = "note" // anything outside of steps: connecting, PKI, verification
)

// Event is one line of what happens. Texts come without secrets and without
// control characters.
type Event struct {
	Time    time.Time     `json:"time"`
	Kind    Kind          `json:"kind"`
	Stage   string        `json:"stage,omitempty"`
	Host    string        `json:"host,omitempty"`
	Step    ID            `json:"step,omitempty"`
	Op      Op            `json:"op,omitempty"`
	Text    string        `json:"text,omitempty"`
	Elapsed time.Duration `json:"elapsed_ns,omitempty"` // of the step or stage, for done and failed
	Err     string        `json:"error,omitempty"`
}

// Reporter receives events; calls may come from several goroutines.
type Reporter interface {
	Report(Event)
}

// Discard is a Reporter that drops everything.
var Discard Reporter = discard{}

type discard struct{}

func (discard) Report(Event) {}
