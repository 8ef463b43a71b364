package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"hactl/internal/traffic"
)

// probe runs in a pod until it is told to end.
func probe() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	others, err := net.Listen("tcp", ":"+strconv.Itoa(traffic.Port))
	if err != nil {
		return err
	}
	// The pod of before may have left its socket.
	if err := os.Remove(traffic.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	host, err := net.Listen("unix", traffic.Socket)
	if err != nil {
		return err
	}
	host.(*net.UnixListener).SetUnlinkOnClose(false) // the next pod may have made its own by then
	service := ""
	if h := os.Getenv("KUBERNETES_SERVICE_HOST"); h != "" {
		service = net.JoinHostPort(h, os.Getenv("KUBERNETES_SERVICE_PORT"))
	}
	fmt.Printf("the probe of %s answers\n", os.Getenv("NODE_NAME"))
	traffic.Probe{Node: os.Getenv("NODE_NAME"), Service: service}.Serve(ctx, others, host)
	return nil
}
