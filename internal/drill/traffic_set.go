package drill

import (
	"context"
	"time"
)

// readyNew is the end of a control's name: a master's own apiserver is asked the
// question that the VIP is asked.
const readyNew = "/ready/new"

// seldom is how many intervals lie between two requests that are reported and not judged.
const seldom = 4

// inTurn is how many lie between two that are counted rather than timed.
const inTurn = 2

// buildTraffic lists the streams of this run.
func (r *runner) buildTraffic() {
	r.traffic = newTraffic(r.zero, r.opt.Interval, r.opt.Deadline)
	t := r.traffic
	t.add(vipReady, r.every(vipReady), costAsk, servesProbe(r.vip(false)))
	t.add(vipRead, r.every(vipRead), costRead, readProbe(r.vip(false)))
	t.add(vipWrite, r.every(vipWrite), costWrite, r.ledger.create(r.vip(false), "new"))
	if !r.operation {
		t.addKept("vip/ready/kept", costAsk, servesProbe(r.vip(true)))
		t.addKept("vip/read/kept", costRead, readProbe(r.vip(true)))
		t.addKept("vip/write/kept", costWrite, r.ledger.create(r.vip(true), "kept"))
	}
	r.addControls()
	t.add(etcdWrite, r.every(etcdWrite), costPut, r.ledger.put(r.c.Etcd))
	if r.sc.Inside {
		m := r.injections[0].Member
		t.add(inWrite, r.every(inWrite), costWrite, r.ledger.create(&kube{client: r.c.client(m.Host.Dial, false), at: m.API}, "inside"))
	}
	if r.demo != nil {
		spared := others(r.c.Masters(), r.injections[0].Member.Name)[0]
		t.add(service, r.every(service), costAsk, getProbe(&kube{client: r.c.client(spared.Host.Dial, false), at: r.demo.at, scheme: "http"}))
	}
	if r.opt.Interval == 0 {
		r.opt.Interval = intervalFor(r.unit * t.cost())
		t.interval = r.opt.Interval
	}
}

// every is how many intervals lie between two requests of a stream: one where a check
// with the scenario's tightest bound is about them, more where the bound is wider, and
// [seldom] where nothing is judged by them. So the requests go where they decide.
func (r *runner) every(stream string) int {
	tightest, own := slowest*seldom, time.Duration(0)
	out := seldom
	for _, c := range r.sc.Checks {
		switch {
		case c.Kind == Failures && c.Of == stream, c.Kind == Loss && c.Of == stream:
			out = inTurn // counts of failures want many requests
		case c.Unit == InTime && c.Of != "":
			tightest = min(tightest, c.Bound)
			if c.Of == stream && (own == 0 || c.Bound < own) {
				own = c.Bound
			}
		}
	}
	if own > 0 && tightest > 0 {
		out = min(out, int(max(own/tightest, 1)))
	}
	return out
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
