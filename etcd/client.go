package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"hactl/internal/remote"
	"hactl/internal/wait"
)

// clientPort is the port in the names under which members are known to grpc;
// where a connection really goes is Member.Addr.
const clientPort = "2379"

// Member is one etcd to talk to.
type Member struct {
	Name string      // inventory name; the member's certificate must carry it
	Host remote.Host // the machine it runs on; connections start there
	Addr string      // seen from that machine; default 127.0.0.1:2379
}

// Cluster talks to the members of one etcd cluster, each through its own host:
// the connection runs inside ssh, so the operator's machine needs no way to
// port 2379. Methods may be called at the same time.
type Cluster struct {
	conns []*conn
	// How often to look while waiting, and to say what is waited for.
	poll, sayEvery time.Duration
	patience       time.Duration // of guards, for members that are on their way back
	slow           time.Duration // the factor of bounds that no context has

	tls    *tls.Config
	once   sync.Once // makes all
	all    *clientv3.Client
	allErr error
}

// conn is the connection to one member.
type conn struct {
	Member
	client *clientv3.Client

	mu   sync.Mutex
	dial error // of the last attempt; grpc hands errors on as text only
}

// Dial prepares a connection to every member; it does not wait for any of
// them. config must bring the etcd CA and a client certificate. The server of
// a member must show a certificate for that member's name.
func Dial(ctx context.Context, members []Member, config *tls.Config) (*Cluster, error) {
	if len(members) == 0 {
		return nil, errors.New("connect to etcd: no member given")
	}
	c := &Cluster{poll: 250 * time.Millisecond, sayEvery: 10 * time.Second, patience: 30 * time.Second, tls: config.Clone(), slow: time.Duration(wait.Factor(ctx))}
	c.tls.ServerName = "" // grpc fills in the endpoint's
	for _, m := range members {
		if m.Addr == "" {
			m.Addr = net.JoinHostPort("127.0.0.1", clientPort)
		}
		cn := &conn{Member: m}
		client, err := clientv3.New(c.config(1, cn))
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("connect to etcd on %s: %w", m.Name, err)
		}
		cn.client = client
		c.conns = append(c.conns, cn)
	}
	return c, nil
}

// config is for a client over these connections.
func (c *Cluster) config(retries uint, conns ...*conn) clientv3.Config {
	byAddr := map[string]*conn{}
	var endpoints []string
	for _, cn := range conns {
		addr := net.JoinHostPort(cn.Name, clientPort)
		byAddr[addr] = cn
		endpoints = append(endpoints, "https://"+addr)
	}
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		cn, ok := byAddr[addr]
		if !ok {
			return nil, fmt.Errorf("no member at %s", addr)
		}
		nc, err := cn.Host.Dial(ctx, "tcp", cn.Addr)
		cn.note(err)
		return nc, err
	}
	return clientv3.Config{
		Endpoints: endpoints, TLS: c.tls, Logger: zap.NewNop(), MaxUnaryRetries: retries,
		// A host that lost power says nothing; etcd allows a ping every 5 s.
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second * c.slow,
		DialOptions: []grpc.DialOption{
			grpc.WithContextDialer(dial), grpc.WithNoProxy(),
			// grpc backs off to two minutes by default; bring-up waits for this.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 250 * time.Millisecond},
				MinConnectTimeout: 10 * time.Second * c.slow,
			}),
		},
	}
}

func (cn *conn) note(err error) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	cn.dial = err
}

func (cn *conn) lastDial() error {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	return cn.dial
}

// Client is etcd's own client over all members: a request goes to one that is
// connected, reads and requests that never left are retried on another. It is
// closed with the cluster.
func (c *Cluster) Client() (*clientv3.Client, error) {
	c.once.Do(func() { c.all, c.allErr = clientv3.New(c.config(0, c.conns...)) })
	return c.all, c.allErr
}

// Close ends all connections.
func (c *Cluster) Close() {
	c.once.Do(func() { c.allErr = errors.New("etcd client is closed") })
	if c.all != nil {
		_ = c.all.Close()
	}
	for _, cn := range c.conns {
		_ = cn.client.Close()
	}
}

func (c *Cluster) conn(name string) *conn {
	for _, cn := range c.conns {
		if cn.Name == name {
			return cn
		}
	}
	return nil
}
