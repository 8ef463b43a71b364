package kubeadm

import (
	"maps"
	"slices"
	"strings"

	"hactl/internal/cage"
	"hactl/internal/remote"
	"hactl/inventory"
)

// webhookPlugins call webhooks of the cluster, which nothing in a cage can reach: an
// object that only a webhook may let in would keep the apiserver from getting ready.
var webhookPlugins = []string{"MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"}

// Caged is the apiserver of h as a cage starts it: with the flags that kubeadm makes of
// the wanted configuration, and with the operator's files. The programs are not in it.
// onData says that it starts on the data of a cluster rather than on an empty etcd.
func (c Cluster) Caged(h *inventory.Host, onData bool) (*cage.APIServer, error) {
	s := &cage.APIServer{Config: initFile, Port: c.Inv.VIP.Port}
	if onData {
		c.Inv = withoutWebhooks(c.Inv)
		// One object that cannot be read keeps the cache from filling, and an apiserver
		// with it from getting ready for a minute.
		s.Flags = []string{"--watch-cache=false"}
	}
	conf, err := c.InitConfig(h)
	if err != nil {
		return nil, err
	}
	extra, err := c.extraFiles()
	if err != nil {
		return nil, err
	}
	// kubeadm wants the folder of its patches; the apiserver has none.
	s.Files = []remote.File{{Path: initFile, Content: conf}, {Path: patchDir + "/none", Content: nil}}
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		s.Files = append(s.Files, remote.File{Path: inventory.FilesDir + "/" + name, Content: extra[name]})
	}
	return s, nil
}

// withoutWebhooks is the inventory with those plugins off.
func withoutWebhooks(inv *inventory.Inventory) *inventory.Inventory {
	out := *inv
	args := maps.Clone(inv.Kubernetes.APIServerExtraArgs)
	if args == nil {
		args = map[string]string{}
	}
	const on, off = "enable-admission-plugins", "disable-admission-plugins"
	kept := slices.DeleteFunc(strings.Split(args[on], ","), func(p string) bool { return p == "" || slices.Contains(webhookPlugins, p) })
	// kubeadm enables this one by itself, unless the operator's list takes its place.
	if delete(args, on); len(kept) > 0 {
		args[on] = strings.Join(kept, ",")
	}
	disabled := slices.DeleteFunc(strings.Split(args[off], ","), func(p string) bool { return p == "" || slices.Contains(webhookPlugins, p) })
	args[off] = strings.Join(append(disabled, webhookPlugins...), ",")
	out.Kubernetes.APIServerExtraArgs = args
	return &out
}
