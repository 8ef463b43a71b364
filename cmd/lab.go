package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/bundle"
	"hactl/internal/lab"
	"hactl/internal/remote"
)

// labFlags say which lab; every subcommand has them.
type labFlags struct {
	name, dir string
}

func (f *labFlags) open() (*lab.Lab, error) { return lab.Open(f.name, f.dir) }

func (a *app) labCommand() *cobra.Command {
	f := &labFlags{}
	c := &cobra.Command{
		Use:   "lab",
		Short: "Real local hosts to try hactl on: systemd, sshd, own network and disks",
		Long: `Real local hosts on one Linux machine, to try hactl on and to break.

Each host has its own network, processes, disk and address, systemd as PID 1 and an
sshd. The hosts reach one another and nothing else; hactl reaches them from the lab's
hub. Needs Linux and root.`,
		Example: `  hactl lab up --masters 3 --workers 1
  hactl lab hub -- hactl up -i ~/.cache/hactl/labs/lab/inventory.yaml
  hactl lab fault off master-1
  hactl lab down`,
	}
	c.PersistentPreRunE = func(*cobra.Command, []string) error { return lab.CheckName(f.name) }
	c.PersistentFlags().StringVar(&f.name, "name", lab.DefaultName, "name of the lab")
	c.PersistentFlags().StringVar(&f.dir, "dir", "", "folder of the lab: keys, inventories, disks (default: in the user's cache folder)")
	c.AddCommand(a.labUpCommand(f), a.labDownCommand(f), a.labStatusCommand(f), a.labExecCommand(f), a.labHubCommand(f), a.labFaultCommand(f), labWatchCommand())
	return c
}

func (a *app) labUpCommand(f *labFlags) *cobra.Command {
	var conf lab.Config
	golden := false
	c := &cobra.Command{
		Use:   "up",
		Short: "Make the hosts, or boot again those that are off",
		Args:  cobra.NoArgs,
		Example: `  hactl lab up
  hactl lab up --masters 1 --name small --os trixie
  hactl lab up --masters 1 --workers 0 --vm --golden`,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if conf.VM && !cmd.Flags().Changed("os") {
				conf.OS = ""
			}
			return errors.Join(goldenBundle(golden, &conf), conf.Check())
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			start := time.Now()
			conf.Name, conf.Dir = f.name, f.dir
			conf.Report = func(line string) { fmt.Fprintf(a.stderr, "%5.1fs  %s\n", time.Since(start).Seconds(), line) }
			l, err := lab.Up(cmd.Context(), conf)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "inventory: %s\nuse it:    hactl lab hub --name %s -- hactl up -i %s\n", l.Path("inventory.yaml"), l.Name(), l.Path("inventory.yaml"))
			return nil
		},
	}
	fl := c.Flags()
	conf.OS = lab.Systems[0]
	fl.IntVar(&conf.Masters, "masters", 3, "masters, 0 to 7")
	fl.IntVar(&conf.Workers, "workers", 1, "workers, 0 to 50")
	fl.Var(choice{&conf.OS, "system", lab.Systems}, "os", "system of the hosts: "+strings.Join(lab.Systems, ", ")+" (el9 and ubuntu are imitations; el9 is always bare)")
	fl.BoolVar(&conf.Bastion, "bastion", false, "one more host to jump through, and an inventory that does")
	fl.BoolVar(&conf.IPv6, "ipv6", false, "inventories with the hosts' IPv6 addresses and an IPv6 VIP")
	fl.BoolVar(&conf.Bare, "bare", false, "hosts without keepalived, runc, nftables and so on, with a local package repository that has them")
	fl.BoolVar(&conf.VM, "vm", false, "virtual machines (qemu) with trixie: each has a kernel, a boot, a clock and a disk of its own")
	fl.BoolVar(&golden, "golden", false, "virtual machines whose disk has the programs and images of the bundle")
	fl.Float64Var(&conf.CPUs, "cpus", 0, "processors that each host may keep busy at most, 0.1 or more; 0 is all")
	fl.StringVar(&conf.Preload, "preload", "", "folder (a bundle) to show read-only on every host at "+lab.PreloadPath)
	return c
}

// goldenBundle puts the folder of the bundle into the configuration, if it is asked for.
func goldenBundle(golden bool, conf *lab.Config) (err error) {
	if !golden {
		return nil
	}
	if conf.Golden, err = bundle.Find(bundle.Options{}); err != nil {
		return err
	}
	_, err = bundle.Open(conf.Golden)
	return remote.Hint(err, "hactl bundle")
}

// labWatchCommand is what boots a host, and boots it again when it reboots.
func labWatchCommand() *cobra.Command {
	return &cobra.Command{
		Use: "watch FOLDER HOST", Short: "Boot a host of a lab, and boot it again when it reboots", Hidden: true, Args: everyWord,
		Long:    "Boot a host of a lab and stay, to boot it again when it reboots. hactl lab up starts it.",
		Example: "  hactl lab watch ~/.cache/hactl/labs/lab master-1",
		RunE:    func(cmd *cobra.Command, args []string) error { return lab.Watch(cmd.Context(), args[0], args[1]) },
	}
}

func (a *app) labDownCommand(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "down",
		Short:   "End the hosts and remove everything of them, disks included",
		Args:    cobra.NoArgs,
		Example: `  hactl lab down --name small`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := lab.Down(cmd.Context(), f.name, f.dir)
			if err == nil && !found {
				fmt.Fprintf(a.stderr, "lab %s is not there: nothing to do\n", f.name)
			}
			return err
		},
	}
}

func (a *app) labStatusCommand(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show each host's release, address, state and whether its sshd answers",
		Args:    cobra.NoArgs,
		Example: `  hactl lab status -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := f.open()
			if err != nil {
				return err
			}
			st, err := l.Status(cmd.Context())
			if err != nil {
				return err
			}
			if a.json() {
				enc := json.NewEncoder(a.stdout)
				enc.SetIndent("", "  ")
				return enc.Encode(map[string]any{"name": l.Name(), "dir": l.Dir, "vip": l.VIP(), "os": l.OS(), "hosts": st})
			}
			return a.labTable(l.OS(), st)
		},
	}
}

func (a *app) labTable(system string, st []lab.HostStatus) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tOS\tADDRESS\tADDRESS6\tPID\tSTATE\tSSH")
	for _, h := range st {
		ssh, pid := "-", "-"
		if h.SSH {
			ssh = "answers"
		}
		if h.PID != 0 {
			pid = fmt.Sprint(h.PID)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", h.Name, system, h.Address, h.Address6, pid, h.State, ssh)
	}
	return w.Flush()
}

func (a *app) labExecCommand(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "exec HOST -- COMMAND...",
		Short:   "Run a command as root on a host, past ssh",
		Args:    f.hostAndMore,
		Example: `  hactl lab exec master-1 -- journalctl -u kubelet -e`,
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := f.open()
			if err != nil {
				return err
			}
			if err := hostsOfLab(l, args[:1]); err != nil {
				return err
			}
			argv, err := l.ExecArgv(args[0], args[1:]...)
			if err != nil {
				return err
			}
			return lab.Become(argv)
		},
	}
}

func (a *app) labHubCommand(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "hub -- COMMAND...",
		Short: "Run a command of this machine where the lab's hosts can be reached",
		Args:  everyWord,
		Example: `  hactl lab hub -- hactl up -i inventory.yaml
  hactl lab hub -- ssh -i ~/.cache/hactl/labs/lab/ssh/id_ed25519 root@10.77.0.11`,
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := f.open()
			if err != nil {
				return err
			}
			argv, err := l.HubArgv(args...)
			if err != nil {
				return err
			}
			return lab.Become(argv)
		},
	}
}

func (a *app) labFaultCommand(f *labFlags) *cobra.Command {
	var names []string
	for _, x := range lab.Faults {
		names = append(names, string(x))
	}
	return &cobra.Command{
		Use:   "fault " + strings.Join(names, "|") + " HOST...",
		Short: "Cut a host off, heal it, power it off, boot it, replace it by an empty one",
		Args:  everyWord,
		Example: `  hactl lab fault off master-1
  hactl lab fault boot master-1`,
		ValidArgs: names,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := f.open()
			if err != nil {
				return err
			}
			if !slices.Contains(names, args[0]) {
				return usagef("no fault is called %q", args[0])
			}
			if err := hostsOfLab(l, args[1:]); err != nil {
				return err
			}
			return l.InjectAll(cmd.Context(), lab.Fault(args[0]), args[1:])
		},
	}
}

// hostAndMore checks the words of a command that begins with a host. A host that
// the lab does not have is named even where further words are missing.
func (f *labFlags) hostAndMore(c *cobra.Command, args []string) error {
	if l, err := f.open(); err == nil && len(args) > 0 {
		if err := hostsOfLab(l, args[:1]); err != nil {
			return err
		}
	}
	return everyWord(c, args)
}

// hostsOfLab returns a usage error, with the names of the lab's hosts, for the first
// word that names none of them.
func hostsOfLab(l *lab.Lab, words []string) error {
	for _, name := range words {
		if _, err := l.Host(name); err != nil {
			return &usageError{err}
		}
	}
	return nil
}
