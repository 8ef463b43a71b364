// Command hactl-prober runs on every master as a systemd unit and tells
// keepalived whether this host may hold the virtual IP. See internal/prober.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"hactl/internal/prober"
)

type list []string

func (l *list) String() string     { return fmt.Sprint(*l) }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "hactl-prober:", err)
		os.Exit(1)
	}
}

func run() error {
	cfg := prober.Config{Interval: 100 * time.Millisecond, Slow: time.Second, Rise: 5}
	var peers, members list
	ca := flag.String("ca", "/etc/kubernetes/pki/ca.crt", "CA certificate of the apiservers")
	flag.StringVar(&cfg.Local, "local", "https://127.0.0.1:6443", "base URL of this host's apiserver")
	flag.StringVar(&cfg.File, "file", "/run/hactl/apiserver", "file that keepalived tracks")
	flag.StringVar(&cfg.Minority, "minority", "", "file that says whether fewer than half of the apiservers answer")
	self := flag.String("self", "", "this host's address in the certificates of its peers' apiservers: a host that they no longer name is no master any more")
	vip := flag.String("vip", "", "the virtual IP, to tell whether this host holds it")
	iface := flag.String("interface", "", "interface that carries the virtual IP: open connections then outlive its move from an apiserver that stops gracefully")
	flag.DurationVar(&cfg.Interval, "interval", cfg.Interval, "time between probes")
	flag.DurationVar(&cfg.Slow, "slow", cfg.Slow, "silence that counts as hung")
	flag.Var(&peers, "peer", "base URL of a peer's apiserver; repeat")
	flag.Var(&members, "etcd", "HOST:PORT of a peer's etcd member, in the order of the peers")
	flag.Parse()
	cfg.Peers, cfg.Etcd, cfg.Dial, cfg.Reset = peers, members, (&net.Dialer{}).DialContext, prober.ResetTCP
	if len(members) > 0 && len(members) != len(peers) {
		return fmt.Errorf("%d -etcd for %d -peer", len(members), len(peers))
	}

	if *self != "" {
		addr, err := netip.ParseAddr(*self)
		if err != nil {
			return fmt.Errorf("-self: %w", err)
		}
		cfg.Self = addr
	}
	if *vip != "" {
		addr, err := netip.ParseAddr(*vip)
		if err != nil {
			return fmt.Errorf("-vip: %w", err)
		}
		cfg.Owns = func() bool { return prober.Holds(addr) }
		if *iface != "" && len(peers) > 0 {
			local, err := url.Parse(cfg.Local)
			if err != nil {
				return fmt.Errorf("-local: %w", err)
			}
			port, err := strconv.ParseUint(local.Port(), 10, 16)
			if err != nil {
				return fmt.Errorf("-local: the port of %s: %w", cfg.Local, err)
			}
			cfg.Handover = &prober.Host{VIP: addr, Port: uint16(port), Interface: *iface}
		}
	}
	pem, err := os.ReadFile(*ca)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no certificate", *ca)
	}
	cfg.ProcessorTime = prober.ProcessorTime("kube-apiserver")
	cfg.Client, cfg.Lost = client(pool, cfg.Slow, cfg.Local)

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	notify(daemon.SdNotifyReady)
	last := time.Now()
	return prober.New(cfg).Run(ctx, func() {
		if time.Since(last) > time.Second {
			last = time.Now()
			notify(daemon.SdNotifyWatchdog)
		}
	})
}

// client keeps connections open, so that a probe costs one small record each
// way, and bounds a dial by the same silence that counts as hung. lost tells of
// ended connections to the local apiserver.
func client(pool *x509.CertPool, slow time.Duration, local string) (c *http.Client, lost <-chan struct{}) {
	dial := (&net.Dialer{Timeout: slow, KeepAlive: time.Second}).DialContext
	dialLocal, lost := prober.WatchEnds(dial)
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if "https://"+addr == local {
					return dialLocal(ctx, network, addr)
				}
				return dial(ctx, network, addr)
			},
			TLSClientConfig:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: slow,
			MaxIdleConnsPerHost: 2, // a peer is asked two questions at a time
			IdleConnTimeout:     10 * time.Second,
		},
	}, lost
}

// notify tells systemd the state of the service; without systemd it does nothing.
// A message that cannot be sent is lost: the watchdog then restarts the service.
func notify(state string) { _, _ = daemon.SdNotify(false, state) }
