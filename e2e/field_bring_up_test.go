//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"hactl/internal/lab"
	"hactl/inventory"
)

// surroundings are what a login, an image or a site gives every command on a host, and
// what comes back by itself.
var surroundings = []struct{ what, make string }{
	{"sudo that finds nothing in /usr/local and keeps what the login has", `printf 'Defaults secure_path="/sbin:/bin:/usr/sbin:/usr/bin"\nDefaults env_keep += "http_proxy https_proxy HTTPS_PROXY LANG LC_ALL ENV BASH_ENV TMPDIR HOME CDPATH"\n' >/etc/sudoers.d/zz-site; chmod 440 /etc/sudoers.d/zz-site`},
	{"a umask of 077", `sed -i 's/^UMASK.*/UMASK 077/' /etc/login.defs; for f in /root/.bashrc /home/ops/.bashrc /root/.profile /home/ops/.profile; do touch $f; { echo 'umask 077'; cat $f; } >$f.new && cat $f.new >$f; rm $f.new; done`},
	{"proxies, another language and start-up files for everybody", `cat >>/etc/environment <<'X'
http_proxy=http://127.0.0.1:1
https_proxy=http://127.0.0.1:1
HTTPS_PROXY=http://127.0.0.1:1
no_proxy=10.77.0.0/24,10.96.0.0/12,10.244.0.0/16
LANG=de_DE.UTF-8
LC_ALL=de_DE.UTF-8
ENV=/usr/local/share/evil.sh
BASH_ENV=/usr/local/share/evil.sh
TMPDIR=/nonexistent
CDPATH=/
POSIXLY_CORRECT=1
X
printf 'echo from a start-up file; set -o noclobber; alias ls=false\ngrep() { false; }\n' >/usr/local/share/evil.sh`},
	{"a home folder that is not there", `usermod -d /nonexistent/root root 2>/dev/null || sed -i 's#^\(root:.*\):/root:#\1:/nonexistent:#' /etc/passwd`},
	{"swap of a unit and of zram", `printf '[Swap]\nWhat=/swapfile\n[Install]\nWantedBy=swap.target\n' >/etc/systemd/system/swapfile.swap; printf '[Service]\nExecStart=true\n[Install]\nWantedBy=multi-user.target\n' >/etc/systemd/system/zramswap.service; systemctl enable --quiet swapfile.swap zramswap.service`},
	{"the site's own settings of containerd", `mkdir -p /etc/containerd/conf.d /etc/containerd/certs.d/registry.example; printf 'version = 3\n[debug]\nlevel = "debug"\n' >/etc/containerd/conf.d/50-site.toml; echo 'server = "https://registry.example"' >/etc/containerd/certs.d/registry.example/hosts.toml`},
	{"cloud-init that owns the hostname and /etc/hosts", `mkdir -p /etc/cloud/cloud.cfg.d; printf 'preserve_hostname: false\nmanage_etc_hosts: true\n' >/etc/cloud/cloud.cfg; echo '127.0.1.1 template.example template' >>/etc/hosts; printf template >/proc/sys/kernel/hostname; echo template >/etc/hostname`},
}

// clientVIP is in the clients' network: hosts have a second address there, by which they
// speak to one another, and so has this machine. hactl logs in at the first one.
const clientVIP = "10.99.0.100"

// site is what the inventory of these hosts says: a folder of etcd's below folders that
// are not there, a VIP that is not in the masters' private network, files for the
// apiserver, and anonymous requests for its health alone.
func (r *rig) site(t *testing.T) func(string) string {
	t.Helper()
	for name, content := range map[string]string{
		"audit-policy.yaml": "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n",
		"authentication.yaml": "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n" +
			inventory.AnonymousSetting() + "\n",
	} {
		if err := os.WriteFile(r.Path(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var private []string
	for _, h := range r.everyHost() {
		a := addressOf(t, r, h)
		second := "10.99.0" + a[strings.LastIndex(a, "."):]
		labOutput(t, r.Lab, h, "ip address add "+second+"/24 dev eth0")
		line := fmt.Sprintf("    address: %q\n", a)
		private = append(private, line, line+"    privateAddress: "+second+"\n")
	}
	cmd, err := r.HubExec(t.Context(), "sh", "-ec", "d=$(ip -o -4 address show to 10.77.0.0/24 | sed -n '1s/^[0-9]*: *\\([^ @]*\\).*/\\1/p'); ip address add 10.99.0.1/24 dev $d")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("give the hub an address: %v: %s", err, out)
	}
	return strings.NewReplacer(append(private,
		"hosts:\n", "etcd:\n  dataDir: /srv/disk1/a/etcd\nhosts:\n", `"`+r.VIP()+`"`, clientVIP,
		"artifacts:\n", "containerd:\n  registries:\n    - {registry: docker.io, mirrors: [https://mirror.example.com], usernameEnv: MIRROR_USER, passwordEnv: MIRROR_PASSWORD}\nartifacts:\n",
		"kubernetes:\n", `kubernetes:
  files: {audit-policy.yaml: audit-policy.yaml, authentication.yaml: authentication.yaml}
  apiServerExtraArgs:
    audit-policy-file: /etc/kubernetes/hactl-files/audit-policy.yaml
    audit-log-path: "-"
    authentication-config: /etc/kubernetes/hactl-files/authentication.yaml
`)...).Replace
}

// TestBringUpOnHostsAsTheyAre brings up a master and a worker by sudo where nothing is
// as hactl would have it, then has a worker leave and another come in one edit.
func TestBringUpOnHostsAsTheyAre(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: nextName("people"), Masters: 1, Workers: 2})
	for _, h := range r.everyHost() {
		for _, s := range surroundings {
			labOutput(t, r.Lab, h, "set -e\n"+s.make)
		}
	}
	site := r.site(t)
	first := func(s string) string { return site(without("worker-2")(s)) }
	second := func(s string) string { return site(without("worker-1")(s)) }
	r.inventory(t, "inventory-sudo.yaml", first)
	r.env = []string{"MIRROR_USER=site", "MIRROR_PASSWORD=open-sesame-314"}

	then(t, "up", func(t *testing.T) {
		took(t, "up of a master and a worker that are as people have them", r.must(t, 0, "up", "--yes").took)
		r.nodesReady(t, 2)
		r.inSync(t)
	})
	then(t, "nothing of the surroundings came in", func(t *testing.T) {
		for _, q := range []struct{ what, host, ask, want string }{
			{"parents of etcd's folder can be entered", "master-1", "stat -c %a /srv/disk1 /srv/disk1/a | sort -u", "755"},
			{"no static pod has a proxy", "master-1", "grep -il proxy= /etc/kubernetes/manifests/*.yaml; grep -l 127.0.0.1:1$ /etc/kubernetes/manifests/*.yaml || :", ""},
			{"no process of the cluster has one", "master-1", `for p in $(pgrep -x 'kube-apiserver|kubelet|containerd|etcd'); do tr '\0' '\n' </proc/$p/environ | grep -i '^https*_proxy' || :; done`, ""},
			{"the VIP is in the clients' network", "master-1", "ip -o -4 address show to " + clientVIP + " | wc -l", "1"},
			{"the audit policy is in force", "master-1", `grep -q '"kind":"Event"' /var/log/pods/kube-system_kube-apiserver-*/kube-apiserver/*.log && echo yes`, "yes"},
			{"the mirror's login is readable by root alone", "worker-1", "stat -c %a /etc/containerd/certs.d/docker.io/hosts.toml; grep -q mirror.example.com /etc/containerd/certs.d/docker.io/hosts.toml && echo named", "600\nnamed"},
			{"another registry of the site is as it was", "worker-1", "cat /etc/containerd/certs.d/registry.example/hosts.toml", `server = "https://registry.example"`},
			{"containerd reads the site's own settings", "worker-1", "cat /etc/containerd/conf.d/50-site.toml | tail -n 1; containerd config dump | grep -q 'level = .debug.' && echo read", `level = "debug"` + "\nread"},
			{"health needs no login, everything else does", "worker-1", "for p in livez api; do curl --silent --insecure --output /dev/null --write-out '%{http_code} ' https://" + clientVIP + ":6443/$p; done", "200 401"},
			{"cloud-init leaves the name alone", "worker-1", "cat /etc/cloud/cloud.cfg.d/99-hactl.cfg | sed 1d", "preserve_hostname: true\nmanage_etc_hosts: false"},
			{"the host knows its own name", "worker-1", "getent hosts worker-1 | awk '{print $1}' | head -n 1 | grep -c .; cat /etc/hostname", "1\nworker-1"},
			{"swap does not come back (a unit in /etc cannot be masked)", "worker-1", "systemctl is-enabled swapfile.swap zramswap.service | sort -u", "disabled"},
		} {
			if got := labOutput(t, r.Lab, q.host, q.ask); got != q.want {
				t.Errorf("%s: %q, want %q", q.what, got, q.want)
			}
		}
	})
	then(t, "the mirror's password is in nothing that the run wrote", func(t *testing.T) {
		for _, file := range []string{"001-up.log", "001-up.out", "001-up.err"} {
			if strings.Contains(readText(t, r.Path("runs", file)), "open-sesame-314") {
				t.Errorf("it is in %s", file)
			}
		}
	})
	then(t, "the name of a host changes, and the node stays", func(t *testing.T) {
		labOutput(t, r.Lab, "worker-1", "printf template >/proc/sys/kernel/hostname; systemctl restart kubelet")
		r.nodesReady(t, 2)
		r.must(t, 0, "up", "--yes")
		r.inSync(t)
	})
	subnet := func(node string) string {
		return strings.TrimSpace(r.kubectlSays(t, "get", "node", node, "-o", "jsonpath={.spec.podCIDR}")) + " " +
			labOutput(t, r.Lab, node, "cat /etc/cni/net.d/10-hactl.conflist | grep -o '\"subnet\": *\"[^\"]*\"'")
	}
	then(t, "a worker leaves the inventory and another one comes, in one edit", func(t *testing.T) {
		before := subnet("worker-1")
		r.inventory(t, "inventory-sudo.yaml", second)
		named := func(res result) {
			t.Helper()
			said := strings.Join(strings.Fields(res.out+res.err), " ")
			if !strings.Contains(said, "worker-1") || !strings.Contains(said, "hactl remove worker-1") {
				t.Errorf("the node that is in no inventory is not named with the command: %s", res)
			}
		}
		named(r.must(t, 2, "plan"))
		r.must(t, 0, "up", "--yes")
		r.nodesReady(t, 3)
		named(r.must(t, 0, "status"))
		if a, b := subnet("worker-1"), subnet("worker-2"); a != before || a == b {
			t.Errorf("worker-1 had %s, has %s; worker-2 has %s", before, a, b)
		}
	})
}
