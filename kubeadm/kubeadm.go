// Package kubeadm makes Kubernetes nodes: masters by "kubeadm init" on all of
// them at once (the certificate authorities are laid down beforehand, so none
// needs another), workers by "kubeadm join" through the virtual IP.
package kubeadm

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"hactl/internal/facts"
	"hactl/internal/network"
	"hactl/internal/plan"
	"hactl/internal/wait"
	"hactl/inventory"
	"hactl/pki"
	"hactl/templates"
)

// Lane is the lane of the files that a node needs before kubeadm runs.
const Lane = "kube"

// Paths on a node.
const (
	kubeDir    = "/etc/kubernetes"
	pkiDir     = kubeDir + "/pki"
	initFile   = kubeDir + "/hactl-init.yaml"
	joinFile   = kubeDir + "/hactl-join.yaml"
	patchDir   = kubeDir + "/hactl-patches" // for kubeadm, named by what they change
	markerFile = kubeDir + "/hactl-initialised"
	// servingDir holds, on a master, the pair with which its controller manager and
	// scheduler serve. They read it anew by themselves when it changes.
	servingDir = pkiDir + "/serving"
	// signingDir holds, on a master, the pair with which its controller manager
	// signs the certificates of kubelets.
	signingDir = pkiDir + "/signing"
	// kubeletDir is where a kubelet keeps its pairs: kubelet.crt and kubelet.key, by
	// which it serves, are its own work only while they are not there.
	kubeletDir      = "/var/lib/kubelet/pki"
	kubeletUnitFile = "/etc/systemd/system/kubelet.service"
)

// Cluster is what the node steps are made from.
type Cluster struct {
	Inv     *inventory.Inventory
	Facts   map[string]*facts.Brief
	PKI     *pki.Material
	Program string // path of the kubelet on a host, of its build alone
	// SearchPath is a line of shell by which calls find the wanted kubeadm, kubectl,
	// kubelet and ctr; kubeadm itself asks the kubelet for its version.
	SearchPath     string
	NetworkProgram NetworkProgram
	EtcdClients    []string // client URLs of all etcd members
	First          string   // master that does what the cluster needs once
	// SettingsLater leaves kubeadm's settings in the cluster as they are while static pods
	// change: during an upgrade they change once all apiservers are new. See [Cluster.Addons].
	SettingsLater bool
	// FormerRoutes are those to the pods of nodes that are in no inventory.
	FormerRoutes []network.Route
	// AwaitImages is a shell script that waits for what the controller manager and
	// the scheduler run from, which is imported while the apiserver starts; it exits
	// with remote.NotYet when that takes more than a few seconds. It is "" when there
	// is nothing to wait for.
	AwaitImages string

	patience time.Duration // with an apiserver or images, when it is not firstWait, onceWait or imagesWait
}

func id(h *inventory.Host, what string) plan.ID { return plan.ID("kubeadm/" + h.Name + "/" + what) }

// Endpoint is the control-plane endpoint: the VIP and the apiserver's port.
func Endpoint(inv *inventory.Inventory) string {
	return net.JoinHostPort(inv.VIP.Address.String(), strconv.Itoa(inv.VIP.Port))
}

// arg is a flag of a control-plane component.
type arg struct{ Name, Value string }

func args(base, extra map[string]string) []arg {
	all := map[string]string{}
	for k, v := range base {
		all[k] = v
	}
	for k, v := range extra {
		all[k] = v
	}
	out := make([]arg, 0, len(all))
	for k, v := range all {
		out = append(out, arg{k, v})
	}
	slices.SortFunc(out, func(a, b arg) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// SANs are the names and addresses in every apiserver's certificate.
func (c Cluster) SANs() []string {
	out := []string{c.Inv.VIP.Address.String(), "localhost", "127.0.0.1", "::1"}
	for _, m := range c.Inv.Masters() {
		out = append(out, m.Name, m.PrivateAddress.String())
		if a, err := netip.ParseAddr(m.Address); err != nil || a != m.PrivateAddress {
			out = append(out, m.Address)
		}
	}
	out = append(out, c.Inv.Kubernetes.ExtraSANs...)
	seen := map[string]bool{}
	return slices.DeleteFunc(out, func(s string) bool {
		dup := seen[s]
		seen[s] = true
		return dup
	})
}

// ignored are kubeadm preflight checks that hactl answers for itself: a resumed
// run finds its own files and ports, hactl preflight judged the machine, and
// the kernel's configuration is not always readable.
var ignored = []string{
	"DirAvailable--etc-kubernetes-manifests",
	"FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml",
	"FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml",
	"FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml",
	"FileAvailable--etc-kubernetes-kubelet.conf",
	"FileAvailable--etc-kubernetes-bootstrap-kubelet.conf",
	"FileAvailable--etc-kubernetes-pki-ca.crt",
	"FileContent--proc-sys-net-bridge-bridge-nf-call-iptables",
	"ExternalEtcdVersion", "Mem", "NumCPU", "Port-6443", "Port-10250", "Port-10257", "Port-10259", "Swap", "SystemVerification",
}

func (c Cluster) ignorePreflight() []string {
	l := append(slices.Clone(ignored), c.Inv.Kubernetes.IgnorePreflight...)
	if p := c.Inv.VIP.Port; p != 6443 {
		l = append(l, "Port-"+strconv.Itoa(p))
	}
	return l
}

// InitConfig renders the kubeadm configuration of one master.
func (c Cluster) InitConfig(h *inventory.Host) ([]byte, error) {
	return c.initConfig(h, c.Taints(h), labels(h))
}

// madeFrom names the configuration that static pods are made from: without the
// node's labels and taints, which reach a running node through the API.
func (c Cluster) madeFrom(h *inventory.Host) (string, error) {
	conf, err := c.initConfig(h, nil, "")
	return fmt.Sprintf("%x", sha256.Sum256(conf)), err
}

func (c Cluster) initConfig(h *inventory.Host, taints []inventory.Taint, labels string) ([]byte, error) {
	inv := c.Inv
	files, err := c.extraFiles()
	if err != nil {
		return nil, err
	}
	return templates.Render("kubeadm-init.yaml.tmpl", map[string]any{
		"Cluster": inv.Cluster, "Name": h.Name, "Address": h.PrivateAddress.String(), "Port": inv.VIP.Port,
		"Taints": taints, "Labels": labels, "IgnorePreflight": c.ignorePreflight(),
		"Version": inv.Versions.Kubernetes, "DNSTag": inv.Versions.Set().DNSTag(), "Endpoint": Endpoint(inv), "Algorithm": algorithm(inv.PKI.Algorithm),
		"DNSDomain": inv.Network.DNSDomain, "ServiceSubnet": inv.Network.ServiceSubnet.String(),
		"PodSubnet": c.podSubnet(), "ClusterCIDR": inv.Network.PodSubnet.String(), "ProxyMode": inv.Network.ProxyMode,
		"Patches": patchDir, "EtcdEndpoints": c.EtcdClients, "SANs": c.SANs(),
		"APIServerArgs": args(map[string]string{
			// /readyz fails first and connections drain: a planned stop loses
			// no request.
			"shutdown-delay-duration": "5s",
			// After that it finishes the requests that it has, and answers new ones
			// with 429 and Retry-After. It ends its watches: by default a stopping
			// apiserver waits a minute for them.
			"shutdown-send-retry-after":               "true",
			"shutdown-watch-termination-grace-period": "3s",
			// The lease reconciler removes a dead apiserver from the service.
			"endpoint-reconciler-type": "lease",
			// Without this, any process at the node's address could pose as its kubelet
			// for logs and exec. hactl gives every node a certificate of this CA.
			"kubelet-certificate-authority": pkiDir + "/ca.crt",
		}, inv.Kubernetes.APIServerExtraArgs),
		"ServingDir": servingDir, "FilesDir": inventory.FilesDir, "FilesOnHost": files.dir(), "Files": files.sum(),
		"ControllerArgs": args(servingArgs(map[string]string{
			// It starts some forty controllers, each with a token of its own from
			// the API: at the default of 20 requests a second that takes 5 s, in
			// which a new leader does nothing.
			"kube-api-qps":              "100",
			"kube-api-burst":            "200",
			"cluster-signing-cert-file": signingDir + "/ca.crt",
			"cluster-signing-key-file":  signingDir + "/ca.key",
		}), inv.Kubernetes.ControllerExtraArgs),
		"SchedulerArgs": args(servingArgs(map[string]string{}), inv.Kubernetes.SchedulerExtraArgs),
		"CgroupDriver":  c.cgroupDriver(h), "CgroupV1": !c.Facts[h.Name].CgroupV2, "MaxPods": maxPods(inv),
	})
}

// servingArgs adds the pair to serve with. A component without one makes an RSA
// key at every start, before it does anything else (up to a second on a busy host,
// in which a new leader does nothing), and a certificate that no client can verify.
func servingArgs(to map[string]string) map[string]string {
	to["tls-cert-file"], to["tls-private-key-file"] = servingDir+"/server.crt", servingDir+"/server.key"
	return to
}

// podSubnet is given to kubeadm only when the controller manager is to hand
// out the nodes' pod addresses; the routes preset does that itself.
func (c Cluster) podSubnet() string {
	if OwnSubnets(c.Inv) {
		return ""
	}
	return c.Inv.Network.PodSubnet.String()
}

// cgroupDriver must be the same for the kubelet and containerd.
func (c Cluster) cgroupDriver(h *inventory.Host) string {
	if c.Facts[h.Name].CgroupV2 {
		return "systemd"
	}
	return "cgroupfs"
}

func maxPods(inv *inventory.Inventory) int {
	if n := inv.Kubernetes.KubeletMaxPods; n > 0 {
		return n
	}
	return 110
}

// Taints are the node's taints: the inventory's, and the control-plane taint
// unless masters are to run ordinary pods.
func (c Cluster) Taints(h *inventory.Host) []inventory.Taint {
	t := slices.Clone(h.Taints)
	s := c.Inv.Kubernetes.SchedulableMasters
	schedulable := s != nil && *s || s == nil && len(c.Inv.Workers()) == 0
	if h.Role == inventory.ControlPlane && !schedulable {
		t = append(t, controlPlaneTaint)
	}
	return t
}

// labels are those that the node registers with. Others it gets when it is
// there: a kubelet that is told to set them itself does not start.
func labels(h *inventory.Host) string {
	parts := make([]string, 0, len(h.Labels))
	for k, v := range h.Labels {
		if ownLabel(k) {
			parts = append(parts, k+"="+v)
		}
	}
	sort.Strings(parts)
	return strings.Join(parts, ",")
}

// ownLabel reports whether a kubelet may give its own node that label: in the
// domains of Kubernetes only those that the NodeRestriction admission lists.
func ownLabel(key string) bool {
	domain, _, ok := strings.Cut(key, "/")
	if !ok || !within(domain, "kubernetes.io") && !within(domain, "k8s.io") || within(domain, "kubelet.kubernetes.io") || within(domain, "node.kubernetes.io") {
		return true
	}
	switch key {
	case "kubernetes.io/hostname", "kubernetes.io/arch", "kubernetes.io/os", "beta.kubernetes.io/arch", "beta.kubernetes.io/os", "beta.kubernetes.io/instance-type",
		"topology.kubernetes.io/zone", "topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region":
		return true
	}
	return false
}

func within(domain, parent string) bool {
	return domain == parent || strings.HasSuffix(domain, "."+parent)
}

// algorithm translates to kubeadm's spelling.
func algorithm(a string) string {
	switch a {
	case "rsa-2048", "rsa-3072", "rsa-4096":
		return "RSA-" + a[len("rsa-"):]
	}
	return "ECDSA-P256"
}

// joinConfig renders a worker's kubeadm configuration; it holds the token.
func (c Cluster) joinConfig(h *inventory.Host, token string) ([]byte, error) {
	if !validToken(token) {
		return nil, fmt.Errorf("the control plane gave an unreadable bootstrap token")
	}
	return templates.Render("kubeadm-join.yaml.tmpl", map[string]any{
		"Endpoint": Endpoint(c.Inv), "Token": token, "CAHash": c.PKI.KubernetesCA.Hash(), "Name": h.Name,
		"Address": h.PrivateAddress.String(), "Taints": c.Taints(h), "Labels": labels(h), "IgnorePreflight": c.ignorePreflight(),
		"Waits": joinWaits(c.Inv.SlowHosts),
	})
}

// joinWaits are the bounds of kubeadm join with their defaults, stretched; none where the
// hosts are not slow. (Those of kubeadm init are in what the static pods are made from:
// another factor would restart every apiserver.)
func joinWaits(slow int) map[string]time.Duration {
	if slow <= wait.Usual {
		return nil
	}
	out := map[string]time.Duration{"discovery": 5 * time.Minute, "kubeletHealthCheck": 4 * time.Minute, "kubernetesAPICall": time.Minute, "tlsBootstrap": 5 * time.Minute}
	for name := range out {
		out[name] *= time.Duration(slow)
	}
	return out
}
