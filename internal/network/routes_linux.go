package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouteProtocol is the number by which the routes of hactl are known among others
// (internal/facts.PodRoutes).
const RouteProtocol = 104

// Linux is the kernel of this host.
type Linux struct{}

// Routes implements [Kernel].
func (Linux) Routes() ([]Route, error) {
	var out []Route
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		found, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: RouteProtocol}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return nil, err
		}
		for _, r := range found {
			if route, ok := ofNetlink(r); ok {
				out = append(out, route)
			}
		}
	}
	return out, nil
}

func ofNetlink(r netlink.Route) (Route, bool) {
	if r.Dst == nil {
		return Route{}, false
	}
	to, ok1 := netip.AddrFromSlice(r.Dst.IP)
	via, ok2 := netip.AddrFromSlice(r.Gw)
	bits, _ := r.Dst.Mask.Size()
	return Route{netip.PrefixFrom(to.Unmap(), bits), via.Unmap()}, ok1 && ok2
}

func (r Route) netlink() *netlink.Route {
	to := r.To.Addr()
	return &netlink.Route{
		Dst: &net.IPNet{IP: to.AsSlice(), Mask: net.CIDRMask(r.To.Bits(), to.BitLen())},
		Gw:  r.Via.AsSlice(), Protocol: RouteProtocol,
	}
}

// SetRoute implements [Kernel].
func (Linux) SetRoute(r Route) error {
	err := netlink.RouteReplace(r.netlink())
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return fmt.Errorf("no interface reaches %s: %w", r.Via, err)
	}
	return err
}

// RemoveRoute implements [Kernel].
func (Linux) RemoveRoute(r Route) error {
	if err := netlink.RouteDel(r.netlink()); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}
