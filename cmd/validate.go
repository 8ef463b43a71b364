package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"

	"hactl/internal/exitcode"
	"hactl/internal/ui"
	"hactl/inventory"
	"hactl/kubeadm"
	"hactl/pki"
)

// validation is what hactl validate -o json prints.
type validation struct {
	OK       bool               `json:"ok"`
	File     string             `json:"file"`
	Problems inventory.Problems `json:"problems,omitempty"`
	Notes    inventory.Problems `json:"notes,omitempty"` // the file is valid all the same
	Summary  *inventorySummary  `json:"summary,omitempty"`
}

// inventorySummary says what an inventory asks for.
type inventorySummary struct {
	Cluster    string        `json:"cluster"`
	VIP        string        `json:"vip"`
	Port       int           `json:"port"`
	RouterID   int           `json:"virtual_router_id"`
	Kubernetes string        `json:"kubernetes"`
	Etcd       string        `json:"etcd"`
	Containerd string        `json:"containerd"`
	Hosts      []hostSummary `json:"hosts"`
}

type hostSummary struct {
	Name           string         `json:"name"`
	Role           inventory.Role `json:"role"`
	Address        string         `json:"address"`
	PrivateAddress netip.Addr     `json:"private_address"`
}

func (a *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check an inventory without connecting to any host",
		Long: `Check an inventory without connecting to any host. Every problem is printed with
its file, line and column and what to write instead.`,
		Example: `  hactl validate
  hactl validate -i prod.yaml -o json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.runValidate() },
	}
}

func (a *app) runValidate() error {
	inv, err := a.loadInventory()
	v := validation{OK: err == nil, File: a.inventory}
	if err == nil {
		v.Summary, v.Notes = summarise(inv), append(inv.Notes, movedHosts(inv)...)
	} else if !errors.As(err, &v.Problems) {
		return err
	}
	if werr := a.printValidation(v); werr != nil || err == nil {
		return werr
	}
	return exitcode.With(exitcode.Usage, nil) // the problems have been printed
}

// movedHosts are notes on hosts that the store knows by another name or address.
func movedHosts(inv *inventory.Inventory) (notes inventory.Problems) {
	for _, m := range pki.MovedHosts(inv) {
		n := inventory.Problem{File: inv.Path, Path: "hosts"}
		if m.Name != "" {
			n.What = fmt.Sprintf("%s has the address %s, at which the cluster was made with %s", m.Host, m.Address, m.Name)
			n.Instead = fmt.Sprintf("if %s is a new machine: hactl replace %s %[1]s; %[3]s", m.Host, m.Name, kubeadm.RenameCommands(m.Name, m.Host))
		} else {
			n.What = fmt.Sprintf("%s has the address %s, the cluster was made with %s", m.Host, m.Present, m.Address)
			n.Instead = fmt.Sprintf("if it is a new machine: hactl replace %s; %s", m.Host, kubeadm.MoveCommands(m.Host, m.Address.String(), m.Present.String()))
		}
		notes = append(notes, n)
	}
	return notes
}

// printValidation writes the problems, too, to stdout: they are what was asked for.
func (a *app) printValidation(v validation) error {
	if a.json() {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	st := a.style()
	if !v.OK {
		_, err := fmt.Fprintf(a.stdout, "%v\n%s\n", v.Problems, st.Red(v.Problems.Count()+" in "+v.File))
		return err
	}
	if _, err := fmt.Fprintln(a.stdout, st.Green(v.File+" is valid")); err != nil {
		return err
	}
	for _, n := range v.Notes {
		if _, err := fmt.Fprintf(a.stdout, "%s %v\n", st.Cyan("note:"), n); err != nil {
			return err
		}
	}
	return v.Summary.table().Write(a.stdout, st)
}

func summarise(inv *inventory.Inventory) *inventorySummary {
	s := &inventorySummary{
		Cluster: inv.Cluster, VIP: inv.VIP.Address.String(), Port: inv.VIP.Port, RouterID: inv.VIP.VirtualRouterID,
		Kubernetes: inv.Versions.Kubernetes, Etcd: inv.Versions.Etcd, Containerd: inv.Versions.Containerd,
	}
	for _, h := range inv.Hosts {
		s.Hosts = append(s.Hosts, hostSummary{h.Name, h.Role, h.Address, h.PrivateAddress})
	}
	return s
}

func (s *inventorySummary) table() *ui.Table {
	t := &ui.Table{Indent: "  "}
	t.Add("cluster", s.Cluster)
	t.Add("vip", s.VIP, "port "+strconv.Itoa(s.Port)+", virtual router id "+strconv.Itoa(s.RouterID))
	t.Add("kubernetes", s.Kubernetes, "etcd "+s.Etcd+", containerd "+s.Containerd)
	for _, h := range s.Hosts {
		more := ""
		if h.PrivateAddress.String() != h.Address {
			more = "ssh " + h.Address
		}
		t.Add(string(h.Role), h.Name, h.PrivateAddress.String(), more)
	}
	return t
}
