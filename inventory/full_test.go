package inventory

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"hactl/internal/testneeds"
)

// setting matches a line of a scaffold that shows a setting commented out.
var setting = regexp.MustCompile(`(?m)^( *)#([A-Za-z].*)$`)

// fullText is a scaffold with every commented-out setting switched on.
func fullText(t *testing.T) string {
	t.Helper()
	text, err := Scaffold{Masters: 3, Workers: 1}.YAML()
	if err != nil {
		t.Fatal(err)
	}
	full := setting.ReplaceAllString(string(text), "$1$2")
	for old, replacement := range map[string]string{
		"preset: routes": "preset: none", // the manifest is on, too
		"source: upload": "source: mirror",
		"{registry: docker.io, mirrors: [https://mirror.example.com]}": "{registry: docker.io, mirrors: [https://mirror.example.com], ca: registry-ca.pem, usernameEnv: U, passwordEnv: P}",
		"privateAddress: 203.0.113.":                                   "privateAddress: 192.0.2.1",
		"bastion: {address: bastion.example.com, user: jump}": "bastion: {address: b.example.com, user: jump, port: 22, key: k, knownHosts: kh, " +
			"hostKey: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGs1jRvbuf6nAKeFpyfWZpnwvGKJe3HpX5Vv5VRjc8fL'}",
	} {
		if !strings.Contains(full, old) {
			t.Fatalf("the scaffold has no %q any more", old)
		}
		full = strings.Replace(full, old, replacement, 1)
	}
	return full
}

// fullFile writes fullText, and what it names, into a folder that is the home.
func fullFile(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	touch(t, dir, "pod-network.yaml", "audit-policy.yaml", "registry-ca.pem", "k", ".ssh/id_ed25519", "etcd-ca.pem", "etcd-ca-key.pem", "ca.pem", "ca-key.pem", "front-proxy-ca.pem", "front-proxy-ca-key.pem")
	path := filepath.Join(dir, "inventory.yaml")
	if err := os.WriteFile(path, []byte(fullText(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// touch makes files below dir for inventories that name them.
func touch(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// place is a value in a YAML tree with the type that the inventory gives it.
type place struct {
	path  string
	typ   reflect.Type
	field field
	get   func(root *yaml.Node) *yaml.Node // the node in a copy of the tree
}

// places lists every value below n, and marks in seen each "Type.key" met.
func places(n *yaml.Node, t reflect.Type, f field, path string, get func(*yaml.Node) *yaml.Node, seen map[string]bool) []place {
	out := []place{{path, t, f, get}}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	child := func(i int) func(*yaml.Node) *yaml.Node {
		return func(root *yaml.Node) *yaml.Node { return get(root).Content[i] }
	}
	switch kindOf(t) {
	case "block":
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i].Value
			sub, elem := field{format: f.format}, t
			if t.Kind() == reflect.Map {
				elem = t.Elem()
			} else {
				sub, _ = lookup(fieldsOf(t), key)
				elem = sub.typ
				seen[t.Name()+"."+key] = true
			}
			out = append(out, places(n.Content[i+1], elem, sub, join(path, key), child(i+1), seen)...)
		}
	case "list":
		for i, c := range n.Content {
			out = append(out, places(c, t.Elem(), field{format: f.format}, indexed(path, i), child(i), seen)...)
		}
	}
	return out
}

// allPlaces parses fullText and lists every value in it.
func allPlaces(t *testing.T) (*yaml.Node, []place, map[string]bool) {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(fullText(t)), &doc); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	root := doc.Content[0]
	return root, places(root, reflect.TypeFor[Inventory](), field{}, "", func(n *yaml.Node) *yaml.Node { return n }, seen), seen
}

// eachField visits every field of every type that an inventory is made of.
func eachField(t reflect.Type, visit func(t reflect.Type, f field)) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || kindOf(t) != "block" {
		return
	}
	for _, f := range fieldsOf(t) {
		visit(t, f)
		eachField(f.typ, visit)
	}
}

func copyNode(n *yaml.Node) *yaml.Node {
	c := *n
	c.Content = make([]*yaml.Node, len(n.Content))
	for i := range n.Content {
		c.Content[i] = copyNode(n.Content[i])
	}
	return &c
}

// wrongKinds are YAML values; each field takes one kind of them at most.
var wrongKinds = map[string]string{
	"number": "7", "float": "1.5", "bool": "true", "text": "'?'", "list": "[[1]]", "block": "{zz: {}}", "null": "null", "binary": "!!binary aGk=", "tagged": "!mine x",
}

func TestEveryFieldRefusesEveryWrongType(t *testing.T) {
	root, all, seen := allPlaces(t)
	eachField(reflect.TypeFor[Inventory](), func(typ reflect.Type, f field) {
		if !seen[typ.Name()+"."+f.name] {
			t.Errorf("the full inventory does not set %s.%s, so that its types are not tried", typ.Name(), f.name)
		}
	})
	check, path := compileSchema(t), fullFile(t)
	cases := 0
	for _, p := range all {
		for kind, text := range wrongKinds {
			if kind == kindOf(p.typ) && kind != "list" && kind != "block" {
				continue
			}
			if kind == "block" && p.typ.Kind() == reflect.Map || p.path == "" && kind == "null" {
				continue // an entry zz, checked as the entry; a file with nothing in it
			}
			if cases++; testneeds.RaceDetector && cases%5 != 0 {
				continue // no goroutines here: a sample will do
			}
			broken := copyNode(root)
			var value yaml.Node
			if err := yaml.Unmarshal([]byte(text), &value); err != nil {
				t.Fatal(err)
			}
			*p.get(broken) = *value.Content[0]
			data, err := yaml.Marshal(broken)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(path, data)
			if !hasProblemAt(err, p.path) {
				t.Errorf("%s = %s: no problem at its line, got:\n%v", p.path, text, err)
			}
			if kind != "binary" && kind != "tagged" && check(data) == nil {
				t.Errorf("%s = %s: the schema lets it pass", p.path, text)
			}
		}
	}
	t.Logf("%d values, %d wrong types tried", len(all), cases)
}

// hasProblemAt says whether err has a problem with a line at or below path.
func hasProblemAt(err error, path string) bool {
	ps, ok := err.(Problems) //nolint:errorlint // Parse promises this very type
	for _, p := range ps {
		if ok && p.Line > 0 && p.What != "" && p.Instead != "" && strings.HasPrefix(p.Path, path) {
			return true
		}
	}
	return false
}
