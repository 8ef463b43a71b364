package inventory

// Flags of the control plane that hactl, or kubeadm for it, sets, with the key
// of the inventory that the value comes from; "" when it is none of its keys,
// such as the path of a certificate. Another value would make a cluster that
// does not fit what the inventory says, or does not start.
var (
	apiServerFlags = map[string]string{
		"advertise-address": "privateAddress", "bind-address": "", "secure-port": "vip.port",
		"service-cluster-ip-range": "network.serviceSubnet",
		"etcd-servers":             "hosts", "etcd-cafile": "", "etcd-certfile": "", "etcd-keyfile": "",
		"client-ca-file": "", "tls-cert-file": "", "tls-private-key-file": "",
		"service-account-key-file": "", "service-account-signing-key-file": "",
		"kubelet-client-certificate": "", "kubelet-client-key": "",
		"proxy-client-cert-file": "", "proxy-client-key-file": "", "requestheader-client-ca-file": "",
	}
	controllerFlags = map[string]string{
		"cluster-name": "cluster", "cluster-cidr": "network.podSubnet", "service-cluster-ip-range": "network.serviceSubnet",
		"allocate-node-cidrs": "network.preset",
		"kubeconfig":          "", "authentication-kubeconfig": "", "authorization-kubeconfig": "",
		"root-ca-file": "", "client-ca-file": "", "requestheader-client-ca-file": "",
		"cluster-signing-cert-file": "", "cluster-signing-key-file": "", "service-account-private-key-file": "",
	}
	schedulerFlags = map[string]string{"kubeconfig": "", "authentication-kubeconfig": "", "authorization-kubeconfig": ""}
)

// flagFormat is that of the name of a flag other than ours.
func flagFormat(ours map[string]string) format {
	check := func(s string) (what, instead string) {
		key, set := ours[s]
		switch {
		case !set:
			return "", ""
		case key == "":
			return quote(s) + " is set by hactl from the inventory", "remove it"
		}
		return quote(s) + " is set by hactl from the inventory (" + key + ")", "remove it"
	}
	return format{help: "the name of a flag without dashes in front, such as audit-log-path", pattern: `^[a-z0-9][-a-z0-9]*$`, check: check}
}
