package inventory

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// doc builds an inventory for a test: three masters and the given blocks. A
// block that starts with "vip:" or "hosts:" replaces the one of that name.
func doc(blocks ...string) string {
	parts := map[string]string{"vip:": "vip: {address: 192.0.2.10}", "hosts:": hosts("192.0.2.11", "192.0.2.12", "192.0.2.13")}
	text := "cluster: demo\n"
	for _, b := range blocks {
		if key := b[:strings.Index(b, ":")+1]; parts[key] != "" {
			parts[key] = b
			continue
		}
		text += b + "\n"
	}
	return text + parts["vip:"] + "\n" + parts["hosts:"] + "\n"
}

// hosts is a list of masters m0, m1, ... with these addresses; one that starts
// with { is taken as it is.
func hosts(addresses ...string) string {
	lines := []string{"hosts:"}
	for i, a := range addresses {
		if !strings.HasPrefix(a, "{") {
			a = fmt.Sprintf("{name: m%d, address: %q, role: control-plane}", i, a)
		}
		lines = append(lines, "- "+a)
	}
	return strings.Join(lines, "\n")
}

const six = "vip: {address: '2001:db8::10'}"

var six3 = hosts("2001:db8::11", "2001:db8::12", "2001:db8::13")

func TestInventoriesThatHoldTogetherLoad(t *testing.T) {
	for name, text := range map[string]string{
		"three":               doc(),
		"one":                 doc(hosts("192.0.2.11")),
		"seven":               doc(hosts("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7")),
		"IPv6":                doc(six, six3),
		"ssh over IPv4, IPv6": doc(six, hosts("{name: a, address: 198.51.100.1, privateAddress: '2001:db8::1', role: control-plane}")),
		"DNS name":            doc(hosts("{name: a, address: A.example.com, privateAddress: 192.0.2.1, role: control-plane}")),
		"forwarded ports": doc(hosts("{name: a, address: 127.0.0.1, ssh: {port: 2201}, privateAddress: 192.0.2.1, role: control-plane}",
			"{name: b, address: 127.0.0.1, ssh: {port: 2202}, privateAddress: 192.0.2.2, role: worker}")),
		"behind two bastions": doc(hosts("{name: a, address: 10.0.0.1, ssh: {bastion: {address: x}}, privateAddress: 192.0.2.1, role: control-plane}",
			"{name: b, address: 10.0.0.1, ssh: {bastion: {address: y}}, privateAddress: 192.0.2.2, role: worker}")),
		"wide network":         doc("vip: {address: 172.16.9.9, network: 172.16.0.0/12}", hosts("172.17.0.1")),
		"etcd 3.6.14":          doc("versions: {etcd: v3.6.14}"),
		"etcd 3.7.1":           doc("versions: {etcd: v3.7.1}"),
		"older patch":          doc("versions: {kubernetes: v1.36.0}"),
		"fingerprint":          doc("ssh: {hostKey: 'SHA256:uNiVztksCsDhcc0u9e8BrrQXVUpiEhxfjgGNtzqqNuc'}"),
		"largest subnets":      doc("network: {podSubnet: 10.0.0.0/8, serviceSubnet: 172.16.0.0/12}"),
		"smallest subnets":     doc("network: {podSubnet: 10.0.0.0/22, serviceSubnet: 10.1.0.0/28}"),
		"largest IPv6":         doc(six, six3, "network: {podSubnet: 'fd00::/48', serviceSubnet: 'fd01::/108'}"),
		"SANs":                 doc("kubernetes: {extraSANs: [api.example.com, '*.example.com', 127.0.0.1, '::1', 203.0.113.9]}"),
		"number as a label":    doc(hosts("{name: a, address: 192.0.2.1, role: control-plane, labels: {rack: '7', example.com/date: 2026-01-02, empty: ''}}")),
		"API on another port":  doc("vip: {address: 192.0.2.10, port: 443}"),
		"forwarded to 6443":    doc(hosts("{name: a, address: 127.0.0.1, ssh: {port: 6443}, privateAddress: 192.0.2.1, role: control-plane}")),
		"worker's ssh on 6443": doc(hosts("192.0.2.1", "{name: b, address: 192.0.2.2, ssh: {port: 6443}, role: worker}")),
		"first and last of 31": doc("vip: {address: 192.0.2.10, network: 192.0.2.10/31}", hosts("192.0.2.11")),
		"last but one":         doc("vip: {address: 192.0.2.14, network: 192.0.2.0/28}", hosts("192.0.2.1")),
		"lowest of IPv6":       doc("vip: {address: '2001::', network: '2001::/16'}", six3),
		"short lifetimes":      doc("pki: {expiry: 24h, caExpiry: 24h}"),
		"no known_hosts yet":   doc("ssh: {knownHosts: none/known_hosts}", "artifacts: {bundle: none/bundle}", "pki: {store: none/pki}"),
		"data on a disk":       doc("etcd: {dataDir: /mnt/disk/etcd}"),
		"mirror":               doc("artifacts: {source: mirror, mirror: 'https://x/y'}"),
		"one leaves at once":   doc(hosts("192.0.2.11"), "kubernetes: {apiServerExtraArgs: {shutdown-delay-duration: 0s}}"),
		"a mounted file":       doc("kubernetes: {apiServerExtraArgs: {oidc-ca-file: /etc/kubernetes/pki/oidc.crt}}"),
		"no file at all":       doc("kubernetes: {apiServerExtraArgs: {etcd-prefix: /registry, audit-log-path: '-', authorization-always-allow-paths: '/livez,/readyz', anonymous-auth: 'true'}}"),
		"a long farewell":      doc("kubernetes: {apiServerExtraArgs: {shutdown-delay-duration: 1m}}"),
		"flags":                doc("kubernetes: {apiServerExtraArgs: {authorization-mode: 'Node,RBAC'}, controllerManagerExtraArgs: {bind-address: 0.0.0.0}, schedulerExtraArgs: {v: '2'}}"),
		"long election":        doc("etcd: {heartbeatInterval: 10s, electionTimeout: 50s}"),
		"same key, two taints": doc(hosts("{name: a, address: 192.0.2.1, role: control-plane, taints: [{key: k, effect: NoSchedule}, {key: k, effect: NoExecute}]}")),
	} {
		if _, err := Parse("inventory.yaml", []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An even number of masters works, and is worth no more than one less.
func TestEvenNumberOfMastersIsNoted(t *testing.T) {
	t.Parallel()
	for masters, want := range map[int]string{1: "", 2: "2 masters survive no more failures than 1 master does; give 1 or 3", 3: "", 6: "6 masters survive no more failures than 5 masters do; give 5 or 7"} {
		var addresses []string
		for i := range masters {
			addresses = append(addresses, fmt.Sprintf("192.0.2.%d", i+1))
		}
		inv, err := Parse("inventory.yaml", []byte(doc(hosts(addresses...))))
		if err != nil {
			t.Errorf("%d masters: %v", masters, err)
			continue
		}
		said := ""
		for _, n := range inv.Notes {
			if n.Path == "hosts" {
				said += n.String()
			}
		}
		if (said == "") != (want == "") || !strings.Contains(said, want) {
			t.Errorf("%d masters: %q, want %q", masters, said, want)
		}
	}
}

// misfits are inventories with one mistake, and a pattern for its report.
var misfits = map[string]struct{ text, want string }{
	"no masters":               {doc(hosts("{name: w, address: 192.0.2.1, role: worker}")), `4:1: hosts: no host is a master; give 1, 3, 5 or 7`},
	"no hosts":                 {doc("hosts: []"), `hosts: no host is a master`},
	"nine masters":             {doc(hosts("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7", "192.0.2.8", "192.0.2.9")), `9 hosts are masters.*at most 7`},
	"same name":                {doc(hosts("192.0.2.1", "192.0.2.2", "{name: m0, address: 192.0.2.3, role: control-plane}")), `6:\d+: hosts\[2\].name: m0 is also in hosts\[0\], on line 4`},
	"same address":             {doc(hosts("192.0.2.1", "192.0.2.2", "192.0.2.1")), `6:\d+: hosts\[2\].address: 192.0.2.1 is also in hosts\[0\], on line 4`},
	"same address, two ways":   {doc(six, hosts("2001:db8::1", "2001:db8::2", "2001:DB8:0::1")), `hosts\[2\].address: 2001:db8::1 is also`},
	"same DNS name":            {doc(hosts("{name: a, address: X.example.com, privateAddress: 192.0.2.1, role: control-plane}", "{name: b, address: x.example.com., privateAddress: 192.0.2.2, role: worker}")), `hosts\[1\].address: x.example.com is also`},
	"same private":             {doc(hosts("192.0.2.1", "{name: b, address: 198.51.100.7, privateAddress: 192.0.2.1, role: worker}")), `5:\d+: hosts\[1\].privateAddress: 192.0.2.1 is also in hosts\[0\]`},
	"name without private":     {doc(hosts("{name: a, address: a.example.com, role: control-plane}")), `4:3: hosts\[0\].privateAddress: is missing: "a.example.com" is not an address that other hosts can use; write privateAddress:`},
	"loopback":                 {doc(hosts("127.0.0.1")), `hosts\[0\].privateAddress: is missing: "127.0.0.1"`},
	"private loopback":         {doc(hosts("{name: a, address: a, privateAddress: 127.0.0.1, role: control-plane}")), `127.0.0.1 is a loopback address`},
	"multicast":                {doc(hosts("224.0.0.18")), `multicast`},
	"unspecified":              {doc(hosts("0.0.0.0")), `stands for no host`},
	"link-local":               {doc(hosts("fe80::1%eth0")), `has a zone|is "fe80`},
	"broken address":           {doc(hosts("192.0.2.300")), `"192.0.2.300" is not an IP address; write a DNS name or an IP address`},
	"VIP is a host":            {doc("vip: {address: 192.0.2.12}"), `vip.address: 192.0.2.12 is the address of "m1"`},
	"VIP is private":           {doc(hosts("{name: a, address: 198.51.100.1, privateAddress: 192.0.2.10, role: control-plane}")), `vip.address: 192.0.2.10 is the address of "a"`},
	"VIP is the bastion":       {doc("ssh: {bastion: {address: 192.0.2.10}}"), `vip.address: 192.0.2.10 is the address of the bastion`},
	"VIP far away":             {doc("vip: {address: 198.51.100.1}"), `vip.address: 198.51.100.1 is in the network of no master`},
	"VIP far away, IPv6":       {doc("vip: {address: '2001:db8:1::1'}", six3), `is in the network of no master`},
	"VIP outside network":      {doc("vip: {address: 192.0.2.10, network: 192.0.2.64/26}"), `vip.address: 192.0.2.10 lies outside of vip.network`},
	"VIP and masters apart":    {doc("vip: {address: 198.51.100.1, network: 198.51.100.0/24}"), `vip.network: no master has its private address in 198.51.100.0/24`},
	"master outside network":   {doc("vip: {address: 192.0.2.10, network: 192.0.2.0/28}", hosts("192.0.2.2", "192.0.2.3", "192.0.2.99")), `6:\d+: hosts\[2\].address: 192.0.2.99 lies outside of vip.network`},
	"network of a family":      {doc("vip: {address: 192.0.2.10, network: '2001:db8::/64'}"), `vip.network: 2001:db8::/64 is IPv6`},
	"IPv6 host":                {doc(hosts("192.0.2.1", "192.0.2.2", "2001:db8::1")), `hosts\[2\].address: 2001:db8::1 is IPv6, that of the VIP, 192.0.2.10, is IPv4; write privateAddress: with an IPv4`},
	"mapped address":           {doc("vip: {address: '::ffff:192.0.2.10'}"), `write 192.0.2.10`},
	"overlap":                  {doc("network: {podSubnet: 10.96.0.0/12}"), `network.podSubnet: pods 10.96.0.0/12 and services 10.96.0.0/16 overlap; write a network apart from 10.96.0.0/16`},
	"pods hold a host":         {doc("network: {podSubnet: 192.0.0.0/16}"), `network.podSubnet: 192.0.0.0/16 contains 192.0.2.10, the address of the VIP`},
	"services hold a host":     {doc("network: {serviceSubnet: 198.51.100.0/24}", hosts("192.0.2.1", "192.0.2.2", "{name: c, address: 198.51.100.3, privateAddress: 192.0.2.3, role: control-plane}")), `198.51.100.0/24 contains 198.51.100.3, the address of "c"`},
	"pods hold the bastion":    {doc("ssh: {bastion: {address: 10.244.1.1}}"), `network.podSubnet: 10.244.0.0/16 contains 10.244.1.1, the address of the bastion`},
	"host in default pods":     {doc("vip: {address: 10.244.0.10}", hosts("10.244.0.11")), `network.podSubnet: 10.244.0.0/16 contains 10.244.0.10`},
	"pods of a family":         {doc("network: {podSubnet: 'fd00::/56'}"), `network.podSubnet: fd00::/56 is IPv6, the VIP 192.0.2.10 is IPv4`},
	"services of a family":     {doc(six, six3, "network: {serviceSubnet: 10.96.0.0/16}"), `network.serviceSubnet: 10.96.0.0/16 is IPv4`},
	"pods too small":           {doc("network: {podSubnet: 10.0.0.0/23}"), `10.0.0.0/23 has no room for a /24 for each of 3 nodes; write a network of /8 to /22`},
	"pods too small, IPv6":     {doc(six, six3, "network: {podSubnet: 'fd00::/63'}"), `no room for a /64`},
	"pods too large":           {doc(six, six3, "network: {podSubnet: 'fd00::/40'}"), `too large.*write a network of /48 to /62`},
	"services too large":       {doc("network: {podSubnet: 10.244.0.0/16, serviceSubnet: 172.0.0.0/11}"), `too large for the apiserver; write a network of /12 to /28`},
	"services too large, 6":    {doc(six, six3, "network: {serviceSubnet: 'fd01::/107'}"), `write a network of /108 to /124`},
	"services too small":       {doc("network: {serviceSubnet: 10.1.0.0/29}"), `too small`},
	"host bits":                {doc("network: {podSubnet: 10.244.3.0/16}"), `write 10.244.0.0/16`},
	"a factor of 0":            {doc("slowHosts: 0"), `slowHosts: is "0"; write a whole number, 1 to 20`},
	"too large a factor":       {doc("slowHosts: 21"), `slowHosts: is "21"; write a whole number, 1 to 20`},
	"half a factor":            {doc("slowHosts: 1.5"), `slowHosts: is the number 1.5; write a whole number, 1 to 20`},
	"too many pods":            {doc("kubernetes: {maxPods: 300}"), `write 253 or less`},
	"old Kubernetes":           {doc("versions: {kubernetes: v1.34.4}"), `inventory.yaml:\d+:\d+: versions.kubernetes: this hactl does not install Kubernetes v1.34.4; write one of v1.35.4, v1.36.1, v1.36.3, v1.37.2`},
	"young Kubernetes":         {doc("versions: {kubernetes: v1.38.0}"), `does not install Kubernetes v1.38.0; write one of v1.35.4`},
	"etcd of another minor":    {doc("versions: {etcd: v3.5.24}"), `versions.etcd: this hactl does not install etcd v3.5.24 with Kubernetes v1.36.3; write one of v3.6.16, v3.6.14, v3.7.3`},
	"containerd of another":    {doc("versions: {kubernetes: v1.37.2, containerd: v2.2.9}"), `versions.containerd: this hactl does not install containerd v2.2.9 with Kubernetes v1.37.2; write one of v2.3.7, v2.4.2`},
	"a gate that is gone":      {doc("versions: {kubernetes: v1.37.2}", "kubernetes: {apiServerExtraArgs: {feature-gates: 'AllAlpha=false, SidecarContainers=true'}}"), `kubernetes.apiServerExtraArgs.feature-gates: Kubernetes v1.37.2 no longer has the feature gate SidecarContainers; remove it`},
	"a flag that is gone":      {doc("versions: {kubernetes: v1.37.2}", "kubernetes: {controllerManagerExtraArgs: {concurrent-service-syncs: '2'}}"), `kubernetes.controllerManagerExtraArgs.concurrent-service-syncs: .*; remove it`},
	"no leading v":             {doc("versions: {kubernetes: 1.36.3}"), `versions.kubernetes: is "1.36.3"; write a version such as v1.2.3, with the leading v`},
	"unsafe etcd 3.6":          {doc("versions: {etcd: v3.6.13}"), `versions.etcd: etcd v3.6.13 has known security holes`},
	"unsafe etcd 3.7":          {doc("versions: {etcd: v3.7.0}"), `versions.etcd: etcd v3.7.0 has known security holes; write one of v3.6.16, v3.6.14, v3.7.3`},
	"old containerd":           {doc("versions: {containerd: v1.7.20}"), `write one of v2.2.1, v2.2.9, v2.3.7`},
	"router id":                {doc("vip: {address: 192.0.2.10, virtualRouterID: 256}"), `vip.virtualRouterID: is "256"; write a whole number, 1 to 255`},
	"fast adverts":             {doc("vip: {address: 192.0.2.10, advertInterval: 99ms}"), `100ms to 40s`},
	"odd adverts":              {doc("vip: {address: 192.0.2.10, advertInterval: 105ms}"), `105ms is not a multiple of 10ms.*write 110ms`},
	"a file of a flag":         {doc("kubernetes: {apiServerExtraArgs: {audit-policy-file: /etc/audit.yaml}}"), `audit-policy-file: "/etc/audit.yaml" is not mounted into the container; write kubernetes.files: {audit.yaml: the path on this machine}, and /etc/kubernetes/hactl-files/audit.yaml here`},
	"a file that is not named": {doc("kubernetes: {apiServerExtraArgs: {audit-policy-file: /etc/kubernetes/hactl-files/x.yaml}}"), `audit-policy-file: "/etc/kubernetes/hactl-files/x.yaml" is not there; name it in kubernetes.files, as x.yaml: and the path of the file on this machine`},
	"a path with dots":         {doc("kubernetes: {apiServerExtraArgs: {oidc-ca-file: /etc/kubernetes/pki/../../oidc.crt}}"), `"/etc/oidc.crt" is not mounted`},
	"a log on a disk":          {doc("kubernetes: {apiServerExtraArgs: {audit-log-path: /var/log/audit.log}}"), `audit-log-path: "/var/log/audit.log" is not mounted into the container; write "-": the log of the container then has it`},
	"a scheduler's file":       {doc("kubernetes: {schedulerExtraArgs: {config: /etc/kubernetes/hactl-files/s.yaml}}"), `"/etc/kubernetes/hactl-files/s.yaml" is not there; write a path below /etc/kubernetes/pki, which is mounted, or remove it`},
	"no anonymous requests":    {doc("kubernetes: {apiServerExtraArgs: {anonymous-auth: 'false'}}"), `anonymous-auth: the kubelet and the prober ask for the health of an apiserver without a login; name an AuthenticationConfiguration`},
	"a file that is missing":   {doc("kubernetes: {files: {audit.yaml: nowhere.yaml}}"), `"nowhere.yaml" cannot be looked at: no such file or directory`},
	"a file name with a slash": {doc("kubernetes: {files: {a/b: nowhere.yaml}}"), `the key is "a/b"; write the name of a file such as audit-policy.yaml`},
	"leaves at once":           {doc("kubernetes: {apiServerExtraArgs: {shutdown-delay-duration: 0s}}"), `2:60: kubernetes.apiServerExtraArgs.shutdown-delay-duration: an apiserver that ends after 0s ends before the VIP has left it; write 3s or more, or remove it`},
	"no duration":              {doc("kubernetes: {apiServerExtraArgs: {shutdown-delay-duration: '5'}}"), `shutdown-delay-duration: is "5"; write a duration, such as 5s`},
	"short election":           {doc("etcd: {heartbeatInterval: 300ms}"), `etcd.heartbeatInterval: an election timeout of 1s is less than five heartbeats of 300ms; write an electionTimeout of at least 1.5s`},
	"long election":            {doc("etcd: {electionTimeout: 51s}"), `5ms to 50s`},
	"odd heartbeat":            {doc("etcd: {heartbeatInterval: 100500us}"), `not a whole number of milliseconds`},
	"small quota":              {doc("etcd: {quotaBackendBytes: 1048576}"), `etcd.quotaBackendBytes`},
	"port of etcd":             {doc("vip: {address: 192.0.2.10, port: 2379}"), `2:34: vip.port: 2379 is etcd's port; write another one, such as 6443`},
	"port of the kubelet":      {doc("vip: {address: 192.0.2.10, port: 10250}"), `vip.port: 10250 is the kubelet's port`},
	"port of ssh":              {doc("vip: {address: 192.0.2.10, port: 22}"), `vip.port: 22 is the ssh port of "m0"; write another port`},
	"ssh on the API's port":    {doc(hosts("192.0.2.1", "{name: b, address: b.example.com, privateAddress: 192.0.2.2, role: control-plane, ssh: {port: 6443}}", "192.0.2.3")), `vip.port: 6443 is the ssh port of "b"`},
	"VIP is the network":       {doc("vip: {address: 192.0.2.0, network: 192.0.2.0/28}", hosts("192.0.2.1")), `vip.address: 192.0.2.0 is the network or broadcast address of vip.network, 192.0.2.0/28; write another`},
	"VIP is the broadcast":     {doc("vip: {address: 192.0.2.15, network: 192.0.2.0/28}", hosts("192.0.2.1")), `vip.address: 192.0.2.15 is the network or broadcast address`},
	"short expiry":             {doc("pki: {expiry: 1ns}"), `pki.expiry: is "1ns"; write a duration .*, at least 24h`},
	"short CA expiry":          {doc("pki: {caExpiry: 23h}"), `pki.caExpiry: is "23h"; .* at least 24h`},
	"both short":               {doc("pki: {expiry: 23h, caExpiry: 100h}"), `pki.expiry: is "23h"`},
	"volatile data":            {doc("etcd: {dataDir: /tmp/etcd}"), `does not outlive a reboot`},
	"data in a runtime's":      {doc("etcd: {dataDir: /var/lib/kubelet/etcd}"), `etcd.dataDir: "/var/lib/kubelet/etcd" lies in /var/lib/kubelet, which belongs to others; write an absolute path`},
	"data among binaries":      {doc("etcd: {dataDir: /usr/local/etcd}"), `"/usr/local/etcd" lies in /usr`},
	"data in etcd's":           {doc("etcd: {dataDir: /etc/etcd}"), `"/etc/etcd" is a folder of the system`},
	"data in /var/run":         {doc("etcd: {dataDir: /var/run/etcd}"), `does not outlive a reboot`},
	"system folder":            {doc("etcd: {dataDir: /var/lib}"), `is a folder of the system`},
	"untidy folder":            {doc("etcd: {dataDir: /data/../etcd/}"), `write /etcd`},
	"CA outlived":              {doc("pki: {expiry: 90000h}"), `pki.expiry: certificates valid for 90000h would outlive their CA, valid for 87600h`},
	"CA outlived, said so":     {doc("pki: {caExpiry: 100h}"), `pki.caExpiry: `},
	"algorithm":                {doc("pki: {algorithm: rsa2048}"), `write one of ecdsa-p256, .*did you mean rsa-2048\?`},
	"half a CA":                {doc("pki: {externalCA: {kubernetes: {cert: validate_test.go}}}"), `pki.externalCA.kubernetes.key: is missing; name the key`},
	"half a CA, without cert":  {doc("pki: {externalCA: {etcd: {key: validate_test.go}}}"), `pki.externalCA.etcd.cert: is missing`},
	"short fingerprint":        {doc("ssh: {hostKey: 'SHA256:AAAA'}"), `ssh.hostKey`},
	"no key":                   {doc("ssh: {hostKey: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGs1'}"), `is not a public key`},
	"two keys":                 {doc(`ssh: {hostKey: "ssh-ed25519 AAAA\nssh-rsa AAAA"}`), `ssh.hostKey`},
	"other home":               {doc("ssh: {key: ~bob/id}"), `another user's home folder; write the absolute path`},
	"user is a flag":           {doc("ssh: {user: -oProxyCommand=x}"), `ssh.user`},
	"long interface":           {doc("vip: {address: 192.0.2.10, interface: abcdefghijklmnop}"), `too long; write the name of a network interface`},
	"interface path":           {doc("vip: {address: 192.0.2.10, interface: ../eth0}"), `vip.interface`},
	"mirror missing":           {doc("artifacts: {source: mirror}"), `artifacts.mirror: is missing`},
	"mirror and upload":        {doc("artifacts: {mirror: 'https://x/y'}"), `artifacts.mirror: is set and source is upload; write source: mirror, or remove the line`},
	"mirror, source unknown":   {doc("artifacts: {source: mirrored, mirror: 'https://x/y'}"), `artifacts.source: is "mirrored"`},
	"mirror scheme":            {doc("artifacts: {mirror: 'ftp://x/y'}"), `artifacts.mirror`},
	"mirror password":          {doc("artifacts: {mirror: 'https://u:hunter2@x/y'}"), `write the URL without user:password@`},
	"manifest missing":         {doc("network: {manifest: none.yaml}"), `network.manifest: "none.yaml" cannot be looked at: no such file`},
	"manifest is a folder":     {doc("network: {manifest: .}"), `network.manifest: "." is not a file`},
	"key missing":              {doc("ssh: {key: none/id}"), `2:12: ssh.key: "none/id" cannot be looked at: no such file`},
	"key of a host missing":    {doc(hosts("{name: a, address: 192.0.2.1, role: control-plane, ssh: {key: /none/id}}")), `hosts\[0\].ssh.key: "/none/id" cannot be looked at`},
	"key of the bastion":       {doc("ssh: {bastion: {address: b, key: none/id}}"), `ssh.bastion.key: "none/id" cannot be looked at`},
	"CA missing":               {doc("pki: {externalCA: {etcd: {cert: none.pem, key: validate_test.go}}}"), `pki.externalCA.etcd.cert: "none.pem" cannot be looked at`},
	"key of a CA missing":      {doc("pki: {externalCA: {frontProxy: {cert: validate_test.go, key: none.key}}}"), `pki.externalCA.frontProxy.key: "none.key" cannot be looked at`},
	"manifest and preset":      {doc("network: {manifest: none.yaml, preset: flannel}"), `flannel and a manifest would be two pod networks`},
	"SAN":                      {doc("kubernetes: {extraSANs: ['https://x']}"), `kubernetes.extraSANs\[0\]`},
	"flag with dashes":         {doc("kubernetes: {apiServerExtraArgs: {--v: '2'}}"), `kubernetes.apiServerExtraArgs.--v: the key is "--v"; write the name of a flag without dashes`},
	"flag of the VIP":          {doc("kubernetes: {apiServerExtraArgs: {v: '2', secure-port: '7443'}}"), `2:43: kubernetes.apiServerExtraArgs.secure-port: the key "secure-port" is set by hactl from the inventory \(vip.port\); remove it`},
	"flag of the PKI":          {doc("kubernetes: {apiServerExtraArgs: {client-ca-file: /x}}"), `the key "client-ca-file" is set by hactl from the inventory; remove it`},
	"flag of the network":      {doc("kubernetes: {controllerManagerExtraArgs: {cluster-cidr: 10.0.0.0/8}}"), `controllerManagerExtraArgs.cluster-cidr: the key "cluster-cidr" is set by hactl from the inventory \(network.podSubnet\)`},
	"flag of the scheduler":    {doc("kubernetes: {schedulerExtraArgs: {kubeconfig: /x}}"), `schedulerExtraArgs.kubeconfig: the key "kubeconfig" is set by hactl`},
	"flag with a line end":     {doc(`kubernetes: {apiServerExtraArgs: {v: "2\n3"}}`), `kubernetes.apiServerExtraArgs.v`},
	"drill bound":              {doc("drill: {bounds: {owner-cut-off: 0s}}"), `drill.bounds.owner-cut-off`},
	"drill check":              {doc("drill: {bounds: {owner-cut-off/: 1s}}"), `drill.bounds.owner-cut-off/`},
	"label key":                {doc(hosts("{name: a, address: 192.0.2.1, role: control-plane, labels: {'a b': x}}")), `the key is "a b"; write a label key`},
	"label value":              {doc(hosts("{name: a, address: 192.0.2.1, role: control-plane, labels: {a: 'x y'}}")), `hosts\[0\].labels.a: is "x y"`},
	"label number":             {doc(hosts("{name: a, address: 192.0.2.1, role: control-plane, labels: {a: 7}}")), `hosts\[0\].labels.a: is the number 7; write .* in quotes`},
	"taint effect":             {doc(hosts("{name: a, address: 192.0.2.1, role: control-plane, taints: [{key: a, effect: NoExecut}]}")), `did you mean NoExecute\?`},
	"taint twice":              {doc(hosts("{name: a, address: 192.0.2.1, role: control-plane, taints: [{key: a, effect: NoExecute}, {key: a, effect: NoExecute}]}")), `hosts\[0\].taints\[1\]: the taint a`},
	"node name":                {doc(hosts("{name: Node_1, address: 192.0.2.1, role: control-plane}")), `hosts\[0\].name: is "Node_1"; write a name of lower-case`},
	"node called localhost":    {doc(hosts("{name: localhost, address: 192.0.2.1, role: control-plane}")), `is a name that every host has`},
	"role of other tools":      {doc(hosts("192.0.2.1", "{name: a, address: 192.0.2.2, role: Agent}")), `hosts\[1\].role: is "Agent"; write one of control-plane, worker; did you mean worker\?`},
	"role, another spelling":   {doc(hosts("{name: a, address: 192.0.2.1, role: control_plane}")), `did you mean control-plane\?`},
	"address with a port":      {doc(hosts("192.0.2.11:2222")), `hosts\[0\].address: "192.0.2.11:2222" is not an IP address; write 192.0.2.11, and the port as ssh: {port: 2222}$`},
	"name with a port":         {doc(hosts("a.example.com:22")), `write a.example.com, and the port as ssh: {port: 22}$`},
	"address with a user":      {doc(hosts("root@192.0.2.11")), `is "root@192.0.2.11"; write 192.0.2.11, and the user as ssh: {user: root}$`},
	"user, IPv6 and port":      {doc(six, hosts("op@[2001:db8::11]:22")), `write 2001:db8::11, and the user and port as ssh: {user: op, port: 22}$`},
	"bastion with a user":      {doc("ssh: {bastion: {address: 'jump@b:22'}}"), `ssh.bastion.address: .*; write b, and the user and port as user: jump, port: 22$`},
	"address, no space":        {doc(hosts("{name: a, address:192.0.2.11, role: control-plane}")), `4:13: hosts\[0\]: unknown key "address:192.0.2.11"; write a space after the colon`},
	"block, no space":          {doc("vip:\n  address:192.0.2.10"), `3:3: vip: is the text "address:192.0.2.10"; write a space after the colon`},
	"key in capitals":          {"VIP: {address: 192.0.2.10}\ncluster: demo\n" + hosts("192.0.2.11"), `1:1: unknown key "VIP"; did you mean vip\?`},
	"list":                     {"- a\n- b\n", `1:1: is a list; write a block with the keys`},
	"word":                     {"hello\n", `1:1: is the text "hello"`},
	"role":                     {doc(hosts("{name: a, address: 192.0.2.1, role: master}")), `hosts\[0\].role: is "master"; write one of control-plane, worker; did you mean control-plane\?`},
	"long cluster name":        {strings.Replace(doc(), "demo", strings.Repeat("a", 41), 1), `cluster: .* is too long; .* at most 40`},
}

func TestMisfitsAreReportedOnce(t *testing.T) {
	for name, c := range misfits {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("inventory.yaml", []byte(c.text))
			ps, _ := err.(Problems) //nolint:errorlint // Parse promises this very type
			if len(ps) == 0 || !regexp.MustCompile(c.want).MatchString(err.Error()) {
				t.Fatalf("want %q, got %v", c.want, err)
			}
			most := 1
			if name == "manifest and preset" {
				most = 2
			}
			if len(ps) > most {
				t.Errorf("one mistake, several problems:\n%v", err)
			}
		})
	}
}

func TestAllProblemsAreReportedAtOnceInOrder(t *testing.T) {
	text := "cluster: X\nvip: {address: 192.0.2.11, virtualRouterID: 0}\nversions: {etcd: v3.5.0}\n" + hosts("192.0.2.11", "192.0.2.11") + "\ncolour: red\n"
	_, err := Parse("dir/i.yaml", []byte(text))
	var got []string
	for _, line := range strings.Split(fmt.Sprint(err), "\n") {
		got = append(got, strings.SplitN(line, " ", 3)[0]+strings.SplitN(line, " ", 3)[1])
	}
	want := "dir/i.yaml:1:10:cluster: dir/i.yaml:2:16:vip.address: dir/i.yaml:2:45:vip.virtualRouterID: dir/i.yaml:3:18:versions.etcd: " +
		"dir/i.yaml:6:23:hosts[1].address: dir/i.yaml:7:1:unknown"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s\nin\n%v", strings.Join(got, " "), want, err)
	}
}

func TestManyProblemsEndInANote(t *testing.T) {
	_, err := Parse("i.yaml", []byte(doc(hosts(slices.Repeat([]string{"{name: '', address: 192.0.2.1, role: worker}"}, 200)...), "colour: red")))
	ps, _ := err.(Problems) //nolint:errorlint // Parse promises this very type
	if len(ps) != mostProblems+1 || ps.Count() != "100 problems and more" {
		t.Fatalf("got %d problems, said to be %s", len(ps), ps.Count())
	}
	if got, want := ps[mostProblems].String(), "i.yaml: there are more problems; correct these first"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if one, two := ps[:1].Count(), ps[:2].Count(); one != "1 problem" || two != "2 problems" {
		t.Errorf("got %q and %q", one, two)
	}
}

func TestBoundsOfWhatNoDrillMeasuresAreReportedWithTheRest(t *testing.T) {
	text := doc("drill:\n  bounds:\n    owner-cutoff: 1\n    else: 1s\n    owner-cut-off: 1s\n    Else: 1s", "colour: red")
	_, err := Parse("i.yaml", []byte(text), "owner-cut-off", "owner-cut-off/vip/write/new")
	ps, _ := err.(Problems) //nolint:errorlint // Parse promises this very type
	var got []string
	for _, p := range ps {
		got = append(got, fmt.Sprintf("%d:%d %s %s; %s", p.Line, p.Column, p.Path, p.What, p.Instead))
	}
	want := []string{
		`4:5 drill.bounds.owner-cutoff is no scenario and no check of one; did you mean owner-cut-off?`,
		`4:19 drill.bounds.owner-cutoff is the number 1; write a duration such as 100ms, 5s or 43800h`,
		`5:5 drill.bounds.else is no scenario and no check of one; see hactl drill --list`,
		`7:5 drill.bounds.Else the key is`,
		`8:1  unknown key "colour"; write one of`,
	}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, err := Parse("i.yaml", []byte(doc("drill: {bounds: {else: 1s}}"))); err != nil {
		t.Errorf("no names are known: %v", err)
	}
}

func TestManifestIsTakenFromTheInventorysFolder(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"cni.yaml": "kind: List\n", "i.yaml": doc("network: {manifest: cni.yaml}")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	inv, err := Load(filepath.Join(dir, "i.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if inv.Network.Manifest != filepath.Join(dir, "cni.yaml") || inv.Network.Preset != "none" {
		t.Errorf("manifest %s, preset %s", inv.Network.Manifest, inv.Network.Preset)
	}
}
