package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"hactl/internal/vrrp"
)

// preflight is what a preflight asks of this program on a host: "vrrp INTERFACE OWN
// LEAST MOST PEERS" prints what comes of VRRP, "knock ADDRESS" makes the kernel ask for
// the hardware address. known is false for any other arguments.
func preflight(args []string) (known bool, err error) {
	switch {
	case len(args) == 6 && args[0] == "vrrp":
		q, err := question(args[1:])
		if err == nil {
			err = vrrp.Listen(q, os.Stdout)
		}
		if err != nil {
			fmt.Println("vrrp none", err)
		}
		return true, nil
	case len(args) == 2 && args[0] == "knock":
		knock(args[1])
		return true, nil
	}
	return false, nil
}

func question(args []string) (q vrrp.Question, err error) {
	var own, least, most error
	q.Interface = args[0]
	q.Own, own = netip.ParseAddr(args[1])
	q.Least, least = time.ParseDuration(args[2])
	q.Most, most = time.ParseDuration(args[3])
	err = errors.Join(own, least, most)
	for p := range strings.FieldsSeq(args[4]) {
		peer, bad := netip.ParseAddr(p)
		q.Peers, err = append(q.Peers, peer), errors.Join(err, bad)
	}
	return q, err
}

// knock tries to connect for a second. What comes of it does not matter: the kernel's
// table of neighbours then says whether a machine has the address.
func knock(address string) {
	const discard = "9"
	if c, err := net.DialTimeout("tcp", net.JoinHostPort(address, discard), time.Second); err == nil {
		_ = c.Close()
	}
}
