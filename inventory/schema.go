package inventory

import (
	"encoding/json"
	"reflect"
	"strconv"
)

// SchemaName is the name under which hactl init writes the schema beside an
// inventory, whose first line points editors to it.
const SchemaName = "inventory.schema.json"

// SchemaTitle tells hactl's schema from other files of that name.
const SchemaTitle = "hactl inventory"

// Schema returns the JSON schema of the inventory file (draft 2020-12),
// generated from the types and their tags. It knows everything about single
// values; what must fit together is told by [Load] only.
func Schema() ([]byte, error) {
	root := schemaOf(reflect.TypeFor[Inventory](), field{doc: "The hosts of a highly available Kubernetes control plane, and what hactl makes of them."})
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = SchemaTitle
	out, err := json.MarshalIndent(root, "", "  ")
	return append(out, '\n'), err
}

type schema = map[string]any

// schemaOf describes a value of type t that stands in field f.
func schemaOf(t reflect.Type, f field) schema {
	if t.Kind() == reflect.Pointer {
		return schemaOf(t.Elem(), f)
	}
	s := schema{}
	switch {
	case t == addrType:
		s = textSchema(`^(` + ip4Pattern + `|` + ip6Pattern + `)$`)
	case t == prefixType:
		s = textSchema(`^(` + ip4Pattern + `/(3[0-2]|[12]?[0-9])|` + ip6Pattern + `/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$`)
	case t == durationType:
		s = textSchema(`^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*$`)
	case len(f.enum) > 0:
		s = schema{"type": "string", "enum": f.enum}
	case t.Kind() == reflect.String:
		s = textSchema(formats[f.format].pattern)
		s["maxLength"] = maxText
		if most := formats[f.format].most; most > 0 {
			s["maxLength"] = most
		}
	case t.Kind() == reflect.Bool:
		s["type"] = "boolean"
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		s = numberSchema(f)
	case t.Kind() == reflect.Slice:
		s = schema{"type": "array", "items": schemaOf(t.Elem(), field{format: f.format})}
	case t.Kind() == reflect.Map:
		s = schema{
			"type":                 "object",
			"propertyNames":        textSchema(formats[f.keys].pattern),
			"additionalProperties": schemaOf(t.Elem(), field{format: f.format}),
		}
	case t.Kind() == reflect.Struct:
		s = structSchema(t)
	}
	if f.doc != "" {
		s["description"] = f.doc
	}
	return s
}

func textSchema(pattern string) schema { return schema{"type": "string", "pattern": pattern} }

func numberSchema(f field) schema {
	s := schema{"type": "integer"}
	if lo, err := strconv.ParseInt(f.min, 10, 64); err == nil {
		s["minimum"] = lo
	}
	if hi, err := strconv.ParseInt(f.max, 10, 64); err == nil {
		s["maximum"] = hi
	}
	return s
}

func structSchema(t reflect.Type) schema {
	properties, required := schema{}, []string{}
	for _, f := range fieldsOf(t) {
		properties[f.name] = schemaOf(f.typ, f)
		if f.required {
			required = append(required, f.name)
		}
	}
	s := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}
