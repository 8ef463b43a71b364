package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hactl/inventory"
)

// SudoError says why the user cannot become root. Reason is stable: one of the
// Sudo constants.
type SudoError struct {
	User, Reason string
}

// Reasons of a SudoError.
const (
	SudoNeedsPassword = "sudo asks for a password"
	SudoWrongPassword = "sudo refused the password"
	SudoNotAllowed    = "sudo does not let the user run commands as root"
	SudoNeedsTTY      = "sudo wants a terminal (requiretty)"
	SudoMissing       = "sudo is not installed"
)

// Error names the user and the reason.
func (e *SudoError) Error() string { return fmt.Sprintf("become root as %s: %s", e.User, e.Reason) }

// sudo is how one connection becomes root. The password goes to sudo's stdin
// and nowhere else.
type sudo struct {
	user, host string
	env        string                            // variable that holds the password
	ask        func(host string) (string, error) // may be nil
	getenv     func(name string) string

	turn    chan struct{} // holds one token; guards what follows
	settled bool
	secret  []byte // nil: sudo -n
	err     error  // kept, so that a wrong password is not tried until the account locks
}

func newSudo(inv *inventory.Inventory, h *inventory.Host, user string, o Options) *sudo {
	s := mergeSSH(inv.SSH, h.SSH)
	if s.Sudo != nil && !*s.Sudo || s.Sudo == nil && user == "root" {
		return nil
	}
	su := &sudo{user: user, host: h.Name, env: s.SudoPasswordEnv, ask: o.SudoPassword, getenv: o.Environment.Getenv, turn: make(chan struct{}, 1)}
	su.turn <- struct{}{}
	return su
}

// prefix is what stands before the command. -k makes sudo ask although it might
// remember the user, so that it is certain who reads the password line.
func (s *sudo) prefix() string {
	switch {
	case s == nil:
		return ""
	case s.secret == nil:
		return "env LC_ALL=C sudo -n -- "
	}
	return "env LC_ALL=C sudo -k -S -p '' -- "
}

// settle finds out once whether the password works. It is tried alone, with
// nothing after it on stdin: sudo asks three times, and would take the next
// lines, which may be another secret, as further passwords.
func (s *sudo) settle(ctx context.Context, try func(context.Context, call) (*outcome, error)) error {
	if s == nil {
		return nil
	}
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.settled {
		return s.err
	}
	err := s.find(ctx, try)
	if err == nil || errors.As(err, new(*SudoError)) {
		s.settled, s.err = true, err
	}
	return err
}

// find takes the password from the environment; without one there, and with
// a terminal to ask on, it asks only when sudo really wants one.
func (s *sudo) find(ctx context.Context, try func(context.Context, call) (*outcome, error)) error {
	check := call{title: "check sudo", script: "true", stdin: []byte{}, timeout: 30 * time.Second, probe: true}
	if s.env != "" {
		if p := s.getenv(s.env); p != "" {
			return s.use(ctx, p, try, check)
		}
	}
	if s.ask == nil {
		return nil // sudo -n, and the first command shows whether that will do
	}
	_, err := try(ctx, check)
	var refused *SudoError
	if !errors.As(err, &refused) || refused.Reason != SudoNeedsPassword {
		return err
	}
	p, askErr := s.ask(s.host)
	if askErr != nil {
		return Hint(fmt.Errorf("%w (%w)", refused, askErr), "%s", s.hint(SudoNeedsPassword))
	}
	return s.use(ctx, p, try, check)
}

func (s *sudo) use(ctx context.Context, password string, try func(context.Context, call) (*outcome, error), check call) error {
	if strings.ContainsAny(password, "\n\x00") {
		return Hint(fmt.Errorf("%w: the password contains a newline", &SudoError{User: s.user, Reason: SudoWrongPassword}), "%s", s.hint(SudoWrongPassword))
	}
	s.secret = []byte(password + "\n")
	_, err := try(ctx, check)
	return err
}

// explain reads sudo's refusal out of what it printed; nil when it is not one.
func (s *sudo) explain(stderr []byte) error {
	if s == nil {
		return nil
	}
	for _, r := range []struct {
		reason string
		signs  []string
	}{
		{SudoNeedsTTY, []string{"you must have a tty"}},
		{SudoNotAllowed, []string{"is not in the sudoers", "may not run sudo", "is not allowed to"}},
		{SudoWrongPassword, []string{"incorrect password", "Sorry, try again", "no password was provided"}},
		{SudoNeedsPassword, []string{"a password is required", "a terminal is required"}},
		{SudoMissing, []string{"sudo: not found", "sudo: command not found", "sudo': No such file", "sudo’: No such file", "sudo: No such file"}},
	} {
		for _, sign := range r.signs {
			if bytes.Contains(stderr, []byte(sign)) {
				return Hint(&SudoError{User: s.user, Reason: r.reason}, "%s", s.hint(r.reason))
			}
		}
	}
	return nil
}

func (s *sudo) hint(reason string) string {
	switch reason {
	case SudoNeedsTTY:
		return fmt.Sprintf("on the host, add with visudo: Defaults:%s !requiretty", s.user)
	case SudoNotAllowed:
		return fmt.Sprintf("on the host, add with visudo: %s ALL=(ALL) ALL", s.user)
	case SudoMissing:
		return "install sudo on the host, or set ssh.user to root"
	case SudoWrongPassword:
		if s.env != "" {
			return "export " + s.env + " with the right password"
		}
		return "run it again and type the password of " + s.user
	}
	if s.env != "" {
		return fmt.Sprintf("export %s with the password of %s", s.env, s.user)
	}
	// sudo asks a user who has no right at all as well, before it says so.
	return fmt.Sprintf("run on a terminal to be asked, or name a variable that holds the password as ssh.sudoPasswordEnv in the inventory; sudo -l -U %s on the host shows what the user may do", s.user)
}
