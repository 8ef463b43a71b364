package bundle

import (
	"cmp"
	"fmt"
	"runtime"
	"strings"

	"hactl/internal/remote"
	"hactl/internal/versions"
	"hactl/inventory"
)

// Locate opens the bundle for the inventory's versions: in dir, which is one
// bundle or a folder of several, or, when dir is empty, in the user's cache, where
// only this machine's architecture counts and what was built from source comes
// first. Its error has a hint.
func Locate(dir string, v inventory.Versions) (*Bundle, error) {
	if dir != "" {
		return locateIn(dir, v)
	}
	var first error
	for _, from := range []string{Source, Upstream} {
		at, err := Find(Options{From: from, Arch: runtime.GOARCH, Set: v.Set()})
		if err != nil {
			return nil, err
		}
		b, err := Open(at)
		if err == nil {
			return b, nil
		}
		first = cmp.Or(first, err)
	}
	return nil, remote.Hint(first, "%s", Command(v.Set()))
}

// locateIn prefers a bundle of this machine's architecture; a folder that holds
// one bundle of another is that for hosts of the other.
func locateIn(dir string, v inventory.Versions) (*Bundle, error) {
	places := In(dir)
	if len(places) == 0 {
		places = []string{dir}
	}
	var suits *Bundle
	var first error
	for _, at := range places {
		b, err := Open(at)
		if err != nil {
			first = cmp.Or(first, remote.Hint(err, "hactl bundle --dir %s", remote.Quote(dir)))
			continue
		}
		if err := b.Suits(v); err != nil {
			first = cmp.Or(first, err)
			continue
		}
		if suits == nil || suits.Arch != runtime.GOARCH && b.Arch == runtime.GOARCH {
			suits = b
		}
	}
	if suits != nil {
		return suits, nil
	}
	if len(places) > 1 {
		return nil, remote.Hint(fmt.Errorf("find bundle: none of the %d sets in %s is for Kubernetes %s with etcd %s and containerd %s", len(places), dir, v.Kubernetes, v.Etcd, v.Containerd),
			"%s --dir %s", Command(v.Set()), remote.Quote(dir))
	}
	return nil, first
}

// Command is the command that makes the set's bundle.
func Command(set versions.Set) string {
	words := []string{"hactl bundle"}
	usual, _ := versions.For(set.Kubernetes)
	if set.Kubernetes != versions.Default {
		words = append(words, "--for", set.Kubernetes)
	}
	if set.Etcd != usual.Etcd {
		words = append(words, "--etcd", set.Etcd)
	}
	if set.Containerd != usual.Containerd {
		words = append(words, "--containerd", set.Containerd)
	}
	return strings.Join(words, " ")
}

// Suits tells whether the bundle holds the versions that the inventory names.
func (b *Bundle) Suits(v inventory.Versions) error {
	key := differs(&b.Manifest, v.Set())
	if key == "" {
		return nil
	}
	a, _ := b.Lookup(namedBy[key])
	want := map[string]string{"kubernetes": v.Kubernetes, "etcd": v.Etcd, "containerd": v.Containerd}[key]
	return remote.Hint(fmt.Errorf("versions.%s is %s in the inventory, the bundle in %s has %s", key, want, b.Dir, a.Version),
		"%s makes the other one; or remove that line from the inventory, or name another bundle: artifacts: {bundle: DIR}", Command(v.Set()))
}

// namedBy says which artifact shows the version of an inventory's key.
var namedBy = map[string]string{"kubernetes": "kubelet", "etcd": "etcd", "containerd": "containerd"}

// differs names the first of the inventory's keys whose version is another one in
// the manifest, or "". What a manifest does not hold does not differ.
func differs(m *Manifest, set versions.Set) string {
	for _, w := range []struct{ key, want string }{{"kubernetes", set.Kubernetes}, {"etcd", set.Etcd}, {"containerd", set.Containerd}} {
		for _, a := range m.Artifacts {
			if a.Name == namedBy[w.key] && a.Version != w.want {
				return w.key
			}
		}
	}
	return ""
}
