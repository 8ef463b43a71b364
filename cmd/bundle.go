package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/bundle"
	"hactl/internal/remote"
	"hactl/internal/ui"
)

func (a *app) bundleCommand() *cobra.Command {
	var o bundle.Options
	var where bool
	c := &cobra.Command{
		Use:   "bundle",
		Short: "Build or fetch the binaries and images that hosts need",
		Long: `Fill the bundle: a folder with a manifest and every binary and container image
that a cluster needs. A complete bundle is left alone; a run that was stopped
goes on where it was. The folder can be carried to a machine without internet.`,
		Example: `  hactl bundle
  hactl bundle --from upstream --mirror https://mirror.example.com
  hactl bundle verify`,
		Args: noWord,
		PreRunE: func(*cobra.Command, []string) error {
			if where {
				return nil
			}
			return o.Check()
		},
		RunE: func(c *cobra.Command, _ []string) error {
			if where {
				dir, err := bundle.Find(o)
				fmt.Fprintln(a.stdout, dir)
				return err
			}
			return a.fillBundle(c.Context(), o)
		},
	}
	c.Flags().BoolVar(&where, "print-dir", false, "print the bundle's folder and do nothing")
	f := c.PersistentFlags()
	f.StringVar(&o.Dir, "dir", "", "folder of the bundle (default: by version in the user's cache folder)")
	origins, archs := []string{bundle.Source, bundle.Upstream}, []string{"amd64", "arm64"}
	f.Var(choice{&o.From, "string", origins}, "from", "source (built here with Go) or upstream (fetched from the projects' releases) (default source)")
	f.Var(choice{&o.Arch, "string", archs}, "arch", "amd64 or arm64 (default: this machine's)")
	c.Flags().StringVar(&o.Mirror, "mirror", "", "base URL in place of the release hosts, with the same paths below it; upstream only")
	c.Flags().IntVar(&o.Jobs, "jobs", 0, "artifacts made at a time (default 2; linking one takes up to 2 GB of memory)")
	_ = c.RegisterFlagCompletionFunc("from", cobra.FixedCompletions(origins, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("arch", cobra.FixedCompletions(archs, cobra.ShellCompDirectiveNoFileComp))
	c.AddCommand(a.bundleVerifyCommand(&o))
	return c
}

func (a *app) bundleVerifyCommand(o *bundle.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Hash every file of the bundle and compare it with the manifest",
		Example: `  hactl bundle verify
  hactl bundle verify --dir /media/usb/bundle`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := bundle.Find(*o)
			if err != nil {
				return err
			}
			b, err := bundle.Open(dir)
			if err != nil {
				return remote.Hint(err, "hactl bundle --dir %s", remote.Quote(dir))
			}
			if err := b.Verify(); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s: %d artifacts, every hash as in the manifest\n", b.Dir, len(b.Artifacts))
			return nil
		},
	}
}

func (a *app) fillBundle(ctx context.Context, o bundle.Options) error {
	lines := &bundleLines{w: a.stderr, live: ui.IsTerminal(a.stderr) && a.getenv("TERM") != "dumb", shown: map[string]time.Duration{}}
	o.Progress = lines.report
	b, err := bundle.Ensure(ctx, o)
	lines.clear()
	if err != nil {
		return err
	}
	if a.json() {
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		return e.Encode(b)
	}
	return a.printBundle(b)
}

// quiet is how long an artifact may be at work without a plain line about it.
const quiet = 10 * time.Second

// bundleLines shows progress: a line for each artifact that begins or ends and,
// in between, what is at work: on a terminal in one line that is written over,
// elsewhere in a plain line every ten seconds.
type bundleLines struct {
	w     io.Writer
	live  bool
	drawn bool
	shown map[string]time.Duration // elapsed time of an artifact's last plain line
}

// liveWidth keeps the line that is written over from wrapping.
const liveWidth = 79

func (l *bundleLines) report(e bundle.Event) {
	line := remote.Clean(e.String())
	l.clear()
	switch {
	case e.State == bundle.Done || e.State == bundle.Kept:
	case l.live:
		fmt.Fprint(l.w, ui.Truncate(line, liveWidth))
		l.drawn = true
		return
	case e.State == bundle.Running && e.Elapsed-l.shown[e.Name] < quiet:
		return
	}
	l.shown[e.Name] = e.Elapsed
	fmt.Fprintln(l.w, line)
}

// clear takes the line that is written over off the screen.
func (l *bundleLines) clear() {
	if l.drawn {
		fmt.Fprint(l.w, "\r\x1b[K")
		l.drawn = false
	}
}

func (a *app) printBundle(b *bundle.Bundle) error {
	t := ui.Table{Header: []string{"KIND", "NAME", "VERSION", "MB", "SHA256"}}
	for _, x := range b.Artifacts {
		t.Add(string(x.Kind), x.Name, x.Version, fmt.Sprintf("%.1f", float64(x.Size)/1e6), x.SHA256[:12])
	}
	if err := t.Write(a.stdout, ui.StyleFor(a.stdout, a.uiOptions())); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %d artifacts, %.0f MB, from %s, %s\n", b.Dir, len(b.Artifacts), float64(b.Size())/1e6, b.Origin, b.Arch)
	return err
}
