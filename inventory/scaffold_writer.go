package inventory

import (
	"fmt"
	"reflect"
	"strings"
)

// scaffoldWriter writes the fields of the inventory with their doc tags as
// comments: those in set as settings, all others commented out.
type scaffoldWriter struct {
	strings.Builder
	set      map[string]string // path -> YAML value
	examples map[string]string // path -> YAML value that beats the example tag
	hosts    []Host
	defaults reflect.Value // an inventory with every default
}

// learnDefaults loads the same inventory without comments: what loading filled
// in is what the comments show.
func (w *scaffoldWriter) learnDefaults(text string) error {
	inv, err := Parse("inventory.yaml", []byte(text))
	if err == nil {
		w.defaults = reflect.ValueOf(inv).Elem()
	}
	return err
}

func (w *scaffoldWriter) line(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

// comment writes a doc tag, wrapped.
func (w *scaffoldWriter) comment(indent, doc string) {
	const width = 88
	text := indent + "#"
	for _, word := range strings.Fields(doc) {
		if len(text)+1+len(word) > width && len(text) > len(indent)+1 {
			w.line("%s", text)
			text = indent + "#"
		}
		text += " " + word
	}
	w.line("%s", text)
}

// fields writes the fields of the struct type t, which stands at path.
func (w *scaffoldWriter) fields(t reflect.Type, path, indent string) {
	for _, f := range fieldsOf(t) {
		p := join(path, f.name)
		if path == "" {
			w.line("")
		}
		w.comment(indent, f.doc)
		switch {
		case p == "hosts":
			w.line("hosts:")
			w.hostList()
		case f.typ.Kind() == reflect.Struct && f.example == "" && kindOf(f.typ) == "block":
			if w.holds(p) {
				w.line("%s%s:", indent, f.name)
			} else {
				w.line("%s#%s:", indent, f.name)
			}
			w.fields(f.typ, p, indent+"  ")
		case w.set[p] != "":
			w.line("%s%s: %s", indent, f.name, w.set[p])
		default:
			w.line("%s#%s: %s", indent, f.name, w.shown(f, p))
		}
	}
}

// holds says whether something below path is set.
func (w *scaffoldWriter) holds(path string) bool {
	for p := range w.set {
		if strings.HasPrefix(p, path+".") {
			return true
		}
	}
	return false
}

// shown is the example of a field or else its default.
func (w *scaffoldWriter) shown(f field, path string) string {
	if e := w.examples[path]; e != "" {
		return e
	}
	if f.example != "" {
		return f.example
	}
	v := w.defaults
	for _, key := range strings.Split(path, ".") {
		sub, _ := lookup(fieldsOf(v.Type()), key)
		v = v.Field(sub.index)
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Type() == durationType {
		return short(Duration(v.Int()))
	}
	return fmt.Sprint(v.Interface())
}

// hostList writes the hosts; the first shows all that a host can have.
func (w *scaffoldWriter) hostList() {
	for i, h := range w.hosts {
		one := scaffoldWriter{set: map[string]string{"host.name": h.Name, "host.address": h.Address, "host.role": string(h.Role)}}
		one.fields(reflect.TypeFor[Host](), "host", "    ")
		dash, first := false, i == 0
		for _, l := range strings.Split(strings.TrimSuffix(one.String(), "\n"), "\n") {
			comment := strings.HasPrefix(strings.TrimSpace(l), "#")
			switch {
			case !dash && !comment:
				l, dash = "  - "+strings.TrimSpace(l), true
			case !dash:
				l = l[2:]
			}
			if first || !comment {
				w.line("%s", l)
			}
		}
	}
}
