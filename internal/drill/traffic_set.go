package drill

import (
	"context"
)

// readyNew is the end of a control's name: a master's own apiserver is asked the
// question that the VIP is asked.
const readyNew = "/ready/new"

// rarely is how many intervals lie between two writes to etcd while an operation runs,
// which may take minutes. They show no gaps that clients see.
const rarely = 5

// buildTraffic lists the streams of this run.
func (r *runner) buildTraffic() {
	r.traffic = newTraffic(r.zero, r.opt.Interval, r.opt.Deadline)
	if r.operation {
		r.addOperation()
		return
	}
	t := r.traffic
	// The address is asked for most often, since its bounds are the tightest. Reads
	// and writes cost the apiservers and etcd ten times more.
	t.add(vipReady, 1, servesProbe(r.vip(false)))
	t.addKept("vip/ready/kept", 1, servesProbe(r.vip(true)))
	t.add(vipRead, inTurn, readProbe(r.vip(false)))
	t.add(vipWrite, inTurn, r.ledger.create(r.vip(false), "new"))
	t.addKept("vip/read/kept", inTurn, readProbe(r.vip(true)))
	t.addKept("vip/write/kept", inTurn, r.ledger.create(r.vip(true), "kept"))
	r.addControls()
	t.add(etcdWrite, 1, r.ledger.put(r.c.Etcd))
	if r.sc.Inside {
		m := r.strikes[0].Member
		t.add(inWrite, inTurn, r.ledger.create(&kube{client: r.c.client(m.Host.Dial, false), at: m.API}, "inside"))
	}
	if r.demo != nil {
		spared := others(r.c.Masters(), r.strikes[0].Member.Name)[0]
		t.add(service, 1, getProbe(&kube{client: r.c.client(spared.Host.Dial, false), at: r.demo.at, scheme: "http"}))
	}
}

// addOperation lists the streams of an operation.
func (r *runner) addOperation() {
	t := r.traffic
	t.add(vipReady, 1, servesProbe(r.vip(false)))
	t.add(vipRead, inTurn, readProbe(r.vip(false)))
	t.add(vipWrite, inTurn, r.ledger.create(r.vip(false), "new"))
	t.add(etcdWrite, rarely, r.ledger.put(r.c.Etcd))
	r.addControls()
}

// addControls adds the same request to every apiserver past the VIP, and an echo of
// every host.
func (r *runner) addControls() {
	for _, m := range r.c.Masters() {
		r.traffic.addControl(m.Name+readyNew, m.Name, readyProbe(r.at(m.API, false)))
	}
	for _, m := range r.c.Members {
		if m.Echo != nil {
			r.traffic.addEcho(m.Name+"/echo", m.Name, func(ctx context.Context, _ int) error { return m.Echo(ctx) })
		}
	}
}

func readyProbe(k *kube) probe {
	return func(ctx context.Context, _ int) error { return k.ready(ctx) }
}

func servesProbe(k *kube) probe {
	return func(ctx context.Context, _ int) error { return k.serves(ctx) }
}

func readProbe(k *kube) probe {
	return func(ctx context.Context, _ int) error { return k.do(ctx, "GET", namespacePath, nil, nil) }
}

func getProbe(k *kube) probe {
	return func(ctx context.Context, _ int) error { return k.do(ctx, "GET", "/", nil, nil) }
}
