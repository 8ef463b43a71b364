package preflight

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"hactl/internal/others"
	"hactl/internal/remote"
	"hactl/internal/sys"
)

//go:embed probe.sh
var probeScript string

// Bounds of what a host may answer to the probe.
const (
	probeTimeout = 10 * time.Second
	maxProbe     = 256 << 10
	maxWord      = 128
	listenFor    = "1.1s" // adverts come every second or more often with the settings that most people keep
	listenMost   = "3s"   // for masters that do not hear one another: they may have begun seconds apart
)

// probe is what the second look at a host found.
type probe struct {
	Writes   []time.Duration // latencies of single synchronous writes, sorted; nil when not measured
	Versions map[string]version
	VRRP     heard
	AskedVIP bool   // it was asked who answers for the VIP
	Answers  string // hardware address that answered, "" when none did
	Clock    clock
	Others   *others.Found // nil when it was not asked
	Forward  []string      // chains that drop what is forwarded
	// LacksHelper: nothing was looked at yet, because hactl-network has to be sent first.
	LacksHelper bool
}

// clock is a host's clock against the operator's.
type clock struct{ Offset, Error time.Duration }

// version is the numbers of a version.
type version [3]int

// String is the usual spelling.
func (v version) String() string { return fmt.Sprintf("v%d.%d.%d", v[0], v[1], v[2]) }

// minor is the major and minor number as one that can be compared.
func (v version) minor() int { return v[0]*1000 + v[1] }

var versionForm = regexp.MustCompile(`\bv?(\d{1,4})\.(\d{1,4})\.(\d{1,4})`)

func parseVersion(s string) (version, bool) {
	m := versionForm.FindStringSubmatch(s)
	if m == nil {
		return version{}, false
	}
	var v version
	for i := range v {
		v[i], _ = strconv.Atoi(m[i+1]) // at most four digits
	}
	return v, true
}

// takeProbe runs the probe on a host.
func takeProbe(ctx context.Context, h remote.Host, prelude string) (*probe, error) {
	sent := time.Now()
	return remote.Ask(ctx, h, sys.Question[*probe]{
		Title: "measure the host", Script: prelude + probeScript,
		Parse: func(answer string) (*probe, error) { return parseProbe(answer, sent, time.Now()) },
	}, probeTimeout)
}

var errEarly = errors.New("the host's answer ends early")

// parseProbe reads the lines that the probe prints; the last must be "end".
func parseProbe(out string, sent, received time.Time) (*probe, error) {
	if len(out) > maxProbe {
		return nil, fmt.Errorf("the host's answer is larger than %d bytes", maxProbe)
	}
	p := &probe{Versions: map[string]version{}, VRRP: heard{Unsent: map[netip.Addr]string{}}}
	var before, after int64
	ended, foreign := false, ""
	for line := range strings.Lines(out) {
		key, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if ended && key != "" {
			return nil, errors.New("the host's answer goes on after its end")
		}
		var err error
		switch key {
		case "clock":
			before, err = strconv.ParseInt(rest, 10, 63)
		case "clock-after":
			after, err = strconv.ParseInt(rest, 10, 63)
		case "sync":
			err = p.sync(rest)
		case "version":
			name, text, _ := strings.Cut(rest, " ")
			if v, ok := parseVersion(text); ok && len(name) < maxWord {
				p.Versions[remote.Clean(name)] = v
			}
		case "helper":
			p.LacksHelper = rest == "missing"
		case "vip":
			p.AskedVIP = rest == "asked"
		case "vip-neighbour":
			p.neighbour(rest)
		case "other":
			foreign += rest + "\n"
		case "forward":
			p.Forward = append(p.Forward, remote.Clean(rest))
		case "end":
			ended = true
		default:
			err = p.VRRP.line(key, rest)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %.80q makes no sense", key, rest)
		}
	}
	if !ended || before <= 0 || after < before {
		return nil, errEarly
	}
	if foreign != "" {
		var err error
		if p.Others, err = others.Parse(foreign); err != nil {
			return nil, err
		}
	}
	slices.Sort(p.Writes)
	p.Clock = clockOf(before, after, sent, received)
	return p, nil
}

// clockOf estimates the offset as NTP does; the time that the script took does
// not count as time on the wire.
func clockOf(before, after int64, sent, received time.Time) clock {
	wire := received.Sub(sent) - time.Duration(after-before)
	if wire < 0 {
		wire = received.Sub(sent)
	}
	return clock{Offset: (time.Unix(0, before).Sub(sent) + time.Unix(0, after).Sub(received)) / 2, Error: wire / 2}
}

func (p *probe) sync(s string) error {
	if s == "none" {
		return nil
	}
	sec, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return err
	}
	if !(sec >= 0 && sec < 3600) || len(p.Writes) >= 1000 {
		return strconv.ErrRange
	}
	p.Writes = append(p.Writes, time.Duration(sec*float64(time.Second)))
	return nil
}

// neighbour reads "192.0.2.10 dev eth0 lladdr 02:00:00:00:00:01 REACHABLE": only
// with a hardware address did a machine answer.
func (p *probe) neighbour(s string) {
	w := strings.Fields(remote.Clean(s))
	for i := range len(w) - 1 {
		if w[i] == "lladdr" && len(w[i+1]) < maxWord && w[len(w)-1] != "FAILED" {
			p.Answers = w[i+1]
		}
	}
}

// p99 is the latency that 99 of 100 writes stay below.
func (p *probe) p99() time.Duration {
	n := len(p.Writes)
	if n == 0 {
		return 0
	}
	return p.Writes[(n*99+99)/100-1]
}
