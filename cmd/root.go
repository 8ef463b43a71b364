// Package cmd is the command line: one file a verb, flags in, calls, exit code
// out. Main returns the exit code; nothing below it exits.
package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"hactl/internal/exitcode"
	"hactl/internal/remote"
	"hactl/internal/ui"
)

// defaultInventory is read when -i is not given.
const defaultInventory = "inventory.yaml"

// app carries what every command uses; tests fill it with their own.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string

	inventory string // -i
	output    string // -o
	noColor   bool   // --no-color
	logFile   string // --log-file
	verbose   bool   // -v

	signedCerts string // --certs
	slowHosts   int    // of the inventory that was loaded, or of the environment

	extra  func(root *cobra.Command) // further commands, for tests; may be nil
	began  bool                      // a command's own code has started: no mistake of usage any more
	signal *interrupt
	opened *verbRun // what the command has opened with start, or nil

	asking sync.Mutex    // held while a question is on the terminal
	input  *bufio.Reader // stdin, once a question was asked
}

// Main runs hactl with the process's arguments and returns its exit code.
func Main() int {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	return a.run(context.Background(), os.Args[1:])
}

// CommandLine returns every command and flag, for the man pages. It is not to be run.
func CommandLine() *cobra.Command {
	root := (&app{getenv: os.Getenv}).rootCommand()
	root.DisableAutoGenTag = true // the same commit gives the same pages
	return root
}

// run executes one command line, prints its error and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	if a.getenv == nil {
		a.getenv = os.Getenv
	}
	ctx, in, release := catchSignals(ctx, a.sayOnStderr)
	defer release()
	a.signal = in
	root := a.rootCommand()
	if a.extra != nil {
		a.extra(root)
	}
	a.prepare(root)
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	if err != nil && !a.began {
		err = &usageError{err}
	}
	code := exitcode.Of(err)
	if in.interrupted() && (code == exitcode.Error || code == exitcode.Unknown) {
		code = exitcode.Interrupted // whatever broke because of it
	}
	if a.opened != nil {
		a.opened.finish(err, code)
	}
	if err != nil && !exitcode.Silent(err) {
		st := a.errStyle()
		printFailure(a.stderr, st, c, err, a.redact)
		if a.opened != nil && a.opened.Log != nil {
			_, _ = fmt.Fprintf(a.stderr, "%s %s\n", st.Cyan("log:"), a.redact(remote.Clean(a.opened.Log.path)))
		}
	}
	return code
}

// redact takes out of s what this run knows to be secret.
func (a *app) redact(s string) string {
	if a.opened == nil {
		return s
	}
	return a.opened.Redact.String(s)
}

func (a *app) sayOnStderr(s string) { _, _ = fmt.Fprintln(a.stderr, s) }

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "hactl",
		Short: "Turn bare Linux hosts into a highly available Kubernetes control plane",
		Long: `hactl turns bare Linux hosts into a highly available Kubernetes control plane,
from one inventory file, over SSH, and proves that it is highly available by
breaking it on purpose and timing the recovery.`,
		Example: `  hactl up -i inventory.yaml
  hactl status
  hactl help exit-codes`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	f := root.PersistentFlags()
	f.StringVarP(&a.inventory, "inventory", "i", defaultInventory, "the inventory `file`")
	a.output = "text"
	f.VarP(choice{&a.output, "format", []string{"text", "json"}}, "output", "o", "what stdout gets: text or json")
	f.BoolVar(&a.noColor, "no-color", false, "never colour; NO_COLOR in the environment does the same")
	f.StringVar(&a.logFile, "log-file", "", "write this run's log to `file` instead of a new one in ~/.local/state/hactl/logs")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "show every script that is run on a host")
	_ = root.RegisterFlagCompletionFunc("inventory", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))
	_ = root.MarkPersistentFlagFilename("inventory", "yaml", "yml")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	// One line a command, in the order in which an operator meets them; help keeps it.
	cobra.EnableCommandSorting = false
	root.AddCommand(
		a.upCommand(),
		a.preflightCommand(),
		a.planCommand(),
		a.diffCommand(),
		a.statusCommand(),
		a.certsCommand(),
		a.snapshotCommand(),
		a.restoreCommand(),
		a.drillCommand(),
		a.measureCommand(),
		a.rebootCommand(),
		a.upgradeCommand(),
		a.removeCommand(),
		a.replaceCommand(),
		a.resetCommand(),
		a.initCommand(),
		a.validateCommand(),
		a.trustCommand(),
		a.schemaCommand(),
		a.bundleCommand(),
		a.labCommand(),
		a.versionCommand(),
		a.versionsCommand(),
		exitCodesTopic(),
	)
	return root
}

// prepare gives every command what all of them share.
func (a *app) prepare(root *cobra.Command) {
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(),
		"{{if .Runnable}}", `{{if and .Runnable (not (index .Annotations "group"))}}`, 1))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.SetFlagErrorFunc(flagError)
	walk(root, func(c *cobra.Command) {
		if c.HasSubCommands() && !c.Runnable() {
			c.Args, c.RunE = cobra.ArbitraryArgs, groupRun
			c.Annotations = map[string]string{"group": "true"} // for the usage template above and in printFailure
		}
		if c.Name() == "help" && c.Parent() == root {
			c.Run, c.RunE = nil, helpRun
		}
		if run := c.RunE; run != nil {
			c.RunE = func(c *cobra.Command, args []string) error {
				if a.inventory == "" {
					return usagef("-i is empty: name the inventory")
				}
				a.began = true
				return run(c, args)
			}
		}
	})
}

func walk(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		walk(sub, f)
	}
}

// groupRun is what a command does that only holds others: help, or an error
// for a word that none of them is called by. Cobra would print help and exit 0.
func groupRun(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	return unknownWord(c, args[0])
}

// noWord is for a command that holds others and runs by itself.
func noWord(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return unknownWord(c, args[0])
}

// everyWord wants all words of the command's Use line but those in brackets, and names the
// missing ones.
func everyWord(c *cobra.Command, args []string) error {
	var want []string
	for _, w := range strings.Fields(c.Use)[1:] {
		if w != "--" && !strings.HasPrefix(w, "[") {
			want = append(want, strings.TrimSuffix(w, "..."))
		}
	}
	if len(args) >= len(want) {
		return nil
	}
	return fmt.Errorf("the command line lacks %s", strings.Join(want[len(args):], " and "))
}

// flagError says what a flag takes in place of what its parser says.
func flagError(_ *cobra.Command, err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	write := bad.Unwrap().Error() // a choice says it itself
	switch bad.GetFlag().Value.Type() {
	case "int":
		write = "write a whole number, such as 3"
	case "duration":
		write = "write a duration, such as 500ms or 10s"
	case "bool":
		write = "write true or false"
	}
	return fmt.Errorf("%q is no value for --%s: %s", bad.GetValue(), bad.GetFlag().Name, write)
}

func (a *app) uiOptions() ui.Options {
	return ui.Options{NoColor: a.noColor, Verbose: a.verbose, Getenv: a.getenv}
}

// style is how results on stdout are coloured.
func (a *app) style() ui.Style { return ui.StyleFor(a.stdout, a.uiOptions()) }

// errStyle is how what is shown on stderr is coloured.
func (a *app) errStyle() ui.Style { return ui.StyleFor(a.stderr, a.uiOptions()) }

// json reports whether -o json was given.
func (a *app) json() bool { return a.output == "json" }

// choice is the value of a flag that takes one of some words.
type choice struct {
	word *string
	kind string // as help shows it
	of   []string
}

// String is the word, "" when none was given and there is no default.
func (c choice) String() string { return *c.word }

// Set accepts one of the words.
func (c choice) Set(s string) error {
	if !slices.Contains(c.of, s) {
		return fmt.Errorf("write %s", strings.Join(c.of, " or "))
	}
	*c.word = s
	return nil
}

// Type is shown in help.
func (c choice) Type() string { return c.kind }
