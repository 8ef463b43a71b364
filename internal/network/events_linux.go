package network

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Watch sends to events when the kernel's links, addresses, routes or tables have
// changed, until ctx ends. See [Wake].
func (Linux) Watch(ctx context.Context, events chan<- struct{}) error {
	for family, groups := range map[int][]uint32{
		unix.NETLINK_ROUTE:     {unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE},
		unix.NETLINK_NETFILTER: {unix.NFNLGRP_NFTABLES},
	} {
		c, err := listen(family, groups)
		if err != nil {
			return fmt.Errorf("listen to the kernel: %w", err)
		}
		context.AfterFunc(ctx, func() { _ = c.Close() })
		go forward(ctx, c, events)
	}
	return nil
}

func listen(family int, groups []uint32) (*netlink.Conn, error) {
	c, err := netlink.Dial(family, nil)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if err := c.JoinGroup(g); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// forward counts an error as an event: ENOBUFS says that there were more than the
// kernel kept.
func forward(ctx context.Context, c *netlink.Conn, events chan<- struct{}) {
	for ctx.Err() == nil {
		_, err := c.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			time.Sleep(time.Second)
		}
		Wake(events)
	}
}
