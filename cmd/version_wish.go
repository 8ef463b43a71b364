package cmd

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"hactl/internal/bundle"
	"hactl/internal/remote"
	"hactl/internal/versions"
)

// versionWish is the set that a command line names.
type versionWish struct {
	kubernetes, etcd, containerd string
}

func (w *versionWish) flags(c *cobra.Command) {
	f := c.PersistentFlags()
	f.StringVar(&w.kubernetes, "for", "", "Kubernetes version of the set, such as v1.37.2 (default "+versions.Default+")")
	f.StringVar(&w.etcd, "etcd", "", "another etcd of that set")
	f.StringVar(&w.containerd, "containerd", "", "another containerd of that set")
	_ = c.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(versions.Known(), cobra.ShellCompDirectiveNoFileComp))
}

var versionForm = regexp.MustCompile(`^v[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}$`)

// set is the named set. Another patch of a known minor is allowed: releases of it
// can be fetched.
func (w *versionWish) set() (versions.Set, error) {
	k := cmp.Or(w.kubernetes, versions.Default)
	m, ok := versions.MinorOf(k)
	if !ok || !versionForm.MatchString(k) {
		return versions.Set{}, unknownVersion("for", k, versions.Known())
	}
	for _, c := range []struct {
		flag, version string
		known         []string
	}{{"etcd", w.etcd, m.Etcd}, {"containerd", w.containerd, m.Containerd}} {
		if c.version != "" && (!versionForm.MatchString(c.version) || versions.FitOf(c.version, c.known) == versions.Foreign || c.flag == "etcd" && !versions.SafeEtcd(c.version)) {
			return versions.Set{}, unknownVersion(c.flag, c.version, c.known)
		}
	}
	set, _ := versions.For(k)
	return set.With(w.etcd, w.containerd), nil
}

func unknownVersion(flag, version string, known []string) error {
	return &usageError{remote.Hint(fmt.Errorf("%q is no value for --%s: write one of %s", version, flag, strings.Join(known, ", ")), "hactl versions")}
}

// given reports whether the command line names a version.
func (w *versionWish) given() bool { return *w != versionWish{} }

// places lists the folders of the wanted set or, when none is named, of every
// bundle that is there; of the default set when there is none.
func (w *versionWish) places(o bundle.Options) ([]string, error) {
	var err error
	if o.Set, err = w.set(); err != nil {
		return nil, err
	}
	root := o.Dir
	if root == "" {
		if root, err = bundle.Root(); err != nil {
			return nil, err
		}
	}
	if found := bundle.In(root); !w.given() && len(found) > 0 {
		return found, nil
	}
	dir, err := bundle.Find(o)
	return []string{dir}, err
}
