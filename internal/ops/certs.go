package ops

import (
	"cmp"
	"context"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"hactl/internal/expiry"
	"hactl/inventory"
	"hactl/kubeadm"
	"hactl/pki"
)

// Certs looks at every certificate of the cluster, in the store, on the disks, on the
// wire and in the API. What ends within the time given is due. Nothing is changed.
func Certs(ctx context.Context, r Request, within time.Duration) (*expiry.Report, error) {
	s, err := load(ctx, r)
	if err != nil {
		return nil, err
	}
	defer s.close()
	rep := s.certs(ctx, within)
	if rep.Waiting, err = s.waiting(ctx); err != nil {
		return nil, err
	}
	if len(rep.Waiting) > 0 {
		rep.Next = "hactl certs renew writes the requests to " + RequestsDir(s.inv)
	}
	return rep, nil
}

// certs gathers from all places at the same time, and judges.
func (s *session) certs(ctx context.Context, within time.Duration) *expiry.Report {
	rules := expiry.Rules{Now: time.Now(), Within: within, Life: s.inv.PKI.Expiry, Serves: map[string][]expiry.Port{}}
	for _, certs := range s.material.Authorities() {
		rules.CAs = append(rules.CAs, certs...)
	}
	rules.CAs = append(rules.CAs, s.material.Intermediates()...)
	for i := range s.inv.Hosts {
		h := &s.inv.Hosts[i]
		rules.Serves[h.Name] = ports(s.inv, h)
	}
	rep := expiry.Judge(s.evidence(ctx, rules.Serves), rules)
	rep.Cluster = s.inv.Cluster
	return rep
}

func (s *session) evidence(ctx context.Context, serves map[string][]expiry.Port) expiry.Evidence {
	var all expiry.Evidence
	all.Add(s.storeEvidence())
	var mu sync.Mutex
	var wg sync.WaitGroup
	look := func(f func() expiry.Evidence) {
		wg.Go(func() {
			e := f()
			mu.Lock()
			defer mu.Unlock()
			all.Add(e)
		})
	}
	for i := range s.inv.Hosts {
		name := s.inv.Hosts[i].Name
		h := s.hosts[name]
		if h == nil {
			look(func() expiry.Evidence { return expiry.Evidence{Unseen: map[string]error{name: s.down[name]}} })
			continue
		}
		look(func() expiry.Evidence {
			e, err := expiry.LookAtDisk(ctx, h)
			if err != nil {
				e.Unseen = map[string]error{name: err}
			}
			return e
		})
		look(func() expiry.Evidence { return expiry.LookAtWire(ctx, h, serves[name]) })
	}
	look(func() expiry.Evidence { return s.vipEvidence(ctx) })
	look(func() expiry.Evidence { return s.apiEvidence(ctx) })
	wg.Wait()
	slices.SortStableFunc(all.Seen, func(a, b expiry.Sighting) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.What, b.What))
	})
	return all
}

// ports are where a host's processes serve certificates, and from which files.
func ports(inv *inventory.Inventory, h *inventory.Host) []expiry.Port {
	addr := h.PrivateAddress.String()
	kubelet := kubeletPort(h)
	if h.Role != inventory.ControlPlane {
		return []expiry.Port{kubelet}
	}
	return append([]expiry.Port{
		{Addr: net.JoinHostPort(addr, "2379"), File: "/etc/etcd/pki/server.crt"},
		{Addr: net.JoinHostPort(addr, "2380"), File: "/etc/etcd/pki/peer.crt"},
		{Addr: net.JoinHostPort(addr, strconv.Itoa(inv.VIP.Port)), File: "/etc/kubernetes/pki/apiserver.crt"},
		kubelet,
	}, controllerPorts()...)
}

func kubeletPort(h *inventory.Host) expiry.Port {
	return expiry.Port{Addr: net.JoinHostPort(h.PrivateAddress.String(), "10250"), File: "/var/lib/kubelet/pki/kubelet.crt"}
}

// controllerPorts are those of the controller manager and the scheduler.
func controllerPorts() []expiry.Port {
	const serving = "/etc/kubernetes/pki/serving/server.crt"
	return []expiry.Port{{Addr: "127.0.0.1:10257", File: serving}, {Addr: "127.0.0.1:10259", File: serving}}
}

func (s *session) storeEvidence() expiry.Evidence {
	var e expiry.Evidence
	for name, certs := range s.material.Authorities() {
		for _, c := range certs {
			e.Seen = append(e.Seen, expiry.Sighting{Place: expiry.Store, What: name, Cert: c})
		}
	}
	pairs := s.material.Certificates()
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		e.Seen = append(e.Seen, expiry.Sighting{Place: expiry.Store, What: name, Cert: pairs[name]})
	}
	return e
}

// vipEvidence is what serves on the VIP, seen from the last host that is connected: a
// worker, where there is one.
func (s *session) vipEvidence(ctx context.Context) expiry.Evidence {
	for i := len(s.inv.Hosts) - 1; i >= 0; i-- {
		if h := s.hosts[s.inv.Hosts[i].Name]; h != nil {
			addr := net.JoinHostPort(s.inv.VIP.Address.String(), strconv.Itoa(s.inv.VIP.Port))
			return expiry.LookAtWire(ctx, h, []expiry.Port{{Addr: addr}})
		}
	}
	return expiry.Evidence{}
}

// apiEvidence is what the cluster's objects say is to be trusted.
func (s *session) apiEvidence(ctx context.Context) expiry.Evidence {
	var texts []kubeadm.TrustedText
	err := s.control.Ask(ctx, func(ctx context.Context, api *kubeadm.API) (err error) {
		texts, err = api.Trusted(ctx)
		return err
	})
	var e expiry.Evidence
	if err != nil {
		e.Unseen = map[string]error{"the API": err}
	}
	for _, t := range texts {
		certs, err := pki.ParseCertificates(t.PEM)
		if err != nil {
			e.Seen = append(e.Seen, expiry.Sighting{Place: expiry.API, What: t.Object, Others: t.Others, Problem: "unreadable: " + err.Error()})
		}
		for _, c := range certs {
			e.Seen = append(e.Seen, expiry.Sighting{Place: expiry.API, What: t.Object, Cert: c, Others: t.Others})
		}
	}
	return e
}
