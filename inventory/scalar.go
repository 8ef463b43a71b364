package inventory

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"time"

	"gopkg.in/yaml.v3"
)

// setScalar decodes a scalar whose YAML type fits v. Otherwise it says what is
// wrong with it and what to write instead.
func setScalar(n *yaml.Node, v reflect.Value, f field) (what, instead string) {
	switch v.Type() {
	case addrType:
		return setAddr(n.Value, v)
	case prefixType:
		return setPrefix(n.Value, v)
	case durationType:
		return setDuration(n.Value, v, f)
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(n.Value[0] == 't' || n.Value[0] == 'T')
		return "", ""
	case reflect.String:
		return setString(n.Value, v, f)
	default:
		return setInt(n.Value, v, f)
	}
}

func setString(s string, v reflect.Value, f field) (what, instead string) {
	if len(f.enum) > 0 && !slices.Contains(f.enum, s) {
		instead = "write " + expects(v.Type(), f)
		if c := closestOf(s, f.enum); c != "" {
			instead += "; did you mean " + c + "?"
		}
		return "is " + quote(s), instead
	}
	v.SetString(s)
	return checkFormat(f.format, s)
}

// decimal keeps out 010, which YAML 1.1 reads as eight, and 0x1f, 1_000, 0b1.
var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

func setInt(s string, v reflect.Value, f field) (what, instead string) {
	instead = "write " + expects(v.Type(), f)
	if !decimal.MatchString(s) {
		return "is " + quote(s), instead + ", in plain decimal digits"
	}
	i, err := strconv.ParseInt(s, 10, 64)
	lo, _ := strconv.ParseInt(f.min, 10, 64)
	hi, _ := strconv.ParseInt(f.max, 10, 64)
	if err != nil || f.min != "" && i < lo || f.max != "" && i > hi || v.OverflowInt(i) {
		return "is " + quote(s), instead
	}
	v.SetInt(i)
	return "", ""
}

func setDuration(s string, v reflect.Value, f field) (what, instead string) {
	instead = "write " + expects(v.Type(), f)
	d, err := time.ParseDuration(s)
	if err != nil {
		return quote(s) + " is not a duration", instead
	}
	lo, _ := time.ParseDuration(f.min)
	hi, _ := time.ParseDuration(f.max)
	if d <= 0 || d < lo || f.max != "" && d > hi {
		return "is " + quote(s), instead
	}
	v.SetInt(int64(d))
	return "", ""
}

func setAddr(s string, v reflect.Value) (what, instead string) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return quote(s) + " is not an IP address", "write " + expects(addrType, field{})
	}
	if what, instead := usableAddr(a); what != "" {
		return what, instead
	}
	v.Set(reflect.ValueOf(a))
	return "", ""
}

// usableAddr refuses addresses that no host can be reached at from another.
func usableAddr(a netip.Addr) (what, instead string) {
	const instruct = "write the address that other hosts reach it by"
	switch {
	case a.Zone() != "":
		return fmt.Sprintf("%s has a zone", quote(a.String())), "write a global or private address without %"
	case a.Is4In6():
		return fmt.Sprintf("%s is an IPv4 address in IPv6 form", a), "write " + a.Unmap().String()
	case a.IsUnspecified():
		return fmt.Sprintf("%s stands for no host", a), instruct
	case a.IsLoopback():
		return fmt.Sprintf("%s is a loopback address", a), instruct
	case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Sprintf("%s is a multicast or broadcast address", a), instruct
	case a.IsLinkLocalUnicast():
		return fmt.Sprintf("%s is a link-local address", a), instruct
	}
	return "", ""
}

func setPrefix(s string, v reflect.Value) (what, instead string) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return quote(s) + " is not a network", "write " + expects(prefixType, field{})
	}
	if p.Addr().Is4In6() {
		return quote(s) + " is an IPv4 network in IPv6 form", "write " + expects(prefixType, field{})
	}
	if p != p.Masked() {
		return quote(s) + " has bits set behind the prefix length", "write " + p.Masked().String()
	}
	if a := p.Addr(); p.Bits() == 0 || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return quote(s) + " is not a network for hosts, pods or services", "write " + expects(prefixType, field{})
	}
	v.Set(reflect.ValueOf(p))
	return "", ""
}
