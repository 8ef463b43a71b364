package kubeadm

import (
	"cmp"
	"context"
	"errors"
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
// and alone: a controller manager or scheduler that starts beside it gets
// no answer, backs off for seconds and takes the processor from the apiserver that
// it waits for. The phases of each call are what the other calls skip.
var (
	toFiles     = []string{"preflight", "certs", "kubeconfig"}
	toKubelet   = []string{"kubelet-start"}
	toAPIServer = []string{"control-plane/apiserver"}
	toNode      = []string{"control-plane/controller-manager", "control-plane/scheduler", "wait-control-plane", "mark-control-plane"}
	// What the cluster needs once is the first master's; the addons go in as soon
	// as its apiserver answers, beside the rest.
	toCluster = []string{"bootstrap-token"}
	addons    = []string{"addon"}
	// By the settings later runs know that all of that is there: they come last.
	toSettings = []string{"upload-config"}
	// Masters get their certificates from hactl, not from a secret in the cluster;
	// kubelet-finalize is rotation, below.
	unwanted = []string{"upload-certs", "show-join-command", "kubelet-finalize"}
)

// ownPair moves the kubelet's client pair from its kubeconfig to the file in which
// the kubelet renews it. kubeadm does that at its end, where the first pods wait
// for the restart of the kubelet that comes with it, and has systemd read all units
// anew. The pair is on the disk before the kubeconfig names it.
const ownPair = `( umask 077; cd ` + kubeDir + `; d=` + kubeletDir + `
grep -q '^ *client-key-data: ' kubelet.conf || exit 0
mkdir -p -m 0755 $d
for k in certificate key; do sed -n "s/^ *client-$k-data: //p" kubelet.conf | base64 -d; done >$d/kubelet-client-kubeadm.new
mv $d/kubelet-client-kubeadm.new $d/kubelet-client-kubeadm.pem
ln -sf kubelet-client-kubeadm.pem ` + kubeletPair + `
sync $d/kubelet-client-kubeadm.pem $d
sed -i "s#^\( *client-\(certificate\|key\)\)-data: .*#\1: ` + kubeletPair + `#" kubelet.conf )
`

// ownPairs moves the client pairs of the controller manager and the scheduler from
// their kubeconfigs to files: both then read a renewed pair without a restart. The pair
// is on the disk before the kubeconfig names it.
const ownPairs = `( umask 077; cd ` + kubeDir + `
for n in controller-manager scheduler; do
  grep -q '^ *client-key-data: ' $n.conf || continue
  d=` + servingDir + `/$n-client
  sed -n "s/^ *client-key-data: //p" $n.conf | base64 -d >$d.key.new
  sed -n "s/^ *client-certificate-data: //p" $n.conf | base64 -d >$d.crt.new
  sync $d.key.new $d.crt.new; mv $d.key.new $d.key; mv $d.crt.new $d.crt
  sed -e "s#^\( *client-certificate\)-data: .*#\1: $d.crt#" -e "s#^\( *client-key\)-data: .*#\1: $d.key#" $n.conf >$n.conf.new
  sync $n.conf.new ` + servingDir + `; mv $n.conf.new $n.conf
done )
`

// restart starts a kubelet again. A master's kubelet asks the apiserver of its own
// host, which it has to start first. Its requests have failed by then; it repeats them
// at growing intervals of up to 30 s, and starts no pod of the cluster until then.
const restart = "set -e\n" + ownPair + "systemctl restart kubelet.service\n"

// initPhases runs the phases of kubeadm init that are in one of wanted.
func initPhases(wanted ...[]string) string {
	do := map[string]bool{}
	for _, l := range wanted {
		for _, p := range l {
			do[p] = true
		}
	}
	var skip []string
	for _, l := range [][]string{toFiles, toKubelet, toAPIServer, toNode, toCluster, addons, toSettings, unwanted} {
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
	// come up alone. It needs no peer, nor do they: after that they go on.
	firstWait = 30 * time.Second
	// initTimeout bounds each part of kubeadm init.
	initTimeout = 8 * time.Minute
	// imagesWait bounds the wait for images that are imported meanwhile.
	imagesWait = 5 * time.Minute
)

func (c Cluster) apiAddress(m *inventory.Host) string {
	return net.JoinHostPort(m.PrivateAddress.String(), strconv.Itoa(c.Inv.VIP.Port))
}

// Init returns the step that makes a master. All masters run it at once, and
// none needs another. Only the start of the first apiserver is waited for, for a
// while: what follows on the first master (the leaders, kube-proxy, CoreDNS) takes
// longer than the others' apiservers, which then find in etcd what three at once
// would all be writing. Their kubelets start when they are needed: before, they would
// take the processor from the first master's where hosts share one, and their requests fail.
//
// It is run again as it is after a run that was cut off: kubeadm takes the
// certificates and kubeconfigs it finds, those that a power cut left damaged
// aside, and writes the manifests anew.
func (c Cluster) Init(h *inventory.Host) (plan.Step, error) {
	from, err := c.madeFrom(h)
	st := plan.Script{
		ID: id(h, "init"), Host: h.Name, Title: "kubeadm init", Op: plan.Create, Summary: "kubeadm init", Acts: initActs,
		Look: listPartial + `if [ ! -e ` + markerFile + ` ]; then
m=; [ ! -d ` + pkiDir + ` ] || m=$(list_partial | tr '\n' ,)
[ -z "$m" ] && echo "not initialised" || echo "not initialised; made anew: $(echo "${m%,}" | sed 's/,/, /g')"; exit 0
fi
for f in admin.conf kubelet.conf controller-manager.conf scheduler.conf pki/apiserver.crt pki/apiserver-kubelet-client.crt pki/front-proxy-client.crt; do
[ -s ` + kubeDir + `/$f ] || { echo "$f is missing"; exit 0; }; done
[ -s /var/lib/kubelet/config.yaml ] && echo ok || echo "kubelet has no configuration"`,
	}.Step()
	st.Apply = func(ctx context.Context, env plan.Env, _ *plan.Change) error { return c.init(ctx, env, h, from) }
	return st, err
}

// initActs takes the answer apart: the state of the master, and each file that would
// be made anew. The kubelet of a run that was cut off may complete one by itself.
func initActs(answer string) []string {
	state, files, found := strings.Cut(answer, "; made anew: ")
	if !found {
		return []string{state}
	}
	return append(strings.Split(files, ", "), state)
}

// init runs kubeadm on h, in parts.
func (c Cluster) init(ctx context.Context, env plan.Env, h *inventory.Host, from string) error {
	first := c.First == h.Name
	// kubeadm has systemd reload its units before it starts the kubelet.
	script := `set -e
mkdir -p ` + kubeDir + `/manifests
` + removePartial + `enable_unit kubelet.service
`
	if first {
		env.Part("files and kubelet")
		script += initPhases(toFiles, toKubelet, toAPIServer)
	} else {
		env.Part("files")
		if err := c.run(ctx, env, script+initPhases(toFiles)); err != nil {
			return err
		}
		env.Part("wait for the apiserver of " + c.First)
		// It is waited for, not needed; this host is.
		if err := c.awaitAPI(ctx, env, c.Inv.Host(c.First), cmp.Or(c.patience, firstWait), isReady); lost(err) {
			return err
		}
		env.Part("kubelet")
		script = "set -e\n" + ownPair + initPhases(toKubelet, toAPIServer)
	}
	if err := c.run(ctx, env, script); err != nil {
		return err
	}
	if first { // everything else waits for its node
		env.Part("apiserver, until it answers")
		if err := c.awaitAPI(ctx, env, h, apiWait, answers); err != nil {
			return c.kubeletSays(ctx, env, err)
		}
		env.Part("restart of the kubelet")
		if err := c.run(ctx, env, restart); err != nil {
			return err
		}
	}
	env.Part("apiserver, until it is ready")
	if err := c.awaitAPI(ctx, env, h, apiWait, isReady); err != nil {
		return c.kubeletSays(ctx, env, err)
	}
	env.Part("images and leaders")
	script = "set -e\n" + ownPairs
	if !first && !c.registered(ctx, env, h) {
		script = restart + ownPairs
	}
	if first {
		script += c.addons(c.apiAddress(h)) + initPhases(toNode, toCluster) + ` || { kill $early 2>/dev/null; exit 1; }
wait $early
` + initPhases(toSettings) + "\n"
	} else {
		script += initPhases(toNode) + "\n"
	}
	return c.runWithImages(ctx, env, script+fsyncKubeadmFiles+record(from))
}

// runWithImages runs a script once the images are there. After imagesWait it runs
// without them: the kubelet tries again by itself, only later.
func (c Cluster) runWithImages(ctx context.Context, env plan.Env, script string) error {
	_, err := remote.Await(ctx, env.Host, c.part(env, c.AwaitImages+script), cmp.Or(c.patience, imagesWait))
	if remote.SaysNotYet(err) {
		return c.run(ctx, env, script)
	}
	return err
}

// registered reports whether the kubelet of h has found the apiserver of h.
func (c Cluster) registered(ctx context.Context, env plan.Env, h *inventory.Host) bool {
	api, err := NewAPI(env.Host, c.Inv, c.PKI, h.PrivateAddress)
	if err != nil {
		return false
	}
	defer api.Close()
	var node struct{}
	return bounded(ctx, api, func(ctx context.Context, api *API) error { return api.Get(ctx, nodesPath+"/"+h.Name, &node) }) == nil
}

func (c Cluster) run(ctx context.Context, env plan.Env, script string) error {
	_, err := env.Host.Run(ctx, c.part(env, script))
	return err
}

func (c Cluster) part(env plan.Env, script string) remote.Cmd {
	return remote.Cmd{Script: c.SearchPath + script, Title: "kubeadm init", Timeout: initTimeout, Output: func(line string) { env.Say("%s", line) }}
}

// kubeletSays adds the last lines of the kubelet's log to err.
func (c Cluster) kubeletSays(ctx context.Context, env plan.Env, err error) error {
	if lost(err) {
		return err
	}
	err = remote.Hint(err, "on %s: journalctl -u kubelet, and the apiserver's own log in /var/log/pods", env.Host.Name())
	log, lerr := env.Host.Run(ctx, remote.Cmd{Script: "journalctl --no-pager -n 5 -o cat -u kubelet.service", Title: "read the kubelet's log"})
	if lerr != nil {
		return errors.Join(err, lerr)
	}
	return fmt.Errorf("%w; the kubelet says:\n%s", err, remote.Clean(string(log.Stdout)))
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
