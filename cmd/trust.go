package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"hactl/internal/ops"
	"hactl/internal/remote"
	"hactl/internal/ui"
)

type trustFlags struct {
	yes, bastion bool
}

// trusted is one host in hactl trust -o json.
type trusted struct {
	Host    string   `json:"host"`
	Address string   `json:"address"`
	Known   []string `json:"known,omitempty"` // keys known before, with file:line
	Shown   string   `json:"shown"`
	File    string   `json:"file,omitempty"`
	Changed bool     `json:"changed"`
}

func (a *app) trustCommand() *cobra.Command {
	var f trustFlags
	c := &cobra.Command{
		Use:   "trust HOST...",
		Short: "Accept the ssh host key of a new or reinstalled host",
		Long: `Accept the ssh host key of a new or reinstalled host. The key that the host shows
now is fetched and printed beside the known one; once confirmed, it replaces the
host's lines in the known_hosts file. No login follows, and other hosts' lines stay.

Compare the fingerprint with the host's own before saying yes. On its console:
ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`,
		Example: `  hactl trust master-1
  hactl trust --bastion master-1   # the jump host in front of it
  hactl trust --yes master-1 master-2 -o json`,
		Args:              everyWord,
		ValidArgsFunction: a.completeHosts(),
		RunE:              func(c *cobra.Command, args []string) error { return a.runTrust(c, args, f) },
	}
	c.Flags().BoolVarP(&f.yes, "yes", "y", false, "accept without asking")
	c.Flags().BoolVar(&f.bastion, "bastion", false, "the key of the bastion in front of the host, not the host's own")
	return c
}

func (a *app) runTrust(c *cobra.Command, names []string, f trustFlags) error {
	inv, err := a.loadInventory()
	if err != nil {
		return err
	}
	if err := a.checkHosts(inv, names); err != nil {
		return err
	}
	for _, name := range names {
		if f.bastion && inv.SSH.Bastion == nil && inv.Host(name).SSH.Bastion == nil {
			return remote.Hint(usagef("%s has no bastion", name), "leave --bastion out")
		}
	}
	run, err := a.start(c, resultsOnly)
	if err != nil {
		return err
	}
	opts := a.remoteOptions(run)
	var all []trusted
	var errs []error
	for _, name := range names {
		t, err := remote.FetchTrust(c.Context(), inv, inv.Host(name), f.bastion, opts)
		if err == nil {
			err = a.accept(c.Context(), t, f.yes)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		all = append(all, trusted{Host: t.Host, Address: t.Addr, Known: t.Known, Shown: t.Shown, File: t.File, Changed: !t.Same})
	}
	run.endProgress()
	return errors.Join(append(errs, a.printTrusted(all))...)
}

// accept shows both keys, asks, and writes the new one.
func (a *app) accept(ctx context.Context, t *remote.Trust, yes bool) error {
	if t.Same || t.Pinned {
		return t.Accept()
	}
	err := a.confirm(ctx, ops.Question{
		Show:       func(io.Writer, ui.Style) error { a.printKeys(t); return nil },
		Text:       fmt.Sprintf("Trust this key from now on, in %s?", t.File),
		Yes:        yes,
		NoTerminal: "there is no terminal to ask on; compare the fingerprint with the host's own",
		Undone:     "nothing was changed",
	})
	if err != nil {
		return err
	}
	return t.Accept()
}

// printKeys shows the keys that were known before and the one that the host
// shows now.
func (a *app) printKeys(t *remote.Trust) {
	known := t.Known
	if len(known) == 0 {
		known = []string{"none"}
	}
	fmt.Fprintf(a.stderr, "%s (%s)\n", t.Host, t.Addr)
	for _, k := range known {
		fmt.Fprintf(a.stderr, "  known  %s\n", k)
	}
	fmt.Fprintf(a.stderr, "  shows  %s\n", t.Shown)
}

func (a *app) printTrusted(all []trusted) error {
	if a.json() {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	for _, t := range all {
		if t.Changed {
			fmt.Fprintf(a.stdout, "%s: trusted %s, written to %s\n", t.Host, t.Shown, t.File)
		} else {
			fmt.Fprintf(a.stdout, "%s: %s was trusted already\n", t.Host, t.Shown)
		}
	}
	return nil
}
