package drill

import (
	"context"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/wait"
)

// Calibration: requests are sent for a moment, and how much of the hosts' processors
// they take beside the watches decides how often they are sent in each run.
const (
	trialInterval = 50 * time.Millisecond
	trialTime     = 2 * time.Second
	slowest       = 200 * time.Millisecond // a longer interval tells nothing about bounds of tenths of a second
	fairShare     = 0.2                    // of the processors of the busiest machine
)

// Calibration is what was found before the first fault.
type Calibration struct {
	LoadPercent float64 `json:"load_percent"` // of the busiest machine's processors, at the interval
	CalmMS      float64 `json:"calm_ms"`      // the largest gap of requests through the VIP meanwhile
	StallMS     float64 `json:"stall_ms"`     // the longest time for which this process stood still
}

// titleLoad names the command that reads how much processor time was used.
const titleLoad = "drill: read processor times"

// loadScript prints the boot's id, the number of processors, the ticks in a second, the
// seconds since the boot and the ticks that all processes together have used.
const loadScript = `read -r up _ </proc/uptime
echo "$(cat /proc/sys/kernel/random/boot_id) $(nproc) $(getconf CLK_TCK) $up $(cat /proc/[0-9]*/stat 2>/dev/null | sed 's/^.*) //' | awk '{n+=$12+$13} END {print n+0}')"`

// usage is processor time that was used up to a moment.
type usage struct {
	boot        string  // hosts that share a kernel share its processors
	cpus        float64 // of the machine
	at, seconds float64 // the moment, and the time used up to then
}

func parseUsage(text string) (usage, error) {
	var u usage
	var hz, ticks float64
	if n, err := fmt.Sscan(text, &u.boot, &u.cpus, &hz, &u.at, &ticks); n != 5 || hz <= 0 || u.cpus <= 0 {
		return u, fmt.Errorf("processor times %q: %w", text, err)
	}
	u.seconds = ticks / hz
	return u, nil
}

// used reads what every host has used, and under "" what this process has.
func (c *Cluster) used(ctx context.Context) (map[string]usage, error) {
	ctx, cancel := wait.Within(ctx, "what the hosts have used", 10*time.Second)
	defer cancel()
	out := map[string]usage{"": ownUsage()}
	var v survey
	for _, m := range c.Members {
		v.wg.Go(func() {
			u, err := remote.Ask(ctx, m.Host, sys.Question[usage]{Title: titleLoad, Script: loadScript, Parse: parseUsage}, 10*time.Second)
			v.note(wrap(m.Name, err))
			v.mu.Lock()
			defer v.mu.Unlock()
			out[m.Name] = u
		})
	}
	v.wg.Wait()
	return out, v.err()
}

var bootID = sync.OnceValue(func() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
})

// ownUsage is that of this process, which may run on the hosts' machine.
func ownUsage() usage {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return usage{boot: bootID(), at: float64(time.Now().UnixNano()) / 1e9, seconds: seconds(r.Utime) + seconds(r.Stime)}
}

// loads is the part of each machine's processors that was used between two moments, by
// boot id.
func loads(from, to map[string]usage) map[string]float64 {
	used, cpus := map[string]float64{}, map[string]float64{}
	for name, a := range from {
		b := to[name]
		if b.boot != a.boot || b.at <= a.at {
			continue
		}
		used[a.boot] += (b.seconds - a.seconds) / (b.at - a.at)
		cpus[a.boot] = max(cpus[a.boot], a.cpus)
	}
	out := map[string]float64{}
	for boot, n := range cpus {
		if n > 0 { // this machine's number is known only where hosts are on it
			out[boot] = used[boot] / n
		}
	}
	return out
}

// usual are checks by whose bounds the requests of the trial are sent.
func usual(operation bool) []Check {
	out := []Check{gap(vipReady, unnoticed), gap(vipRead, 2*unnoticed), gap(vipWrite, 2*unnoticed)}
	if !operation { // which may take minutes, and writes to etcd show no gap that clients see
		out = append(out, gap(etcdWrite, unnoticed))
	}
	return out
}

// calibrate sends the requests of a drill without a fault and measures what they cost.
func (d *Drill) calibrate(ctx context.Context) (*Calibration, error) {
	opt := d.Options
	opt.Interval = trialInterval
	r, err := newRunner(d.Cluster, &opt, Observer{}, Scenario{Name: "calibration", Checks: usual(d.operation)})
	if err != nil {
		return nil, err
	}
	r.operation = d.operation
	if r.dial, r.from, err = d.Cluster.route(ctx, nil); err != nil {
		return nil, err
	}
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	idle, busy, err := r.trial(ctx)
	after, cancel := lasting(ctx)
	defer cancel()
	if cleared := r.clear(after); err == nil {
		err = cleared
	}
	if err != nil {
		return nil, err
	}
	load := costs(idle, busy)
	d.unit = load * trialInterval.Seconds() / r.traffic.cost()
	interval := intervalFor(d.unit * r.traffic.cost())
	cal := &Calibration{LoadPercent: round1(100 * load * float64(trialInterval) / float64(interval))}
	o := r.observe()
	cal.CalmMS = millis(longestGap(o.track(vipReady).Samples, o.End-trialTime, o.End).Len())
	for _, s := range o.Stalls {
		cal.StallMS = max(cal.StallMS, millis(s.Len()))
	}
	return cal, nil
}

// intervalFor is the interval at which requests that cost so much, in processor time per
// interval relative to all that there is, take a fair share.
func intervalFor(seconds float64) time.Duration {
	const step = 5 * time.Millisecond
	wanted := time.Duration(math.Ceil(seconds*float64(time.Second)/fairShare/float64(step))) * step
	return min(max(wanted, DefaultInterval), slowest)
}

// trial measures the machines with the watches alone, and with requests.
func (r *runner) trial(ctx context.Context) (idle, busy map[string]float64, err error) {
	r.buildTraffic()
	finish := r.watched(ctx)
	defer finish()
	if idle, err = r.c.loadFor(ctx); err != nil {
		return nil, nil, err
	}
	r.traffic.start(ctx)
	pause(ctx, r.opt.warm)
	busy, err = r.c.loadFor(ctx)
	return idle, busy, err
}

// loadFor is the machines' load during the next moment.
func (c *Cluster) loadFor(ctx context.Context) (map[string]float64, error) {
	from, err := c.used(ctx)
	if err != nil {
		return nil, err
	}
	pause(ctx, trialTime)
	to, err := c.used(ctx)
	return loads(from, to), err
}

// costs is the part of its processors that the requests take on the machine to which
// they cost most.
func costs(idle, busy map[string]float64) float64 {
	most := 0.0
	for boot, with := range busy {
		most = max(most, with-idle[boot])
	}
	return most
}
