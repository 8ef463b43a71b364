package cmd

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/exitcode"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
)

const slowInventory = `apiVersion: hactl/v1
kind: Cluster
cluster: demo
slowHosts: 2
vip: {address: 192.0.2.10}
hosts:
  - {name: master-1, address: 192.0.2.11, role: control-plane}
`

// onSlowHosts runs body as a verb on slowInventory, with HACTL_SLOW_HOSTS.
func onSlowHosts(t *testing.T, env string, body func(a *app, c *cobra.Command) error) (code int, stdout, stderr, log string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "inventory.yaml")
	must(t, os.WriteFile(file, []byte(slowInventory), 0o600))
	var out, errOut bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut, getenv: func(k string) string {
		return map[string]string{wait.Env: env, "XDG_STATE_HOME": dir}[k]
	}}
	a.extra = func(root *cobra.Command) {
		c := &cobra.Command{Use: "try", RunE: func(c *cobra.Command, _ []string) error {
			if _, err := a.loadInventory(); err != nil {
				return err
			}
			if _, err := a.start(c, resultsOnly); err != nil {
				return err
			}
			return body(a, c)
		}}
		c.Flags().Duration("drain-timeout", time.Minute, "")
		root.AddCommand(c)
	}
	logFile := filepath.Join(dir, "log")
	code = a.run(t.Context(), []string{"try", "-i", file, "--log-file", logFile, "--drain-timeout", "3m"})
	text, _ := os.ReadFile(logFile)
	return code, out.String(), errOut.String(), string(text)
}

func TestTheFactorIsTheInventorysUnlessTheEnvironmentHasOne(t *testing.T) {
	for env, want := range map[string]int{"": 2, "1": 1, "4": 4} {
		var got int
		code, _, stderr, log := onSlowHosts(t, env, func(_ *app, c *cobra.Command) error { got = wait.Factor(c.Context()); return nil })
		if code != exitcode.OK || got != want {
			t.Errorf("with %q the factor is %d, want %d; exit code %d, %s", env, got, want, code, stderr)
		}
		for where, text := range map[string]string{"the screen": stderr, "the log": log} {
			if strings.Contains(text, "slow hosts: every wait may take") != (want > 1) {
				t.Errorf("with %q %s has: %s", env, where, text)
			}
		}
	}
}

func TestAFactorOfTheEnvironmentThatIsNoneIsRefused(t *testing.T) {
	for _, env := range []string{"0", "21", "fast", "1.5", "-4"} {
		code, _, stderr, _ := onSlowHosts(t, env, func(*app, *cobra.Command) error { return errors.New("the verb ran") })
		if code != exitcode.Usage || !strings.Contains(stderr, wait.Env+" is \""+env+"\": write a whole number from 1 to 20") {
			t.Errorf("%q: exit code %d, %s", env, code, stderr)
		}
	}
}

func TestAPlanAsJSONHasTheFactor(t *testing.T) {
	for env, want := range map[string]string{"1": "", "4": `"slow_hosts":4`} {
		_, stdout, _, _ := onSlowHosts(t, env, func(a *app, _ *cobra.Command) error { return a.printPlanJSON(&plan.Plan{}, false) })
		if strings.Contains(stdout, "slow_hosts") != (want != "") || !strings.Contains(stdout, want) {
			t.Errorf("factor %s: %s", env, stdout)
		}
	}
}

func TestADurationThatAPersonWroteIsNotStretched(t *testing.T) {
	_, _, stderr, _ := onSlowHosts(t, "4", func(_ *app, c *cobra.Command) error {
		if got := stretched(c.Context(), c, "drain-timeout", 3*time.Minute); got != 3*time.Minute {
			return errors.New("a written duration became " + got.String())
		}
		if got := stretched(c.Context(), c, "boot-timeout", time.Minute); got != 4*time.Minute {
			return errors.New("a default of a minute became " + got.String())
		}
		return nil
	})
	if strings.Contains(stderr, "became") {
		t.Error(stderr)
	}
}

func TestAWaitThatWasTooShortHintsAtTheFactor(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"a wait":             {remote.Hint(&wait.OverError{What: "the kubelet", Bound: time.Minute, Err: errors.New("x")}, "look there"), true},
		"a script's":         {&remote.ExitError{Stderr: "etcd did not start within 30 s"}, true},
		"another error":      {remote.Hint(errors.New("disk full"), "make room"), false},
		"a script's failure": {&remote.ExitError{Stderr: "no such file"}, false},
	} {
		if got := slices.Contains(hintsOf(c.err), wait.Advice); got != c.want {
			t.Errorf("%s: hints %q", name, hintsOf(c.err))
		}
	}
}
