package inventory

import (
	"fmt"
	"reflect"
	"strings"
)

// Reference returns docs/inventory.md: every field of the file, generated from
// the types and tags that the decoder and the schema use.
func Reference() string {
	r := reference{titles: map[reflect.Type]string{}}
	r.WriteString(referenceHead)
	r.section(reflect.TypeFor[Inventory](), "The file")
	for len(r.todo) > 0 {
		next := r.todo[0]
		r.todo = r.todo[1:]
		r.section(next.typ, next.path)
	}
	return r.String()
}

const referenceHead = `# Inventory reference

The inventory is the one file that an operator writes: which hosts there are, how to reach them, and what cluster they become.
` + "`hactl init`" + ` writes one with a comment at every field, ` + "`hactl validate`" + ` checks one without connecting to any host, ` + "`hactl schema`" + ` prints the JSON
schema for editors. The smallest inventory of a highly available cluster:

` + "```yaml" + `
apiVersion: hactl/v1
kind: Cluster
cluster: prod
vip:
  address: 192.0.2.10
hosts:
  - {name: master-1, address: 192.0.2.11, role: control-plane}
  - {name: master-2, address: 192.0.2.12, role: control-plane}
  - {name: master-3, address: 192.0.2.13, role: control-plane}
` + "```" + `

- Unknown keys, keys given twice and values of the wrong type are errors. All problems of a file are reported at once, each with its line.
- Paths are relative to the folder of the inventory; a leading ` + "`~/`" + ` is expanded.
- Durations are written as in Go: ` + "`100ms`, `5s`, `43800h`" + `. Versions carry a leading ` + "`v`" + `.
- YAML anchors and aliases are not read. What all hosts share is set once, in the block ` + "`ssh`" + `.
- Secrets do not belong in the file: keys are named by path, a sudo password by the name of an environment variable.

Generated from inventory/types.go by ` + "`make golden`" + `; do not edit.
`

// reference collects the sections of the document.
type reference struct {
	strings.Builder
	todo   []block                 // sections that are still to be written
	titles map[reflect.Type]string // of the sections, by type
}

// block is a struct type and the path at which it first stands in the file.
type block struct {
	typ  reflect.Type
	path string
}

// section writes the table of one block and notes the blocks inside it. A block
// that stands in several places, as ssh does, has one section.
func (r *reference) section(t reflect.Type, title string) {
	path := title
	if t == reflect.TypeFor[Inventory]() {
		path = ""
	}
	fmt.Fprintf(r, "\n## %s\n\n| key | value | meaning |\n|---|---|---|\n", title)
	for _, f := range fieldsOf(t) {
		name := "`" + f.name + "`"
		if f.required {
			name += " (required)"
		}
		fmt.Fprintf(r, "| %s | %s | %s |\n", name, r.value(f, join(path, f.name)), cell(f.doc))
	}
}

// value says what a field holds; of a block it is a link to its section.
func (r *reference) value(f field, path string) string {
	t, list := f.typ, ""
	if t.Kind() == reflect.Slice {
		t, list, path = t.Elem(), "list of ", path+"[]"
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || kindOf(t) != "block" {
		return cell(expects(f.typ, f))
	}
	if r.titles[t] == "" {
		r.titles[t] = path
		r.todo = append(r.todo, block{t, path})
	}
	return fmt.Sprintf("%s[%s](#%s)", list, r.titles[t], anchor(r.titles[t]))
}

// anchor is how GitHub links to a heading.
func anchor(title string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == ' ':
			return '-'
		case c == '.' || c == '[' || c == ']':
			return -1
		}
		return c
	}, strings.ToLower(title))
}

// cell makes a text fit for a cell of a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
