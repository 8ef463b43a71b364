package inventory

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"time"

	"gopkg.in/yaml.v3"
)

// field is a field of one of the inventory's types, as its tags describe it.
type field struct {
	index    int
	name     string // key in the file
	typ      reflect.Type
	required bool
	doc      string
	enum     []string
	format   string // of the value, or of the elements of a list or map
	keys     string // format of a map's keys
	min, max string // of a number or a duration; "" for none
	example  string // YAML for the scaffold
}

var fieldCache sync.Map // reflect.Type -> []field

// fieldsOf lists the fields of a struct type that the file can hold.
func fieldsOf(t reflect.Type) []field {
	if fs, ok := fieldCache.Load(t); ok {
		return fs.([]field)
	}
	var fs []field
	for i := range t.NumField() {
		sf := t.Field(i)
		name, option, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if name == "-" {
			continue
		}
		f := field{
			index: i, name: name, typ: sf.Type, required: option != "omitempty", doc: sf.Tag.Get("doc"),
			format: sf.Tag.Get("format"), keys: sf.Tag.Get("keys"), min: sf.Tag.Get("min"), max: sf.Tag.Get("max"), example: sf.Tag.Get("example"),
		}
		if e := sf.Tag.Get("enum"); e != "" {
			f.enum = strings.Split(e, ",")
		}
		fs = append(fs, f)
	}
	fieldCache.Store(t, fs)
	return fs
}

func lookup(fs []field, name string) (field, bool) {
	for _, f := range fs {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

func names(fs []field) string {
	out := make([]string, len(fs))
	for i, f := range fs {
		out[i] = f.name
	}
	return strings.Join(out, ", ")
}

var (
	addrType     = reflect.TypeFor[netip.Addr]()
	prefixType   = reflect.TypeFor[netip.Prefix]()
	durationType = reflect.TypeFor[time.Duration]()
)

// kindOf says which kind of YAML node holds a value of type t.
func kindOf(t reflect.Type) string {
	switch {
	case t == addrType || t == prefixType || t == durationType || t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		return "number"
	case t.Kind() == reflect.Bool:
		return "bool"
	case t.Kind() == reflect.Slice:
		return "list"
	case t.Kind() == reflect.Pointer:
		return kindOf(t.Elem())
	default:
		return "block"
	}
}

// wantNode is the kind of n, in the words of kindOf.
func wantNode(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "block"
	case n.Kind == yaml.SequenceNode:
		return "list"
	case n.ShortTag() == "!!int":
		return "number"
	case n.ShortTag() == "!!bool":
		return "bool"
	case isText(n):
		return "text"
	}
	return n.ShortTag()
}

// isText says whether a scalar is a string for YAML 1.2: dates are, too.
func isText(n *yaml.Node) bool {
	t := n.ShortTag()
	return t == "!!str" || t == "!!timestamp" || t == "!!merge"
}

// nodeName says to a person what n is.
func nodeName(n *yaml.Node) string {
	switch wantNode(n) {
	case "block":
		return "a block of keys"
	case "list":
		return "a list"
	case "number", "!!float":
		return "the number " + quote(n.Value)[1:len(quote(n.Value))-1]
	case "bool":
		return "the boolean " + n.Value
	case "text":
		return "the text " + quote(n.Value)
	case "!!null":
		return "nothing"
	}
	return "of the YAML type " + quote(n.ShortTag())
}

// expects says to a person what a value of type t is to look like.
func expects(t reflect.Type, f field) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return expects(t.Elem(), f)
	case t == addrType:
		return "an IP address such as 192.0.2.10"
	case t == prefixType:
		return "a network such as 192.0.2.0/24"
	case t == durationType:
		return "a duration such as 100ms, 5s or 43800h" + bounds(f)
	case len(f.enum) == 1:
		return f.enum[0]
	case len(f.enum) > 0:
		return "one of " + strings.Join(f.enum, ", ")
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number" + bounds(f)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return "a list, each entry with the keys " + names(fieldsOf(t.Elem()))
		}
		return "a list of strings, each " + formatHelp(f.format)
	case reflect.Map:
		return fmt.Sprintf("a block of keys and values, each value %s", expects(t.Elem(), f))
	case reflect.Struct:
		return "a block with the keys " + names(fieldsOf(t))
	}
	return formatHelp(f.format)
}

func bounds(f field) string {
	switch {
	case f.min != "" && f.max != "":
		return fmt.Sprintf(", %s to %s", f.min, f.max)
	case f.min != "":
		return ", at least " + f.min
	}
	return ""
}
