package preflight

import (
	"context"
	"debug/elf"
	"errors"
	"time"

	"hactl/internal/remote"
	"hactl/internal/wait"
)

// Helper is hactl-network, which asks on masters what shell cannot: who sends VRRP
// adverts, whether IP protocol 112 passes, and who answers for the VIP.
type Helper struct {
	Local     string // path on this machine; "" when it is not there
	SHA256    string // lower-case hex of its content
	Installed string // where it lies on hosts of a running cluster
	Absent    error  // why Local is ""
}

// helperSends bounds how long a host waits for the program: what else is measured there
// must come within [Timeout].
const helperSends = 8 * time.Second

// helperTries is how often the program is sent at most. Each probe removes it, and
// another preflight of the same hosts may do so between sending and use.
const helperTries = 2

// sent is where the program lies on a host while it is asked.
func (h Helper) sent() string {
	if h.SHA256 == "" {
		return ""
	}
	return "/run/hactl-network-" + h.SHA256[:min(12, len(h.SHA256))]
}

// vars are the variables of the probe for it.
func (h Helper) vars() []string {
	machine, why := h.machine(), ""
	switch {
	case h.Local == "" && h.Absent != nil:
		why = h.Absent.Error()
	case h.Local == "":
		why = "hactl-network is not on this machine"
	case machine == "":
		why = h.Local + " is not a program for Linux hosts"
	}
	return []string{"HELPER", h.Installed, "SENT", h.sent(), "MACHINE", machine, "WITHOUT", why}
}

// machine is what uname -m says on hosts that run it, "" for none.
func (h Helper) machine() string {
	if h.Local == "" {
		return ""
	}
	f, err := elf.Open(h.Local)
	if err != nil {
		return ""
	}
	defer f.Close()
	return map[elf.Machine]string{elf.EM_X86_64: "x86_64", elf.EM_AARCH64: "aarch64"}[f.Machine]
}

// probe takes the probe of a host, and sends the program where it is missing.
func (h Helper) probe(ctx context.Context, host remote.Host, prelude string) (*probe, error) {
	for tries := 0; ; tries++ {
		p, err := takeProbe(ctx, host, prelude)
		if err != nil || !p.LacksHelper {
			return p, err
		}
		err = errGone
		if tries < helperTries {
			err = h.send(ctx, host)
		}
		if err != nil {
			prelude += "WITHOUT=" + remote.Quote(word("hactl-network could not be sent: "+err.Error())) + "\n"
		}
	}
}

var errGone = errors.New("another process removes it again")

func (h Helper) send(ctx context.Context, host remote.Host) error {
	ctx, cancel := wait.Within(ctx, "hactl-network to be sent", helperSends)
	defer cancel()
	_, err := host.Send(ctx, remote.Upload{Local: h.Local, Path: h.sent(), SHA256: h.SHA256, Mode: 0o700})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
