package ops

import (
	"context"

	"hactl/etcd"
	"hactl/internal/bundle"
	"hactl/internal/preflight"
	"hactl/internal/state"
	"hactl/pki"
)

// Status looks at the cluster from outside and changes nothing but one key of its
// own in etcd, which it removes.
func Status(ctx context.Context, r Request) (*state.Report, error) {
	s, err := load(ctx, r)
	if err != nil {
		return nil, err
	}
	defer s.close()
	s.leftOut = s.removed() // which is not sick
	seen := s.verified(true)
	backups := make(chan []state.Check, 1)
	go func() { backups <- state.Backups(ctx, seen) }()
	rep := state.Look(ctx, seen)
	rep.Add(<-backups)
	return rep, nil
}

// removed are the hosts of the inventory that were removed from the cluster.
func (s *session) removed() (out []string) {
	for _, name := range s.material.Identity.Removed {
		if s.inv.Host(name) != nil {
			out = append(out, name)
		}
	}
	return out
}

// Preflight looks whether the hosts can become the cluster of the inventory; findings
// of the checks in ignore do not count.
func Preflight(ctx context.Context, r Request, ignore []string) (*preflight.Report, error) {
	s, err := open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer s.close()
	m, _, err := s.store.Preview(ctx)
	if err != nil {
		return nil, err
	}
	s.secrets(m)
	in := &preflight.Cluster{Inv: s.inv, Hosts: s.hosts, Down: s.down, TakeOver: s.takeOver, Ask: askOthers(s.inv), Helper: preflightHelper()}
	s.addKnown(in)
	return preflight.Run(ctx, in, ignore), nil
}

// preflightHelper is the hactl-network that preflight runs on masters.
func preflightHelper() preflight.Helper {
	p, err := networkProgram()
	if err != nil {
		return preflight.Helper{Absent: err}
	}
	return preflight.Helper{Local: p.Path, SHA256: p.SHA256, Installed: p.On()}
}

// addKnown gives a preflight what this machine knows: the store's CAs, where there
// are any yet, and the bundle's architecture.
func (s *session) addKnown(in *preflight.Cluster) {
	in.CAs = map[string]string{}
	m := s.material
	for name, ca := range map[string]*pki.CA{"kubernetes": m.KubernetesCA, "front-proxy": m.FrontProxyCA, "etcd": m.EtcdCA} {
		if ca != nil && !ca.New {
			in.CAs[name] = string(ca.CertPEM)
		}
	}
	if in.CAs["etcd"] != "" {
		in.EtcdCluster = (&etcd.Plan{Inv: s.inv, PKI: m}).Token()
	}
	if b, err := bundle.Locate(s.inv.Artifacts.Bundle, s.inv.Versions); err == nil {
		in.Arch = b.Arch
	}
}
