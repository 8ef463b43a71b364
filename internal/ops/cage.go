package ops

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"hactl/internal/bundle"
	"hactl/internal/cage"
	"hactl/internal/host"
	"hactl/internal/remote"
)

// tryAPIServer starts on the master an apiserver of the inventory's version, with the
// inventory's flags and files, apart from the cluster: on a snapshot, and then it
// reads every object in it, or on an empty etcd when snapshot is nil. An error says that it
// could not be tried; what the apiserver says is in the outcome, see [cage.Outcome.Err].
//
// An upgrade calls it with the target's versions and bundle in c, other settings with
// an inventory that has them.
func (c *cluster) tryAPIServer(ctx context.Context, h remote.Host, snapshot *cage.Snapshot) (*cage.Outcome, error) {
	try, err := c.apiserverTry(h, snapshot)
	if err != nil {
		return nil, err
	}
	return try.Run(ctx, h, c.inv.Etcd.DataDir)
}

// apiserverTry is the try of tryAPIServer. Programs of the bundle that are not on the
// host are sent, and go again.
func (c *cluster) apiserverTry(h remote.Host, snapshot *cage.Snapshot) (*cage.Try, error) {
	s, err := c.nodes().Caged(c.inv.Host(h.Name()), snapshot != nil)
	if err != nil {
		return nil, err
	}
	image, ok := c.bundle.Lookup("kube-apiserver")
	if !ok {
		return nil, fmt.Errorf("the bundle %s has no kube-apiserver", c.bundle.Dir)
	}
	s.Kubeadm, s.Kubectl = c.program("kubeadm"), c.program("kubectl")
	s.Version, s.ReadAll = c.inv.Versions.Kubernetes, snapshot != nil
	s.Program.Send = func(ctx context.Context, h remote.Host, to string) error {
		return sendFromImage(ctx, h, c.bundle, image, to)
	}
	try := &cage.Try{Etcd: c.program("etcd"), Etcdctl: c.program("etcdctl"), Etcdutl: c.program("etcdutl"), Snapshot: snapshot, APIServer: s}
	// A snapshot is restored by the etcd that runs, whatever is to run on it.
	try.Etcdutl.Path = "etcdutl"
	return try, nil
}

// program is a program of the bundle as a cage wants it.
func (c *cluster) program(name string) cage.Program {
	p := cage.Program{Path: host.ProgramPath(c.bundle, name)}
	if a, ok := c.bundle.Lookup(name); ok {
		p.Send = func(ctx context.Context, h remote.Host, to string) error {
			_, err := h.Send(ctx, remote.Upload{Local: c.bundle.Path(a), Path: to, SHA256: a.SHA256, Mode: 0o755})
			return err
		}
	}
	return p
}

// sendFromImage sends the apiserver out of its image in the bundle.
func sendFromImage(ctx context.Context, h remote.Host, b *bundle.Bundle, image bundle.Artifact, to string) error {
	dir, err := os.MkdirTemp("", "hactl-image-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	local := filepath.Join(dir, "kube-apiserver")
	if err := b.ExtractProgram(image, "kube-apiserver", local); err != nil {
		return err
	}
	sum, _, err := bundle.HashFile(local)
	if err != nil {
		return err
	}
	_, err = h.Send(ctx, remote.Upload{Local: local, Path: to, SHA256: sum, Mode: 0o755})
	return err
}
