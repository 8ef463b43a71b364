package drill

import (
	"cmp"
	"time"
)

// Settings are the timers of a cluster. Bounds whose maximum follows from a protocol
// are computed from them. A zero value stands for hactl's default.
type Settings struct {
	Advert    time.Duration // between two VRRP adverts; default 100ms
	Heartbeat time.Duration // between two of an etcd leader; default 200ms
	Election  time.Duration // etcd's election timeout; default 1s
}

func (s Settings) filled() Settings {
	return Settings{
		Advert:    cmp.Or(s.Advert, 100*ms),
		Heartbeat: cmp.Or(s.Heartbeat, 200*ms),
		Election:  cmp.Or(s.Election, s1),
	}
}

// arp is what the move of an address takes beside VRRP's timers: gratuitous ARP and
// one request of a new connection.
const arp = 100 * ms

// given is how long the VIP is gone when its owner gives it up: the others wait for
// their skew, which is less than an advert interval (RFC 9568, 6.1).
func (s Settings) given() time.Duration { return s.Advert + arp }

// taken is how long the VIP is gone when its owner falls silent: three advert
// intervals and a skew of less than one (RFC 9568, Master_Down_Interval).
func (s Settings) taken() time.Duration { return 4*s.Advert + arp }

// elected is how long etcd is without a leader when its leader falls silent: each
// follower waits one to two election timeouts, at random, then it asks for votes.
func (s Settings) elected() time.Duration { return 2*s.Election + s.Heartbeat }

// corruptCheck is how long members that start at the same time wait for each other's
// hash before they serve (etcd's InitialCorruptCheck): 5 s and two election timeouts,
// the request timeout of its server.
func (s Settings) corruptCheck() time.Duration { return 5*s1 + 2*s.Election }

// released is how long a lease of a control-plane process stays with a holder that is
// gone: LeaseDuration (15 s) from when another one last saw it renewed, which it looks
// at every 2 s to 4.4 s (RetryPeriod with its jitter of 1.2), and so once more. kubeadm
// leaves all three at their defaults.
const released = 15*s1 + 2*4400*ms
