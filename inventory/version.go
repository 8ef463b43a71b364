package inventory

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// APIVersion and Kind head every inventory that hactl writes. A file without
// them is read as if it had them: inventories were written before there was a
// version, and their form is the first one.
const (
	APIVersion = "hactl/v1"
	Kind       = "Cluster"
)

// The versions and kinds of file that this hactl reads. A later version is
// added here together with the code that reads it.
var (
	knownVersions = []string{APIVersion}
	knownKinds    = []string{Kind}
)

// refuseVersion reports an apiVersion or kind that this hactl does not know.
// It runs before the file is decoded: in another version the other keys mean
// something else, and their problems would only hide this one.
func (d *decoder) refuseVersion(root *yaml.Node) {
	d.refuseUnknown(root, "apiVersion", knownVersions, "is no version of the inventory that this hactl reads")
	d.refuseUnknown(root, "kind", knownKinds, "is no kind of file that this hactl reads")
}

// refuseUnknown reports the text at a key of the root unless it is in known.
// A value that is not a text is left to the decoder.
func (d *decoder) refuseUnknown(root *yaml.Node, key string, known []string, what string) {
	if root.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		k, v := root.Content[i], root.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Value != key || v.Kind != yaml.ScalarNode || !isText(v) || slices.Contains(known, v.Value) {
			continue
		}
		d.reportAt(position{v.Line, v.Column}, key, quote(v.Value)+" "+what, "known: "+strings.Join(known, ", ")+"; write one of these, or use the hactl that this file was written for")
		return
	}
}

// versionNotes says which of apiVersion and kind the file left out, and what it
// was read as.
func versionNotes(inv *Inventory) Problems {
	var missing, lines []string
	for _, f := range []struct{ name, value, current string }{{"apiVersion", inv.APIVersion, APIVersion}, {"kind", inv.Kind, Kind}} {
		if f.value == "" {
			missing = append(missing, "no "+f.name)
			lines = append(lines, quote(f.name+": "+f.current))
		}
	}
	if missing == nil {
		return nil
	}
	return Problems{{
		File: inv.Path, What: fmt.Sprintf("has %s; it is read as if it began with the lines %s", strings.Join(missing, " and "), strings.Join(lines, ", ")),
		Instead: "write them, so that a later hactl knows the form of this file",
	}}
}
