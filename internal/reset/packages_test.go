package reset

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
)

// dnfTable is what dnf --assumeno prints. A long name stands alone on its row.
const dnfTable = `Dependencies resolved.
 Package                Arch        Version       Repo       Size
Removing:
 keepalived             x86_64      2.2.7-1.el9   @lab      1.0 M
Removing unused dependencies:
 libnl-3-200            x86_64      3.7.0-1.el9   @lab      138 k
 a-library-with-a-name-that-is-too-long-for-its-column
                        x86_64      1.0-1.el9     @lab      138 k
 there-before           x86_64      1.0-1.el9     @lab      138 k

Transaction Summary
 Remove  4 Packages
`

// What came with a package goes with it, but nothing that was there before; and a package
// that another needs stays, which dnf would remove together with the other.
func TestDnfRemovesWhatHactlInstalledAndNoMore(t *testing.T) {
	for name, c := range map[string]struct{ rpm, want string }{
		"not needed by others": {"", "remove -y --noautoremove a-library-with-a-name-that-is-too-long-for-its-column keepalived libnl-3-200\n"},
		"needed by another":    {"keepalived is needed by (installed) theirs-1.0", "they stay, since others need them: keepalived is needed by (installed) theirs-1.0\n"},
		"cannot be told":       {"cannot open Packages database", "cannot open Packages database\nfailed\n"},
	} {
		dir := t.TempDir()
		for f, text := range map[string]string{
			"rpm": "#!/bin/sh\n[ -z '" + c.rpm + "' ] || { echo '" + c.rpm + "' >&2; exit 1; }\n",
			"dnf": "#!/bin/sh\n[ \"$2\" != --assumeno ] || { cat <<'END'\n" + dnfTable + "END\nexit 1; }\necho \"$@\"\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, f), []byte(text), 0o755); err != nil { //nolint:gosec // it is run
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "noted"), []byte("there\nthere-before\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "there() { echo keepalived; }\n("+dnfRemove(filepath.Join(dir, "noted"))+") || echo failed")
		cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v %s", name, err, out)
		}
		if string(out) != c.want {
			t.Errorf("%s:\n%s\nwant:\n%s", name, out, c.want)
		}
	}
}

// A host that had all packages before hactl came: an empty list must not stand for all that
// are installed.
func TestHostThatHadItsPackagesKeepsThem(t *testing.T) {
	dir := t.TempDir()
	for f, text := range map[string]string{
		"dpkg-query": "#!/bin/sh\nshift 2; [ $# -gt 0 ] || echo 'base-files installed'\n",
		"rpm":        "#!/bin/sh\necho base-files\n",
		"apt-get":    "#!/bin/sh\necho \"apt-get $*\"\n",
		"dnf":        "#!/bin/sh\necho \"dnf $*\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(text), 0o755); err != nil { //nolint:gosec // it is run
			t.Fatal(err)
		}
	}
	for _, manager := range []string{"apt", "dnf"} {
		st := Host{Name: "h", PkgManager: manager}.packages()
		f := remote.NewFake("h", nil)
		if err := st.Apply(t.Context(), plan.Env{Host: f}, &plan.Change{}); err != nil {
			t.Fatal(err)
		}
		for script, want := range map[string]string{sys.With(st.Look[0].Script): "ok\n", f.Calls()[0].Cmd.Script: ""} {
			cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
			cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
				t.Errorf("%s: %q, %v, want %q", manager, out, err, want)
			}
		}
	}
}
