package inventory

import (
	"flag"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/inventory.md")

func TestReferenceIsUpToDate(t *testing.T) {
	const file = "../docs/inventory.md"
	if *update {
		if err := os.WriteFile(file, []byte(Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != Reference() {
		t.Errorf("%s is out of date: make golden", file)
	}
}

func TestReferenceHasEveryField(t *testing.T) {
	text := Reference()
	eachField(reflect.TypeFor[Inventory](), func(typ reflect.Type, f field) {
		if row := "| `" + f.name + "`"; !strings.Contains(text, row) || !strings.Contains(text, cell(f.doc)) {
			t.Errorf("no row for %s.%s", typ.Name(), f.name)
		}
	})
}

func TestReferenceLinksToItsSections(t *testing.T) {
	text := Reference()
	headings := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(text, -1) {
		if headings[anchor(m[1])] {
			t.Errorf("two sections are called %s", m[1])
		}
		headings[anchor(m[1])] = true
	}
	for _, m := range regexp.MustCompile(`\(#([^)]*)\)`).FindAllStringSubmatch(text, -1) {
		if !headings[m[1]] {
			t.Errorf("a link goes to #%s, and there is no such section", m[1])
		}
	}
}

// The example in the head is what a newcomer copies.
func TestReferenceExampleLoads(t *testing.T) {
	_, rest, _ := strings.Cut(Reference(), "```yaml\n")
	text, _, _ := strings.Cut(rest, "```")
	if inv, err := Parse("inventory.yaml", []byte(text)); err != nil || inv.Notes != nil || len(inv.Masters()) != 3 {
		t.Errorf("got %v, %v", inv, err)
	}
}
