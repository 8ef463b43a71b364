package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hactl/internal/remote"
)

// hierarchy is one mounted cgroup hierarchy of the machine.
type hierarchy struct {
	mount string
	name  string // "cpu", "cpu,cpuacct", "name=systemd"; unified for cgroup v2
}

// unified is cgroup v2, with the controllers or, beside v1, without. In the
// second case it counts all the same: systemd in a host would mount it, and in
// the machine's own root cgroup it would meet the other hosts' systemd.
const unified = "unified"

// hierarchies returns what a host has to be put into: every v1 hierarchy and
// the one of v2.
func hierarchies() ([]hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var v1, v2 []hierarchy
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		left, right, ok := strings.Cut(sc.Text(), " - ")
		fl, fr := strings.Fields(left), strings.Fields(right)
		if !ok || len(fl) < 5 || len(fr) < 3 {
			continue
		}
		switch fr[0] {
		case "cgroup2":
			v2 = append(v2, hierarchy{mount: fl[4], name: unified})
		case "cgroup":
			v1 = append(v1, hierarchy{mount: fl[4], name: v1Name(fr[2])})
		}
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if len(v2) > 1 {
		v2 = v2[:1] // the same hierarchy, mounted twice
	}
	if all := append(v1, v2...); len(all) > 0 {
		return all, nil
	}
	return nil, remote.Hint(errors.New("no cgroup hierarchy with controllers is mounted"), "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
}

// v1Name picks the controllers or the name out of a v1 mount's super options.
func v1Name(options string) string {
	var out []string
	for _, o := range strings.Split(options, ",") {
		switch {
		case strings.HasPrefix(o, "name="):
			return o
		case o == "rw", o == "ro", o == "xattr", o == "clone_children", o == "noprefix", strings.Contains(o, "="):
		default:
			out = append(out, o)
		}
	}
	return strings.Join(out, ",")
}

// mountNames is what boot.sh mounts: "unified" alone is a machine with cgroup
// v2. Beside v1 systemd needs a named hierarchy; where the machine has none,
// the host makes it.
func mountNames(groups []hierarchy) string {
	var names []string
	for _, g := range groups {
		names = append(names, g.name)
	}
	if len(names) == 1 && names[0] == unified {
		return unified
	}
	if !slices.Contains(names, "name=systemd") {
		names = append(names, "name=systemd")
	}
	return strings.Join(names, " ")
}

// cgroup is the host's cgroup below the root of each hierarchy.
func (l *Lab) cgroup(host string) string { return filepath.Join("hactl-lab-"+l.state.Name, host) }

// enterGroups makes the cgroup in every hierarchy and puts the process there, with
// as many processors as it may keep busy; 0: all.
func enterGroups(groups []hierarchy, cgroup string, pid int, cpus float64) error {
	limited := cpus == 0
	patience := time.Now().Add(2 * time.Second)
	for _, g := range groups {
		dir := g.mount
		for depth, part := range strings.Split(cgroup, "/") {
			if err := passOn(g, dir); err != nil {
				return err
			}
			dir = filepath.Join(dir, part)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("make cgroup: %w", err)
			}
			if err := fillCpuset(g, dir); err != nil {
				return err
			}
			weigh(g, dir)
			allowRealTime(dir, realTimeBudgets[depth], patience)
		}
		done, err := limit(g, dir, cpus)
		if err != nil {
			return err
		}
		limited = limited || done
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("enter cgroup: %w", err)
		}
	}
	if !limited {
		return errNoLimit(errors.New("no cgroup hierarchy does it"))
	}
	return nil
}

func errNoLimit(why error) error {
	return remote.Hint(fmt.Errorf("limit the processors of a host: %w", why), "the kernel needs CONFIG_CFS_BANDWIDTH; without --cpus there is no limit")
}

// passOn lets the children of a v2 cgroup use every controller it has.
func passOn(g hierarchy, dir string) error {
	if g.name != unified {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(b)) {
		// One at a time: a controller that this machine cannot delegate must not
		// cost the others.
		os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0) //nolint:errcheck // see above
	}
	return nil
}

// fillCpuset copies a new v1 cpuset's CPUs and memory nodes from its parent:
// while they are empty no process can enter.
func fillCpuset(g hierarchy, dir string) error {
	if !slices.Contains(strings.Split(g.name, ","), "cpuset") {
		return nil
	}
	for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(dir), f))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, f), b, 0); err != nil {
			return fmt.Errorf("fill %s: %w", f, err)
		}
	}
	return nil
}

// hasCPU reports whether the hierarchy shares out processor time.
func hasCPU(g hierarchy) bool {
	return g.name == unified || slices.Contains(strings.Split(g.name, ","), "cpu")
}

// weigh gives a host the share of a machine. A cgroup weighs as much as one
// process by default, so that on a busy machine a whole host would run as
// slowly as one of its programs, and every time measured on it would be wrong.
// Without the file, or the right to write it, the host runs all the same.
func weigh(g hierarchy, dir string) {
	if !hasCPU(g) {
		return
	}
	file, weight := "cpu.shares", "16384"
	if g.name == unified {
		file, weight = "cpu.weight", "1600"
	}
	os.WriteFile(filepath.Join(dir, file), []byte(weight), 0) //nolint:errcheck // see above
}

// limitPeriod is how often a host gets its processor time anew, in microseconds: a
// host that has used it up stands still for less than that.
const limitPeriod = 10_000

// limit bounds the processors that a host keeps busy, and reports whether this
// hierarchy can.
func limit(g hierarchy, dir string, cpus float64) (bool, error) {
	if cpus == 0 || !hasCPU(g) {
		return false, nil
	}
	quota, period := strconv.Itoa(int(cpus*limitPeriod)), strconv.Itoa(limitPeriod)
	files := [][2]string{{"cpu.cfs_period_us", period}, {"cpu.cfs_quota_us", quota}}
	if g.name == unified {
		files = [][2]string{{"cpu.max", quota + " " + period}}
	}
	for _, f := range files {
		err := os.WriteFile(filepath.Join(dir, f[0]), []byte(f[1]), 0)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && g.name == unified {
			return false, nil // v2 beside v1 has no controllers
		}
		if err != nil {
			return false, errNoLimit(err)
		}
	}
	return true, nil
}

// realTimeBudgets is how many microseconds of a second on each processor the
// real-time tasks of a lab, and of each of its hosts, may run: enough for two
// labs on one machine and six hosts in each. What a removed cgroup had comes back
// a moment later only.
var realTimeBudgets = [...]int{400_000, 60_000}

// allowRealTime matters where the kernel was built to share out real-time too
// (CONFIG_RT_GROUP_SCHED): there a new cgroup may use none. Elsewhere the file
// does not exist and no budget is needed. While a lab that was just removed still has
// its share there may be too little left (EINVAL): it is tried again until the given
// time. A host without a budget runs all the same.
func allowRealTime(dir string, micros int, until time.Time) {
	file := filepath.Join(dir, "cpu.rt_runtime_us")
	if b, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(b)) != "0" {
		return
	}
	for {
		err := os.WriteFile(file, []byte(strconv.Itoa(micros)), 0)
		if !errors.Is(err, syscall.EINVAL) || time.Now().After(until) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// groupProcs lists the processes below a cgroup in any hierarchy.
func groupProcs(groups []hierarchy, cgroup string) []int {
	seen := map[int]bool{}
	for _, g := range groups {
		filepath.WalkDir(filepath.Join(g.mount, cgroup), func(path string, d fs.DirEntry, err error) error { //nolint:errcheck // cgroups vanish while we look
			if err != nil || d.IsDir() || d.Name() != "cgroup.procs" {
				return nil
			}
			b, _ := os.ReadFile(path) //nolint:gosec // the kernel's own tree has no links
			for _, f := range strings.Fields(string(b)) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
					seen[pid] = true
				}
			}
			return nil
		})
	}
	var out []int
	for pid := range seen {
		out = append(out, pid)
	}
	return out
}

// removeGroup removes a cgroup with all below it. Its processes are dead, but
// the kernel may take a moment to let go of them.
func removeGroup(ctx context.Context, groups []hierarchy, cgroup string) error {
	deadline := time.Now().Add(10 * time.Second)
	for _, g := range groups {
		for {
			err := rmdirs(filepath.Join(g.mount, cgroup))
			if err == nil {
				break
			}
			if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
				return fmt.Errorf("remove cgroup: %w", err)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// rmdirs removes a tree of cgroups: folders only, the files in them go along.
func rmdirs(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := rmdirs(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(dir); err != nil && err != syscall.ENOENT {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}
