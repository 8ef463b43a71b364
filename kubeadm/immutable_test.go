package kubeadm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hactl/internal/goldentest"
	"hactl/internal/network"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

// madeNode is the disk of a host; a look runs on it.
type madeNode struct {
	root string
	host *remote.Fake
}

func newMadeNode(t *testing.T, name string, files map[string]string) *madeNode {
	t.Helper()
	n := &madeNode{root: t.TempDir()}
	for path, content := range files {
		n.write(t, path, content)
	}
	n.host = remote.NewFake(name, func(c remote.Call) (*remote.Result, error) {
		script := strings.NewReplacer("/etc/", n.root+"/etc/", "/var/lib/", n.root+"/var/lib/", "/usr/local/", n.root+"/usr/local/").Replace(c.Cmd.Script)
		out, err := exec.CommandContext(t.Context(), "sh", "-c", script).Output()
		return &remote.Result{Stdout: out}, err
	})
	return n
}

func (n *madeNode) write(t *testing.T, path, content string) {
	t.Helper()
	to := filepath.Join(n.root, path)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (n *madeNode) remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(filepath.Join(n.root, path)); err != nil {
		t.Fatal(err)
	}
}

// clientCertificate is what the kubelet of the node has, its key beside it.
func clientCertificate(t *testing.T, node string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"system:nodes"}, CommonName: "system:node:" + node}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + "-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n-----END EC PRIVATE KEY-----\n"
}

func kubeconfigText(server, user string) string {
	return "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: AAAA\n    server: " + server + "\n  name: demo\ncontexts:\n- context:\n    cluster: demo\n    user: " + user +
		"\n  name: x\ncurrent-context: x\nkind: Config\nusers:\n- name: " + user + "\n  user:\n    client-key-data: c2VjcmV0\n"
}

// madeMaster has the files of a master that this inventory made, as kubeadm
// v1.36.3 writes them.
func madeMaster(t *testing.T, inv *inventory.Inventory, preset string) *madeNode {
	t.Helper()
	m := inv.Masters()[0]
	conf, err := clusterOf(t, inv, true).InitConfig(m)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		markerFile: "0123  " + initFile + "\n", initFile: string(conf),
		kubeDir + "/admin.conf":   kubeconfigText("https://"+Endpoint(inv), "kubernetes-admin"),
		kubeDir + "/kubelet.conf": kubeconfigText("https://"+netip.AddrPortFrom(m.PrivateAddress, 6443).String(), "system:node:"+m.Name),
		"/var/lib/kubelet/config.yaml": "apiVersion: kubelet.config.k8s.io/v1beta1\nclusterDNS:\n- " + tenth(inv.Network.ServiceSubnet) + "\nclusterDomain: " + inv.Network.DNSDomain +
			"\nkind: KubeletConfiguration\nmaxPods: 110\n",
		"/var/lib/kubelet/kubeadm-flags.env":              `KUBELET_KUBEADM_ARGS="--node-ip=` + m.PrivateAddress.String() + ` --node-labels=a=b"` + "\n",
		"/var/lib/kubelet/pki/kubelet-client-current.pem": clientCertificate(t, m.Name),
		network.ConfigFile:                                `{"routes": [], "masquerade": "", "kubeProxy": "nftables"}`,
	}
	switch preset {
	case "routes":
		files[network.ConfigFile] = `{"routes": [], "masquerade": "10.244.0.0/16", "kubeProxy": "nftables"}`
	case "flannel":
		files[flannelScript] = "x\n"
	case "none":
		files["/etc/cni/net.d/05-cilium.conflist"] = "x\n"
	}
	if preset != "none" {
		files[conflist] = "{}\n"
	}
	return newMadeNode(t, m.Name, files)
}

func madeWorker(t *testing.T, inv *inventory.Inventory) *madeNode {
	t.Helper()
	w := inv.Workers()[0]
	return newMadeNode(t, w.Name, map[string]string{
		olderRoutes:                                       "x\n",
		kubeDir + "/kubelet.conf":                         kubeconfigText("https://"+Endpoint(inv), "default-auth"),
		"/var/lib/kubelet/config.yaml":                    "clusterDomain: cluster.local\nmaxPods: 250\n", // as the operator set it on a large machine
		"/var/lib/kubelet/kubeadm-flags.env":              `KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=unix:///run/containerd/containerd.sock --node-ip=` + w.PrivateAddress.String() + "\"\n",
		"/var/lib/kubelet/pki/kubelet-client-current.pem": clientCertificate(t, w.Name),
	})
}

// planOf looks at the nodes for the hosts of the inventory.
func planOf(t *testing.T, inv *inventory.Inventory, nodes map[*inventory.Host]*madeNode) *plan.Plan {
	t.Helper()
	c, hosts, stage := clusterOf(t, inv, true), plan.Hosts{}, plan.Stage{}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		if nodes[h] != nil {
			hosts[h.Name] = nodes[h].host
			stage.Steps = append(stage.Steps, c.Fixed(h))
		}
	}
	p, err := plan.Make(t.Context(), []plan.Stage{stage}, hosts, plan.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for h, n := range nodes {
		if calls := n.host.Calls(); len(calls) != 1 {
			t.Errorf("%s: %d round trips", h.Name, len(calls))
		}
	}
	return p
}

// said is what the plan is refused with, a line for each setting, and nothing
// that could not be looked at.
func said(t *testing.T, p *plan.Plan) string {
	t.Helper()
	err := Refused(p)
	if err == nil {
		if p.Err() != nil {
			t.Errorf("could not look: %v", p.Err())
		}
		return ""
	}
	var coder interface{ ExitCode() int }
	hint := remote.HintOf(err)
	told := strings.Contains(hint, "put the old values back") || strings.Contains(hint, "by leaving and coming in again")
	if !errors.As(err, &coder) || coder.ExitCode() != 7 || !told {
		t.Errorf("no exit code 7, or no hint: %v", err)
	}
	for _, secret := range []string{"c2VjcmV0", "PRIVATE"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("a key is in the error: %v", err)
		}
	}
	return err.Error()
}

func TestWhatARunningClusterCannotFollowIsRefused(t *testing.T) {
	type inv = inventory.Inventory
	for name, c := range map[string]struct {
		made   string // preset
		change func(*inv)
		want   string // of the master; empty: not refused
	}{
		"nothing":               {"routes", func(*inv) {}, ""},
		"vip.address":           {"routes", func(i *inv) { i.VIP.Address = netip.MustParseAddr("192.0.2.99") }, "vip.address is 192.0.2.99 in the inventory, the cluster was made with 192.0.2.10 (master-1)"},
		"vip.port":              {"routes", func(i *inv) { i.VIP.Port = 8443 }, "vip.port is 8443 in the inventory, the cluster was made with 6443 (master-1)"},
		"serviceSubnet":         {"routes", func(i *inv) { i.Network.ServiceSubnet = netip.MustParsePrefix("10.97.0.0/16") }, "network.serviceSubnet is 10.97.0.0/16 in the inventory, the cluster was made with 10.96.0.0/16 (master-1)"},
		"a wider serviceSubnet": {"routes", func(i *inv) { i.Network.ServiceSubnet = netip.MustParsePrefix("10.96.0.0/12") }, "network.serviceSubnet is 10.96.0.0/12 in the inventory, the cluster was made with 10.96.0.0/16 (master-1)"},
		"podSubnet":             {"routes", func(i *inv) { i.Network.PodSubnet = netip.MustParsePrefix("10.245.0.0/16") }, "network.podSubnet is 10.245.0.0/16 in the inventory, the cluster was made with 10.244.0.0/16 (master-1)"},
		"podSubnet of flannel":  {"flannel", func(i *inv) { i.Network.PodSubnet = netip.MustParsePrefix("10.245.0.0/16") }, "network.podSubnet is 10.245.0.0/16 in the inventory, the cluster was made with 10.244.0.0/16 (master-1)"},
		"dnsDomain":             {"routes", func(i *inv) { i.Network.DNSDomain = "example.org" }, "network.dnsDomain is example.org in the inventory, the cluster was made with cluster.local (master-1)"},
		"proxyMode":             {"routes", func(i *inv) { i.Network.ProxyMode = "iptables" }, "network.proxyMode is iptables in the inventory, the cluster was made with nftables (master-1)"},
		"maxPods":               {"routes", func(i *inv) { i.Kubernetes.KubeletMaxPods = 50 }, "kubernetes.maxPods is 50 in the inventory, the cluster was made with 110 (master-1)"},
		"routes to flannel":     {"routes", func(i *inv) { i.Network.Preset = "flannel" }, "network.preset is flannel in the inventory, the cluster was made with routes (master-1)"},
		"routes to none":        {"routes", func(i *inv) { i.Network.Preset = "none" }, "network.preset is none in the inventory, the cluster was made with routes (master-1)"},
		"flannel to routes":     {"flannel", func(i *inv) { i.Network.Preset = "routes" }, "network.preset is routes in the inventory, the cluster was made with flannel (master-1)"},
		"none to routes":        {"none", func(i *inv) { i.Network.Preset = "routes" }, "network.preset is routes in the inventory, the cluster was made with none (master-1)"},
		"another manifest":      {"none", func(i *inv) { i.Network.Manifest = "cilium.yaml" }, ""},
		"name":                  {"routes", func(i *inv) { i.Hosts[0].Name = "master-9" }, "hosts[].name is master-9 in the inventory, the cluster was made with master-1 (master-9)"},
		"privateAddress":        {"routes", func(i *inv) { i.Hosts[0].PrivateAddress = netip.MustParseAddr("192.0.2.77") }, "hosts[].privateAddress is 192.0.2.77 in the inventory, the cluster was made with 192.0.2.11 (master-1)"},
		"what static pods follow": {"routes", func(i *inv) {
			i.Kubernetes.ExtraSANs = []string{"api.example.com"}
			i.Kubernetes.APIServerExtraArgs = map[string]string{"service-cluster-ip-range": "10.96.0.0/16,fd00:10:96::/112"}
			i.Hosts[0].Labels = map[string]string{"zone": "b"}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			made := inventorytest.One(t)
			made.Network.Preset = c.made
			n := madeMaster(t, made, c.made)
			c.change(made)
			if got := said(t, planOf(t, made, map[*inventory.Host]*madeNode{&made.Hosts[0]: n})); got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

func TestWhatAWorkerWasMadeWith(t *testing.T) {
	type inv = inventory.Inventory
	for name, c := range map[string]struct {
		change func(*inv, *inventory.Host)
		want   string
	}{
		"nothing":                {func(*inv, *inventory.Host) {}, ""},
		"what masters are asked": {func(i *inv, _ *inventory.Host) { i.Network.Preset = "flannel" }, ""},
		"its own maxPods":        {func(i *inv, _ *inventory.Host) { i.Kubernetes.KubeletMaxPods = 120 }, ""},
		"vip.address":            {func(i *inv, _ *inventory.Host) { i.VIP.Address = netip.MustParseAddr("192.0.2.99") }, "vip.address is 192.0.2.99 in the inventory, the cluster was made with 192.0.2.10 (worker-1)"},
		"name":                   {func(_ *inv, h *inventory.Host) { h.Name = "worker-9" }, "hosts[].name is worker-9 in the inventory, the cluster was made with worker-1 (worker-9)"},
		"privateAddress":         {func(_ *inv, h *inventory.Host) { h.PrivateAddress = netip.MustParseAddr("192.0.2.177") }, "hosts[].privateAddress is 192.0.2.177 in the inventory, the cluster was made with 192.0.2.101 (worker-1)"},
		"role":                   {func(_ *inv, h *inventory.Host) { h.Role = inventory.ControlPlane }, "hosts[].role is control-plane in the inventory, the cluster was made with worker (worker-1)"},
	} {
		t.Run(name, func(t *testing.T) {
			made := inventorytest.ThreeWithWorkers(t, 1)
			n, w := madeWorker(t, made), made.Workers()[0]
			c.change(made, w)
			if got := said(t, planOf(t, made, map[*inventory.Host]*madeNode{w: n})); got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

// Another name or address is answered with the commands by which a host gets it.
func TestRenamedOrMovedHostIsToldTheCommands(t *testing.T) {
	inv := inventorytest.ThreeWithWorkers(t, 1)
	renamed, moved, both, w := madeWorker(t, inv), madeWorker(t, inv), madeWorker(t, inv), inv.Workers()[0]
	w.Name = "worker-9"
	hint := remote.HintOf(Refused(planOf(t, inv, map[*inventory.Host]*madeNode{w: renamed})))
	for _, want := range []string{"name it worker-1 again; hactl remove worker-1; hactl reset worker-1; name it worker-9; hactl up"} {
		if !strings.Contains(hint, want) {
			t.Errorf("%q is not in %q", want, hint)
		}
	}
	w.Name, w.PrivateAddress = "worker-1", netip.MustParseAddr("192.0.2.177")
	hint = remote.HintOf(Refused(planOf(t, inv, map[*inventory.Host]*madeNode{w: moved})))
	for _, want := range []string{"put 192.0.2.101 back", "hactl remove worker-1", "write 192.0.2.177", "hactl reset worker-1; hactl up --bring-back worker-1"} {
		if !strings.Contains(hint, want) {
			t.Errorf("%q is not in %q", want, hint)
		}
	}
	inv.Network.PodSubnet = netip.MustParsePrefix("10.245.0.0/16")
	p := planOf(t, inv, map[*inventory.Host]*madeNode{w: both, inv.Masters()[0]: madeMaster(t, inventorytest.Three(t), "routes")})
	if hint := remote.HintOf(Refused(p)); !strings.Contains(hint, "put the old values back") {
		t.Errorf("with another setting: %q", hint)
	}
}

func TestAllDifferencesAreNamedAtOnceEachWithItsHosts(t *testing.T) {
	inv := inventorytest.Load(t, inventorytest.Text(1, 1, false))
	nodes := map[*inventory.Host]*madeNode{&inv.Hosts[0]: madeMaster(t, inv, "routes"), &inv.Hosts[1]: madeWorker(t, inv)}
	inv.VIP.Address = netip.MustParseAddr("192.0.2.99")
	inv.Network.ServiceSubnet = netip.MustParsePrefix("10.97.0.0/16")
	inv.Kubernetes.KubeletMaxPods = 50
	inv.Hosts[0].Role = inventory.Worker
	p := planOf(t, inv, nodes)
	want := `hosts[].role is worker in the inventory, the cluster was made with control-plane (master-1)
vip.address is 192.0.2.99 in the inventory, the cluster was made with 192.0.2.10 (master-1, worker-1)
network.serviceSubnet is 10.97.0.0/16 in the inventory, the cluster was made with 10.96.0.0/16 (master-1)
kubernetes.maxPods is 50 in the inventory, the cluster was made with 110 (master-1)`
	if got := said(t, p); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// What is not there yet, or not complete, is made from the inventory as it is.
func TestNodeThatIsNotMadeYetIsNotFixed(t *testing.T) {
	other := func(inv *inventory.Inventory) {
		inv.VIP.Address, inv.VIP.Port, inv.Kubernetes.KubeletMaxPods = netip.MustParseAddr("192.0.2.99"), 8443, 50
		inv.Hosts[0].PrivateAddress = netip.MustParseAddr("192.0.2.77")
	}
	for name, undo := range map[string]func(*testing.T, *madeNode, *madeNode){
		"bare": func(t *testing.T, m, w *madeNode) {
			for _, n := range []*madeNode{m, w} {
				if err := os.RemoveAll(filepath.Join(n.root, "etc")); err != nil {
					t.Fatal(err)
				}
			}
		},
		"kubeadm init and join cut off": func(t *testing.T, m, w *madeNode) {
			m.remove(t, markerFile)
			w.write(t, joinFile, "x\n")
		},
		"about to join again": func(t *testing.T, m, w *madeNode) {
			m.remove(t, markerFile)
			w.remove(t, kubeDir+"/kubelet.conf")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inv := inventorytest.Load(t, inventorytest.Text(1, 1, false))
			m, w := madeMaster(t, inv, "routes"), madeWorker(t, inv)
			undo(t, m, w)
			other(inv)
			if got := said(t, planOf(t, inv, map[*inventory.Host]*madeNode{&inv.Hosts[0]: m, &inv.Hosts[1]: w})); got != "" {
				t.Error(got)
			}
		})
	}
}

// Clusters were in sync before this comparison existed: what was edited by hand, or
// left half-way by an earlier hactl, has a way out.
func TestEarlierClustersAreNotRefusedForNothing(t *testing.T) {
	changed := func(i *inventory.Inventory) {
		i.VIP.Address, i.Network.DNSDomain = netip.MustParseAddr("192.0.2.99"), "example.org"
		i.Network.ServiceSubnet, i.Kubernetes.KubeletMaxPods = netip.MustParsePrefix("10.97.0.0/16"), 50
	}
	halfWay := func(t *testing.T, n *madeNode) { // what a changed inventory did
		inv := inventorytest.One(t)
		changed(inv)
		conf, err := clusterOf(t, inv, true).InitConfig(&inv.Hosts[0])
		if err != nil {
			t.Fatal(err)
		}
		n.write(t, initFile, string(conf))
	}
	for name, c := range map[string]struct {
		edit   func(*testing.T, *madeNode)
		change func(*inventory.Inventory)
		want   []string // fields
	}{
		"the administrator's kubeconfig points to the host itself": {func(t *testing.T, n *madeNode) {
			n.write(t, kubeDir+"/admin.conf", kubeconfigText("https://127.0.0.1:6443", "a"))
		}, nil, nil},
		"or to a name": {func(t *testing.T, n *madeNode) {
			n.write(t, kubeDir+"/admin.conf", kubeconfigText("https://api.example.com:443", "a"))
		}, nil, nil},
		"the VIP is found all the same": {func(t *testing.T, n *madeNode) {
			n.write(t, kubeDir+"/admin.conf", kubeconfigText("https://192.0.2.11:6443", "a"))
		},
			func(i *inventory.Inventory) { i.VIP.Address = netip.MustParseAddr("192.0.2.99") }, []string{"vip.address"}},
		"a DNS cache on each node": {func(t *testing.T, n *madeNode) {
			n.write(t, "/var/lib/kubelet/config.yaml", "clusterDNS:\n- 169.254.20.10\nmaxPods: 110\n")
		}, nil, nil},
		"no configuration of kubeadm, no certificate": {func(t *testing.T, n *madeNode) {
			n.remove(t, initFile)
			n.remove(t, "/var/lib/kubelet/pki/kubelet-client-current.pem")
		}, nil, nil},
		"nothing but the mark": {func(t *testing.T, n *madeNode) {
			for _, d := range []string{"etc", "var", "usr"} {
				if err := os.RemoveAll(filepath.Join(n.root, d)); err != nil {
					t.Fatal(err)
				}
			}
			n.write(t, markerFile, "x\n")
		}, changed, nil},
		"maxPods by hand, then in the inventory": {func(t *testing.T, n *madeNode) { n.write(t, "/var/lib/kubelet/config.yaml", "maxPods: 50\n") },
			func(i *inventory.Inventory) { i.Kubernetes.KubeletMaxPods = 50 }, nil},
		"left half-way, kept":     {halfWay, changed, []string{"vip.address", "network.dnsDomain", "kubernetes.maxPods"}},
		"left half-way, put back": {halfWay, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inv := inventorytest.One(t)
			n := madeMaster(t, inv, "routes")
			c.edit(t, n)
			if c.change != nil {
				c.change(inv)
			}
			var got []string
			for line := range strings.Lines(said(t, planOf(t, inv, map[*inventory.Host]*madeNode{&inv.Hosts[0]: n}))) {
				field, _, _ := strings.Cut(line, " ")
				got = append(got, field)
			}
			if strings.Join(got, " ") != strings.Join(c.want, " ") {
				t.Errorf("refused for %v, want %v", got, c.want)
			}
		})
	}
}

func TestIPv6ClusterSaysWhatItWasMadeWith(t *testing.T) {
	inv := inventorytest.ThreeIPv6(t)
	n := madeMaster(t, inv, "routes")
	if got := said(t, planOf(t, inv, map[*inventory.Host]*madeNode{&inv.Hosts[0]: n})); got != "" {
		t.Error(got)
	}
	n = madeMaster(t, inv, "routes")
	inv.VIP.Address, inv.Network.PodSubnet = netip.MustParseAddr("2001:db8::99"), netip.MustParsePrefix("fd00:10:300::/56")
	want := "vip.address is 2001:db8::99 in the inventory, the cluster was made with 2001:db8::10 (master-1)\nnetwork.podSubnet is fd00:10:300::/56 in the inventory, the cluster was made with fd00:10:244::/56 (master-1)"
	if got := said(t, planOf(t, inv, map[*inventory.Host]*madeNode{&inv.Hosts[0]: n})); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestTheLookAtANodeIsShell(t *testing.T) {
	goldentest.Shell(t, map[string]string{"made-with": madeWith})
}

func TestKubeconfigThatPointsToAnotherMasterSaysNothingOfTheVIP(t *testing.T) {
	inv := inventorytest.Three(t)
	n := madeMaster(t, inv, "routes")
	n.write(t, kubeDir+"/admin.conf", kubeconfigText("https://192.0.2.12:6443", "a"))
	if got := said(t, planOf(t, inv, map[*inventory.Host]*madeNode{&inv.Hosts[0]: n})); got != "" {
		t.Error(got)
	}
}
