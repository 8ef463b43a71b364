// Package lab makes real local hosts on one Linux machine: each host has its
// own network, mount, PID, UTS, IPC and cgroup namespace, or is a virtual machine. It
// has systemd as PID 1, an sshd, a disk of its own and an address on a bridge that leads
// nowhere else.
// Nothing outside this package knows that a host is a lab host: what it hands
// back is an inventory.
package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"hactl/internal/remote"
)

// DefaultName is the name of a lab that was given none.
const DefaultName = "lab"

// Config says what [Up] makes.
type Config struct {
	Name    string // a DNS label of at most 32 characters; default [DefaultName]
	Dir     string // state, keys, inventories and disks; default: a folder of the user's cache
	Masters int    // 0 to 7
	Workers int    // 0 to 50
	Bastion bool   // one more host, only to jump through, with its own user and key
	OS      string // system of the hosts, one of [Systems]; default: the first
	IPv6    bool   // the inventories use the IPv6 addresses (hosts always have both)
	Bare    bool   // hosts without keepalived, runc, nftables...; a local package repository has them. Always so with EL9
	Preload string // folder shown read-only on every host at [PreloadPath]
	VM      bool   // hosts are virtual machines, which run trixie
	Golden  string // folder of a bundle that is in the disk of virtual machines
	// CPUs is how many of the machine's processors each host may keep busy at most; 0:
	// all of them. Without a limit a host that is beside itself, such as one that was
	// cut off, slows the others down, which hosts of their own would not notice.
	CPUs float64

	// Report is told what is going on, one line a call; nil is silent.
	Report func(line string)
}

// EL9 is an imitation of Enterprise Linux 9: a Debian root with dnf, rpm, firewalld and
// the marks of an EL, without apt, dpkg and perl.
const EL9 = "el9"

// vmSystem is the system of virtual machines.
const vmSystem = "trixie"

// Accelerators of qemu that virtual machines have.
const (
	accelKVM = "kvm"
	accelTCG = "tcg" // software emulation
)

// Ubuntu is an imitation of an Ubuntu server: a Debian root with what Ubuntu adds, as far
// as Debian's archive has it (netplan, needrestart, unattended-upgrades, AppArmor's tools,
// sources in the format deb822).
const Ubuntu = "ubuntu"

// Systems are those that hosts can have: Debian releases by code name, [EL9] and [Ubuntu].
var Systems = []string{"bookworm", "trixie", EL9, Ubuntu}

// Watcher is the command that runs [Watch], with the folder of the lab and the name of a
// host as its last arguments. Empty: this executable with "lab watch".
var Watcher []string

// PreloadPath is where a host sees the folder of Config.Preload.
const PreloadPath = "/opt/hactl/bundle-preload"

// Lab is a set of hosts that [Up] made and [Lab.Down] removes.
type Lab struct {
	Dir string

	state  state
	report func(string)
}

// Host is one host of a lab.
type Host struct {
	Name     string
	Role     string // "master", "worker" or "bastion"
	Address  string // IPv4
	Address6 string
}

// The roles of lab hosts.
const (
	Master  = "master"
	Worker  = "worker"
	Bastion = "bastion"
)

// ErrNoLab says that there is no lab in the folder or under the name.
var ErrNoLab = errors.New("no such lab")

var nameRE = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// Open returns the lab called name (default [DefaultName]) that lives in dir
// (default: where Up put it). The error is ErrNoLab when there is none.
func Open(name, dir string) (*Lab, error) {
	if name == "" {
		name = DefaultName
	}
	if dir == "" {
		var err error
		if dir, err = findDir(name); err != nil {
			return nil, err
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	st, err := readState(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, remote.Hint(fmt.Errorf("%w: %s (looked in %s)", ErrNoLab, name, dir), "hactl lab up --name %s", name)
	}
	if err != nil {
		return nil, err
	}
	return &Lab{Dir: dir, state: *st, report: func(string) {}}, nil
}

// Name is the lab's name.
func (l *Lab) Name() string { return l.state.Name }

// Hosts returns the hosts, masters first.
func (l *Lab) Hosts() []Host {
	out := make([]Host, len(l.state.Hosts))
	for i, h := range l.state.Hosts {
		out[i] = h.Host
	}
	return out
}

// Host returns the host of that name, or an error that lists the names.
func (l *Lab) Host(name string) (Host, error) {
	var names []string
	for _, h := range l.state.Hosts {
		if h.Name == name {
			return h.Host, nil
		}
		names = append(names, h.Name)
	}
	return Host{}, remote.Hint(fmt.Errorf("lab %s has no host %q", l.state.Name, name), "its hosts are %v", names)
}

// OS is the system of the hosts, one of [Systems].
func (l *Lab) OS() string { return l.state.os() }

// Emulated reports whether the hosts are virtual machines without KVM, which are some ten
// times slower than real ones.
func (l *Lab) Emulated() bool { return l.state.emulated() }

// VIP is the virtual address of the lab's inventories.
func (l *Lab) VIP() string { return planFor(l.state.IPv6).vip }

// SudoPassword is the sudo password of the user opspw.
func (l *Lab) SudoPassword() string { return l.state.SudoPassword }

// Path returns a path inside the lab's folder, such as Path("inventory.yaml").
func (l *Lab) Path(elem ...string) string {
	return filepath.Join(append([]string{l.Dir}, elem...)...)
}

// PowerOn brings every host of the lab that is off or cut back to running.
func (l *Lab) PowerOn(ctx context.Context) error { return l.ensure(ctx) }

// CheckName refuses what no lab can be called.
func CheckName(name string) error {
	if !nameRE.MatchString(name) {
		return fmt.Errorf("lab name %q: use 1 to 32 lower-case letters, digits and dashes", name)
	}
	return nil
}

// Check refuses hosts that no lab can have.
func (c *Config) Check() error {
	if c.Masters < 0 || c.Masters > maxMasters || c.Workers < 0 || c.Workers > maxWorkers || c.Masters+c.Workers == 0 {
		return fmt.Errorf("%d masters and %d workers: a lab has up to %d masters and %d workers, one host at least",
			c.Masters, c.Workers, maxMasters, maxWorkers)
	}
	if c.OS != "" && !slices.Contains(Systems, c.OS) {
		return fmt.Errorf("operating system %q: a lab's hosts have one of %s", c.OS, strings.Join(Systems, ", "))
	}
	if err := c.checkVM(); err != nil {
		return err
	}
	if !(c.CPUs == 0 || c.CPUs >= 0.1 && c.CPUs <= maxCPUs) { // not a number is neither
		return fmt.Errorf("%v processors: a host gets 0.1 to %d of them, or 0 for all", c.CPUs, maxCPUs)
	}
	return nil
}

// checkVM refuses what does not go with virtual machines, or without them.
func (c *Config) checkVM() error {
	switch {
	case !c.VM && c.Golden != "":
		return errors.New("a golden disk is one of virtual machines: add --vm")
	case !c.VM:
		return nil
	case c.OS != "" && c.OS != vmSystem:
		return fmt.Errorf("virtual machines run %s, not %s", vmSystem, c.OS)
	case c.Bare || c.Preload != "":
		return errors.New("virtual machines cannot be bare, and no folder can be shown on them; a golden disk has the bundle in it: --golden")
	}
	return nil
}

func (c *Config) withDefaults() error {
	if c.Name == "" {
		c.Name = DefaultName
	}
	if err := CheckName(c.Name); err != nil {
		return err
	}
	if err := c.Check(); err != nil {
		return err
	}
	if c.VM {
		c.OS = vmSystem
	}
	c.OS = cmp.Or(c.OS, Systems[0])
	c.Bare = c.Bare || c.OS == EL9
	if c.Report == nil {
		c.Report = func(string) {}
	}
	if c.Dir == "" {
		dir, err := findDir(c.Name)
		if err != nil {
			return err
		}
		c.Dir = dir
	}
	for _, p := range []*string{&c.Dir, &c.Preload, &c.Golden} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	return nil
}
