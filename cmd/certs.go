package cmd

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/exitcode"
	"hactl/internal/expiry"
	"hactl/internal/ops"
	"hactl/internal/ui"
	"hactl/pki"
)

func (a *app) certsCommand() *cobra.Command {
	within := pki.RenewBefore
	full := false
	c := &cobra.Command{
		Use:   "certs",
		Short: "Look at every certificate: in the store, on disks, on the wire, in the API",
		Long: `Look at every certificate of the cluster and say what is wrong: one row for each,
wherever it was seen. What a process serves is asked in a new handshake, so that a
certificate that was renewed and is not in use is found. Nothing is changed.
Exit code 0: nothing is due; 2: something ends within --within; 5: something has
expired, is not in use or cannot be verified; 3: a host could not be looked at.`,
		Example: `  hactl certs
  hactl certs --full
  hactl certs --within 2160h -o json`,
		Args: noWord,
		RunE: func(c *cobra.Command, _ []string) error {
			inv, err := a.loadInventory()
			if err != nil {
				return err
			}
			run, err := a.start(c, resultsOnly)
			if err != nil {
				return err
			}
			rep, err := ops.Certs(c.Context(), run.request(inv), within)
			if err != nil {
				return err
			}
			run.endProgress()
			if a.json() {
				err = a.printJSON(rep)
			} else {
				err = a.printCerts(rep, full)
			}
			if err != nil {
				return err
			}
			return certsCode(rep)
		},
	}
	c.AddCommand(a.certsRenewCommand())
	c.Flags().DurationVar(&within, "within", within, "what ends within this `time` is due")
	c.Flags().BoolVar(&full, "full", false, "show every certificate, not only those with a finding and the first to end")
	return c
}

// certsCode is 5 for what is wrong now, else 3, else 2.
func certsCode(rep *expiry.Report) error {
	switch {
	case rep.Bad():
		return exitcode.With(exitcode.Unhealthy, nil)
	case len(rep.Unseen) > 0:
		return exitcode.With(exitcode.Unknown, nil)
	case rep.Due():
		return exitcode.With(exitcode.Pending, nil)
	}
	return nil
}

// firstRows is how many certificates without a finding are shown.
const firstRows = 5

// printCerts shows the certificates with findings and those that end first.
func (a *app) printCerts(rep *expiry.Report, full bool) error {
	st := a.style()
	t := ui.Table{Header: []string{"CERTIFICATE", "HOST", "ENDS", "DAYS", "SEEN", "FINDING"}}
	shown := 0
	for _, r := range rep.Rows {
		if !full && len(r.Findings) == 0 {
			if shown++; shown > firstRows {
				continue
			}
		}
		t.Add(r.Name, r.Host, r.NotAfter.UTC().Format(time.DateOnly), strconv.Itoa(r.Days), seenIn(r), findings(r))
	}
	if err := t.Write(a.stdout, st); err != nil {
		return err
	}
	for _, who := range slices.Sorted(maps.Keys(rep.Unseen)) {
		fmt.Fprintf(a.stdout, "%s could not be looked at: %s\n", who, rep.Unseen[who])
	}
	found := 0
	for _, r := range rep.Rows {
		found += len(r.Findings)
	}
	for _, w := range rep.Waiting {
		fmt.Fprintf(a.stdout, "waits for a signature: %s\n", w)
	}
	if rep.Next != "" {
		fmt.Fprintln(a.stdout, "next: "+rep.Next)
	}
	fmt.Fprintf(a.stdout, "\n%s, %s\n", ui.Count(len(rep.Rows), "certificate"), ui.Count(found, "finding"))
	return nil
}

// seenIn is in which places a certificate was seen, and how often: "disk 3, wire 1".
func seenIn(r expiry.Row) string {
	n := map[string]int{}
	var order []string
	for _, p := range r.Places {
		place, _, _ := strings.Cut(p, " ")
		if n[place]++; n[place] == 1 {
			order = append(order, place)
		}
	}
	for i, p := range order {
		order[i] = p + " " + strconv.Itoa(n[p])
	}
	return strings.Join(order, ", ")
}

func findings(r expiry.Row) string {
	var out []string
	for _, f := range r.Findings {
		if s := string(f.Kind) + ": " + f.Text + " (" + f.Where + ")"; !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return strings.Join(out, "; ")
}
