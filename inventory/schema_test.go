package inventory

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"reflect"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// compileSchema returns a check of YAML text against the generated schema.
func compileSchema(t *testing.T) func(data []byte) error {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("inventory.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("inventory.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return func(data []byte) error {
		var v any
		if err := yaml.Unmarshal(data, &v); err != nil {
			return err
		}
		js, err := json.Marshal(v)
		if err != nil {
			return err
		}
		inst, err := jsonschema.UnmarshalJSON(bytes.NewReader(js))
		if err != nil {
			return err
		}
		return s.Validate(inst)
	}
}

func TestWhatLoadsFitsTheSchema(t *testing.T) {
	check := compileSchema(t)
	files := map[string][]byte{"full": []byte(fullText(t))}
	for _, s := range []Scaffold{{Masters: 1}, {Masters: 3, Workers: 2}, {Masters: 5, VIP: netip.MustParseAddr("2001:db8::10")}} {
		text, err := s.YAML()
		if err != nil {
			t.Fatal(err)
		}
		files[s.VIP.String()+string(rune('0'+s.Masters))] = text
	}
	for name, text := range files {
		if err := check(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if check([]byte("cluster: demo\n")) == nil {
		t.Error("the schema lets a file without hosts pass")
	}
	if check(append(files["full"], "colour: red\n"...)) == nil {
		t.Error("the schema lets an unknown key pass")
	}
}

func TestFullInventoryLoads(t *testing.T) {
	path := fullFile(t)
	if _, err := Load(path); err != nil {
		text, _ := os.ReadFile(path)
		t.Errorf("%v\nin\n%s", err, text)
	}
}

func TestEveryFieldIsDescribed(t *testing.T) {
	eachField(reflect.TypeFor[Inventory](), func(typ reflect.Type, f field) {
		at := typ.Name() + "." + f.name
		if f.doc == "" {
			t.Errorf("%s has no doc tag", at)
		}
		if _, ok := formats[f.format]; !ok {
			t.Errorf("%s has the format %q, which does not exist", at, f.format)
		}
		if _, ok := formats[f.keys]; !ok {
			t.Errorf("%s has keys of the format %q, which does not exist", at, f.keys)
		}
		if k := kindOf(f.typ); k == "number" && (f.min == "" || f.max == "") {
			t.Errorf("%s is a number without min and max", at)
		}
		if f.typ.Kind() == reflect.Map && f.keys == "" {
			t.Errorf("%s is a map whose keys have no format", at)
		}
	})
}
