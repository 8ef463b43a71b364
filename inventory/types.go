// Package inventory holds the one file an operator writes: which hosts there
// are, how to reach them, and what cluster they are to become. Everything else
// in hactl is derived from a loaded and validated [Inventory].
package inventory

import (
	"net/netip"
	"time"
)

// Role says what a host becomes.
type Role string

// The roles a host can have.
const (
	ControlPlane Role = "control-plane" // etcd member, apiserver, candidate for the VIP
	Worker       Role = "worker"        // kubelet only
)

// Inventory is the whole file, with every default filled in by [Load].
//
// The tags of the types below are all that the decoder, the JSON schema and the
// scaffold know: a field without omitempty is required; enum lists its values;
// format names an entry of formats (for lists and maps: of the elements), keys
// the same for the keys of a map; min and max bound numbers and durations; doc
// is what a person reads about it.
type Inventory struct {
	APIVersion string     `yaml:"apiVersion,omitempty" enum:"hactl/v1" doc:"Version of this file's format. A file without it is read as hactl/v1, and hactl validate says so."`
	Kind       string     `yaml:"kind,omitempty" enum:"Cluster" doc:"What the file describes: always Cluster."`
	Cluster    string     `yaml:"cluster" format:"cluster" doc:"Name of the cluster: a DNS label, at most 40 characters. It names the etcd cluster token, the certificates and the kubeconfig context."`
	Versions   Versions   `yaml:"versions,omitempty" doc:"Versions to install. Left out, the default set of this hactl is used."`
	VIP        VIP        `yaml:"vip" doc:"The virtual IP address that follows a healthy apiserver."`
	Network    Network    `yaml:"network,omitempty" doc:"Pod and service addresses, and what connects the pods."`
	SSH        SSH        `yaml:"ssh,omitempty" doc:"Defaults for reaching the hosts; a host can override each of them."`
	PKI        PKI        `yaml:"pki,omitempty" doc:"Key algorithm, lifetimes and where secrets are kept."`
	Etcd       Etcd       `yaml:"etcd,omitempty" doc:"Settings of the etcd cluster."`
	Kubernetes Kubernetes `yaml:"kubernetes,omitempty" doc:"Settings of kubeadm, the control plane and the kubelets."`
	Containerd Containerd `yaml:"containerd,omitempty" doc:"Settings of the container runtime."`
	Artifacts  Artifacts  `yaml:"artifacts,omitempty" doc:"Where binaries and images come from."`
	Backup     Backup     `yaml:"backup,omitempty" doc:"Snapshots of etcd."`
	Drill      Drill      `yaml:"drill,omitempty" doc:"Bounds that hactl drill holds the cluster to."`
	SlowHosts  int        `yaml:"slowHosts,omitempty" min:"1" max:"20" doc:"How many times as long as usual everything may take that hactl waits for, 1 to 20, for hosts that are slow. HACTL_SLOW_HOSTS in the environment comes first. Default 1." example:"4"`
	Hosts      []Host     `yaml:"hosts" doc:"The machines. 1, 3, 5 or 7 of them are masters."`

	// Path is the file this inventory was loaded from; the PKI store and the
	// kubeconfig lie beside it unless configured otherwise.
	Path string `yaml:"-"`

	// NamedVersions is what the file says of versions, before the defaults.
	NamedVersions Versions `yaml:"-"`
	// Notes are remarks on a file that is valid, in the form of problems:
	// hactl validate prints them, and they change no exit code.
	Notes Problems `yaml:"-"`
}

// Versions pins what is installed. Values carry a leading v.
type Versions struct {
	Kubernetes string `yaml:"kubernetes,omitempty" format:"version" doc:"Kubernetes version, such as v1.36.3; hactl versions lists those that are known. It brings an etcd and a containerd that go with it."`
	Etcd       string `yaml:"etcd,omitempty" format:"version" doc:"Another etcd of that set, such as v3.7.3."`
	Containerd string `yaml:"containerd,omitempty" format:"version" doc:"Another containerd of that set, such as v2.3.7."`
}

// VIP describes the virtual IP address.
type VIP struct {
	Address         netip.Addr    `yaml:"address" doc:"An unused address in the network of the masters, IPv4 or IPv6."`
	Network         netip.Prefix  `yaml:"network,omitempty" doc:"Network that the VIP and the private addresses of the masters share, such as 192.0.2.0/24. Left out, hactl only asks that the VIP and some master agree in the first 16 bits (64 with IPv6), and the preflight looks at the real interfaces." example:"192.0.2.0/24"`
	Interface       string        `yaml:"interface,omitempty" format:"interface" doc:"Interface that carries it. Left out, each host's interface that holds its private address." example:"eth0"`
	VirtualRouterID int           `yaml:"virtualRouterID,omitempty" min:"1" max:"255" doc:"VRRP virtual router id, 1 to 255, unique in the network segment. Default 51."`
	AdvertInterval  time.Duration `yaml:"advertInterval,omitempty" min:"100ms" max:"40s" doc:"Time between VRRP adverts, 100ms to 40s. Default 100ms: the VIP moves within 0.4 s of losing its owner."`
	Port            int           `yaml:"port,omitempty" min:"1" max:"65535" doc:"Port of the apiservers, on the hosts and on the VIP. Default 6443."`
	Prober          *bool         `yaml:"prober,omitempty" doc:"Run the 100 ms health prober on the masters. Default true; false leaves the check script, once a second."`
}

// Network describes addresses inside the cluster.
type Network struct {
	PodSubnet     netip.Prefix `yaml:"podSubnet,omitempty" doc:"Addresses of pods. Default 10.244.0.0/16 (fd00:10:244::/56 with IPv6 hosts)."`
	ServiceSubnet netip.Prefix `yaml:"serviceSubnet,omitempty" doc:"Addresses of services; must not contain any host. Default 10.96.0.0/16 (fd00:10:96::/112 with IPv6 hosts)."`
	DNSDomain     string       `yaml:"dnsDomain,omitempty" format:"domain" doc:"Default cluster.local."`
	Preset        string       `yaml:"preset,omitempty" enum:"routes,flannel,none" doc:"What connects the pods: routes (one route per node; all hosts in one segment), flannel (vxlan overlay) or none (bring your own with manifest). Default routes."`
	Manifest      string       `yaml:"manifest,omitempty" format:"file" doc:"Path of a manifest to apply as the pod network, relative to this file. Implies preset none." example:"pod-network.yaml"`
	ProxyMode     string       `yaml:"proxyMode,omitempty" enum:"nftables,iptables" doc:"Mode of kube-proxy. Default nftables."`
}

// SSH says how a host is reached. A zero field of a host's SSH inherits the
// field of the inventory's SSH.
type SSH struct {
	User            string   `yaml:"user,omitempty" format:"user" doc:"Login name. Default: User of ~/.ssh/config, else root." example:"root"`
	Port            int      `yaml:"port,omitempty" min:"1" max:"65535" doc:"Default: Port of ~/.ssh/config, else 22." example:"22"`
	Key             string   `yaml:"key,omitempty" format:"file" doc:"Private key file, relative to this file; ~ is expanded. Left out, IdentityFile of ~/.ssh/config, the agent and ~/.ssh/id_* are tried." example:"~/.ssh/id_ed25519"`
	Agent           *bool    `yaml:"agent,omitempty" doc:"Ask the agent at SSH_AUTH_SOCK. Default true."`
	KnownHosts      string   `yaml:"knownHosts,omitempty" format:"path" doc:"known_hosts file. Default ~/.ssh/known_hosts. Host keys are always verified." example:"~/.ssh/known_hosts"`
	HostKey         string   `yaml:"hostKey,omitempty" format:"hostkey" doc:"Pinned host key, 'ssh-ed25519 AAAA...' or 'SHA256:...'; used instead of known_hosts." example:"SHA256:uNiVztksCsDhcc0u9e8BrrQXVUpiEhxfjgGNtzqqNuc"`
	Sudo            *bool    `yaml:"sudo,omitempty" doc:"Run commands through sudo. Default: true unless the user is root." example:"true"`
	SudoPasswordEnv string   `yaml:"sudoPasswordEnv,omitempty" format:"env" doc:"Name of the environment variable that holds the sudo password. Left out, hactl asks on the terminal when sudo wants one." example:"SUDO_PASSWORD"`
	ConnectTimeout  Duration `yaml:"connectTimeout,omitempty" min:"100ms" max:"10m" doc:"For one dial including the handshake. Default 10s."`
	Bastion         *Bastion `yaml:"bastion,omitempty" doc:"A jump host in front of this host. Default: ProxyJump of ~/.ssh/config." example:"{address: bastion.example.com, user: jump}"`
}

// Bastion is a jump host. It has its own user, key and host key.
type Bastion struct {
	Address    string `yaml:"address" format:"jumphost" doc:"Name or address of the jump host."`
	Port       int    `yaml:"port,omitempty" min:"1" max:"65535" doc:"Default 22."`
	User       string `yaml:"user,omitempty" format:"user" doc:"Default: the host's user."`
	Key        string `yaml:"key,omitempty" format:"file" doc:"Default: the host's key."`
	HostKey    string `yaml:"hostKey,omitempty" format:"hostkey" doc:"Pinned host key; default: known_hosts."`
	KnownHosts string `yaml:"knownHosts,omitempty" format:"path" doc:"Default: the host's known_hosts."`
}

// PKI configures keys and certificates.
type PKI struct {
	Algorithm  string     `yaml:"algorithm,omitempty" enum:"ecdsa-p256,rsa-2048,rsa-3072,rsa-4096" doc:"Default ecdsa-p256."`
	CAExpiry   Duration   `yaml:"caExpiry,omitempty" min:"24h" doc:"Lifetime of the CAs, at least 24h and as long as expiry. Default 87600h (ten years)."`
	Expiry     Duration   `yaml:"expiry,omitempty" min:"24h" doc:"Lifetime of the etcd certificates, at least 24h. Default 43800h (five years)."`
	Store      string     `yaml:"store,omitempty" format:"path" doc:"Folder for CA keys and issued certificates, 0700. Default: pki-<cluster> beside this file." example:"pki-demo"`
	ExternalCA ExternalCA `yaml:"externalCA,omitempty" doc:"Existing CAs to sign with instead of making new ones."`
}

// ExternalCA names CAs that already exist.
type ExternalCA struct {
	Etcd       *CAFiles `yaml:"etcd,omitempty" doc:"CA of etcd." example:"{cert: etcd-ca.pem, key: etcd-ca-key.pem}"`
	Kubernetes *CAFiles `yaml:"kubernetes,omitempty" doc:"CA of Kubernetes." example:"{cert: ca.pem, key: ca-key.pem}"`
	FrontProxy *CAFiles `yaml:"frontProxy,omitempty" doc:"Front-proxy CA of Kubernetes." example:"{cert: front-proxy-ca.pem, key: front-proxy-ca-key.pem}"`
}

// CAFiles are a CA certificate and its private key, PEM. Without the key, certificates are
// signed elsewhere.
type CAFiles struct {
	Cert string `yaml:"cert" format:"file" doc:"Certificate file, relative to this file."`
	Key  string `yaml:"key,omitempty" format:"file" doc:"Private key file, relative to this file. Without it hactl writes signing requests and takes signed certificates (docs/certificates.md); kubernetes needs it."`
}

// Etcd configures the etcd cluster.
type Etcd struct {
	DataDir           string   `yaml:"dataDir,omitempty" format:"hostdir" doc:"Default /var/lib/etcd."`
	HeartbeatInterval Duration `yaml:"heartbeatInterval,omitempty" min:"1ms" max:"10s" doc:"Default a fifth of electionTimeout, at most 200ms. 0.5 to 1.5 times the round trip between members, if that is more than a few milliseconds."`
	ElectionTimeout   Duration `yaml:"electionTimeout,omitempty" min:"5ms" max:"50s" doc:"Default 1s: at least ten round trips and five heartbeats."`
	QuotaBackendBytes int64    `yaml:"quotaBackendBytes,omitempty" min:"104857600" max:"68719476736" doc:"Database size limit in bytes. Default 8589934592 (8 GiB)."`
}

// Kubernetes configures kubeadm and the kubelets.
type Kubernetes struct {
	ExtraSANs           []string          `yaml:"extraSANs,omitempty" format:"san" doc:"Further names and addresses for the apiserver certificate." example:"[api.example.com]"`
	SchedulableMasters  *bool             `yaml:"schedulableMasters,omitempty" doc:"Leave the control-plane taint off; running masters follow. Default false, true when there is no worker."`
	IgnorePreflight     []string          `yaml:"ignorePreflight,omitempty" format:"word" doc:"kubeadm preflight checks to ignore beyond those hactl covers itself." example:"[NumCPU, Mem]"`
	APIServerExtraArgs  map[string]string `yaml:"apiServerExtraArgs,omitempty" keys:"apiserverflag" format:"line" doc:"Further flags of kube-apiserver, without dashes." example:"{audit-log-maxage: \"30\"}"`
	ControllerExtraArgs map[string]string `yaml:"controllerManagerExtraArgs,omitempty" keys:"controllerflag" format:"line" doc:"Further flags of kube-controller-manager." example:"{node-monitor-grace-period: 40s}"`
	SchedulerExtraArgs  map[string]string `yaml:"schedulerExtraArgs,omitempty" keys:"schedulerflag" format:"line" doc:"Further flags of kube-scheduler." example:"{v: \"2\"}"`
	Files               map[string]string `yaml:"files,omitempty" keys:"filename" format:"file" doc:"Files of this machine that the apiservers read, by the names that they get in /etc/kubernetes/hactl-files in the apiserver's container: audit policy, encryption, authentication and admission configuration, CAs. A flag in apiServerExtraArgs names the path there. A changed file restarts the apiservers, one after another." example:"{audit-policy.yaml: audit-policy.yaml}"`
	Kubelet             Kubelet           `yaml:"kubelet,omitempty" doc:"Settings of the kubelets, as KubeletConfiguration names them. Running nodes follow, one after another."`
	KubeletMaxPods      int               `yaml:"maxPods,omitempty" min:"1" max:"1000" doc:"Pods per node, default 110."`
}

// Artifacts says where binaries and images come from.
type Artifacts struct {
	Source     string `yaml:"source,omitempty" enum:"upload,present,mirror" doc:"upload: from the local bundle, skipping what a host already has. present: everything is on the hosts already (golden image). mirror: hosts fetch the bundle's files from mirror. Default upload."`
	Bundle     string `yaml:"bundle,omitempty" format:"path" doc:"Folder of the bundle. Default: hactl's cache folder." example:"~/hactl-bundle"`
	Mirror     string `yaml:"mirror,omitempty" format:"url" doc:"Base URL of a folder with the layout of a bundle." example:"https://mirror.example.com/hactl"`
	OSPackages string `yaml:"osPackages,omitempty" enum:"install,present" doc:"install: missing OS packages are installed with the host's package manager. present: they must be there. Default install."`
	Demo       *bool  `yaml:"demo,omitempty" doc:"Import the images of the small web server that hactl drill worker-lost runs, on every host. Default true, false when there is no worker."`
}

// Backup configures snapshots.
type Backup struct {
	Schedule   string   `yaml:"schedule,omitempty" enum:"15m,30m,1h,2h,3h,4h,6h,8h,12h,24h" doc:"How often a timer on every master saves a snapshot of etcd there, in /var/lib/hactl/snapshots, each master at another time. Left out, there is no timer." example:"6h"`
	Keep       int      `yaml:"keep,omitempty" min:"1" max:"1000" doc:"How many of these snapshots stay on each master. Default 8."`
	Recipients []string `yaml:"recipients,omitempty" format:"agekey" doc:"Public keys of age that can read the copy of the PKI store which hactl snapshot save --with-store writes. Left out, a passphrase is taken from the environment." example:"[age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]"`
}

// Drill bounds the client-visible gaps that hactl drill accepts.
type Drill struct {
	Bounds map[string]Duration `yaml:"bounds,omitempty" keys:"drillcheck" doc:"Largest accepted gap per scenario (see hactl drill --list), or per scenario and check." example:"{owner-cut-off: 500ms, owner-cut-off/vip/write/new: 2s}"`
}

// Host is one machine.
type Host struct {
	Name           string            `yaml:"name" format:"label" doc:"Node name: a DNS label. It is set as the hostname."`
	Address        string            `yaml:"address" format:"host" doc:"Name or address that ssh connects to. May be an alias of ~/.ssh/config."`
	PrivateAddress netip.Addr        `yaml:"privateAddress,omitempty" doc:"Address the cluster uses between hosts. Default: address." example:"203.0.113.11"`
	Interface      string            `yaml:"interface,omitempty" format:"interface" doc:"Interface with the private address. Left out, found on the host." example:"eth0"`
	Role           Role              `yaml:"role" enum:"control-plane,worker" doc:"control-plane or worker."`
	SSH            SSH               `yaml:"ssh,omitempty" doc:"Overrides of the ssh defaults." example:"{user: admin, port: 2222}"`
	Labels         map[string]string `yaml:"labels,omitempty" keys:"labelkey" format:"labelvalue" doc:"Node labels. Running nodes follow; labels set by others are left alone." example:"{topology.kubernetes.io/zone: a}"`
	Taints         []Taint           `yaml:"taints,omitempty" doc:"Node taints. Running nodes follow; taints set by others are left alone." example:"[{key: dedicated, value: gpu, effect: NoSchedule}]"`
}

// Taint is a node taint.
type Taint struct {
	Key    string `yaml:"key" format:"labelkey" doc:"Taint key."`
	Value  string `yaml:"value,omitempty" format:"labelvalue" doc:"Taint value."`
	Effect string `yaml:"effect" enum:"NoSchedule,PreferNoSchedule,NoExecute" doc:"What the taint does to pods."`
}

// Duration is a time.Duration written the Go way in YAML: 100ms, 5s, 43800h.
type Duration = time.Duration

// Masters returns the control-plane hosts in file order.
func (inv *Inventory) Masters() []*Host { return inv.withRole(ControlPlane) }

// Workers returns the worker hosts in file order.
func (inv *Inventory) Workers() []*Host { return inv.withRole(Worker) }

func (inv *Inventory) withRole(r Role) []*Host {
	var out []*Host
	for i := range inv.Hosts {
		if inv.Hosts[i].Role == r {
			out = append(out, &inv.Hosts[i])
		}
	}
	return out
}

// Host returns the host of that name, or nil.
func (inv *Inventory) Host(name string) *Host {
	for i := range inv.Hosts {
		if inv.Hosts[i].Name == name {
			return &inv.Hosts[i]
		}
	}
	return nil
}

// IPv6 reports whether the cluster's own addresses are IPv6 (the VIP decides).
func (inv *Inventory) IPv6() bool { return inv.VIP.Address.Is6() && !inv.VIP.Address.Is4In6() }
