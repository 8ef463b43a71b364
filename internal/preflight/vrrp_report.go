package preflight

import (
	"net/netip"
	"strconv"
	"strings"

	"hactl/internal/remote"
)

const maxHeard = 1000 // adverts and probes that one host may report

// heard is what a host saw of VRRP on the interface of the VIP.
type heard struct {
	Heard       bool   // it was listened, and probes were sent
	Why         string // why not
	From, Until int64  // when, in ns of the host's clock, at the least
	Adverts     []vrrpAdvert
	Wire        []netip.Addr          // whose probes came to the interface
	LetIn       []netip.Addr          // whose probes got past the host's firewall
	Unsent      map[netip.Addr]string // to whom nothing could be sent, and why
}

// vrrpAdvert is an advert seen on the wire.
type vrrpAdvert struct {
	From    netip.Addr
	Version int
	VRID    int
	For     []netip.Addr // the addresses that it claims, the first twenty
}

// line reads a line of the probe that is about VRRP.
func (v *heard) line(key, rest string) (err error) {
	switch key {
	case "vrrp":
		how, why, _ := strings.Cut(rest, " ")
		if v.Heard = how == "heard" && v.Why == ""; how == "none" {
			v.Heard, v.Why = false, word(why)
		}
	case "vrrp-from":
		v.From, err = strconv.ParseInt(rest, 10, 63)
	case "vrrp-until":
		v.Until, err = strconv.ParseInt(rest, 10, 63)
	case "vrrp-advert":
		err = v.advert(rest)
	case "vrrp-wire":
		v.Wire, err = oneMore(v.Wire, rest)
	case "vrrp-probe":
		v.LetIn, err = oneMore(v.LetIn, rest)
	case "vrrp-unsent":
		to, why, _ := strings.Cut(rest, " ")
		var a netip.Addr
		if a, err = address(to); err == nil && len(v.Unsent) < maxHeard {
			v.Unsent[a] = word(why)
		}
	}
	return err
}

// advert reads "192.0.2.9 3 51 192.0.2.10...": source, version, virtual router
// id, addresses.
func (v *heard) advert(s string) error {
	w := strings.Fields(s)
	if len(w) < 3 || len(v.Adverts) >= maxHeard {
		return strconv.ErrSyntax
	}
	from, err := address(w[0])
	if err != nil {
		return err
	}
	version, err := strconv.ParseUint(w[1], 10, 4)
	if err != nil {
		return err
	}
	id, err := strconv.ParseUint(w[2], 10, 8)
	if err != nil {
		return err
	}
	a := vrrpAdvert{From: from, Version: int(version), VRID: int(id)}
	for _, s := range w[3:] {
		if a.For, err = oneMore(a.For, s); err != nil {
			return err
		}
	}
	v.Adverts = append(v.Adverts, a)
	return nil
}

// address reads an address; a zone would be the host's own affair.
func address(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	return a.WithZone(""), err
}

func oneMore(list []netip.Addr, s string) ([]netip.Addr, error) {
	a, err := address(s)
	if err == nil && len(list) < maxHeard {
		list = append(list, a)
	}
	return list, err
}

// word is a short text of a host, fit to be shown; never empty.
func word(s string) string {
	if s = strings.TrimSpace(remote.Clean(s)); s == "" {
		return "it does not say why"
	}
	return s[:min(len(s), maxWord)]
}

// why says why it was not listened.
func (v *heard) why() string {
	if v.Why == "" {
		return "its interface or address for VRRP is not known"
	}
	return v.Why
}
