package kubeadm

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
)

// Phases of kubeadm init in the order of a bring-up. The apiserver comes first
// and alone: a controller manager or scheduler that starts beside it finds
// nobody, backs off for seconds and takes the processor from the apiserver that
// it waits for. The phases of each call are what the other calls skip.
var (
	toKubelet   = []string{"preflight", "certs", "kubeconfig", "kubelet-start"}
	toAPIServer = []string{"control-plane/apiserver"}
	toNode      = []string{"control-plane/controller-manager", "control-plane/scheduler", "wait-control-plane", "mark-control-plane"}
	// kubelet-finalize restarts the kubelet. While the apiserver starts that costs
	// no time; at the end, where kubeadm has it, the first pods wait for it.
	toRotation = []string{"kubelet-finalize"}
	// What the cluster needs once is the first master's; the addons go in as soon
	// as its apiserver answers, beside the rest.
	toCluster = []string{"upload-config", "bootstrap-token"}
	addons    = []string{"addon"}
	// Masters get their certificates from hactl, not from a secret in the cluster.
	unwanted = []string{"upload-certs", "show-join-command"}
)

// initPhases runs the phases of kubeadm init that are in one of wanted.
func initPhases(wanted ...[]string) string {
	do := map[string]bool{}
	for _, l := range wanted {
		for _, p := range l {
			do[p] = true
		}
	}
	var skip []string
	for _, l := range [][]string{toKubelet, toAPIServer, toRotation, toNode, toCluster, addons, unwanted} {
		for _, p := range l {
			if !do[p] {
				skip = append(skip, p)
			}
		}
	}
	return "kubeadm init --config " + initFile + " --skip-phases " + strings.Join(skip, ",") + " --skip-token-print --skip-certificate-key-print"
}

const (
	// apiWait bounds how long a new apiserver may take, as kubeadm does.
	apiWait = 4 * time.Minute
	// firstWait bounds how long the other masters let the first one's apiserver
	// come up alone. It needs nobody, nor do they: after that they go on.
	firstWait = 30 * time.Second
)

// endsIn sets end, in shell, to that time from now.
func endsIn(d time.Duration) string {
	return "end=$(($(date +%s) + " + strconv.Itoa(int(d/time.Second)) + "))\n"
}

// answers is a condition in shell: the apiserver there is ready. curl's exit
// code 22 says that it answers and is not.
func answers(api string) string {
	return `curl --silent --fail --max-time 2 --cacert ` + pkiDir + `/ca.crt --output /dev/null ` + remote.Quote("https://"+api+"/readyz")
}

// listens is a condition in shell: somebody on this host listens on the
// apiserver's port. It costs a tenth of a question by curl (state 0A, see
// proc_net_tcp(5)), and is asked while the processor has better things to do.
func (c Cluster) listens() string {
	return fmt.Sprintf(`grep -qs ':%04X 0*:0000 0A ' /proc/net/tcp /proc/net/tcp6`, c.Inv.VIP.Port)
}

func (c Cluster) apiAddress(m *inventory.Host) string {
	return net.JoinHostPort(m.PrivateAddress.String(), strconv.Itoa(c.Inv.VIP.Port))
}

// Init returns the step that makes a master. All masters run it at once, and
// none needs another. Only the start of the first apiserver is waited for, for a
// while: what follows on the first master (the leaders, kube-proxy, CoreDNS) takes
// longer than the others' apiservers, which then find in etcd what three at once
// would all be writing.
//
// It is run again as it is after a run that was cut off: kubeadm takes the
// certificates and kubeconfigs it finds and writes the manifests anew.
func (c Cluster) Init(h *inventory.Host) (plan.Step, error) {
	api := c.apiAddress(h)
	from, err := c.madeFrom(h)
	// kubeadm has systemd reload its units before it starts the kubelet.
	run := `set -e
mkdir -p ` + kubeDir + `/manifests
systemctl enable --quiet --no-reload kubelet.service
`
	if c.First == h.Name {
		run += initPhases(toKubelet, toAPIServer)
	} else {
		run += initPhases(toKubelet) + `
` + endsIn(firstWait) + `until ` + answers(c.apiAddress(c.Inv.Host(c.First))) + ` || [ "$(date +%s)" -ge $end ]; do sleep 0.4; done
` + initPhases(toAPIServer)
	}
	run += `
echo "waiting up to ` + apiWait.String() + ` for the apiserver at ` + api + `"
` + endsIn(apiWait) + `final=
until ` + c.listens() + ` && ` + answers(api) + `; do
  r=$?
  [ "$(date +%s)" -lt $end ] || { echo "the apiserver was not ready within ` + apiWait.String() + `; the kubelet says:" >&2; journalctl --no-pager -n 5 -o cat -u kubelet.service >&2; exit 1; }
  # It answers: by then the kubelet has its own certificate.
  [ $r != 22 ] || [ -n "$final" ] || { ` + initPhases(toRotation) + `; final=yes; }
  sleep 0.2
done
[ -n "$final" ] || ` + initPhases(toRotation) + `
`
	if c.First == h.Name {
		run += c.addons(api) + initPhases(toNode, toCluster) + ` || { kill $early 2>/dev/null; exit 1; }
wait $early
`
	} else {
		run += initPhases(toNode) + "\n"
	}
	return plan.Script{
		ID: id(h, "init"), Host: h.Name, Title: "kubeadm init", Op: plan.Create, Summary: "kubeadm init", Stream: true, Timeout: 8 * time.Minute,
		Look: `[ -e ` + markerFile + ` ] || { echo "not initialised"; exit 0; }
for f in admin.conf kubelet.conf controller-manager.conf scheduler.conf pki/apiserver.crt pki/apiserver-kubelet-client.crt pki/front-proxy-client.crt; do
[ -s ` + kubeDir + `/$f ] || { echo "$f is missing"; exit 0; }; done
[ -s /var/lib/kubelet/config.yaml ] && echo ok || echo "kubelet has no configuration"`,
		Run: run + record(from),
	}.Step(), err
}

// addons begins to apply kube-proxy and CoreDNS, through this host's own
// apiserver: the VIP may not be anywhere yet.
func (c Cluster) addons(api string) string {
	return `umask 077
mkdir -p /run/hactl
sed ` + remote.Quote("s#^\\( *server: \\).*#\\1https://"+api+"#") + ` ` + kubeDir + `/super-admin.conf >/run/hactl/addons.conf
( trap 'rm -f /run/hactl/addons.conf' EXIT; kubeadm init phase addon all --config ` + initFile + ` --kubeconfig /run/hactl/addons.conf ) &
early=$!
`
}
