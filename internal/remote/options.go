package remote

import (
	"context"
	"net"
	"sync"
	"time"

	"hactl/internal/wait"
)

// Options is what reaching hosts needs beside the inventory. The zero value
// works; nothing in it is kept beyond the connections made with it.
type Options struct {
	// Environment is the operator's; nil means that of this process.
	Environment *Environment
	// SudoPassword asks a person for the sudo password of a host. It is called at
	// most once a connection, only when sudo wants a password and the inventory
	// names no environment variable that holds it. The calls come one at a time.
	SudoPassword func(host string) (string, error)
	// Passphrase asks a person for the passphrase of a private key file. The
	// calls come one at a time, once for each file.
	Passphrase func(file string) ([]byte, error)
	// Dial replaces the TCP dial to hosts without a bastion and to bastions.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Began gets the title and the whole script of every command that begins,
	// without control characters. It may be called from several goroutines.
	Began func(host, title, script string)
	// Log gets every line of a command's output and what happens to connections,
	// without control characters. It may be called from several goroutines.
	Log func(host, title, line string)

	keepAlive time.Duration // 0 means keepAliveEvery
	backoff   time.Duration // 0 means dialBackoff
	lockPath  string        // "" means lockFile
	hostPath  string        // PATH of commands on hosts; "" means hostPath
	expire    expiry        // nil means context.WithTimeout
	slow      int           // factor of bounds that no context has; 0 means that of the context of withDefaults
	prompted  bool          // SudoPassword comes one at a time already
	keys      *keyring
	bastions  *bastions
}

// expiry bounds a command in time. Tests let a command expire at a moment that
// they choose.
type expiry func(ctx context.Context, after time.Duration) (context.Context, context.CancelFunc)

const (
	keepAliveEvery  = 5 * time.Second
	keepAliveMissed = 3 // then the connection is given up
	dialTries       = 3
	dialBackoff     = 500 * time.Millisecond
	defaultConnect  = 10 * time.Second
	maxSessions     = 8 // sshd's MaxSessions is 10 by default
	connectLimit    = 32
)

// withDefaults fills in what was left out. Connections made with the same
// returned value share decrypted keys and bastion connections.
func (o Options) withDefaults(ctx context.Context) Options {
	if o.Environment == nil {
		env := processEnvironment()
		o.Environment = &env
	}
	o.hostPath = orDefault(o.hostPath, hostPath)
	if o.expire == nil {
		o.expire = context.WithTimeout
	}
	if o.slow == 0 {
		o.slow = wait.Factor(ctx)
	}
	if o.keepAlive == 0 {
		o.keepAlive = keepAliveEvery
	}
	if o.backoff == 0 {
		o.backoff = dialBackoff
	}
	if o.lockPath == "" {
		o.lockPath = lockFile
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext
	}
	if o.keys == nil {
		o.keys = newKeyring(o.Passphrase)
	}
	if ask := o.SudoPassword; ask != nil && !o.prompted {
		var one sync.Mutex
		o.prompted = true
		o.SudoPassword = func(host string) (string, error) {
			one.Lock()
			defer one.Unlock()
			return ask(host)
		}
	}
	if o.bastions == nil {
		o.bastions = newBastions()
	}
	return o
}

// silence is the pause between two questions for a sign of life; three without an answer
// end the connection.
func (o Options) silence() time.Duration { return o.keepAlive * time.Duration(max(o.slow, wait.Usual)) }

func (o Options) began(host, title, script string) {
	if o.Began != nil {
		o.Began(host, title, Clean(script))
	}
}

func (o Options) log(host, title, line string) {
	if o.Log != nil {
		o.Log(host, title, Clean(line))
	}
}
