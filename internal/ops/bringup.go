package ops

import (
	"slices"

	"hactl/etcd"
	"hactl/internal/bundle"
	"hactl/internal/facts"
	"hactl/internal/host"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/keepalived"
	"hactl/kubeadm"
)

// cluster is what the stages are made from.
type cluster struct {
	*session
	bundle  *bundle.Bundle
	prober  string
	network kubeadm.NetworkProgram
}

// stages is the bring-up: THE ordered list of what plan shows and up does. A
// stage is a barrier; inside it hosts, and the lanes of a host, go side by side.
func (c *cluster) stages() ([]plan.Stage, error) {
	b := &builder{connected: c.hosts}
	all, masters, workers := c.all(), c.inv.Masters(), c.inv.Workers()

	// Nothing here needs another host.
	b.stage("prepare hosts")
	b.each(all, c.osSteps)
	b.each(all, c.binaries)
	b.each(masters, c.certificates)

	// Side by side on each host: containerd and the apiserver's image, the etcd member
	// (started without waiting: members wait for one another), keepalived, and
	// the files that kubeadm starts from.
	b.stage("runtime, etcd and VIP")
	b.each(c.newcomers(all), c.runtime)
	b.each(all, c.nodeFiles)
	b.each(c.newcomers(all), c.networkUnit)
	b.each(masters, c.etcdFiles)
	if !c.etcdPlan().Established() {
		b.each(masters, c.vip)
		b.each(masters, c.etcdStart)
	} else {
		// A new master is complete before it votes: with the first of two, the cluster
		// has two voters and tolerates no loss until the second one follows.
		b.stage("images of new hosts")
		b.each(c.newcomers(all), c.otherImages)
		b.serial("pod networks")
		b.each(c.joinedHosts(all), c.networkUnit)
		// A running cluster is changed one host at a time: a master always holds
		// the VIP, and a quorum of members serves.
		b.serial("container runtimes")
		b.each(c.joinedHosts(all), c.runtime)
		b.serial("VIP")
		b.each(c.newcomersLast(masters), c.vip)
		b.serial("etcd members")
		b.each(masters, c.etcdJoin)
		b.each(masters, c.etcdStart)
		b.each(masters, c.etcdPromote)
	}

	b.stage("etcd quorum")
	b.each(masters, c.etcdQuorum)

	// All masters at once: the CAs lie there already, so none needs another.
	b.stage("control plane")
	b.each(masters, c.initMaster)
	if c.etcdPlan().Established() {
		b.each(c.joinedHosts(all), c.otherImages)
	} else {
		b.each(all, c.otherImages)
	}

	// Masters that were there before and now have another configuration: their
	// apiservers restart, one after another.
	b.serial("static pods")
	b.each(masters, c.manifests)

	// Made by the first master's kubeadm init, unless that one was lost on the way.
	b.stage("cluster")
	b.each(c.firstMaster(), c.once)

	// After the apiservers: a kubelet must not be newer than they are.
	b.serial("kubelets")
	b.each(c.joinedHosts(all), c.kubelet)

	b.stage("workers and pod network")
	b.each(workers, c.joinWorker)
	b.each(c.firstMaster(), c.podNetwork)
	b.each(c.firstMaster(), c.probe)

	b.stage("labels and taints")
	b.each(c.firstMaster(), c.labels)

	// What people call comes last: until here, the programs of before run.
	b.stage("names of programs")
	b.each(all, c.links)

	// Its first run needs the names of etcd's programs.
	b.stage("scheduled snapshots")
	b.each(masters, c.snapshotTimer)
	return b.out, b.err
}

// builder collects stages; the first error sticks.
type builder struct {
	connected plan.Hosts
	out       []plan.Stage
	err       error
}

func (b *builder) stage(name string) { b.out = append(b.out, plan.Stage{Name: name}) }

func (b *builder) serial(name string) { b.out = append(b.out, plan.Stage{Name: name, Serial: true}) }

func (b *builder) each(hosts []*inventory.Host, f func(*inventory.Host) ([]plan.Step, error)) {
	for _, h := range hosts {
		if b.err != nil {
			return
		}
		if b.connected[h.Name] == nil {
			continue // skipped on request
		}
		steps, err := f(h)
		b.err = err
		last := &b.out[len(b.out)-1]
		last.Steps = append(last.Steps, steps...)
	}
}

func (c *cluster) all() []*inventory.Host {
	return append(c.inv.Masters(), c.inv.Workers()...)
}

// preparation are the stages that make a host ready to join a running cluster: nothing
// in them touches another host. They are those of the bring-up.
func (c *cluster) preparation(h *inventory.Host) ([]plan.Stage, error) {
	b := &builder{connected: c.hosts}
	one := []*inventory.Host{h}
	b.stage("prepare " + h.Name)
	b.each(one, c.osSteps)
	b.each(one, c.binaries)
	if h.Role == inventory.ControlPlane {
		b.each(one, c.certificates)
	}
	b.stage("runtime of " + h.Name)
	b.each(one, c.runtime)
	b.each(one, c.nodeFiles)
	b.each(one, c.networkUnit)
	if h.Role == inventory.ControlPlane {
		b.each(one, c.etcdFiles)
	}
	b.stage("images of " + h.Name)
	b.each(one, c.otherImages)
	return b.out, b.err
}

// firstMaster is the first master that is connected, alone: who does what the
// cluster needs once. In a cluster that has run it is the first that has its data, and
// not a host that is about to join.
func (s *session) firstMaster() []*inventory.Host {
	if s.established() {
		for _, m := range s.inv.Masters() {
			if s.hosts[m.Name] != nil && s.disks[m.Name].Data {
				return []*inventory.Host{m}
			}
		}
	}
	for _, m := range s.inv.Masters() {
		if s.hosts[m.Name] != nil {
			return []*inventory.Host{m}
		}
	}
	return nil
}

// isNode reports whether the host is a node of a cluster that runs.
func (c *cluster) isNode(h *inventory.Host) bool {
	f := c.facts[h.Name]
	return f != nil && f.KubeletCA != "" && c.etcdPlan().Established()
}

func (c *cluster) joinedHosts(hosts []*inventory.Host) []*inventory.Host {
	return slices.DeleteFunc(slices.Clone(hosts), func(h *inventory.Host) bool { return !c.isNode(h) })
}

func (c *cluster) newcomers(hosts []*inventory.Host) []*inventory.Host {
	return slices.DeleteFunc(slices.Clone(hosts), c.isNode)
}

// newcomersLast puts masters that join a running cluster behind the others: their
// keepalived hears the owner only once the others know of them.
func (c *cluster) newcomersLast(masters []*inventory.Host) []*inventory.Host {
	joins := c.etcdPlan().Joins
	members := slices.DeleteFunc(slices.Clone(masters), joins)
	newcomers := slices.DeleteFunc(slices.Clone(masters), func(h *inventory.Host) bool { return !joins(h) })
	return append(members, newcomers...)
}

func (c *cluster) machine(h *inventory.Host) host.Host {
	return host.Host{Inv: c.inv, Host: h, Facts: c.facts[h.Name], Bundle: c.bundle, Record: c.record(h), TakeOver: c.takeOver}
}

// record is what the host is to keep of itself.
func (c *cluster) record(h *inventory.Host) facts.Record {
	r := facts.Record{Cluster: c.material.Identity.ID, Name: h.Name, PodSubnet: c.subnets[h.Name], Versions: versionsOf(c.inv.Versions, h)}
	if h.Role == inventory.ControlPlane {
		r.VIPPriority = c.keepalived().Priority(h)
	}
	return r
}

func (c *cluster) keepalived() keepalived.VIP {
	return keepalived.VIP{Inv: c.inv, Facts: c.facts, Prober: c.prober, Etcd: etcd.ClientAddress}
}

func (c *cluster) osSteps(h *inventory.Host) ([]plan.Step, error) {
	record, err := c.machine(h).KeepRecord()
	return slices.Concat(c.machine(h).OthersStep(), []plan.Step{record}, c.machine(h).OS()), err
}

func (c *cluster) binaries(h *inventory.Host) ([]plan.Step, error) {
	return c.machine(h).Binaries(), nil
}

// links are the names by which people call the programs.
func (c *cluster) links(h *inventory.Host) ([]plan.Step, error) {
	more := []host.Program{{Path: c.network.On(), Link: kubeadm.NetworkLink}}
	if v := c.keepalived(); h.Role == inventory.ControlPlane && v.UsesProber() {
		prober, err := v.ProberProgram()
		if err != nil {
			return nil, err
		}
		more = append(more, host.Program{Path: prober, Link: keepalived.ProberLink})
	}
	return c.machine(h).Links(more...), nil
}

// runtime is containerd and the images that come first. On a node that is there
// the steps of containerd wait until the node is Ready again.
func (c *cluster) runtime(h *inventory.Host) ([]plan.Step, error) {
	steps, err := c.machine(h).Runtime()
	if c.isNode(h) {
		for i := range steps {
			if steps[i].File == nil {
				steps[i] = c.nodes().KeepNodeReady(h, c.control, steps[i])
			}
		}
	}
	return append(steps, c.machine(h).FirstImages()), err
}

func (c *cluster) otherImages(h *inventory.Host) ([]plan.Step, error) {
	return []plan.Step{c.machine(h).OtherImages()}, nil
}

func (c *cluster) certificates(h *inventory.Host) ([]plan.Step, error) {
	return c.nodes().Certificates(h)
}

func (c *cluster) nodeFiles(h *inventory.Host) ([]plan.Step, error) {
	steps, err := c.nodes().Files(h)
	if err != nil {
		return nil, err
	}
	if !c.isNode(h) {
		kubelet, err := c.nodes().KubeletFiles(h)
		if err != nil {
			return nil, err
		}
		steps = append(steps, kubelet...)
	}
	network, err := c.nodes().PodNetwork(h, c.subnets)
	return append(steps, network...), err
}

func (c *cluster) networkUnit(h *inventory.Host) ([]plan.Step, error) {
	return c.nodes().Network(h, c.subnets)
}

func (c *cluster) vip(h *inventory.Host) ([]plan.Step, error) {
	return c.keepalived().Steps(h)
}

func (c *cluster) etcdPlan() *etcd.Plan {
	return &etcd.Plan{
		Inv: c.inv, PKI: c.material, Disks: c.disks, Joined: c.joined, RecordQuorum: c.recordQuorum,
		Program: host.ProgramPath(c.bundle, "etcd"),
	}
}

// snapshotTimer saves snapshots on a master. When in a period follows from what stays
// with the host, as its place in the inventory does not.
func (c *cluster) snapshotTimer(h *inventory.Host) ([]plan.Step, error) {
	return c.etcdPlan().Timer(h, 254-c.keepalived().Priority(h))
}

func (c *cluster) etcdFiles(h *inventory.Host) ([]plan.Step, error) { return c.etcdPlan().Files(h) }

func (c *cluster) etcdStart(h *inventory.Host) ([]plan.Step, error) {
	s, err := c.etcdPlan().Start(h, c.dialEtcd)
	return []plan.Step{s}, err
}

func (c *cluster) etcdJoin(h *inventory.Host) ([]plan.Step, error) {
	return c.etcdPlan().Join(h, c.dialEtcd), nil
}

func (c *cluster) etcdPromote(h *inventory.Host) ([]plan.Step, error) {
	return c.etcdPlan().Promote(h, c.dialEtcd), nil
}

func (c *cluster) etcdQuorum(h *inventory.Host) ([]plan.Step, error) {
	return []plan.Step{c.etcdPlan().Quorum(h, c.dialEtcd)}, nil
}

func (c *cluster) nodes() kubeadm.Cluster {
	k := kubeadm.Cluster{
		Inv: c.inv, Facts: c.facts, PKI: c.material, First: c.firstMaster()[0].Name, NetworkProgram: c.network, FormerRoutes: c.former, AwaitImages: host.AwaitImages(c.bundle),
		Program: host.ProgramPath(c.bundle, "kubelet"), SearchPath: host.SearchPath(c.bundle, "kubeadm", "kubectl", "kubelet", "ctr"),
	}
	for _, m := range c.inv.Masters() {
		k.EtcdClients = append(k.EtcdClients, etcd.ClientURL(m))
	}
	return k
}

func (c *cluster) initMaster(h *inventory.Host) ([]plan.Step, error) {
	k := c.nodes()
	first, err := k.Init(h)
	if err != nil || c.isNode(h) {
		return []plan.Step{first}, err
	}
	kubelet, err := k.Kubelet(h)
	return []plan.Step{first, kubelet}, err
}

// kubelet is that of a node that is there.
func (c *cluster) kubelet(h *inventory.Host) ([]plan.Step, error) {
	return c.nodes().KubeletTurn(h, c.control)
}

func (c *cluster) manifests(h *inventory.Host) ([]plan.Step, error) {
	k := c.nodes()
	st, err := k.Manifests(h)
	if err != nil {
		return nil, err
	}
	old, err := k.OldFiles(h)
	// The renewal first: what follows uses admin.conf.
	return []plan.Step{k.Renewal(h, nil), st, old}, err
}

func (c *cluster) joinWorker(h *inventory.Host) ([]plan.Step, error) {
	k := c.nodes()
	master := func() remote.Host { return c.hosts[c.firstMaster()[0].Name] }
	join := k.Join(h, master)
	if c.isNode(h) {
		return []plan.Step{join}, nil
	}
	kubelet, err := k.Kubelet(h)
	return []plan.Step{join, kubelet}, err
}

func (c *cluster) once(h *inventory.Host) ([]plan.Step, error) {
	return []plan.Step{c.nodes().Once(h, c.control)}, nil
}

func (c *cluster) podNetwork(h *inventory.Host) ([]plan.Step, error) { return c.nodes().Manifest(h) }

// probe is what tries the ways between pods.
func (c *cluster) probe(h *inventory.Host) ([]plan.Step, error) {
	st, err := c.nodes().Probe(h, c.control)
	return []plan.Step{st}, err
}

// labels works on the nodes of the hosts that are connected.
func (c *cluster) labels(h *inventory.Host) ([]plan.Step, error) {
	connected := slices.DeleteFunc(c.all(), func(h *inventory.Host) bool { return c.hosts[h.Name] == nil })
	return []plan.Step{c.nodes().Labels(h, connected, c.control)}, nil
}
