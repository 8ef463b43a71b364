package lab

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// sharedSettings are settings of the one kernel that no namespace divides and
// that hosts change: systemd and the kubelet of any host write them. They are
// noted before the first lab boots and put back when the last one is gone.
var sharedSettings = []string{
	"fs/inotify/max_user_instances", "fs/inotify/max_user_watches", "fs/file-max", "fs/nr_open", "fs/aio-max-nr",
	"kernel/panic", "kernel/panic_on_oops", "kernel/pid_max", "kernel/sysrq", "kernel/core_pattern", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	"vm/overcommit_memory", "vm/panic_on_oom", "vm/max_map_count", "vm/swappiness",
}

// inotifyInstances is enough for some twenty hosts; they share one user's
// limit, and the kernel's default of 128 is used up by four.
const inotifyInstances = 2048

func settingsFile() string { return filepath.Join(registry, ".settings.json") }

// noteSettings notes the machine's settings and raises what hosts run short of.
// It is called with registryLock held.
func noteSettings(report func(string)) error {
	if !exists(settingsFile()) {
		values := map[string]string{}
		for _, s := range sharedSettings {
			if b, err := os.ReadFile(filepath.Join("/proc/sys", s)); err == nil {
				values[s] = strings.TrimSpace(string(b))
			}
		}
		b, err := json.Marshal(values)
		if err != nil {
			return err
		}
		if err := writeAtomic(settingsFile(), b, 0o600); err != nil {
			return err
		}
	}
	path := "/proc/sys/fs/inotify/max_user_instances"
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n < inotifyInstances {
		report("raising fs.inotify.max_user_instances to " + strconv.Itoa(inotifyInstances) + " until the last lab is gone")
		return os.WriteFile(path, []byte(strconv.Itoa(inotifyInstances)), 0)
	}
	return nil
}

// restoreSettings puts back what noteSettings noted, where it differs.
func restoreSettings() error {
	b, err := os.ReadFile(settingsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var values map[string]string
	if err := json.Unmarshal(b, &values); err != nil {
		return err
	}
	var errs []error
	for s, v := range values {
		path := filepath.Join("/proc/sys", s)
		if now, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(now)) != v {
			errs = append(errs, os.WriteFile(path, []byte(v), 0))
		}
	}
	return errors.Join(append(errs, os.Remove(settingsFile()))...)
}

// lockRegistry guards the list of labs and the machine's settings.
func lockRegistry(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(registry, 0o755); err != nil {
		return nil, err
	}
	return lockFile(ctx, filepath.Join(registry, ".lock"), func() {})
}

// register takes the name for the folder.
func register(ctx context.Context, name, dir string, report func(string)) error {
	unlock, err := lockRegistry(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	link := filepath.Join(registry, name)
	if other, err := os.Readlink(link); err == nil && other != dir {
		if exists(filepath.Join(other, "lab.json")) || len(remains(name)) > 0 {
			return nameTaken(name, other)
		}
		if err := os.Remove(link); err != nil { // of an Up that ended before it made anything
			return err
		}
	}
	if err := os.Symlink(dir, link); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return noteSettings(report)
}

// unregister gives the name back; the last lab turns the light off. The folder stays,
// with its lock: another hactl may be about to open its own lock there, or hold it
// and have no name yet. Without the folder it would end in an error, and without the
// file a third one would lock the same lab.
func unregister(ctx context.Context, name string) error {
	unlock, err := lockRegistry(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, p := range []string{filepath.Join(registry, name), lockPath(name)} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(Names()) > 0 {
		return nil
	}
	return restoreSettings()
}

// remains finds hosts of a lab by what runs on the machine, without its folder.
func remains(name string) []string {
	seen := map[string]bool{}
	prefix := "hactl." + name + "."
	if entries, err := os.ReadDir("/run/netns"); err == nil {
		for _, e := range entries {
			if host, ok := strings.CutPrefix(e.Name(), prefix); ok {
				seen[host] = true
			}
		}
	}
	groups, _ := hierarchies()
	for _, g := range groups {
		dirs, _ := filepath.Glob(filepath.Join(g.mount, "hactl-lab-"+name, "*", "cgroup.procs"))
		for _, d := range dirs {
			seen[filepath.Base(filepath.Dir(d))] = true
		}
	}
	var out []string
	for host := range seen {
		out = append(out, host)
	}
	return out
}
