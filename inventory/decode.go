package inventory

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"hactl/internal/nearest"
)

// position is where a value stands in the file.
type position struct{ line, column int }

// mostProblems bounds what is reported: past it the file is no inventory at all.
const mostProblems = 100

// decoder fills an Inventory from YAML nodes and gathers every problem. It is
// our own because yaml.v3's strict mode stops early, knows no columns, and lets
// 010 mean eight and a missing value mean zero.
type decoder struct {
	file     string
	bounds   []string            // what drill.bounds may name; empty: anything
	at       map[string]position // of every value that the file has, by path
	bad      map[string]bool     // paths already reported
	problems Problems
	more     bool // than mostProblems
}

// report adds a problem at the value of path, or of the nearest block around
// it when the file has no such value.
func (d *decoder) report(path, what, instead string) {
	pos, near := d.at[path], path
	for pos.line == 0 && near != "" {
		near = parent(near)
		pos = d.at[near]
	}
	d.reportAt(pos, path, what, instead)
}

// reportAt adds a problem, unless it follows from one that is known already:
// the value itself, or a block around it, could not be read.
func (d *decoder) reportAt(pos position, path, what, instead string) {
	switch {
	case d.known(path):
	case len(d.problems) == mostProblems:
		d.more = true // more of them help no reader
	default:
		d.problems = append(d.problems, Problem{File: d.file, Line: pos.line, Column: pos.column, Path: path, What: what, Instead: instead})
	}
}

// refusal is what [Parse] returns: every problem in order or, without one, nil.
func (d *decoder) refusal() error {
	if len(d.problems) == 0 {
		return nil
	}
	ps := d.problems.inOrder()
	if d.more {
		ps = append(ps, Problem{File: d.file, What: moreProblems, Instead: "correct these first"})
	}
	return ps
}

// known says that path, or a block around it, was reported as unreadable.
func (d *decoder) known(path string) bool {
	for !d.bad[path] {
		if path == "" {
			return false
		}
		path = parent(path)
	}
	return true
}

// refuse reports a value that could not be read; nothing that validation finds
// about it later is shown.
func (d *decoder) refuse(n *yaml.Node, path, what, instead string) {
	d.reportAt(position{n.Line, n.Column}, path, what, instead)
	d.bad[path] = true
}

// parent cuts the last key or index off a path: "hosts[1].name" -> "hosts[1]".
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// join adds a key to a path. Keys of maps can be anything a file holds.
func join(path, key string) string {
	if !plainKey(key) {
		key = strings.NewReplacer(".", "·", "[", "(").Replace(quote(key))
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// plainKey says whether a key can stand in a path as it is.
func plainKey(key string) bool {
	for i := range len(key) {
		if c := key[i]; c <= ' ' || c > '~' || c == '.' || c == '[' || c == '"' || c == '\\' {
			return false
		}
	}
	return key != "" && len(key) <= 60
}

// refuseAliases reports anchors and aliases. A few lines of them can stand for
// billions of hosts, and an inventory has defaults for what repeats.
func (d *decoder) refuseAliases(n *yaml.Node) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		name := n.Anchor + n.Value
		d.reportAt(position{n.Line, n.Column}, "", "YAML anchors and aliases are not read here ("+quote(name)+")", "write the value out, or set it once in the ssh block for all hosts")
		return
	}
	for _, c := range n.Content {
		d.refuseAliases(c)
	}
}

// decode fills inv from the document's root.
func (d *decoder) decode(root *yaml.Node, inv *Inventory) {
	d.at[""] = position{root.Line, root.Column}
	d.value(root, reflect.ValueOf(inv).Elem(), "", field{})
}

// value decodes n into v. The field's tags say what v may hold.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, f field) {
	d.at[path] = position{n.Line, n.Column}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if kind := kindOf(v.Type()); kind != wantNode(n) {
		d.wrongKind(n, v.Type(), path, f)
		return
	}
	switch {
	case n.Kind == yaml.ScalarNode:
		if what, instead := setScalar(n, v, f); what != "" {
			v.SetZero()
			d.refuse(n, path, what, instead)
		}
	case v.Kind() == reflect.Struct:
		d.block(n, v, path)
	case v.Kind() == reflect.Map:
		d.entries(n, v, path, f)
	default:
		d.list(n, v, path, f)
	}
}

// wrongKind reports, say, a list where a number belongs.
func (d *decoder) wrongKind(n *yaml.Node, t reflect.Type, path string, f field) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		instead := "write " + expects(t, f)
		if !f.required && path != "" {
			instead += ", or remove the line"
		}
		d.refuse(n, path, "has no value", instead)
		return
	}
	instead := "write " + expects(t, f)
	if n.Kind == yaml.ScalarNode && kindOf(t) == "block" && t.Kind() == reflect.Struct && glued(n.Value, fieldsOf(t)) != "" {
		instead = spaceAfterColon
	}
	d.refuse(n, path, "is "+nodeName(n), instead)
}

const spaceAfterColon = "write a space after the colon"

// block decodes a mapping into a struct.
func (d *decoder) block(n *yaml.Node, v reflect.Value, path string) {
	fs := fieldsOf(v.Type())
	seen, meant := map[string]int{}, map[string]bool{}
	for i := 0; i+1 < len(n.Content) && !d.more; i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		f, ok := lookup(fs, key.Value)
		switch {
		case key.Kind != yaml.ScalarNode:
			d.reportAt(position{key.Line, key.Column}, path, "a key is "+nodeName(key), "write one of "+names(fs))
		case !ok:
			meant[d.unknown(key, path, fs)] = true
		case seen[key.Value] > 0:
			d.reportAt(position{key.Line, key.Column}, join(path, key.Value), fmt.Sprintf("is given twice, first on line %d", seen[key.Value]), "remove one of the two")
		default:
			seen[key.Value] = key.Line
			d.value(val, v.Field(f.index), join(path, f.name), f)
		}
	}
	for _, f := range fs {
		if f.required && seen[f.name] == 0 {
			if !meant[f.name] {
				d.report(join(path, f.name), "is missing", "write "+f.name+": "+expects(f.typ, f))
			}
			d.bad[join(path, f.name)] = true
		}
	}
}

// unknown reports a key that no field has. It returns the name of the field
// that was most likely meant, or "".
func (d *decoder) unknown(key *yaml.Node, path string, fs []field) (meant string) {
	instead := "write one of " + names(fs)
	if better := owned(path, key.Value); better != "" {
		d.reportAt(position{key.Line, key.Column}, path, quote(key.Value)+" is hactl's to set", better)
		return ""
	}
	if meant = glued(key.Value, fs); meant != "" {
		instead = spaceAfterColon
	} else if meant = closest(key.Value, fs); meant != "" {
		instead = "did you mean " + meant + "?"
	}
	d.reportAt(position{key.Line, key.Column}, path, "unknown key "+quote(key.Value), instead)
	return meant
}

// entries decodes a mapping into a map with string keys.
func (d *decoder) entries(n *yaml.Node, v reflect.Value, path string, f field) {
	v.Set(reflect.MakeMap(v.Type()))
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content) && !d.more; i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		p := join(path, key.Value)
		if key.Kind != yaml.ScalarNode || !isText(key) {
			d.refuse(key, p, "the key is "+nodeName(key), "write the key as a string, in quotes where needed")
			continue
		}
		if seen[key.Value] > 0 {
			d.reportAt(position{key.Line, key.Column}, p, fmt.Sprintf("is given twice, first on line %d", seen[key.Value]), "remove one of the two")
			continue
		}
		seen[key.Value] = key.Line
		if what, instead := checkFormat(f.keys, key.Value); what != "" {
			d.refuse(key, p, "the key "+what, instead)
		} else if f.keys == "drillcheck" {
			d.bound(key, p)
		}
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(val, e, p, f)
		v.SetMapIndex(reflect.ValueOf(key.Value), e)
	}
}

// bound reports a bound of what no drill measures.
func (d *decoder) bound(key *yaml.Node, path string) {
	if len(d.bounds) == 0 || slices.Contains(d.bounds, key.Value) {
		return
	}
	instead := "see hactl drill --list"
	if meant := nearest.Words(key.Value, d.bounds); meant != nil {
		instead = "did you mean " + strings.Join(meant, " or ") + "?"
	}
	d.reportAt(position{key.Line, key.Column}, path, "is no scenario and no check of one", instead)
}

// list decodes a sequence into a slice.
func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, f field) {
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, c := range n.Content {
		if d.more {
			return
		}
		d.value(c, v.Index(i), indexed(path, i), f)
	}
}

// indexed adds an index to a path: "hosts", 1 -> "hosts[1]".
func indexed(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
