package drill

import (
	"cmp"
	"math"
	"time"
)

// Schema is the version of the JSON report; it grows when a field changes its
// meaning or goes away.
const Schema = 2

// Verdicts.
const (
	Met     = "met"
	Missed  = "missed"
	Unclear = "unclear" // the machine could have hidden a miss, or made one
	Failed  = "failed"  // something went wrong: refused, the fault did nothing, a write was lost, no recovery
	Skipped = "skipped" // not permitted or not possible here, and not asked for by name
)

// Report is what a drill found. Times in runs are milliseconds from the run's start.
type Report struct {
	Schema     int       `json:"schema"`
	Cluster    string    `json:"cluster"`
	Started    time.Time `json:"started"`
	TookMS     float64   `json:"took_ms"`
	IntervalMS float64   `json:"interval_ms"` // the longest of the runs'
	DeadlineMS float64   `json:"deadline_ms"` // of a request
	Verdict    string    `json:"verdict"`
	// Calibration is nil when the interval was chosen by the operator.
	Calibration *Calibration `json:"calibration,omitempty"`
	Reason      string       `json:"reason,omitempty"` // why no scenario was started at all
	Scenarios   []*Result    `json:"scenarios"`
}

// Result is one scenario with all of its runs.
type Result struct {
	Name    string    `json:"name"`
	Summary string    `json:"summary"`
	Verdict string    `json:"verdict"`
	Reason  string    `json:"reason,omitempty"` // why it was skipped, or refused before the last run
	Checks  []Outcome `json:"checks,omitempty"` // those that at least one run measured
	Runs    []*Run    `json:"runs,omitempty"`
}

// Why is the reason in one line: Reason, or the first problem of a run. It is ""
// when all that there is to say is in the checks.
func (r *Result) Why() string { return cmp.Or(r.Reason, r.problem()) }

// problem is the first thing that went wrong in a run, or "".
func (r *Result) problem() string {
	for _, run := range r.Runs {
		if len(run.Problems) > 0 {
			return run.ID + ": " + run.Problems[0]
		}
	}
	return ""
}

// Outcome is a check over all runs. Unit says what the numbers are: "ms" or "count".
type Outcome struct {
	Check  string    `json:"check"`
	Unit   string    `json:"unit"`
	Bound  float64   `json:"bound"`
	Values []float64 `json:"values"` // the fault's part, one a run
	// Seen is the largest figure without any difference made, Noise the most
	// milliseconds of one in which the machine stood still.
	Seen  float64 `json:"seen"`
	Noise float64 `json:"noise_ms,omitempty"`
	// Before is the largest gap of the same requests between their start and the
	// fault, in any run: what the machine does by itself. AtFault is the largest
	// that began within a second of the fault: what the fault did, without what
	// the cluster and the machine do until everything is as before. 0 for checks
	// that are no gap.
	Before  float64 `json:"before,omitempty"`
	AtFault float64 `json:"at_fault,omitempty"`
	// Failed of Sent requests failed in the whole run, before the fault and after
	// the undo, too; of all runs the one with the largest share. A gap ends with the
	// first success and does not show this. 0 for checks that are no gap.
	Failed int     `json:"failed,omitempty"`
	Sent   int     `json:"sent,omitempty"`
	P50    float64 `json:"p50"`
	P95    float64 `json:"p95"`
	Max    float64 `json:"max"`
	Met    bool    `json:"met"`
	// Verdict is met, missed or unclear, and Why the reason of an unclear one.
	Verdict string `json:"verdict"`
	Why     string `json:"why,omitempty"`
	// Earlier are figures of the drills before, the newest first: see [Report.Compare].
	Earlier []Earlier `json:"earlier,omitempty"`
}

// Run is one repetition.
type Run struct {
	ID       string    `json:"id"`
	Started  time.Time `json:"started"`
	From     string    `json:"traffic_from"`
	Victims  []Victim  `json:"victims"`
	FaultMS  float64   `json:"fault_ms"`  // just before the fault
	ProvedMS float64   `json:"proved_ms"` // the fault was seen to be in effect; 0: never
	UndoMS   float64   `json:"undo_ms"`   // just after the undo
	HealedMS float64   `json:"healed_ms"` // everything healthy again; 0: never
	EndMS    float64   `json:"end_ms"`
	// IntervalMS is between two requests of the stream with the tightest bound.
	IntervalMS float64          `json:"interval_ms"`
	Streams    []StreamReport   `json:"streams"`
	Owners     []Lane           `json:"vip_owners"`
	Leaders    []Lane           `json:"etcd_leaders"`
	Acked      int              `json:"acknowledged_writes"`
	Lost       []string         `json:"lost_writes"`
	Values     map[string]Value `json:"values"`
	Problems   []string         `json:"problems,omitempty"`
	// ResolutionMS is how well the requests through the VIP tell an outage's length.
	ResolutionMS float64 `json:"resolution_ms"`
	// Noise is when the machine stood still, or hosts that were not hit were slow.
	Noise []SpanMS `json:"noise"`
	// SetAside means that the run was unclear and another one took its place.
	SetAside bool `json:"set_aside,omitempty"`

	observations *Observations
}

// Victim is a host and what was done to it.
type Victim struct {
	Host  string `json:"host"`
	Fault string `json:"fault"`
}

// Value is what one run measured for one check.
type Value struct {
	Measured float64 `json:"measured"` // the most that the fault's part can be
	Least    float64 `json:"least"`    // the least
	Seen     float64 `json:"seen"`     // without any difference made
	Noise    float64 `json:"noise_ms,omitempty"`
	Verdict  string  `json:"verdict"`
	Why      string  `json:"why,omitempty"`
	Met      bool    `json:"met"`
	Before   float64 `json:"before,omitempty"` // as in [Outcome]
	AtFault  float64 `json:"at_fault,omitempty"`
	Failed   int     `json:"failed,omitempty"`
	Sent     int     `json:"sent,omitempty"`
}

// StreamReport is a stream of one run: its requests of the whole run, its gap since
// the fault.
type StreamReport struct {
	Name     string   `json:"name"`
	Role     Role     `json:"role,omitempty"`
	PaceMS   float64  `json:"pace_ms"` // between two requests
	Sent     int      `json:"sent"`
	Failed   int      `json:"failed"` // of those sent
	GapMS    float64  `json:"gap_ms"`
	GapAtMS  float64  `json:"gap_at_ms"`
	P50MS    float64  `json:"latency_p50_ms"` // of successful requests
	P99MS    float64  `json:"latency_p99_ms"`
	Outages  []SpanMS `json:"outages"`           // nothing succeeded
	Excused  []SpanMS `json:"excused,omitempty"` // of these, since the machine stood still
	Failures []SpanMS `json:"failures"`          // some failed while others succeeded
	LastErr  string   `json:"last_error,omitempty"`
}

// Lane is a host that held something.
type Lane struct {
	Host  string   `json:"host"`
	Spans []SpanMS `json:"spans"`
}

// SpanMS is a stretch of a run.
type SpanMS struct {
	From float64 `json:"from_ms"`
	To   float64 `json:"to_ms"`
}

// millis rounds to hundredths of a millisecond: finer is noise.
func millis(d time.Duration) float64 {
	return math.Round(float64(d)/float64(10*time.Microsecond)) / 100
}
