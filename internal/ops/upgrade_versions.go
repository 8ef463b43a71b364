package ops

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"

	"hactl/internal/exitcode"
	"hactl/internal/remote"
	"hactl/internal/versions"
	"hactl/inventory"
)

// chooseVersions makes the versions that the upgrade walks to the wanted ones: those of
// the inventory. With a named Kubernetes its etcd and containerd go along, as the set says,
// unless newer ones of the same set run; what is not named at all stays. An abort walks to
// the versions that the hosts have recorded.
func (s *session) chooseVersions(abort bool) error {
	if abort {
		return s.chooseFormer()
	}
	named := s.inv.NamedVersions
	for i, part := range versionOf {
		want, running := part.wanted(&s.inv.Versions), s.running(i)
		is := newest(slices.Collect(maps.Keys(running)))
		switch {
		case *part.wanted(&named) != "" || is == "":
		case named.Kubernetes == "" && len(running) > 1:
			return remote.Hint(interrupted(part.field, running), "write the version that the upgrade walked to into %s", s.inv.Path)
		case named.Kubernetes == "" || semver.Compare(is, *want) > 0 && inSet(s.inv.Versions.Kubernetes, part.field, is):
			*want = is
		}
	}
	return nil
}

// chooseFormer chooses the recorded versions.
func (s *session) chooseFormer() error {
	for i, part := range versionOf {
		former := map[string]bool{}
		for _, f := range s.facts {
			if v := versionOf[i].recorded(f.Record.Versions); v != "" && f.KubeletCA != "" {
				former[v] = true
			}
		}
		if len(former) != 1 {
			return exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("%s: the hosts have recorded %s: the upgrade is nearly through", part.field, strings.Join(slices.Sorted(maps.Keys(former)), " and ")),
				"hactl upgrade completes it"))
		}
		for v := range former {
			*part.wanted(&s.inv.Versions) = v
		}
	}
	return nil
}

// inSet reports whether a version of etcd or containerd goes with that Kubernetes.
func inSet(kubernetes, field, version string) bool {
	m, _ := versions.MinorOf(kubernetes)
	known := m.Etcd
	if field == "versions.containerd" {
		known = m.Containerd
	}
	return versions.FitOf(version, known) >= versions.Patch
}

func newest(vs []string) string {
	if len(vs) == 0 {
		return ""
	}
	return slices.MaxFunc(vs, semver.Compare)
}

// wayTo lists why a part cannot go from the versions that are seen to the wanted one. seen
// names the places where a version was seen. risen says that etcd's cluster version has
// risen to that of its members.
func wayTo(field, want string, seen map[string][]string, abort, risen bool) []error {
	var errs []error
	for _, v := range slices.SortedFunc(maps.Keys(seen), semver.Compare) {
		if why := step(field, v, want, abort, risen); why != "" {
			errs = append(errs, fmt.Errorf("%s: from %s (%s) to %s: %s", field, v, strings.Join(seen[v], ", "), want, why))
		}
	}
	return errs
}

// firstForNextEtcd is the first etcd 3.6 from which 3.7 may be begun.
const firstForNextEtcd = "v3.6.11"

// step says why a part may not go from one version to another, or "".
func step(field, from, to string, abort, risen bool) string {
	minors := minor(to) - minor(from)
	switch {
	case semver.Major(from) != semver.Major(to):
		return "another major version is not one step"
	case field == "versions.containerd":
		if minors < 0 && !abort {
			return "an older minor may not read what the newer one wrote"
		}
	case minors > 1:
		return "a minor is skipped: " + between(field, from)
	case field == "versions.kubernetes" && minors < 0:
		return "the apiservers of the newer minor have begun, and an older one may not read what they wrote; the way back is a snapshot (hactl restore)"
	case field == "versions.etcd" && minors < 0 && risen:
		return "all members have the newer minor, and the data with them; the way back is a snapshot (hactl restore)"
	case field == "versions.etcd" && minors == 1 && minor(from) == 6 && semver.Compare(from, firstForNextEtcd) < 0:
		return "every member has to be " + firstForNextEtcd + " or later before"
	}
	return ""
}

// between proposes the stop on the way from a version whose next minor is skipped.
func between(field, from string) string {
	if field != "versions.kubernetes" {
		return "go to the next one first"
	}
	next := fmt.Sprintf("v1.%d", minor(from)+1)
	for _, m := range versions.Minors() {
		if m.Name == next {
			return fmt.Sprintf("set versions.kubernetes to %s first and run hactl upgrade, then to this one", m.Patches[len(m.Patches)-1])
		}
	}
	return "go to " + next + " first, with a hactl that knows it"
}

func minor(v string) int {
	_, m, _ := strings.Cut(semver.MajorMinor(v), ".")
	n, _ := strconv.Atoi(m)
	return n
}

var errNoMinor = errors.New("no such minor")

// knownSet is an error unless the wanted Kubernetes has a set.
func knownSet(v inventory.Versions) error {
	if _, ok := versions.MinorOf(v.Kubernetes); !ok {
		return fmt.Errorf("versions.kubernetes %s: %w; known are %s", v.Kubernetes, errNoMinor, strings.Join(versions.Known(), ", "))
	}
	return nil
}
