package network

import (
	"slices"
	"strings"
	"time"
)

// Process is one process of the host. A number alone may be given to another one.
type Process struct {
	PID     int
	Started time.Duration // after the kernel; the clock may be set meanwhile
}

// Bounds of what is done to kube-proxy. The kubelet waits longer and longer before it
// starts a container that ends again and again.
const (
	confirmAfter = 300 * time.Millisecond // a table that is written anew by several transactions is not lost
	endAgain     = time.Minute            // between two ends of kube-proxy, at least
	firstTables  = time.Minute            // kube-proxy has its tables by then, if the apiserver answers
)

// proxyWatch knows which chains the kube-proxy that runs had with rules. kube-proxy
// writes its tables when a service changes, and only what belongs to that service: what
// another program removed stays away. So a chain that was full and is empty or gone
// means that kube-proxy has to be started anew. One that never was full does not: a
// kube-proxy that waits for the apiserver has no tables.
type proxyWatch struct {
	process Process
	full    map[string]bool
	since   time.Time // of the loss, as far as it was seen
	ended   time.Time // when kube-proxy was ended last
	waits   bool      // the tables were lost with the kube-proxy before, and this one has not written them yet
	guessed bool      // kube-proxy was ended once because it never had tables
}

// verdict is what to do about kube-proxy.
type verdict struct {
	what  string        // the chains that are lost; "" when none is
	end   bool          // it has to be started anew
	again time.Duration // when to look again; 0: after the next event
}

// missed is what is lost while no kube-proxy runs; "" when nothing is. The kubelet
// starts one again, the second time after ten seconds.
func (w *proxyWatch) missed() string {
	if w.since.IsZero() && !w.waits {
		return ""
	}
	return "kube-proxy does not run yet"
}

// judge is told of the process and of its chains. always means that this mode's
// tables can always be seen: iptables' may be in the kernel's older interface.
func (w *proxyWatch) judge(now time.Time, p Process, age time.Duration, chains map[string]bool, always bool) verdict {
	if w.process != p {
		w.waits = w.waits || !w.since.IsZero()
		w.process, w.full, w.since = p, map[string]bool{}, time.Time{}
	}
	var lost []string
	for name := range w.full {
		if !chains[name] {
			lost = append(lost, name)
		}
	}
	for name, full := range chains {
		if full {
			w.full[name] = true
		}
	}
	if len(w.full) == 0 {
		return w.never(now, age, always)
	}
	w.waits = false
	if len(lost) == 0 {
		w.since = time.Time{}
		return verdict{}
	}
	slices.Sort(lost)
	v := verdict{what: strings.Join(lost, ", ")}
	if w.since.IsZero() {
		w.since = now
	}
	switch {
	case now.Sub(w.since) < confirmAfter:
		v.again = confirmAfter
	case w.ended.IsZero() || now.Sub(w.ended) >= endAgain:
		v.end, w.ended = true, now
	}
	return v
}

// never is for a kube-proxy that was not seen with tables, such as one that lost them
// before this program was started. It is ended once: one that cannot write them would
// end for ever.
func (w *proxyWatch) never(now time.Time, age time.Duration, always bool) verdict {
	if !always || age < firstTables {
		if w.waits {
			return verdict{what: "kube-proxy has not written them yet"}
		}
		return verdict{}
	}
	v := verdict{what: "there are none"}
	if !w.guessed {
		v.end, w.guessed, w.ended = true, true, now
	}
	return v
}
