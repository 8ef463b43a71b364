package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/wait"
)

// Titles name the commands of a drill in errors and logs.
const (
	titleIdentify = "drill: identify the target"
	titleArm      = "drill: arm the undo"
	titleFault    = "drill: fault"
	titleProof    = "drill: prove the fault"
	titleUndo     = "drill: undo"
	titleDisarm   = "drill: disarm"
	titleLook     = "drill: look"
	titleWatch    = "drill: watch the VIP"
)

// injection is one fault on one member, on its way through a run.
type injection struct {
	Hit
	run      string
	before   string
	armed    bool
	callOff  func() // of the power watch
	external bool   // power commands instead of reboot -f
	power    Power
}

func (k *injection) unit() string { return "hactl-undo-" + k.run }

func (k *injection) script(ctx context.Context, title, body string, timeout time.Duration) (string, error) {
	res, err := k.Member.Host.Run(ctx, remote.Cmd{Title: title, Script: body, Timeout: timeout})
	if err != nil {
		return "", fmt.Errorf("%s: %w", k.Member.Name, err)
	}
	return strings.TrimSpace(string(res.Stdout)), nil
}

// identity is what the target is known by at the moment.
func (k *injection) identity(ctx context.Context, title string, timeout time.Duration) (string, error) {
	return k.script(ctx, title, k.Fault.Before, timeout)
}

// identify notes what the proof will compare with.
func (k *injection) identify(ctx context.Context) error {
	out, err := k.identity(ctx, titleIdentify, 10*time.Second)
	if err != nil {
		return err
	}
	if out == "" {
		return fmt.Errorf("%s: %s: there is no such process", k.Member.Name, k.Fault.What)
	}
	k.before = out
	return nil
}

// arm has the host undo the fault by itself after a time. The undo is written
// to a file, because systemd expands $ in arguments.
func (k *injection) arm(ctx context.Context, after time.Duration) error {
	seconds := int(after.Seconds())
	if k.Fault.Power {
		if !k.external {
			return nil // reboot -f comes back by itself
		}
		off, err := k.power.Watch(k.Member.Name, seconds)
		if err != nil {
			return fmt.Errorf("%s: arm the power watch: %w", k.Member.Name, err)
		}
		k.callOff, k.armed = off, true
		return nil
	}
	body := fmt.Sprintf(`set -e; umask 077; cat >/run/%[1]s.sh <<'HACTL_UNDO'
%[3]s
rc=$?; rm -f /run/%[1]s.sh; exit $rc
HACTL_UNDO
systemd-run --quiet --collect --unit=%[1]s --on-active=%[2]d --timer-property=AccuracySec=100ms /bin/sh /run/%[1]s.sh
is_running %[1]s.timer`, k.unit(), seconds, sys.With(k.Fault.Undo))
	if _, err := k.script(ctx, titleArm, body, 20*time.Second); err != nil {
		return fmt.Errorf("arm the undo: %w", err)
	}
	k.armed = true
	return nil
}

// do breaks the host, provided its undo is armed.
func (k *injection) do(ctx context.Context) error {
	if k.external {
		return k.power.Off(ctx, k.Member.Name)
	}
	guard := "is_running " + k.unit() + ".timer || { echo the undo is not armed >&2; exit 97; }\n"
	if k.Fault.Power {
		guard = ""
	}
	_, err := k.script(ctx, titleFault, guard+"BEFORE="+remote.Quote(k.before)+"\n"+k.Fault.Do, 30*time.Second)
	if k.Fault.Power && remote.Unreachable(err) {
		return nil // it went away while it was told to
	}
	return err
}

// prove waits until the fault is in effect.
func (k *injection) prove(ctx context.Context) error {
	within := k.Fault.ProofWithin
	if within == 0 {
		within = proofWithin
	}
	ctx, cancel := wait.Within(ctx, "proof of the fault", within)
	defer cancel()
	var last error
	for {
		if last = k.proof(ctx); last == nil {
			return nil
		}
		if !pause(ctx, 100*time.Millisecond) {
			break
		}
	}
	return k.idle(fmt.Sprintf("no sign of it within %s: %v", wait.Bound(ctx, within), last))
}

// idle is the error of a fault that did nothing.
func (k *injection) idle(sign string) error {
	return fmt.Errorf("%s: the fault did nothing: %s: %s", k.Member.Name, k.Fault.What, sign)
}

func (k *injection) proof(ctx context.Context) error {
	if !k.Fault.Power {
		_, err := k.script(ctx, titleProof, "BEFORE="+remote.Quote(k.before)+"\n"+k.Fault.Proof, 10*time.Second)
		return err
	}
	out, err := k.identity(ctx, titleProof, 2*time.Second)
	var exit *remote.ExitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // it was not given the time to answer
	case err != nil && !errors.As(err, &exit):
		return nil // it does not answer: restarted will tell whether it was off
	case err != nil:
		return err
	case out == k.before:
		return errors.New("it is still up")
	}
	return nil
}

// restarted says when a host that was to lose its power is, once it is healthy
// again, still the one from before: that it did not answer for a moment, on a
// busy machine or over a broken connection, was no proof. It asks for half a
// minute at most.
func (k *injection) restarted(ctx context.Context) error {
	if !k.Fault.Power {
		return nil
	}
	ctx, cancel := wait.Within(ctx, "the host to say which boot it is", 30*time.Second)
	defer cancel()
	now, err := persistently(ctx, func() (string, error) { return k.identity(ctx, titleIdentify, 10*time.Second) })
	if err == nil && now == k.before {
		return k.idle("the host never started anew")
	}
	return err
}

// undo takes the fault back and then the armed timer away. It may be called
// whether or not the fault happened.
func (k *injection) undo(ctx context.Context) error {
	if k.Fault.Power {
		if !k.external || !k.armed {
			return nil
		}
		if err := k.power.On(ctx, k.Member.Name); err != nil {
			return fmt.Errorf("%s: power on: %w", k.Member.Name, err)
		}
		k.callOff()
		k.armed = false
		return nil
	}
	if !k.armed {
		return nil
	}
	if _, err := k.script(ctx, titleUndo, k.Fault.Undo, 30*time.Second); err != nil {
		return fmt.Errorf("%w (its timer %s.timer stays armed)", err, k.unit())
	}
	return k.disarm(ctx)
}

func (k *injection) disarm(ctx context.Context) error {
	if !k.armed {
		return nil
	}
	if k.callOff != nil {
		k.callOff()
		k.armed = false
		return nil
	}
	if k.Fault.Power {
		return nil
	}
	body := fmt.Sprintf("systemctl stop %[1]s.timer 2>/dev/null; rm -f /run/%[1]s.sh; ! is_running %[1]s.timer", k.unit())
	if _, err := k.script(ctx, titleDisarm, body, 20*time.Second); err != nil {
		return err
	}
	k.armed = false
	return nil
}

// pause waits; false means that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// each runs f for every injection at the same time and joins the errors.
func each(injections []*injection, f func(*injection) error) error {
	errs := make([]error, len(injections))
	done := make(chan struct{})
	for i, k := range injections {
		go func() {
			errs[i] = f(k)
			done <- struct{}{}
		}()
	}
	for range injections {
		<-done
	}
	return errors.Join(errs...)
}
