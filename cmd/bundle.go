package cmd

import (
	"context"
	"encoding/json"
	"errors"
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
	var wish versionWish
	var where bool
	c := &cobra.Command{
		Use:   "bundle",
		Short: "Build or fetch the binaries and images that hosts need",
		Long: `Fill the bundle: a folder with a manifest and every binary and container image
that a cluster needs. A complete bundle is left alone; a run that was stopped
goes on where it was. The folder can be carried to a machine without internet.
Bundles of several Kubernetes versions lie side by side and share what they have in
common. "hactl versions" lists the versions that are known.`,
		Example: `  hactl bundle
  hactl bundle --for v1.37.2
  hactl bundle --from upstream --mirror https://mirror.example.com
  hactl bundle verify`,
		Args: noWord,
		PreRunE: func(*cobra.Command, []string) (err error) {
			if o.Set, err = wish.set(); err != nil || where {
				return err
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
	f.StringVar(&o.Dir, "dir", "", "folder that holds the bundles (default: in the user's cache folder)")
	wish.flags(c)
	origins, archs := []string{bundle.Source, bundle.Upstream}, []string{"amd64", "arm64"}
	f.Var(choice{&o.From, "string", origins}, "from", "source (built here with Go) or upstream (fetched from the projects' releases) (default source)")
	f.Var(choice{&o.Arch, "string", archs}, "arch", "amd64 or arm64 (default: this machine's)")
	c.Flags().StringVar(&o.Mirror, "mirror", "", "base URL in place of the release hosts, with the same paths below it; upstream only")
	c.Flags().IntVar(&o.Jobs, "jobs", 0, "artifacts made at a time (default 2; linking one takes up to 2 GB of memory)")
	_ = c.RegisterFlagCompletionFunc("from", cobra.FixedCompletions(origins, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("arch", cobra.FixedCompletions(archs, cobra.ShellCompDirectiveNoFileComp))
	c.AddCommand(a.bundleVerifyCommand(&o, &wish))
	return c
}

func (a *app) bundleVerifyCommand(o *bundle.Options, wish *versionWish) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Hash every file of the bundles and compare it with the manifest",
		Long: `Hash every file and compare it with the manifest: of one bundle with --for, else of
every bundle in the folder.`,
		Example: `  hactl bundle verify
  hactl bundle verify --dir /media/usb/bundle
  hactl bundle verify --for v1.37.2`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			places, err := wish.places(*o)
			if err != nil {
				return err
			}
			var bad []error
			for _, dir := range places {
				bad = append(bad, a.verifyBundle(dir, *o))
			}
			return errors.Join(bad...)
		},
	}
}

func (a *app) verifyBundle(dir string, o bundle.Options) error {
	b, err := bundle.Open(dir)
	if err != nil {
		hint := "hactl bundle"
		if o.Dir != "" {
			hint += " --dir " + remote.Quote(o.Dir)
		}
		return remote.Hint(err, "%s", hint)
	}
	if err := b.Verify(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s: %d artifacts, every hash as in the manifest\n", b.Dir, len(b.Artifacts))
	return err
}

func (a *app) fillBundle(ctx context.Context, o bundle.Options) error {
	lines := &bundleLines{w: a.stderr, shown: map[string]time.Duration{}}
	lines.painter, _ = ui.NewPainter(a.stderr, a.uiOptions())
	o.Progress = lines.report
	b, err := bundle.Ensure(ctx, o)
	lines.close()
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
	w       io.Writer
	painter *ui.Painter              // nil where there is no terminal
	shown   map[string]time.Duration // elapsed time of an artifact's last plain line
}

func (l *bundleLines) report(e bundle.Event) {
	line := remote.Clean(e.String())
	ended := e.State == bundle.Done || e.State == bundle.Kept
	switch {
	case l.painter != nil && ended:
		l.painter.Paint([]string{line})
	case l.painter != nil:
		l.painter.Paint(nil, line)
	case ended || e.State != bundle.Running || e.Elapsed-l.shown[e.Name] >= quiet:
		l.shown[e.Name] = e.Elapsed
		fmt.Fprintln(l.w, line)
	}
}

// close takes the line that is written over off the screen.
func (l *bundleLines) close() {
	if l.painter != nil {
		l.painter.Paint(nil)
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
