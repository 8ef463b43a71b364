package kubeadm

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"hactl/internal/facts"
	"hactl/internal/goldentest"
	"hactl/internal/network"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
	"hactl/pki/pkitest"
)

func clusterOf(t *testing.T, inv *inventory.Inventory, cgroupV2 bool) Cluster {
	t.Helper()
	c := Cluster{Inv: inv, PKI: pkitest.Material(t, inv), Facts: map[string]*facts.Brief{}, Program: "/opt/hactl/kubelet/v1.36.3-0123/kubelet", First: "master-1"}
	for i := range inv.Hosts {
		c.Facts[inv.Hosts[i].Name] = &facts.Brief{CgroupV2: cgroupV2}
	}
	for _, h := range inv.Masters() {
		c.EtcdClients = append(c.EtcdClients, "https://"+netip.AddrPortFrom(h.PrivateAddress, 2379).String())
	}
	return c
}

func subnetsOf(t *testing.T, inv *inventory.Inventory) map[string]netip.Prefix {
	t.Helper()
	s, err := assign(inv, make([]netip.Prefix, len(inv.Hosts)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func with(inv *inventory.Inventory, change func(*inventory.Inventory)) *inventory.Inventory {
	change(inv)
	return inv
}

// nodeFiles is everything that reaches the last host of the inventory before
// kubeadm runs there.
func nodeFiles(t *testing.T, c Cluster, h *inventory.Host) map[string]goldentest.Put {
	t.Helper()
	steps, err := c.Files(h)
	if err != nil {
		t.Fatal(err)
	}
	kubelet, err := c.KubeletFiles(h)
	if err != nil {
		t.Fatal(err)
	}
	steps = append(steps, kubelet...)
	if h.Role == inventory.ControlPlane {
		certs, err := c.Certificates(h)
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, certs...)
	}
	network, err := c.PodNetwork(h, subnetsOf(t, c.Inv))
	if err != nil {
		t.Fatal(err)
	}
	unit, err := c.Network(h, subnetsOf(t, c.Inv))
	if err != nil {
		t.Fatal(err)
	}
	network = append(network, unit...)
	return goldentest.Puts(t, append(steps, network...))
}

type nodeCase struct {
	inv *inventory.Inventory
	v2  bool
}

// nodeCases are the clusters with a golden file, by its name; with the tag e2e
// kubeadm itself validates what they give it.
func nodeCases(t *testing.T) map[string]nodeCase {
	t.Helper()
	return map[string]nodeCase{
		"one": {inventorytest.One(t), true}, "three": {inventorytest.Three(t), true}, "five": {inventorytest.Five(t), true},
		"one-ipv6":           {inventorytest.Load(t, inventorytest.Text(1, 0, true)), true},
		"three-ipv6":         {inventorytest.ThreeIPv6(t), true},
		"five-ipv6":          {inventorytest.Load(t, inventorytest.Text(5, 0, true)), true},
		"three-cgroup-v1":    {inventorytest.Three(t), false},
		"three-flannel":      {with(inventorytest.Three(t), func(i *inventory.Inventory) { i.Network.Preset = "flannel" }), true},
		"three-flannel-ipv6": {with(inventorytest.ThreeIPv6(t), func(i *inventory.Inventory) { i.Network.Preset = "flannel" }), true},
		"three-rsa":          {with(inventorytest.Three(t), func(i *inventory.Inventory) { i.PKI.Algorithm = "rsa-2048" }), true},
		"one-1.35":           {withVersion(t, "v1.35.4"), true},
		"one-1.37":           {withVersion(t, "v1.37.2"), true},
		"worker":             {inventorytest.ThreeWithWorkers(t, 1), true},
		"everything-set": {with(inventorytest.Three(t), func(i *inventory.Inventory) {
			i.VIP.Port = 8443
			i.Kubernetes.ExtraSANs = []string{"api.example.com", "master-1"}
			i.Kubernetes.APIServerExtraArgs = map[string]string{"v": "2", "audit-log-maxage": "30", "authorization-mode": "Node,RBAC", "zz": `quote " and \ and: #colon`}
			i.Kubernetes.ControllerExtraArgs = map[string]string{"node-monitor-grace-period": "40s"}
			i.Kubernetes.SchedulerExtraArgs = map[string]string{"v": "4"}
			i.Kubernetes.KubeletMaxPods = 50
			i.Kubernetes.IgnorePreflight = []string{"Hostname"}
			i.Hosts[2].Labels = map[string]string{"zone": "b", "arch": "x"}
			i.Hosts[2].Taints = []inventory.Taint{{Key: "dedicated", Value: "yes", Effect: "NoSchedule"}}
		}), true},
	}
}

// withVersion is one master with flannel and the set of that Kubernetes.
func withVersion(t *testing.T, kubernetes string) *inventory.Inventory {
	t.Helper()
	return with(inventorytest.One(t), func(i *inventory.Inventory) {
		i.Network.Preset = "flannel"
		set := inventory.Versions{Kubernetes: kubernetes}.Set()
		i.Versions = inventory.Versions{Kubernetes: set.Kubernetes, Etcd: set.Etcd, Containerd: set.Containerd}
	})
}

func TestFilesOfANode(t *testing.T) {
	for name, c := range nodeCases(t) {
		t.Run(name, func(t *testing.T) {
			k := clusterOf(t, c.inv, c.v2)
			files := nodeFiles(t, k, &c.inv.Hosts[len(c.inv.Hosts)-1])
			// The service-account public key is made anew each time.
			delete(files, pkiDir+"/sa.pub")
			goldentest.Check(t, name, files)
			readBack(t, files)
		})
	}
}

// readBack hands every file to what reads it.
func readBack(t *testing.T, files map[string]goldentest.Put) {
	t.Helper()
	units := map[string][]byte{}
	defer func() { goldentest.Units(t, units) }()
	for path, f := range files {
		switch {
		case strings.HasPrefix(path, "/etc/systemd/system/"):
			units[filepath.Base(path)] = f.Content
		case strings.HasPrefix(path, patchDir):
			var p struct {
				Spec struct {
					Template struct {
						Spec struct{ Containers []struct{ Name string } }
					}
				}
			}
			if err := yaml.Unmarshal(f.Content, &p); err != nil || len(p.Spec.Template.Spec.Containers) != 1 {
				t.Errorf("%s is no patch of a deployment: %v", path, err)
			}
		case strings.HasSuffix(path, ".yaml"):
			documents(t, path, f.Content)
		case strings.HasPrefix(path, "/usr/local/libexec/hactl/"):
			goldentest.Shell(t, map[string]string{filepath.Base(path): string(f.Content)}, "SC1091") // it sources a file that only a host has
		case path == network.ConfigFile:
			at := filepath.Join(t.TempDir(), "network.json")
			if err := os.WriteFile(at, f.Content, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := network.ReadConfig(at); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		case path == conflist:
			var c struct {
				CNIVersion string `json:"cniVersion"`
				Plugins    []struct{ Type string }
			}
			if err := json.Unmarshal(f.Content, &c); err != nil || c.CNIVersion != "1.0.0" || len(c.Plugins) != 2 {
				t.Errorf("%s: %+v, %v", path, c, err)
			}
		default:
			t.Errorf("no checker reads %s", path)
		}
	}
}

// documents reads all documents of a YAML file; each says what it is.
func documents(t *testing.T, name string, b []byte) []map[string]any {
	t.Helper()
	var out []map[string]any
	for d := yaml.NewDecoder(bytes.NewReader(b)); ; {
		var doc map[string]any
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil || doc["kind"] == nil || doc["apiVersion"] == nil {
			t.Fatalf("%s: %v, %v", name, doc, err)
		}
		out = append(out, doc)
	}
}

func TestJoinConfig(t *testing.T) {
	for name, inv := range map[string]*inventory.Inventory{"join": inventorytest.ThreeWithWorkers(t, 1)} {
		c := clusterOf(t, inv, true)
		b, err := c.joinConfig(inv.Workers()[0], "abcdef.0123456789abcdef")
		if err != nil {
			t.Fatal(err)
		}
		documents(t, name, b)
		goldentest.Check(t, name, map[string]goldentest.Put{joinFile: {Content: b, Mode: 0o600, Owner: "root:root"}}, c.PKI.KubernetesCA.Hash(), "CA-HASH")
	}
	c := clusterOf(t, inventorytest.ThreeWithWorkers(t, 1), true)
	for _, token := range []string{"", "abcdef.0123456789abcdeF", "abcdef.0123456789abcdef\nkind: x", "a b"} {
		if _, err := c.joinConfig(c.Inv.Workers()[0], token); err == nil {
			t.Errorf("%q was taken for a token", token)
		}
	}
}

func TestFlannelManifest(t *testing.T) {
	for name, inv := range map[string]*inventory.Inventory{"flannel": inventorytest.Three(t), "flannel-ipv6": inventorytest.ThreeIPv6(t)} {
		t.Run(name, func(t *testing.T) {
			inv.Network.Preset = "flannel"
			b, err := clusterOf(t, inv, true).manifest()
			if err != nil {
				t.Fatal(err)
			}
			docs := documents(t, name, b)
			for _, d := range docs {
				if d["kind"] != "ConfigMap" {
					continue
				}
				var conf struct{ Network, IPv6Network string }
				text := d["data"].(map[string]any)["net-conf.json"].(string)
				if err := json.Unmarshal([]byte(text), &conf); err != nil || conf.Network+conf.IPv6Network != inv.Network.PodSubnet.String() {
					t.Errorf("%s, %v", text, err)
				}
			}
			if len(docs) != 6 {
				t.Errorf("%d documents", len(docs))
			}
			goldentest.Check(t, name, map[string]goldentest.Put{"stdin of kubectl apply": {Content: b, Owner: "-"}})
		})
	}
}

func TestRenderingTwiceGivesTheSameBytes(t *testing.T) {
	inv := inventorytest.Three(t)
	inv.Kubernetes.APIServerExtraArgs = map[string]string{"a": "1", "b": "2", "c": "3", "d": "4", "e": "5"}
	inv.Hosts[0].Labels = map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}
	c := clusterOf(t, inv, true)
	first := nodeFiles(t, c, &inv.Hosts[0])
	for range 20 {
		if !maps.EqualFunc(first, nodeFiles(t, c, &inv.Hosts[0]), func(a, b goldentest.Put) bool { return bytes.Equal(a.Content, b.Content) }) {
			t.Fatal("another rendering differs")
		}
	}
}

func TestExtraArgsReplaceOurs(t *testing.T) {
	got := args(map[string]string{"b": "ours", "a": "ours"}, map[string]string{"b": "theirs", "c": "theirs"})
	want := []arg{{"a", "ours"}, {"b", "theirs"}, {"c", "theirs"}}
	if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("%v", got)
	}
}

func TestMastersAreTaintedUnlessTheyMustRunPods(t *testing.T) {
	yes, no := true, false
	for name, c := range map[string]struct {
		workers int
		set     *bool
		taints  int
	}{
		"no worker": {0, nil, 0}, "a worker": {1, nil, 1}, "a worker, but wanted": {1, &yes, 0}, "no worker, but not wanted": {0, &no, 1},
	} {
		inv := inventorytest.ThreeWithWorkers(t, c.workers)
		inv.Kubernetes.SchedulableMasters = c.set
		if got := (Cluster{Inv: inv}).Taints(inv.Masters()[0]); len(got) != c.taints {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestSubnetsStayWhereTheyAre(t *testing.T) {
	inv := inventorytest.Three(t)
	p := netip.MustParsePrefix
	got, err := assign(inv, []netip.Prefix{{}, p("10.244.0.0/24"), p("10.99.0.0/24")})
	if err != nil || got["master-1"] != p("10.244.1.0/24") || got["master-2"] != p("10.244.0.0/24") || got["master-3"] != p("10.244.2.0/24") {
		t.Errorf("%v, %v", got, err)
	}
	got, err = assign(inv, []netip.Prefix{p("10.244.7.0/24"), p("10.244.7.0/24"), {}})
	if err != nil || got["master-1"] != p("10.244.7.0/24") || got["master-2"] != p("10.244.0.0/24") {
		t.Errorf("two with the same subnet: %v, %v", got, err)
	}
	inv.Network.PodSubnet = p("10.244.0.0/23")
	if _, err := assign(inv, make([]netip.Prefix, 3)); err == nil || !strings.Contains(err.Error(), "no /24 left for master-3") {
		t.Errorf("%v", err)
	}
	six := inventorytest.ThreeIPv6(t)
	got, err = assign(six, make([]netip.Prefix, 3))
	if err != nil || got["master-2"].Bits() != 64 || got["master-1"] == got["master-2"] {
		t.Errorf("%v, %v", got, err)
	}
}

// A host that does not answer has a subnet all the same: the others know it.
func TestSubnetOfASkippedHostIsKnownFromTheRoutesToIt(t *testing.T) {
	for name, inv := range map[string]*inventory.Inventory{"IPv4": inventorytest.Three(t), "IPv6": inventorytest.ThreeIPv6(t)} {
		c := clusterOf(t, inv, true)
		pool, bits := inv.Network.PodSubnet.Addr(), 24
		if pool.Is6() {
			bits = 64
		}
		at := map[string]netip.Prefix{} // the first one is free
		for i, p := 0, following(netip.PrefixFrom(pool, bits)); i < 3; i, p = i+1, following(p) {
			at[inv.Hosts[i].Name] = p
		}
		hosts := plan.Hosts{}
		for i := range inv.Hosts[:2] {
			h := &inv.Hosts[i]
			steps, err := c.PodNetwork(h, at)
			if err != nil {
				t.Fatal(err)
			}
			files := goldentest.Puts(t, steps)
			dir := t.TempDir()
			for _, path := range []string{conflist, network.ConfigFile} {
				if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), files[path].Content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			hosts[h.Name] = remote.NewFake(h.Name, func(call remote.Call) (*remote.Result, error) {
				script := strings.NewReplacer(conflist, filepath.Join(dir, filepath.Base(conflist)), network.ConfigFile, filepath.Join(dir, filepath.Base(network.ConfigFile))).Replace(call.Cmd.Script)
				out, err := exec.CommandContext(t.Context(), "sh", "-c", script).Output()
				return &remote.Result{Stdout: out}, err
			})
		}
		seen, err := LookForSubnets(t.Context(), inv, hosts)
		if err != nil {
			t.Fatal(err)
		}
		got, err := seen.Assign(inv, nil)
		if err != nil || !maps.Equal(got, at) {
			t.Errorf("%s: got %v, %v; the hosts have %v", name, got, err, at)
		}
	}
}

func TestKubeletIsNamedByUnitAndBinary(t *testing.T) {
	c := clusterOf(t, inventorytest.One(t), true)
	unit, was, err := c.kubeletUnit(c.Inv.Masters()[0])
	if err != nil || !bytes.Contains(unit, []byte("HACTL_CONFIG="+was+"\n")) {
		t.Fatalf("%s, %v", unit, err)
	}
	if _, again, _ := c.kubeletUnit(c.Inv.Masters()[0]); again != was {
		t.Error("not stable")
	}
	c.Program = "/opt/hactl/kubelet/v1.36.3-4567/kubelet"
	if _, other, _ := c.kubeletUnit(c.Inv.Masters()[0]); other == was {
		t.Error("another binary has the same name")
	}
}

// A file that changes makes another manifest, and with it another process; a cluster
// without files keeps the manifests that it has.
func TestFilesOfTheOperatorReachTheApiserver(t *testing.T) {
	inv := inventorytest.Three(t)
	c := clusterOf(t, inv, true)
	m := inv.Masters()[0]
	without, err := c.madeFrom(m)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "audit.yaml")
	seen, dirs := map[string]bool{without: true}, map[string]bool{}
	for _, content := range []string{"rules: [a]\n", "rules: [b]\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Inv.Kubernetes.Files = map[string]string{"audit-policy.yaml": path}
		from, err := c.madeFrom(m)
		if err != nil || seen[from] {
			t.Errorf("%q makes the same manifests as before, %v", content, err)
		}
		seen[from] = true
		files := nodeFiles(t, c, m)
		extra, err := c.extraFiles()
		if err != nil {
			t.Fatal(err)
		}
		dirs[extra.dir()] = true
		put := files[extra.dir()+"/audit-policy.yaml"]
		if string(put.Content) != content || put.Mode != 0o600 {
			t.Errorf("%+v", put)
		}
		if conf := string(files[initFile].Content); !strings.Contains(conf, "hostPath: "+extra.dir()+"\n      mountPath: /etc/kubernetes/hactl-files\n") {
			t.Errorf("not mounted: %s", conf)
		}
	}
	if len(dirs) != 2 { // an older manifest that is put back has its own
		t.Errorf("both contents are in %v", dirs)
	}
	c.Inv.Kubernetes.Files = map[string]string{"audit-policy.yaml": path + ".gone"}
	if _, err := c.Files(m); err == nil || !strings.Contains(err.Error(), "kubernetes.files.audit-policy.yaml") {
		t.Errorf("%v", err)
	}
	c.Inv.Kubernetes.Files = nil
	if from, err := c.madeFrom(m); err != nil || from != without {
		t.Errorf("without files again: %v", err)
	}
}

// The kubelet, the prober and a joining worker ask without a login.
func TestAuthenticationThatLocksTheClusterOutIsRefused(t *testing.T) {
	for conf, want := range map[string]string{
		"anonymous: {enabled: false}\n": "/livez",
		"anonymous: {enabled: true, conditions: [{path: /livez}, {path: /readyz}, {path: /healthz}]}\n": "cluster-info",
		"anonymous: {enabled: true}\n":      "",
		"jwt: []\n":                         "",
		inventory.AnonymousSetting() + "\n": "",
		"anonymous: [\n":                    "read kubernetes.files.auth.yaml",
	} {
		path := filepath.Join(t.TempDir(), "auth.yaml")
		if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		c := clusterOf(t, inventorytest.Three(t), true)
		c.Inv.Kubernetes.Files = map[string]string{"auth.yaml": path}
		c.Inv.Kubernetes.APIServerExtraArgs = map[string]string{"authentication-config": inventory.FilesDir + "/auth.yaml"}
		if _, err := c.extraFiles(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", conf, err, want)
		}
	}
}

func TestKubeadmWaitsLongerForSlowHosts(t *testing.T) {
	inv := inventorytest.ThreeWithWorkers(t, 1)
	c := clusterOf(t, inv, true)
	for slow, want := range map[int]string{1: "", 4: "timeouts:\n  discovery: 20m0s\n  kubeletHealthCheck: 16m0s\n  kubernetesAPICall: 4m0s\n  tlsBootstrap: 20m0s\n"} {
		c.Inv.SlowHosts = slow
		b, err := c.joinConfig(inv.Workers()[0], "abcdef.0123456789abcdef")
		if err != nil {
			t.Fatal(err)
		}
		_, got, _ := strings.Cut(string(b), "timeouts:")
		if got != strings.TrimPrefix(want, "timeouts:") {
			t.Errorf("with factor %d: %q", slow, got)
		}
	}
}
