package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"hactl/internal/remote"
)

// Up makes a lab, or brings the hosts of an existing one back up with their
// disks, and returns when every sshd answers. A lab that runs is left alone.
// After an error, or after being killed, Down cleans up and Up goes on.
func Up(ctx context.Context, c Config) (*Lab, error) {
	if err := c.withDefaults(); err != nil {
		return nil, err
	}
	if err := checkMachine(); err != nil {
		return nil, err
	}
	if c.VM {
		if err := checkForVM(); err != nil {
			return nil, err
		}
	}
	if err := checkPaths(c.Dir); err != nil {
		return nil, err
	}
	unlock, err := claim(ctx, c)
	if err != nil {
		return nil, err
	}
	defer unlock()
	st, err := readState(c.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		st, err = create(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	if !st.sameShape(c) {
		return nil, remote.Hint(fmt.Errorf("lab %s exists with other hosts or options (%d masters, %d workers, %s) in %s",
			st.Name, st.count(Master), st.count(Worker), st.os(), c.Dir), "hactl lab down --name %s", st.Name)
	}
	l := &Lab{Dir: c.Dir, state: *st, report: c.Report}
	return l, l.ensure(ctx)
}

// claim takes the lab's lock and its name.
func claim(ctx context.Context, c Config) (unlock func(), err error) {
	if err := os.MkdirAll(registry, 0o755); err != nil {
		return nil, err
	}
	unlock, err = lockFile(ctx, lockPath(c.Name), func() { c.Report("waiting for another hactl that works on this lab") })
	if err != nil {
		return nil, err
	}
	if err := register(ctx, c.Name, c.Dir, c.Report); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func nameTaken(name, dir string) error {
	return remote.Hint(fmt.Errorf("a lab %s lives in %s already", name, dir), "choose another --name, or: hactl lab down --name %s", name)
}

func lockPath(name string) string { return filepath.Join(registry, "."+name+".lock") }

// create makes the folder of a new lab: keys, disks, inventories and, first of
// all, the state file by which Down knows what there may be.
func create(ctx context.Context, c Config) (*state, error) {
	entries, err := os.ReadDir(c.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if e.Name() != "lab.json.tmp" { // that is ours, of an Up that was killed here
			return nil, remote.Hint(fmt.Errorf("%s is not empty and holds no lab", c.Dir), "use --dir with a new folder")
		}
	}
	st, err := describe(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(c.Dir, 0o700); err != nil {
		return nil, err
	}
	return st, st.write(c.Dir)
}

// describe is the state of a new lab. What its hosts are made from is there by then.
func describe(ctx context.Context, c Config) (*state, error) {
	if c.VM {
		return describeVM(ctx, c)
	}
	base, err := ensureBase(ctx, c.OS, c.Bare, c.Report)
	if err != nil {
		return nil, err
	}
	return newState(c, base)
}

// furnish makes the keys, disks and inventories that are not there yet. The
// inventory comes last: where it is, the rest is.
func (l *Lab) furnish(ctx context.Context) error {
	if exists(l.Path("inventory.yaml")) {
		return nil
	}
	if err := os.MkdirAll(l.Path("ssh"), 0o700); err != nil {
		return err
	}
	for _, key := range []string{"id_ed25519", "bastion_ed25519"} {
		if err := clientKey(l.Path("ssh"), key); err != nil {
			return err
		}
	}
	keys := map[string]string{}
	for _, h := range l.state.Hosts {
		if err := removeTree(l.Path("hosts", h.Name)); err != nil {
			return err
		}
		key, err := l.makeDisk(ctx, h)
		if err != nil {
			return err
		}
		keys[h.Name] = key
	}
	if err := writeKnownHosts(l.Path("ssh", "known_hosts"), l.state.Hosts, keys); err != nil {
		return err
	}
	return l.writeInventories(keys["bastion"])
}

// ensure boots every host that is off, all at once, and waits for their sshds.
func (l *Lab) ensure(ctx context.Context) error {
	if err := l.furnish(ctx); err != nil {
		return err
	}
	if err := l.ensureHub(ctx); err != nil {
		return err
	}
	start := time.Now()
	booted := make([]bool, len(l.state.Hosts))
	g, gctx := errgroup.WithContext(ctx)
	for i, h := range l.state.Hosts {
		g.Go(func() error {
			return l.locked(gctx, h.Name, func() error {
				if _, alive := l.pid(h.Name); alive {
					return nil
				}
				booted[i] = true
				return l.powerOn(gctx, h)
			})
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	n := 0
	for _, b := range booted {
		if b {
			n++
		}
	}
	if n == 0 {
		l.report(fmt.Sprintf("lab %s is already running", l.state.Name))
		return nil
	}
	hosts := "hosts"
	if n == 1 {
		hosts = "host"
	}
	l.report(fmt.Sprintf("%d %s booted in %.1f s", n, hosts, time.Since(start).Seconds()))
	return nil
}

// powerOn boots a host that is off. What its last run left in the network and
// in the cgroups is removed first.
func (l *Lab) powerOn(ctx context.Context, h hostState) error {
	if err := l.sweep(ctx, h.Name); err != nil {
		return err
	}
	if err := l.connect(ctx, h); err != nil {
		return err
	}
	if err := l.boot(ctx, h); err != nil {
		return fmt.Errorf("boot %s: %w", h.Name, err)
	}
	return l.awaitSSH(ctx, h)
}

// tools are the programs that the lab calls, and the Debian package of each.
var tools = map[string]string{
	"debootstrap": "debootstrap", "ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "mount": "mount",
	"pivot_root": "util-linux", "chroot": "coreutils", "hostname": "hostname", "dpkg-deb": "dpkg",
}

// checkMachine tells in one go what this machine lacks for a lab.
func checkMachine() error {
	if os.Geteuid() != 0 {
		return remote.Hint(errors.New("the lab needs Linux and root: this is not root"), "sudo hactl lab ...")
	}
	if err := need(tools); err != nil {
		return err
	}
	_, err := hierarchies()
	return err
}

// need names the programs that this machine lacks, and the packages that have them.
func need(tools map[string]string) error {
	var missing, packages []string
	for tool, pkg := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing, packages = append(missing, tool), append(packages, pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	slices.Sort(packages)
	return remote.Hint(fmt.Errorf("the lab needs programs that are missing: %s", strings.Join(missing, ", ")),
		"apt-get install %s", strings.Join(slices.Compact(packages), " "))
}
