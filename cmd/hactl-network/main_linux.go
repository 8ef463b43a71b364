package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"

	"hactl/internal/network"
	"hactl/internal/traffic"
	"hactl/internal/wait"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "hactl-network:", err)
		os.Exit(1)
	}
}

func run() error {
	path := flag.String("config", network.ConfigFile, "what has to be in the kernel")
	inPod := flag.Bool("probe", false, "be the probe of this host, in a pod")
	ask := flag.Bool("ask", false, "put the question on stdin to the probe of this host")
	flag.Parse()
	if known, err := preflight(flag.Args()); known {
		return err
	}
	switch {
	case *inPod:
		return probe()
	case *ask:
		return traffic.Ask(wait.Slow(context.Background(), wait.FromEnvironment(os.Getenv)), traffic.Socket, os.Stdin, os.Stdout)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	kernel, events := network.Linux{}, make(chan struct{}, 1)
	if err := kernel.Watch(ctx, events); err != nil {
		return err
	}
	go func() {
		for range hup { // by systemctl reload
			network.Wake(events)
		}
	}()
	k := network.Keeper{
		Kernel: kernel, Processes: network.Proc{Root: "/proc"},
		Config: func() (network.Config, error) { return network.ReadConfig(*path) },
		Say:    func(format string, args ...any) { fmt.Printf(format+"\n", args...) },
		Report: func(state string) { notify("STATUS=" + state) },
		Alive:  func() { notify(daemon.SdNotifyWatchdog) },
	}
	k.Run(ctx, events, func() { notify(daemon.SdNotifyReady) })
	return nil
}

// notify tells systemd the state of the service; without systemd it does nothing.
func notify(state string) { _, _ = daemon.SdNotify(false, state) }
