package drill

import (
	"slices"
	"time"
)

// Observations are everything that was seen of one run. The judge reads nothing
// else. Times count from the start of the run; 0 means that it never happened.
type Observations struct {
	Fault     time.Duration // just before the fault
	Proved    time.Duration // the fault was seen to be in effect
	UndoBegan time.Duration
	Undone    time.Duration
	Healed    time.Duration // everything was healthy again
	End       time.Duration
	Tracks    []Track
	Stalls    []Span                   // this process stood still
	Owners    map[string][]Span        // of the VIP, by host
	Leaders   map[string][]Span        // of etcd, by host
	Found     map[string]time.Duration // by check: when what it waits for was there
	Victims   []string                 // hosts that the fault hit
	EtcdHit   bool                     // a victim's member of etcd is not there meanwhile
	BackOff   time.Duration            // what the kubelet waits before it restarts what was killed before
	Deadline  time.Duration            // of a request
	Touched   map[string][]Span        // by host: when an operation was at work on it; nil in a drill
}

// Role is what a track is for.
type Role string

// The roles of tracks.
const (
	Judged  Role = ""        // what clients see
	Control Role = "control" // the same request to one apiserver, past the VIP
	Echo    Role = "echo"    // an answer of a host's sshd, for which no program starts
)

// Track is the requests of one stream, in the order of their end.
type Track struct {
	Name    string
	Role    Role
	Host    string // that answers; "" for what has no fixed host
	Pace    time.Duration
	Samples []Sample
}

// track returns the track of that name; one without requests when there is none.
func (o *Observations) track(name string) *Track {
	for i := range o.Tracks {
		if o.Tracks[i].Name == name {
			return &o.Tracks[i]
		}
	}
	return &Track{Name: name}
}

func (o *Observations) hit(host string) bool { return slices.Contains(o.Victims, host) }

// spared are the spans of the hosts that were not hit.
func (o *Observations) spared(spans map[string][]Span) map[string][]Span {
	out := map[string][]Span{}
	for host, s := range spans {
		if !o.hit(host) {
			out[host] = s
		}
	}
	return out
}

// usual is how long an answer of the track takes on this machine: the median of the
// successes before the fault, or of all when there is none before.
func (o *Observations) usual(t *Track, p float64) time.Duration {
	var before, all []float64
	for _, s := range t.Samples {
		if !s.OK {
			continue
		}
		all = append(all, float64(s.End-s.Start))
		if s.End <= o.Fault {
			before = append(before, float64(s.End-s.Start))
		}
	}
	if len(before) == 0 {
		before = all
	}
	return time.Duration(percentile(before, p))
}

// resolution is how much longer than an outage the gap can be that the track shows of
// it: the requests before its beginning and after its end may be a pace away, and the
// latter takes what nine in ten take.
func (o *Observations) resolution(t *Track) time.Duration { return 2*t.Pace + o.usual(t, 90) }
