package others

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hactl/internal/fakehost"
	"hactl/internal/remote"
	"hactl/internal/testneeds"
)

func TestMain(m *testing.M) { os.Exit(fakehost.Main(m)) }

// machine is a host on which nothing of others is.
type machine struct {
	*fakehost.FolderHost
	t *testing.T
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{fakehost.NewFolderHost(t, "h"), t}
	m.file("/proc/1/comm", "systemd\n")
	m.link("/proc/1/ns/pid", "pid:[1]")
	for program, text := range map[string]string{"dpkg-query": "exit 1", "nft": "exit 0", "apt-get": "exit 0", "ip": "exit 1"} {
		m.Program(program, text)
	}
	return m
}

func (m *machine) file(path, text string) { m.t.Helper(); m.Write(path, text, 0o644) }

func (m *machine) link(path, to string) {
	m.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(m.On(path)), 0o755), os.Symlink(to, m.On(path))); err != nil {
		m.t.Fatal(err)
	}
}

// unit is one of the distribution's packages, enabled, active or neither.
func (m *machine) unit(name string, enabled, active bool) {
	m.t.Helper()
	m.file("/lib/systemd/system/"+name, "[Service]\n")
	if enabled {
		m.file("/state/units/"+name+".enabled", "")
	}
	if active {
		m.file("/state/units/"+name+".active", "active\n")
	}
}

// process is one that runs in a unit; pid namespace 1 is the host's.
func (m *machine) process(pid, name, unit, pidns, environ string) {
	m.t.Helper()
	d := "/proc/" + pid
	m.file(d+"/comm", name+"\n")
	m.file(d+"/cgroup", "0::/system.slice/"+unit+"\n")
	m.file(d+"/environ", environ)
	m.file(d+"/status", "Name:\t"+name+"\nPPid:\t1\n")
	m.link(d+"/ns/pid", "pid:["+pidns+"]")
	m.link(d+"/exe", "/opt/"+name)
}

// found runs the script there.
func (m *machine) found(a Ask) *Found {
	m.t.Helper()
	out := m.Out(a.Script())
	f, err := Parse(out)
	if err != nil {
		m.t.Fatalf("%v\n%s", err, out)
	}
	return f
}

func (f *Found) words() (out []string) {
	for _, t := range f.Things {
		out = append(out, t.Word())
	}
	return out
}

var master = Ask{Master: true, DataDir: "/var/lib/etcd", CNI: "10-hactl.conflist", Packages: []string{"runc", "keepalived"}}

func TestWhatBelongsToOthersIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		make    func(m *machine)
		master  []string // words on a master
		worker  []string // and on a worker, where they differ
		details string
	}{
		"a bare host": {func(*machine) {}, nil, nil, ""},
		"hactl's own files": {func(m *machine) {
			m.file("/etc/containerd/config.toml", "# Written by hactl; changes are undone.\n")
			m.file("/etc/systemd/system/etcd.service", "Environment=HACTL_CONFIG=12\n")
			m.file("/var/lib/etcd/member/snap/db", "")
			m.file("/etc/cni/net.d/10-hactl.conflist", "{}")
			m.process("7", "etcd", "etcd.service", "1", "A=b\x00HACTL_CONFIG=12\x00")
		}, nil, nil, ""},
		"containerd's configuration": {func(m *machine) { m.file("/etc/containerd/config.toml", "version = 2\n") }, []string{"file:/etc/containerd/config.toml"}, nil, ""},
		"a configuration as its package brought it": {func(m *machine) {
			m.file("/etc/containerd/config.toml", "version = 2\n")
			m.Program("dpkg-query", `case $1 in -S) echo "containerd.io: $2";; -W) echo " /etc/containerd/config.toml $(printf 'version = 2\n' | md5sum | cut -d' ' -f1)";; esac`)
		}, nil, nil, ""},
		"a configuration of a package, changed": {func(m *machine) {
			m.file("/etc/containerd/config.toml", "version = 2\nmirrors\n")
			m.Program("dpkg-query", `case $1 in -S) echo "containerd.io: $2";; -W) echo " /etc/containerd/config.toml 0123";; esac`)
		}, []string{"file:/etc/containerd/config.toml"}, nil, ""},
		"a keepalived with another address": {func(m *machine) {
			m.file("/etc/keepalived/keepalived.conf", "vrrp_instance A {\n virtual_router_id 60\n virtual_ipaddress {\n  10.77.0.150/24\n }\n}\n")
		}, []string{"file:/etc/keepalived/keepalived.conf"}, []string{}, "virtual_router_id 60 10.77.0.150/24"},
		"a keepalived of another unit": {func(m *machine) { m.process("7", "keepalived", "vip-db.service", "1", "A=b\x00") }, []string{"process:keepalived"}, []string{}, "pid 7, vip-db.service"},
		"a keepalived in a container":  {func(m *machine) { m.process("7", "keepalived", "x.service", "2", "A=b\x00") }, nil, nil, ""},
		"Docker":                       {func(m *machine) { m.process("7", "dockerd", "docker.service", "1", "") }, []string{"engine:docker"}, nil, "pid 7, docker.service"},
		"CRI-O":                        {func(m *machine) { m.process("7", "crio", "crio.service", "1", "") }, []string{"engine:cri-o"}, nil, ""},
		"the distribution's containerd": {func(m *machine) {
			m.unit("containerd.service", true, true)
		}, []string{"unit:containerd.service"}, nil, "/lib/systemd/system/containerd.service, active"},
		"a containerd that is only installed": {func(m *machine) {
			m.unit("containerd.service", false, false)
		}, nil, nil, ""},
		"the distribution's etcd": {func(m *machine) {
			m.unit("etcd.service", true, false)
			m.file("/var/lib/etcd/member/snap/db", "")
		}, []string{"unit:etcd.service", "data:/var/lib/etcd"}, []string{}, ""},
		"kubeadm's package": {func(m *machine) {
			m.file("/usr/bin/kubelet", "")
			m.file("/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf", "[Service]\nExecStart=\nExecStart=/usr/bin/kubelet $X\n")
			m.Program("dpkg-query", `[ "$1" = -S ] && case $2 in /usr/bin/kubelet) echo "kubelet: $2";; *) exit 1;; esac`)
		}, []string{"file:/usr/bin/kubelet", "file:/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf"}, nil, "of the package kubelet"},
		"proxies for containerd": {func(m *machine) {
			m.file("/etc/systemd/system/containerd.service.d/http-proxy.conf", "[Service]\nEnvironment=HTTPS_PROXY=http://proxy\n")
		}, nil, nil, ""},
		"another pod network's configuration": {func(m *machine) {
			m.file("/etc/cni/net.d/10-calico.conflist", `{"plugins": [{"type": "calico"}]}`)
			m.file("/etc/cni/net.d/87-podman-bridge.conflist", `{"plugins": [{"type": "bridge"}]}`)
			m.file("/etc/cni/net.d/calico-kubeconfig", "")
		}, []string{"cni:10-calico.conflist"}, nil, "calico"},
		"another pod network's interface": {func(m *machine) {
			m.Program("ip", `[ "$5" = cni0 ] && echo '7: cni0    inet 10.85.0.1/16 brd 10.85.255.255 scope global cni0'`)
		}, []string{"interface:cni0"}, nil, "10.85.0.1/16"},
		"rules of a kube-proxy and of Calico": {func(m *machine) {
			m.Program("nft", `printf 'table ip nat {\n\tchain KUBE-SERVICES {\n\t}\n\tchain cali-PREROUTING {\n\t}\n}\n'`)
		}, []string{"rules:kube-proxy", "rules:calico"}, nil, ""},
		"hactl's own bridge and rules": {func(m *machine) {
			m.file("/etc/systemd/system/kubelet.service", "# Written by hactl\n")
			m.Program("ip", `[ "$5" = cni0 ] && echo '7: cni0    inet 10.244.0.1/24 scope global cni0'`)
			m.Program("nft", `printf 'table ip kube-proxy {\n}\n'`)
		}, nil, nil, ""},
		"a package that apt would remove": {func(m *machine) {
			m.Program("apt-get", `case $* in "-s -y --no-install-recommends install runc keepalived") printf 'Inst runc\nRemv docker-ce [5:27]\nRemv containerd.io [1.7]\n';; *) exit 9;; esac`)
		}, []string{"package:docker-ce", "package:containerd.io"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			c.make(m)
			f := m.found(master)
			if got := f.words(); !slices.Equal(got, c.master) {
				t.Errorf("on a master %q, want %q", got, c.master)
			}
			if c.details != "" && (len(f.Things) == 0 || f.Things[0].Detail != c.details) {
				t.Errorf("%+v, want the detail %q", f.Things, c.details)
			}
			worker := master
			worker.Master = false
			if c.worker == nil {
				c.worker = c.master
			}
			if got := m.found(worker).words(); !slices.Equal(got, c.worker) && len(got)+len(c.worker) > 0 {
				t.Errorf("on a worker %q, want %q", got, c.worker)
			}
		})
	}
}

// A port may be held by a process that has the right name and is another one.
func TestProcessWithTheNameOfOursIsAHolder(t *testing.T) {
	m := newMachine(t)
	m.process("70", "etcd", "patroni-etcd.service", "1", "A=b\x00")
	m.process("71", "etcd", "etcd.service", "1", "HACTL_CONFIG=1\x00")
	m.process("72", "kube-apiserver", "kubepods-x.service", "1", "")
	f := m.found(master)
	if len(f.Holders) != 2 || f.Holders[70] != "/opt/etcd, patroni-etcd.service" || f.Holders[72] == "" {
		t.Errorf("%v", f.Holders)
	}
	m.file("/etc/systemd/system/kubelet.service", "# Written by hactl\n") // it started the pod
	if f = m.found(master); len(f.Holders) != 1 {
		t.Errorf("%v", f.Holders)
	}
}

// With a pod network of the operator's own, what is in /etc/cni/net.d is theirs.
func TestOperatorsOwnPodNetworkIsLeftAlone(t *testing.T) {
	m := newMachine(t)
	m.file("/etc/cni/net.d/05-cilium.conflist", "{}")
	own := master
	own.CNI = ""
	if got := m.found(own).words(); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestAnswerThatMakesNoSenseIsAnError(t *testing.T) {
	for _, out := range []string{"", "file\t/etc/x\t", "thing\tx\ty\nend", "file\t/etc/x y\t\nend", "file\t$(reboot)\t\nend", "holder\tx\ty\nend", "file\nend", strings.Repeat("file\tx\t\n", 2000) + "end"} {
		if f, err := Parse(out); err == nil {
			t.Errorf("%.40q: %+v", out, f)
		}
	}
}

func TestRefusalNamesTheWords(t *testing.T) {
	f, err := Parse("engine\tdocker\tpid 7\npackage\tdocker-ce\t\nend")
	if err != nil {
		t.Fatal(err)
	}
	allowed, refused := f.Split([]string{"package:docker-ce"})
	if len(allowed) != 1 || len(refused) != 1 {
		t.Fatal(allowed, refused)
	}
	err = Refusal(refused)
	var r *RefusedError
	if !errors.As(err, &r) || r.ExitCode() != 7 || !strings.Contains(remote.HintOf(err), "--take-over engine:docker") || strings.Contains(err.Error(), "docker-ce") {
		t.Errorf("%v, hint %s", err, remote.HintOf(err))
	}
	if Refusal(nil) != nil {
		t.Error("nothing is refused")
	}
}

func TestWordsArePermissionsOrErrors(t *testing.T) {
	if err := CheckWords([]string{"engine:docker", "file:/etc/keepalived/keepalived.conf"}); err != nil {
		t.Error(err)
	}
	for _, w := range []string{"docker", "engine:", "engines:docker", "file:/etc/x y", "all", ""} {
		if err := CheckWords([]string{w}); err == nil || !strings.Contains(err.Error(), "the kinds are engine, package, ") {
			t.Errorf("%q: %v", w, err)
		}
	}
}

func TestScriptIsPOSIXShell(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), testneeds.Path(t, "shellcheck"), "-s", "sh", "-e", "SC2153,SC2154,SC2015", "others.sh").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
