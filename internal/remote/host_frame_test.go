package remote

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hactl/internal/remote/sshdtest"
)

// Whatever a login or sudo gives a command, it runs in the same frame.
func TestCommandsInheritNothingFromTheLogin(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	startUp := write(t, filepath.Join(bin, "start-up"), "echo start-up file; touch "+bin+"/ran\n", 0o644)
	// As on EL: secure_path has no /usr/local/bin.
	write(t, filepath.Join(bin, "sudo"), "#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in --) shift; break ;; esac; shift; done\nPATH=/sbin:/bin:/usr/sbin:/usr/bin exec \"$@\"\n", 0o755)
	logins := map[string]sshdtest.Config{
		"a plain login":  {},
		"umask 077":      {Profile: "umask 077"},
		"an odd locale":  {Env: []string{"LC_ALL=de_DE.UTF-8", "LANG=de_DE.UTF-8", "LANGUAGE=de"}},
		"start-up files": {Env: []string{"ENV=" + startUp, "BASH_ENV=" + startUp}, Profile: "unset ENV; export ENV=" + startUp},
		"no HOME":        {Env: []string{"HOME="}},
		"a short PATH":   {Profile: "PATH=/usr/bin:/bin; CDPATH=/tmp; export CDPATH"},
		"proxies": {Env: []string{"http_proxy=http://p:1", "https_proxy=http://p:1", "ftp_proxy=http://p:1", "all_proxy=http://p:1", "no_proxy=x",
			"HTTP_PROXY=http://p:1", "HTTPS_PROXY=http://p:1", "FTP_PROXY=http://p:1", "ALL_PROXY=http://p:1", "NO_PROXY=x"}},
	}
	for name, cfg := range logins {
		for _, sudo := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s sudo=%v", name, sudo), func(t *testing.T) {
				t.Parallel()
				cfg := cfg // both subtests of a login begin with the same
				if sudo {
					cfg.Profile = "PATH=" + bin + ":$PATH\n" + cfg.Profile
					cfg.Profile = strings.ReplaceAll(cfg.Profile, "PATH=/usr/bin", "PATH="+bin+":/usr/bin")
				}
				w := newWorld(t, cfg)
				w.host().SSH.Sudo = &sudo
				c := w.connect(t)
				env := strings.Split(strings.TrimSpace(mustRun(t, c, "env")), "\n")
				env = slices.DeleteFunc(env, func(v string) bool { // what every shell sets by itself
					return strings.HasPrefix(v, "PWD=") || strings.HasPrefix(v, "OLDPWD=") || strings.HasPrefix(v, "SHLVL=") || strings.HasPrefix(v, "_=")
				})
				slices.Sort(env)
				want := []string{"HOME=/root", "LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
				if !slices.Equal(env, want) {
					t.Errorf("environment %q\nwant %q", env, want)
				}
				if got := strings.TrimSpace(mustRun(t, c, "umask")); got != "0022" {
					t.Errorf("umask %s", got)
				}
				// A script of the host's that is not in the frame of ours.
				if got := mustRun(t, c, "command -v bash >/dev/null || exit 0; bash -c :; ls "+bin+"/ran 2>/dev/null; :"); got != "" {
					t.Error("a start-up file of the login ran")
				}
			})
		}
	}
}

// The folders that Put makes can be entered by the users of the services.
func TestParentsCanBeEnteredAfterALoginWithANarrowUmask(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{Profile: "umask 077"})
	c := w.connect(t)
	dir := t.TempDir()
	mustRun(t, c, "mkdir -p "+dir+"/srv/disk1/etcd")
	if got := mustRun(t, c, "stat -c %a "+dir+"/srv "+dir+"/srv/disk1"); got != "755\n755\n" {
		t.Errorf("modes %q", got)
	}
}
