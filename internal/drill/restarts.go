package drill

import (
	"time"
)

// restarts remembers when the kubelet of a host had to start what again. It waits
// before it does so another time, which is no fault of the cluster's.
type restarts map[string][]time.Time

// The kubelet's back-off of a static pod that ended: none at first, then 10 s, doubled
// each time up to five minutes; forgotten after ten minutes without an end.
const (
	firstBackOff  = 10 * s1
	longBackOff   = 5 * time.Minute
	backOffForget = 10 * time.Minute
)

// backOff is the longest wait that the kubelets may put in front of the injections' restarts.
func (r restarts) backOff(injections []*injection, now time.Time) time.Duration {
	var worst time.Duration
	for _, k := range injections {
		ended := r[k.restarts()]
		n := 0
		for i := len(ended) - 1; i >= 0 && now.Sub(ended[i]) < backOffForget; i-- {
			n++
			now = ended[i]
		}
		if n > 0 {
			worst = max(worst, min(firstBackOff<<(n-1), longBackOff))
		}
	}
	return worst
}

func (r restarts) note(injections []*injection, now time.Time) {
	for _, k := range injections {
		if name := k.restarts(); name != "" {
			r[name] = append(r[name], now)
		}
	}
}

// restarts names what the kubelet starts again on the host, or is "".
func (k *injection) restarts() string {
	if k.Fault.Restarts == "" {
		return ""
	}
	return k.Member.Name + "/" + k.Fault.Restarts
}
