package inventory

import (
	"slices"
	"strings"
)

// Kubelet is a part of KubeletConfiguration (kubelet.config.k8s.io/v1beta1): what an
// operator may set. Fields of that type that hactl or kubeadm sets are in kubeletOwned.
type Kubelet struct {
	AllowedUnsafeSysctls            []string          `yaml:"allowedUnsafeSysctls,omitempty" format:"line" doc:"Sysctls that pods may set beyond the safe ones." example:"[net.core.somaxconn]"`
	ContainerLogMaxFiles            *int              `yaml:"containerLogMaxFiles,omitempty" min:"2" max:"1000" doc:"Log files kept for each container. The kubelet's default is 5." example:"5"`
	ContainerLogMaxSize             string            `yaml:"containerLogMaxSize,omitempty" format:"quantity" doc:"Size at which the log of a container is rotated. The kubelet's default is 10Mi." example:"10Mi"`
	CPUCFSQuota                     *bool             `yaml:"cpuCFSQuota,omitempty" doc:"Hold containers to their processor limits. The kubelet's default is true." example:"true"`
	CPUManagerPolicy                string            `yaml:"cpuManagerPolicy,omitempty" enum:"none,static" doc:"static gives whole processors to pods that ask for them; it wants reservedSystemCPUs or processors in systemReserved. A node that runs takes another policy only after /var/lib/kubelet/cpu_manager_state was removed." example:"none"`
	EvictionHard                    map[string]string `yaml:"evictionHard,omitempty" keys:"evictionsignal" format:"threshold" doc:"What has to be free: below it the kubelet ends pods. Signals that are left out have no threshold. The kubelet's defaults are memory.available 100Mi, nodefs.available 10%, imagefs.available 15%, nodefs.inodesFree 5%." example:"{memory.available: 100Mi, nodefs.available: 10%, imagefs.available: 15%}"`
	EvictionMaxPodGracePeriod       *int              `yaml:"evictionMaxPodGracePeriod,omitempty" min:"0" max:"86400" doc:"Most seconds that a pod gets to end after a soft eviction." example:"60"`
	EvictionMinimumReclaim          map[string]string `yaml:"evictionMinimumReclaim,omitempty" keys:"evictionsignal" format:"threshold" doc:"How much an eviction frees at least." example:"{nodefs.available: 500Mi}"`
	EvictionPressureTransition      Duration          `yaml:"evictionPressureTransitionPeriod,omitempty" min:"1s" max:"24h" doc:"How long a pressure has to be gone before the node takes pods again. The kubelet's default is 5m." example:"5m0s"`
	EvictionSoft                    map[string]string `yaml:"evictionSoft,omitempty" keys:"evictionsignal" format:"threshold" doc:"What has to be free over a time; each needs its evictionSoftGracePeriod." example:"{nodefs.available: 15%}"`
	EvictionSoftGracePeriod         map[string]string `yaml:"evictionSoftGracePeriod,omitempty" keys:"evictionsignal" format:"duration" doc:"How long a soft threshold may be passed." example:"{nodefs.available: 2m}"`
	FeatureGates                    map[string]bool   `yaml:"featureGates,omitempty" keys:"word" doc:"Feature gates of the kubelet. One that its version does not know keeps it from starting." example:"{ContextualLogging: true}"`
	ImageGCHighThresholdPercent     *int              `yaml:"imageGCHighThresholdPercent,omitempty" min:"1" max:"100" doc:"How full a disk has to be before images are removed. The kubelet's default is 85." example:"85"`
	ImageGCLowThresholdPercent      *int              `yaml:"imageGCLowThresholdPercent,omitempty" min:"0" max:"100" doc:"How far images are removed. The kubelet's default is 80." example:"80"`
	ImageMaximumGCAge               Duration          `yaml:"imageMaximumGCAge,omitempty" min:"1m" doc:"Age at which an unused image is removed in any case." example:"720h0m0s"`
	KubeAPIBurst                    *int              `yaml:"kubeAPIBurst,omitempty" min:"1" max:"10000" doc:"Burst of requests to the apiserver. The kubelet's default is 100." example:"100"`
	KubeAPIQPS                      *int              `yaml:"kubeAPIQPS,omitempty" min:"1" max:"10000" doc:"Requests to the apiserver a second. The kubelet's default is 50." example:"50"`
	KubeReserved                    map[string]string `yaml:"kubeReserved,omitempty" keys:"resource" format:"quantity" doc:"What is kept for the kubelet and containerd." example:"{cpu: 100m, memory: 200Mi}"`
	MaxParallelImagePulls           *int              `yaml:"maxParallelImagePulls,omitempty" min:"1" max:"1000" doc:"Images that are pulled at once; serializeImagePulls has to be false." example:"3"`
	MemoryManagerPolicy             string            `yaml:"memoryManagerPolicy,omitempty" enum:"None,Static" doc:"How memory of NUMA nodes is given out." example:"None"`
	NodeStatusReportFrequency       Duration          `yaml:"nodeStatusReportFrequency,omitempty" min:"1s" max:"1h" doc:"How often an unchanged node status is written. The kubelet's default is 5m." example:"5m0s"`
	NodeStatusUpdateFrequency       Duration          `yaml:"nodeStatusUpdateFrequency,omitempty" min:"1s" max:"5m" doc:"How often the kubelet looks at its node. Its default is 10s." example:"10s"`
	PodPidsLimit                    *int              `yaml:"podPidsLimit,omitempty" min:"-1" max:"4194304" doc:"Most processes of a pod." example:"4096"`
	ProtectKernelDefaults           *bool             `yaml:"protectKernelDefaults,omitempty" doc:"Refuse to start where kernel parameters are not what the kubelet wants, in place of setting them." example:"false"`
	ReadOnlyPort                    *int              `yaml:"readOnlyPort,omitempty" min:"0" max:"65535" doc:"Port that serves without a login; 0 for none, which is the default." example:"0"`
	ReservedSystemCPUs              string            `yaml:"reservedSystemCPUs,omitempty" format:"cpuset" doc:"Processors that no pod gets alone." example:"0-1"`
	ResolvConf                      string            `yaml:"resolvConf,omitempty" format:"hostfile" doc:"File of the hosts that pods with dnsPolicy Default, and CoreDNS, get their name servers from." example:"/run/systemd/resolve/resolv.conf"`
	SeccompDefault                  *bool             `yaml:"seccompDefault,omitempty" doc:"Use the runtime's seccomp profile where a pod names none." example:"true"`
	SerializeImagePulls             *bool             `yaml:"serializeImagePulls,omitempty" doc:"Pull one image at a time. The kubelet's default is true." example:"false"`
	ShutdownGracePeriod             Duration          `yaml:"shutdownGracePeriod,omitempty" min:"1s" max:"1h" doc:"How long a host that shuts down waits for its pods." example:"30s"`
	ShutdownGracePeriodCriticalPods Duration          `yaml:"shutdownGracePeriodCriticalPods,omitempty" min:"1s" max:"1h" doc:"The part of it that is kept for critical pods." example:"10s"`
	StreamingConnectionIdleTimeout  Duration          `yaml:"streamingConnectionIdleTimeout,omitempty" min:"1s" max:"24h" doc:"When an idle exec or logs connection is closed. The kubelet's default is 4h." example:"4h0m0s"`
	SystemReserved                  map[string]string `yaml:"systemReserved,omitempty" keys:"resource" format:"quantity" doc:"What is kept for programs of the system." example:"{cpu: 100m, memory: 200Mi}"`
	TLSCipherSuites                 []string          `yaml:"tlsCipherSuites,omitempty" format:"word" doc:"Cipher suites that the kubelet serves with." example:"[TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"`
	TLSMinVersion                   string            `yaml:"tlsMinVersion,omitempty" enum:"VersionTLS12,VersionTLS13" doc:"Least version of TLS that the kubelet serves with." example:"VersionTLS12"`
	TopologyManagerPolicy           string            `yaml:"topologyManagerPolicy,omitempty" enum:"none,best-effort,restricted,single-numa-node" doc:"How a pod's processors and devices are kept together." example:"none"`
	TopologyManagerScope            string            `yaml:"topologyManagerScope,omitempty" enum:"container,pod" doc:"What is kept together." example:"container"`
}

// kubeletOwned are fields of KubeletConfiguration that hactl or kubeadm sets, with what
// to write instead.
var kubeletOwned = map[string]string{
	"apiVersion": "remove it", "kind": "remove it",
	"maxPods":            "write kubernetes.maxPods",
	"clusterDomain":      "write network.dnsDomain",
	"clusterDNS":         "write network.serviceSubnet: DNS has its tenth address",
	"podCIDR":            "write network.podSubnet",
	"registerWithTaints": "write taints at the hosts", "registerNode": "remove it",
	"cgroupDriver": "remove it: it follows the host", "failCgroupV1": "remove it: it follows the host",
	"failSwapOn": "remove it: hactl turns swap off", "memorySwap": "remove it: hactl turns swap off",
	"containerRuntimeEndpoint": "remove it: hactl brings containerd", "imageServiceEndpoint": "remove it: hactl brings containerd",
	"staticPodPath": "remove it: the apiservers start from there", "staticPodURL": "remove it", "enableServer": "remove it",
	"authentication": "remove it: kubelets ask the apiserver", "authorization": "remove it: kubelets ask the apiserver",
	"rotateCertificates": "remove it: kubelets renew their certificates", "serverTLSBootstrap": "remove it: hactl gives every node a certificate of the CA",
	"tlsCertFile": "remove it: hactl gives every node a certificate of the CA", "tlsPrivateKeyFile": "remove it: hactl gives every node a certificate of the CA",
	"address": "remove it", "port": "remove it", "healthzPort": "remove it: kubeadm asks there", "healthzBindAddress": "remove it: kubeadm asks there",
	"crashLoopBackOff": "remove it: static pods have to come back within seconds", "registryPullQPS": "remove it: nothing is throttled at bring-up",
}

// validateKubelet holds together what belongs together.
func validateKubelet(inv *Inventory, d *decoder) {
	const at = "kubernetes.kubelet."
	k := inv.Kubernetes.Kubelet
	for signal := range k.EvictionSoft {
		if k.EvictionSoftGracePeriod[signal] == "" {
			d.report(at+"evictionSoft."+signal, "has no evictionSoftGracePeriod: the kubelet would not start", "write evictionSoftGracePeriod: {"+signal+": 2m}")
		}
	}
	for signal := range k.EvictionSoftGracePeriod {
		if k.EvictionSoft[signal] == "" {
			d.report(at+"evictionSoftGracePeriod."+signal, "has no evictionSoft", "write evictionSoft: {"+signal+": 15%}, or remove it")
		}
	}
	high, low := 85, 80
	if k.ImageGCHighThresholdPercent != nil {
		high = *k.ImageGCHighThresholdPercent
	}
	if k.ImageGCLowThresholdPercent != nil {
		low = *k.ImageGCLowThresholdPercent
	}
	if low >= high {
		d.report(at+"imageGCLowThresholdPercent", "is not below imageGCHighThresholdPercent: the kubelet would not start", "write both, the lower one first")
	}
	if k.ShutdownGracePeriodCriticalPods > k.ShutdownGracePeriod {
		d.report(at+"shutdownGracePeriodCriticalPods", "is longer than shutdownGracePeriod: the kubelet would not start", "write a longer shutdownGracePeriod")
	}
	if k.MaxParallelImagePulls != nil && *k.MaxParallelImagePulls > 1 && (k.SerializeImagePulls == nil || *k.SerializeImagePulls) {
		d.report(at+"maxParallelImagePulls", "images are pulled one at a time: the kubelet would not start", "write serializeImagePulls: false beside it")
	}
	if k.CPUManagerPolicy == "static" && k.ReservedSystemCPUs == "" && k.KubeReserved["cpu"] == "" && k.SystemReserved["cpu"] == "" {
		d.report(at+"cpuManagerPolicy", "static wants reserved processors: the kubelet would not start", "write reservedSystemCPUs: \"0\"")
	}
}

// owned says what to write instead of a key that is hactl's to set, or "".
func owned(path, key string) string {
	if path == "kubernetes.kubelet" {
		for name, instead := range kubeletOwned {
			if strings.EqualFold(name, key) {
				return instead
			}
		}
	}
	return ""
}

// evictionSignals are those of the kubelet.
var evictionSignals = []string{
	"memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree", "containerfs.available", "containerfs.inodesFree",
	"pid.available", "allocatableMemory.available",
}

func checkSignal(s string) (what, instead string) {
	if slices.Contains(evictionSignals, s) {
		return "", ""
	}
	return quote(s) + " is no signal of the kubelet", "write one of " + strings.Join(evictionSignals, ", ")
}
