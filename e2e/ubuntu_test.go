//go:build e2e

package e2e

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"hactl/internal/lab"
	"hactl/internal/preflight"
)

// holdLock is a shell script that holds dpkg's lock until releaseLock runs, as
// unattended-upgrades does until its end.
const holdLock = `systemd-run --quiet --unit=holds-dpkg python3 -c 'import fcntl,time
f=open("/var/lib/dpkg/lock-frontend","w"); fcntl.lockf(f,fcntl.LOCK_EX); print("held",flush=True); time.sleep(3600)'
until journalctl -u holds-dpkg -o cat | grep -q '^held'; do sleep 0.1; done`

const releaseLock = `systemctl stop holds-dpkg`

// restartsByNeedrestart gives keepalived a library of its own that is replaced, has
// needrestart restart whatever it may, as Ubuntu does after each apt, and prints how
// needrestart judged and whether keepalived has another process.
const restartsByNeedrestart = `before=$(systemctl show -p MainPID --value keepalived)
lib=$(sed -n 's#.* \(/[^ ]*/libnl-3\.so[^ ]*\).*#\1#p' /proc/$before/maps | head -n 1)
[ -n "$lib" ] || { echo "keepalived has no libnl"; exit 1; }
cp -p "$lib" "$lib.new" && mv "$lib.new" "$lib"
needrestart -b | grep -c 'NEEDRESTART-SVC: keepalived' | sed 's/^/named /'
needrestart -r a -m a </dev/null >/run/needrestart.log 2>&1
sleep 2
[ "$(systemctl show -p MainPID --value keepalived)" = "$before" ] && echo same || echo another`

// TestUbuntu brings up a master and a worker on an imitation of an Ubuntu server: needrestart
// that restarts services by itself, unattended-upgrades, sources in the format deb822. netplan
// and AppArmor need a machine of their own: see TestVirtualMachine.
func TestUbuntu(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: nextName("ubuntu"), Masters: 1, Workers: 1, Bare: true, OS: lab.Ubuntu})
	hosts := r.everyHost()
	master, worker := hosts[0], hosts[1]
	then(t, "what the hosts do by themselves is named before", func(t *testing.T) {
		const nightly = "/etc/apt/apt.conf.d/52nightly"
		labOutput(t, r.Lab, master, `printf 'Unattended-Upgrade::Automatic-Reboot "true";\nUnattended-Upgrade::Automatic-Reboot-Time "02:00";\n' >`+nightly)
		got := r.checks(t, 0)
		if k := got["automatic-reboot"]; k.State != preflight.Weak || len(k.Findings) != 1 || !strings.Contains(k.Findings[0].Message, "02:00") {
			t.Errorf("automatic-reboot: %+v", k)
		}
		if k := got["os"]; k.State != preflight.Passed {
			t.Errorf("os: %+v", k)
		}
		labOutput(t, r.Lab, master, "rm "+nightly)
	})
	before := map[string][]string{}
	for _, h := range hosts {
		before[h] = r.image(t, h)
	}
	then(t, "up waits for the lock of dpkg and says who has it", func(t *testing.T) {
		labOutput(t, r.Lab, worker, holdLock)
		up := r.start(t, nil, "up", "--yes", "--verbose")
		eventually(t, "up says who has the lock", func() error {
			text := readText(t, up.err)
			if !regexp.MustCompile(`waiting: dpkg: .* lock was locked by another process with pid [0-9]+ \(python3\)`).MatchString(text) {
				return errors.New("it does not")
			}
			return nil
		})
		labOutput(t, r.Lab, worker, releaseLock)
		res := up.wait(t)
		if res.code != 0 {
			t.Fatalf("want exit 0: %s", res)
		}
		took(t, "up of Ubuntu from bare, behind a lock", res.took)
		r.nodesReady(t, 2)
	})
	then(t, "a second up changes nothing", func(t *testing.T) {
		if u := r.must(t, 0, "up", "--yes", "-o", "json").up(t); u.Changed != 0 || !u.Status.Healthy {
			t.Errorf("a second up: %+v", u)
		}
		r.inSync(t)
	})
	then(t, "needrestart names keepalived and leaves it alone", func(t *testing.T) {
		if got := labOutput(t, r.Lab, master, restartsByNeedrestart); got != "named 1\nsame" {
			t.Errorf("with hactl's file needrestart: %s\n%s", got, labOutput(t, r.Lab, master, "cat /run/needrestart.log"))
		}
		// The same without the file shows that it is the file.
		got := labOutput(t, r.Lab, master, "mv /etc/needrestart/conf.d/90-hactl.conf /run/\n"+restartsByNeedrestart+"\nmv /run/90-hactl.conf /etc/needrestart/conf.d/")
		if got != "named 1\nanother" {
			t.Errorf("without hactl's file needrestart: %s\n%s", got, labOutput(t, r.Lab, master, "cat /run/needrestart.log"))
		}
		r.healthy(t)
	})
	then(t, "keepalived is installed anew by apt, and works on", func(t *testing.T) {
		labOutput(t, r.Lab, master, "DEBIAN_FRONTEND=noninteractive apt-get -y -o Dpkg::Options::=--force-confold install --reinstall keepalived 2>&1 | tail -n 3")
		r.healthy(t)
		r.inSync(t)
	})
	then(t, "reset leaves every host as it was", func(t *testing.T) {
		r.must(t, 0, "reset", "--all", "--packages", "--cluster", r.Name())
		for _, h := range hosts {
			if d := imageDiffers(before[h], r.image(t, h)); len(d) > 0 {
				t.Errorf("%s differs in %d lines:\n%s", h, len(d), strings.Join(d, "\n"))
			}
		}
	})
}
