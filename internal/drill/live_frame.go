package drill

import (
	"strings"
	"time"
)

// Frame is the picture of a running run: a line of cells per stream.
type Frame struct {
	Scenario string
	Phase    string
	Elapsed  time.Duration
	Owner    []string // who holds the VIP now
	Leader   []string
	Mark     string // under which the fault (F) and the undo (U) stand
	Rows     []Row
}

// Row is a stream as a line of cells, oldest first: '#' all requests
// succeeded, '~' some did, '.' none did.
type Row struct {
	Name  string
	Cells string
	GapMS float64 // largest since the fault
}

// cells is how many of them a line has at most.
const cells = 60

// frame draws what is known by now.
func (r *runner) frame() Frame {
	now := time.Since(r.zero)
	r.mu.Lock()
	fault, undone := r.fault, r.undone
	if r.end > 0 { // nothing is sent any more
		now = r.end
	}
	r.mu.Unlock()
	f := Frame{Scenario: r.sc.Name, Phase: "warming up", Elapsed: now, Owner: r.owners.holders(), Leader: r.leaders.holders()}
	switch {
	case undone > 0:
		f.Phase = "recovering"
	case fault > 0:
		f.Phase = "broken"
	}
	cell := cellLength(now)
	f.Mark = markLine(cell, fault, undone)
	for _, s := range r.traffic.Streams {
		samples := s.Samples()
		row := Row{Name: s.Name, Cells: cellLine(samples, cell, now)}
		if fault > 0 {
			row.GapMS = millis(longestGap(samples, fault, now).Len())
		}
		f.Rows = append(f.Rows, row)
	}
	return f
}

// cellLength is how much time one cell stands for: 250 ms, doubled until a run
// of that length fits.
func cellLength(d time.Duration) time.Duration {
	cell := 250 * time.Millisecond
	for d/cell >= cells {
		cell *= 2
	}
	return cell
}

func cellLine(samples []Sample, cell, end time.Duration) string {
	n := int(end / cell)
	ok, bad := make([]int, n+1), make([]int, n+1)
	for _, s := range samples {
		i := min(int(s.End/cell), n)
		if s.OK {
			ok[i]++
		} else {
			bad[i]++
		}
	}
	var b strings.Builder
	for i := range n {
		switch {
		case ok[i] > 0 && bad[i] > 0:
			b.WriteByte('~')
		case ok[i] > 0:
			b.WriteByte('#')
		default:
			b.WriteByte('.')
		}
	}
	return b.String()
}

func markLine(cell time.Duration, fault, undone time.Duration) string {
	line := []byte(strings.Repeat(" ", cells+1))
	if fault > 0 {
		line[min(int(fault/cell), cells)] = 'F'
	}
	if undone > 0 {
		line[min(int(undone/cell), cells)] = 'U'
	}
	return strings.TrimRight(string(line), " ")
}
