package inventory

import (
	"fmt"
	"slices"
	"strings"

	"hactl/internal/versions"
)

// Set is what the named versions stand for: the parts of that Kubernetes minor,
// with the named etcd and containerd. Without a version it is the default set.
func (v Versions) Set() versions.Set {
	set, ok := versions.For(v.Kubernetes)
	if !ok {
		set = versions.OfDefault()
	}
	return set.With(v.Etcd, v.Containerd)
}

// VersionsOf is what goes with a version of Kubernetes, given with or without the
// leading v.
func VersionsOf(kubernetes string) (Versions, error) {
	v := Versions{Kubernetes: "v" + strings.TrimPrefix(kubernetes, "v")}
	if _, ok := versions.MinorOf(v.Kubernetes); !ok {
		return Versions{}, fmt.Errorf("this hactl does not know Kubernetes %s; %s", kubernetes, writeOneOf(versions.Known()))
	}
	completeVersions(&v)
	return v, nil
}

// completeVersions fills in the default set, or what goes with the named Kubernetes.
func completeVersions(v *Versions) {
	set := v.Set()
	or(&v.Kubernetes, set.Kubernetes)
	or(&v.Etcd, set.Etcd)
	or(&v.Containerd, set.Containerd)
}

// validateVersions keeps to the minors that this hactl knows. Another patch of one
// of them is installed, and noted.
func validateVersions(inv *Inventory, d *decoder) {
	v := inv.Versions
	m, ok := versions.MinorOf(v.Kubernetes)
	if !ok {
		d.report("versions.kubernetes", "this hactl does not install Kubernetes "+v.Kubernetes, writeOneOf(versions.Known()))
		return // etcd and containerd are those of a minor
	}
	if versions.FitOf(v.Kubernetes, m.Patches) != versions.Listed {
		inv.note(d, "versions.kubernetes", unknownPatch("Kubernetes", v.Kubernetes, m.Patches), writeOneOf(versions.Known()))
	}
	validatePart(inv, d, "etcd", v.Etcd, m.Etcd)
	validatePart(inv, d, "containerd", v.Containerd, m.Containerd)
	validateGone(inv, d)
}

// validatePart compares the version of a part with those that go with its Kubernetes.
func validatePart(inv *Inventory, d *decoder, part, version string, known []string) {
	path, fit := "versions."+part, versions.FitOf(version, known)
	switch {
	case fit == versions.Foreign:
		d.report(path, fmt.Sprintf("this hactl does not install %s %s with Kubernetes %s", part, version, inv.Versions.Kubernetes), writeOneOf(known))
	case part == "etcd" && !versions.SafeEtcd(version):
		d.report(path, fmt.Sprintf("etcd %s has known security holes", version), writeOneOf(known))
	case fit != versions.Listed:
		inv.note(d, path, unknownPatch(part, version, known), writeOneOf(known))
	}
}

func unknownPatch(what, version string, known []string) string {
	return fmt.Sprintf("%s %s is not a patch that this hactl knows (%s); it is installed all the same", what, version, strings.Join(known, ", "))
}

func writeOneOf(known []string) string {
	if len(known) == 1 {
		return "write " + known[0]
	}
	return "write one of " + strings.Join(known, ", ")
}

// note adds a remark on a value of a file that is valid.
func (inv *Inventory) note(d *decoder, path, what, instead string) {
	pos := d.at[path]
	inv.Notes = append(inv.Notes, Problem{File: d.file, Line: pos.line, Column: pos.column, Path: path, What: what, Instead: instead})
}

// validateGone finds arguments that the Kubernetes of the inventory no longer
// accepts: a component that is given one of them does not start.
func validateGone(inv *Inventory, d *decoder) {
	gone, k := versions.GoneFrom(inv.Versions.Kubernetes), inv.Kubernetes
	for _, flag := range gone.ControllerFlags {
		if _, ok := k.ControllerExtraArgs[flag]; ok {
			d.report("kubernetes.controllerManagerExtraArgs."+flag, fmt.Sprintf("the controller manager of %s no longer has the flag %s", inv.Versions.Kubernetes, flag), "remove it")
		}
	}
	for _, c := range []struct {
		key  string
		args map[string]string
	}{{"apiServerExtraArgs", k.APIServerExtraArgs}, {"controllerManagerExtraArgs", k.ControllerExtraArgs}, {"schedulerExtraArgs", k.SchedulerExtraArgs}} {
		for _, setting := range strings.Split(c.args["feature-gates"], ",") {
			gate, _, _ := strings.Cut(strings.TrimSpace(setting), "=")
			if slices.Contains(gone.FeatureGates, gate) {
				d.report("kubernetes."+c.key+".feature-gates", fmt.Sprintf("Kubernetes %s no longer has the feature gate %s", inv.Versions.Kubernetes, gate), "remove it")
			}
		}
	}
}
