package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the host has before is noted by a real shell, whatever is missing there.
func TestStateBeforeIsNoted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, d := range []string{"former", "etc/containerd", "proc/sys/kernel"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "proc/sys/kernel/panic"), []byte("7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	script := strings.NewReplacer(" /etc/", " "+dir+"/etc/", "/proc/", dir+"/proc/").Replace(NoteBefore("apt"))
	script = "set -e; umask 077; cd " + dir + "\n" + script + "\n:"
	if out, err := run(t, script, map[string]string{"dpkg-query": "printf 'zlib\\nadduser\\n'"}); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for file, want := range map[string]string{
		FormerPackages: "adduser\nzlib\n", FormerParameters: dir + "/proc/sys/kernel/panic 7\n",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
	folders, err := os.ReadFile(filepath.Join(dir, FormerFolders))
	lines := strings.Split(string(folders), "\n")
	if err != nil || !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, dir+"/etc/containerd empty 755 ") }) || strings.Contains(string(folders), dir+"/etc/etcd") {
		t.Errorf("%q, %v", folders, err)
	}
}
