// Package wait bounds every wait of a run. Each bound is written for hosts of usual
// speed; a run whose hosts are slow has a factor, which stretches all of them alike.
//
// The factor travels with the context, so that no call passes it on. Scripts on hosts
// read it from their environment: [Times] is how they multiply.
package wait

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// The factor of a run: how many times as long as usual its bounds are.
const (
	Usual = 1
	Most  = 20
)

// Env is the environment variable of scripts on hosts that holds the factor. It is not
// set when the factor is 1.
const Env = "HACTL_SLOW_HOSTS"

// Times is an arithmetic expression of the shell: n times the factor. It is for the
// bounds of loops in scripts that run on hosts.
func Times(n int) string { return fmt.Sprintf("$((%d*"+Shell+"))", n) }

// Shell is the factor in a script, for constants: "$((60*" + wait.Shell + "))".
const Shell = "${" + Env + ":-1}"

// FromEnvironment is the factor that a program on a host was started with, 1 when there is
// none that makes sense.
func FromEnvironment(getenv func(string) string) int {
	n, _ := strconv.Atoi(getenv(Env))
	return min(max(n, Usual), Most)
}

type factorKey struct{}

// Slow returns ctx with a factor for every bound below it, 1 to 20. A smaller one counts
// as 1.
func Slow(ctx context.Context, factor int) context.Context {
	return context.WithValue(ctx, factorKey{}, max(factor, Usual))
}

// Factor is the factor of ctx, 1 when none was set.
func Factor(ctx context.Context) int {
	if n, ok := ctx.Value(factorKey{}).(int); ok {
		return n
	}
	return Usual
}

// Bound is how long d is for the hosts of this run.
func Bound(ctx context.Context, d time.Duration) time.Duration {
	return d * time.Duration(Factor(ctx))
}

type limitKey struct{}

// limit is a wait with a name.
type limit struct {
	what  string
	bound time.Duration
}

// Within returns a context whose time ends after d, stretched by the factor. What names
// what is waited for: "the kubelet", "an answer of etcd".
func Within(ctx context.Context, what string, d time.Duration) (context.Context, context.CancelFunc) {
	return Exactly(ctx, what, Bound(ctx, d))
}

// Exactly is [Within] for a bound that is not to be stretched: a person gave it, or it is
// stretched already.
func Exactly(ctx context.Context, what string, bound time.Duration) (context.Context, context.CancelFunc) {
	l := limit{what, bound}
	ctx = context.WithValue(ctx, limitKey{}, l)
	return context.WithTimeoutCause(ctx, l.bound, &OverError{What: l.what, Bound: l.bound, Err: context.DeadlineExceeded})
}

// OverError says that a wait has ended without what it waited for.
type OverError struct {
	What  string
	Bound time.Duration // stretched
	Err   error         // what was seen last
	Text  string        // in place of "wait for What (Bound)"
}

// Over returns the error of a wait that [Within] bounded. Seen is what was seen last.
func Over(within context.Context, seen error) error {
	l, ok := within.Value(limitKey{}).(limit)
	if !ok {
		return seen
	}
	return &OverError{What: l.what, Bound: l.bound, Err: seen}
}

// Error names the wait and its bound.
func (e *OverError) Error() string {
	if e.Text != "" {
		return fmt.Sprintf("%s: %v", e.Text, e.Err)
	}
	return fmt.Sprintf("wait for %s (%s): %v", e.What, e.Bound, e.Err)
}

// Unwrap returns what was seen last.
func (e *OverError) Unwrap() error { return e.Err }

// Advice is what a person may do about a wait that was too short.
const Advice = "are the hosts slow? slowHosts in the inventory, or " + Env + ", makes every wait that many times as long (1 to 20)"

// RanOut reports whether err is of a wait whose bound has passed.
func RanOut(err error) bool { return errors.As(err, new(*OverError)) }

// said is how the scripts on hosts end whose wait was over: "etcd did not start within 30 s".
var said = regexp.MustCompile(`(?m) within \d+ s(: .*)?$`)

// Said reports whether a script that ended with this text waited for too long.
func Said(stderr string) bool { return said.MatchString(stderr) }
