package cmd

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/exitcode"
	"hactl/internal/ops"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/ui"
	"hactl/internal/wait"
	"hactl/inventory"
)

// verbRun is what a verb that talks to hosts opens with start: where its
// events go, its log file, and what must never be printed. It is the [ops.Console] of
// the operation.
type verbRun struct {
	plan.Reporter              // to the person and to the log file
	Log           *runLog      // nil when no log file could be opened
	Redact        *ui.Redactor // register every secret that is made or read
	Started       time.Time

	app   *app
	shown ui.Reporter
	ended func() // a signal is said on stderr again
}

// Where a verb's events go under -o json.
const (
	resultsOnly = false // progress stays on stderr, stdout gets one document
	eventStream = true  // stdout gets one event a line
)

// start opens the run of a verb. With stream, -o json puts the events on
// stdout, one a line. Main closes it; a verb calls endProgress before it prints
// its result. A log file that was asked for and cannot be had is an error.
func (a *app) start(c *cobra.Command, stream bool) (*verbRun, error) {
	o := a.uiOptions()
	o.JSON = a.json() && stream
	r := &verbRun{app: a, Redact: ui.NewRedactor(), Started: time.Now(), shown: ui.New(a.stderr, a.stdout, o)}
	verb := strings.ReplaceAll(strings.TrimPrefix(c.CommandPath(), "hactl "), " ", "-")
	log, err := openLog(a.logFile, verb, a.getenv, r.Redact)
	if err != nil && a.logFile != "" {
		return nil, exitcode.With(exitcode.Usage, remote.Hint(err, "make the folder, or name a file in one that can be written to"))
	}
	r.Log = log
	r.Reporter = redacting{to: r.shown, log: log, redact: r.Redact}
	if err != nil {
		r.Note("no log file for this run: " + err.Error())
	}
	log.Printf("hactl %s: %s, inventory %s", verb, buildVersion(), a.inventory)
	c.SetContext(wait.Slow(c.Context(), a.slowHosts))
	if text := saysSlow(a.slowHosts); text != "" {
		r.Note(text)
	}
	a.signal.tell(r.Note)
	r.ended = func() { a.signal.tell(a.sayOnStderr) }
	a.opened = r
	return r, nil
}

// Note says something outside of steps.
func (r *verbRun) Note(text string) {
	r.Report(plan.Event{Time: time.Now(), Kind: plan.Note, Text: text})
}

// Hide keeps a secret out of everything that is shown or logged.
func (r *verbRun) Hide(secret string) { r.Redact.Add(secret) }

// Confirm asks on the terminal.
func (r *verbRun) Confirm(ctx context.Context, q ops.Question) error { return r.app.confirm(ctx, q) }

// Remote is how hosts are reached.
func (r *verbRun) Remote() remote.Options { return r.app.remoteOptions(r) }

// Stop is closed by the first Ctrl-C.
func (r *verbRun) Stop() <-chan struct{} { return r.app.signal.Stop() }

// request is what an operation on the inventory is called with.
func (r *verbRun) request(inv *inventory.Inventory) ops.Request {
	return ops.Request{Inv: inv, Console: r, Started: r.Started, Certs: r.app.signedCerts}
}

// certsFlag is --certs of every verb that may need a certificate of an authority whose key is
// not here.
func (a *app) certsFlag(c *cobra.Command) {
	c.Flags().StringVar(&a.signedCerts, "certs", "", "`folder` of certificates that an authority signed whose key is not here")
	_ = c.MarkFlagDirname("certs")
}

// commandBegan is for remote.Options.Began: the script of every command on a host
// goes to the log file, and with -v to the person as well. Secrets are masked in
// the whole script: a secret may have several lines.
func (r *verbRun) commandBegan(verbose bool) func(host, title, script string) {
	return func(host, title, script string) {
		script = strings.TrimSpace(r.Redact.String(script))
		r.Log.Printf("%s: run %q\n%s", host, title, script)
		if !verbose {
			return
		}
		r.shown.Report(plan.Event{Time: time.Now(), Kind: plan.Note, Host: host, Text: "run " + r.Redact.String(title)})
		for line := range strings.SplitSeq(script, "\n") {
			r.shown.Report(plan.Event{Time: time.Now(), Kind: plan.Note, Host: host, Text: "| " + line})
		}
	}
}

// endProgress leaves the final state on the screen and ends the repainting, so
// that results can be printed.
func (r *verbRun) endProgress() {
	r.ended()
	_ = r.shown.Close()
}

// finish ends the run and its log file.
func (r *verbRun) finish(err error, code int) {
	r.endProgress()
	if err != nil {
		r.Log.Printf("error: %v", err)
	}
	for _, h := range hintsOf(err) {
		r.Log.Printf("hint: %s", h)
	}
	r.Log.Printf("end: exit=%d took=%s", code, time.Since(r.Started).Round(time.Millisecond))
	_ = r.Log.Close()
}

// redacting passes events to the person and to the log, without secrets.
type redacting struct {
	to     plan.Reporter
	log    *runLog
	redact *ui.Redactor
}

// Report masks what is secret and passes the event on.
func (r redacting) Report(e plan.Event) {
	e.Text, e.Err = r.redact.String(e.Text), r.redact.String(e.Err)
	r.to.Report(e)
	r.log.Report(e)
}
