package pki

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"hactl/internal/remote"
	"hactl/inventory"
)

// reader gives a file below authorities/, from the disk or just made.
type reader func(name ...string) ([]byte, error)

// authorities loads the CAs and the service-account key, or makes at once all
// that the inventory does not bring itself.
func (w *work) authorities(ctx context.Context) (*Material, error) {
	external, err := w.external()
	if err != nil {
		return nil, err
	}
	fresh, err := w.fresh()
	if err != nil {
		return nil, err
	}
	read := func(name ...string) ([]byte, error) {
		return w.read(append([]string{authorities}, name...)...)
	}
	if fresh {
		files, err := w.makeAuthorities(ctx, external)
		if err != nil {
			return nil, err
		}
		read = func(name ...string) ([]byte, error) {
			if content, ok := files[path.Join(name...)]; ok {
				return content, nil
			}
			return nil, fs.ErrNotExist
		}
	}
	return w.load(external, read, fresh)
}

// fresh reports whether the store has no authorities yet. It refuses a store
// that has lost them: new ones would cut the cluster off from its hosts.
func (w *work) fresh() (bool, error) {
	if w.disk == nil {
		return true, nil
	}
	_, err := w.disk.root.Lstat(authorities)
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if id, isNew, err := w.identity(true, nil); err != nil {
		return false, err
	} else if !isNew && id.HadQuorum {
		return false, w.lost(fmt.Errorf("PKI store %s is of a cluster that has run, and its folder %s is gone", w.store.dir, authorities))
	}
	entries, err := fs.ReadDir(w.disk.root.FS(), ".")
	if err != nil {
		return false, fmt.Errorf("read PKI store: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && e.Name()[0] != '.' && !strings.HasPrefix(e.Name(), requestPrefix) {
			return false, w.lost(fmt.Errorf("PKI store %s holds %s but its folder %s is gone", w.store.dir, e.Name(), authorities))
		}
	}
	return true, nil
}

// lost says what to do when a part of the store that is never made twice is
// missing or broken.
func (w *work) lost(err error) error {
	return remote.Hint(err, "restore %s from a backup, or name the CA in use under pki.externalCA in the inventory; "+
		"only if no host has ever used this store, remove the folder and run again", w.store.dir)
}

func (w *work) external() (map[string]*CA, error) {
	out := map[string]*CA{}
	e := w.store.inv.PKI.ExternalCA
	for _, x := range []struct {
		name, field string
		files       *inventory.CAFiles
	}{{nameEtcdCA, "etcd", e.Etcd}, {nameKubernetesCA, "kubernetes", e.Kubernetes}, {nameFrontProxyCA, "frontProxy", e.FrontProxy}} {
		if x.files == nil {
			continue
		}
		ca, err := loadExternal(x.name, x.field, x.files, w.store.now())
		if err != nil {
			return nil, err
		}
		out[x.name] = ca
	}
	return out, nil
}

// makeAuthorities makes and publishes what lies below authorities/.
func (w *work) makeAuthorities(ctx context.Context, external map[string]*CA) (map[string][]byte, error) {
	inv := w.store.inv
	files := map[string][]byte{}
	for _, name := range []string{nameEtcdCA, nameKubernetesCA, nameFrontProxyCA} {
		if external[name] != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("make CAs: %w", err)
		}
		cert, key, err := newCA(name, commonNames[name], inv.Cluster, inv.PKI.Algorithm, inv.PKI.CAExpiry)
		if err != nil {
			return nil, err
		}
		files[path.Join(name, certFile)], files[path.Join(name, keyFile)] = cert, key
		w.created = append(w.created, name+": new CA")
	}
	secret, err := newKey(inv.PKI.Algorithm)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(secret)
	if err != nil {
		return nil, err
	}
	public, err := encodePublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	files[path.Join(nameServiceAccount, keyFile)], files[path.Join(nameServiceAccount, pubFile)] = secret, public
	w.created = append(w.created, nameServiceAccount+": new key pair")
	if err := w.publish(authorities, files); err != nil {
		return nil, fmt.Errorf("publish CAs in PKI store: %w", err)
	}
	return files, nil
}

// load builds the Material's authorities.
func (w *work) load(external map[string]*CA, read reader, fresh bool) (*Material, error) {
	m := &Material{pairs: map[string]Pair{}, now: w.store.now}
	for name, to := range map[string]**CA{nameEtcdCA: &m.EtcdCA, nameKubernetesCA: &m.KubernetesCA, nameFrontProxyCA: &m.FrontProxyCA} {
		ca, err := w.authority(name, external[name], read)
		if err != nil {
			return nil, err
		}
		ca.algorithm, ca.now = w.store.inv.PKI.Algorithm, w.store.now
		ca.New = fresh && !ca.External
		*to = ca
	}
	key, err := w.serviceAccount(read)
	if err != nil {
		return nil, err
	}
	m.ServiceAccount = key
	m.ServiceAccount.New = fresh
	return m, nil
}

func (w *work) authority(name string, external *CA, read reader) (*CA, error) {
	cert, err := read(name, certFile)
	if external != nil {
		// A CA of our own and another one in the inventory: which of them the
		// hosts use, only the operator knows.
		if err == nil && Fingerprint(cert) != external.Fingerprint() {
			return nil, remote.Hint(fmt.Errorf("PKI store %s already has another %s than pki.externalCA in the inventory names", w.store.dir, name),
				"take the entry out of the inventory, or, if the hosts use the external one, move %s away",
				remote.Quote(path.Join(w.store.dir, authorities, name)))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return external, nil
	}
	if err != nil {
		return nil, w.lost(fmt.Errorf("read certificate of %s: %w", name, err))
	}
	key, err := read(name, keyFile)
	if err != nil {
		return nil, w.lost(fmt.Errorf("read key of %s: %w", name, err))
	}
	ca, err := loadCA(name, cert, key, w.store.now())
	if err != nil {
		return nil, w.lost(fmt.Errorf("%s in PKI store %s: %w", name, w.store.dir, err))
	}
	if o := ca.certs[0].Subject.Organization; len(o) == 1 && o[0] != w.store.inv.Cluster {
		return nil, remote.Hint(fmt.Errorf("PKI store %s belongs to cluster %q, not to %q", w.store.dir, o[0], w.store.inv.Cluster),
			"give each cluster its own pki.store in the inventory; a CA made elsewhere belongs under pki.externalCA")
	}
	return ca, nil
}

func (w *work) serviceAccount(read reader) (Key, error) {
	secret, err := read(nameServiceAccount, keyFile)
	if err != nil {
		return Key{}, w.lost(fmt.Errorf("read service-account key: %w", err))
	}
	key, err := parseKey(secret)
	if err != nil {
		return Key{}, w.lost(fmt.Errorf("read service-account key: %w", err))
	}
	public, err := encodePublicKey(key.Public())
	if err != nil {
		return Key{}, err
	}
	// The public half is there for people and scripts; ours comes from the key.
	if stored, err := read(nameServiceAccount, pubFile); err == nil && string(stored) != string(public) {
		return Key{}, w.lost(fmt.Errorf("service-account key and public key in %s do not belong together", w.store.dir))
	}
	return Key{KeyPEM: secret, PubPEM: public}, nil
}
