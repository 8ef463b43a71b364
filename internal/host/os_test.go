package host

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hactl/internal/bundle"
	"hactl/internal/facts"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

func TestHostsThatFetchHaveWhatToFetchWith(t *testing.T) {
	for _, c := range []struct {
		role   inventory.Role
		mirror bool
		want   []string
	}{
		{inventory.Worker, false, nil},
		{inventory.Worker, true, []string{"ca-certificates", "curl"}},
		{inventory.ControlPlane, false, []string{"curl"}},
		{inventory.ControlPlane, true, []string{"ca-certificates", "curl"}},
	} {
		got := slices.DeleteFunc(Packages("apt", c.role, c.mirror), func(p string) bool { return p != "curl" && p != "ca-certificates" })
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s, mirror %t: %v, want %v", c.role, c.mirror, got, c.want)
		}
	}
}

// Lanes do not wait for one another: what fetches comes in the one that installs.
func TestBinariesAreFetchedAfterThePackages(t *testing.T) {
	for source, want := range map[string]bool{"upload": false, "present": false, "mirror": true} {
		inv := inventorytest.Three(t)
		inv.Artifacts.Source = source
		m := machine(inv, facts.Brief{PkgManager: "apt"}, bundle.Artifact{Name: "kubelet", Kind: bundle.Binary, Dest: "/usr/local/bin/kubelet"})
		binaries := m.Binaries()
		if len(binaries) == 0 {
			t.Fatal("no binary")
		}
		for _, s := range binaries {
			if same := s.Lane == m.packages().Lane; same != want {
				t.Errorf("%s: the lane is that of the packages: %t", source, same)
			}
		}
	}
}

// run runs a script of a host with programs of our own.
func run(t *testing.T, script string, programs map[string]string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{"sleep": ""} // which takes no time
	maps.Copy(all, programs)
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", sys.With(script))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// A host that has just been made upgrades itself first.
func TestPackagesWaitForWhoHasTheLock(t *testing.T) {
	_, script := packageScripts("apt", "runc", nil)
	locked := `echo 'dpkg: error: dpkg frontend lock was locked by another process with pid 77' >&2; exit 2`
	out, err := run(t, script, map[string]string{
		"dpkg":    `[ -e once ] || { : >once; ` + locked + `; }`,
		"apt-get": `echo "installs $*"`,
	})
	if err != nil || strings.Count(out, "waiting: ") != 1 || !strings.Contains(out, "install runc") {
		t.Errorf("%v: %s", err, out)
	}
	init, err := os.ReadFile("/proc/1/comm")
	if err != nil {
		t.Fatal(err)
	}
	out, err = run(t, script, map[string]string{
		"dpkg": `echo x >>tries; [ $(wc -l <tries) -ge 5 ] || { echo 'dpkg: error: dpkg frontend lock was locked by another process with pid 1
Note: removing the lock file is always wrong' >&2; exit 2; }`,
		"apt-get": "",
	})
	if want := "waiting: dpkg: error: dpkg frontend lock was locked by another process with pid 1 (" + strings.TrimSpace(string(init)) + ")"; err != nil || strings.TrimSpace(out) != want {
		t.Errorf("four tries say %q, %v, want %q", out, err, want)
	}
	out, err = run(t, script, map[string]string{"dpkg": `echo 'dpkg: error: unable to access the database' >&2; exit 2`, "apt-get": `echo "installs $*"`})
	if err == nil || !strings.Contains(out, "unable to access") || strings.Contains(out, "installs") {
		t.Errorf("%v: %s", err, out)
	}
	out, err = run(t, script, map[string]string{"dpkg": locked, "apt-get": "", "date": `n=$(cat now 2>/dev/null || echo 0); echo $((n + 400)) >now; echo $n`})
	if err == nil || strings.Count(out, "waiting: ") != 1 || !strings.Contains(out, "pid 77") {
		t.Errorf("a lock that is never given up: %v: %s", err, out)
	}
	// The lists have a lock of their own, for which apt does not wait.
	out, err = run(t, script, map[string]string{"dpkg": "", "apt-get": `case $*:$(ls) in
update:*once*) : >lists ;;
update:*) : >once; echo 'E: Could not get lock /var/lib/apt/lists/lock. It is held by process 77 (apt-get)' >&2; exit 100 ;;
*:*lists*) echo "installs $*" ;;
*) echo 'E: Unable to locate package runc' >&2; exit 100 ;;
esac`})
	if err != nil || strings.Count(out, "waiting: ") != 1 || !strings.Contains(out, "install runc") {
		t.Errorf("its lists are locked: %v: %s", err, out)
	}
}

// Red Hat's keepalived comes with a configuration, which the plan has not seen.
func TestConfigurationThatComesWithAPackageGoes(t *testing.T) {
	_, script := packageScripts("dnf", "keepalived", nil)
	script = strings.ReplaceAll(script, "/etc/keepalived/keepalived.conf", "conf")
	for before, want := range map[string]string{"": "gone", "ours": "ours"} {
		out, err := run(t, `[ -z "`+before+`" ] || echo `+before+` >conf; `+script+`; r=$?; cat conf 2>/dev/null || echo gone; exit $r`,
			map[string]string{"rpm": "exit 1", "dnf": `[ -e conf ] || echo theirs >conf`})
		if err != nil || strings.TrimSpace(out) != want {
			t.Errorf("before %q, after %q, want %q; %v", before, out, want, err)
		}
	}
	if out, err := run(t, script, map[string]string{"rpm": "exit 1", "dnf": "exit 1"}); err == nil {
		t.Errorf("dnf failed, and no error says so: %s", out)
	}
}

// EL 9 has curl-minimal, which provides curl and conflicts with it: dnf install curl fails.
func TestPackageThatAnotherProvidesIsNotAskedFor(t *testing.T) {
	tools := map[string]string{
		"rpm": `[ "$*" = '-q --quiet --whatprovides curl' ]`,
		"dnf": `case "$*" in *curl*) echo "curl-minimal conflicts with curl" >&2; exit 1 ;; esac; echo "dnf $*"`,
	}
	look, script := packageScripts("dnf", "socat curl", nil)
	if out, err := run(t, look, tools); err != nil || strings.TrimSpace(out) != "missing: socat" {
		t.Errorf("seen: %q, %v", out, err)
	}
	if out, err := run(t, script, tools); err != nil || !strings.HasSuffix(strings.TrimSpace(out), " socat") {
		t.Errorf("installed: %q, %v", out, err)
	}
}

// A useradd that was killed leaves a user without its group, a groupadd a group
// without its user.
func TestEtcdsUserIsCompleted(t *testing.T) {
	tools := map[string]string{
		"getent":   `[ -e $1.$2 ]`,
		"id":       `[ -e passwd.etcd ] && [ "$(cat passwd.etcd)" = "$(cat group.etcd 2>/dev/null || echo none)" ]`,
		"groupadd": `[ ! -e group.etcd ] && echo 998 >group.etcd`,
		"useradd":  `[ ! -e passwd.etcd ] && cat group.etcd >passwd.etcd`,
		"usermod":  `[ -e passwd.etcd ] && cat group.etcd >passwd.etcd`,
	}
	step := (Host{Host: &inventory.Host{Name: "m1"}}).etcdUser()
	look := step.Look[0].Script
	var script string
	m1 := remote.NewFake("m1", func(c remote.Call) (*remote.Result, error) {
		script = c.Cmd.Script
		return &remote.Result{}, nil
	})
	if err := step.Apply(t.Context(), plan.Env{Host: m1}, nil); err != nil {
		t.Fatal(err)
	}
	for before, want := range map[string]string{
		"":                       "absent",
		"echo 998 >group.etcd;":  "absent",
		"echo 997 >passwd.etcd;": "its group is absent",
		"echo 997 >passwd.etcd; echo 998 >group.etcd;": "its group is absent",
		"echo 998 >passwd.etcd; echo 998 >group.etcd;": "ok",
	} {
		if out, err := run(t, before+look, tools); err != nil || strings.TrimSpace(out) != want {
			t.Errorf("%q: %q, want %q; %v", before, out, want, err)
		}
		if out, err := run(t, before+script+"\n[ $? = 0 ] || exit\n"+look, tools); err != nil || strings.TrimSpace(out) != "ok" {
			t.Errorf("%q: afterwards %q; %v", before, out, err)
		}
	}
}

// What a bring-up adds to a host, and what parameters were before, is in the record
// by which it can be taken away again.
func TestStepsOfTheOperatingSystemNameWhatTheyMake(t *testing.T) {
	t.Parallel()
	gone := plan.Former{Absent: true}
	if got, want := added("package")("missing: socat curl"), []plan.Made{{Kind: "package", Name: "socat", Former: gone}, {Kind: "package", Name: "curl", Former: gone}}; !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	got := formerParameters("is: net.ipv4.ip_forward=0 net.bridge.bridge-nf-call-iptables=absent")
	want := []plan.Made{{Kind: "sysctl", Name: "net.ipv4.ip_forward", Former: plan.Former{Value: "0"}}, {Kind: "sysctl", Name: "net.bridge.bridge-nf-call-iptables", Former: gone}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}
