package inventory

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"hactl/internal/testneeds"
)

func TestEveryScaffoldLoadsAsItIs(t *testing.T) {
	for _, vip := range []string{"192.0.2.10", "10.0.0.254", "10.96.0.10", "10.244.7.255", "172.20.0.1", "192.168.1.0", "2001:db8::10", "2001:db8::ff", "fd00:10:244::1", "fd00:10:96::1"} {
		for _, masters := range []int{1, 3, 5, 7} {
			for _, workers := range []int{0, 1, 100} {
				if testneeds.RaceDetector && workers > 1 {
					continue
				}
				s := Scaffold{Masters: masters, Workers: workers, VIP: netip.MustParseAddr(vip)}
				text, err := s.YAML()
				if err != nil {
					t.Errorf("%+v: %v", s, err)
					continue
				}
				inv, err := Parse("inventory.yaml", text)
				if err != nil || len(inv.Masters()) != masters || len(inv.Workers()) != workers || inv.VIP.Address != s.VIP {
					t.Errorf("%+v: %v", s, err)
				}
			}
		}
	}
}

func TestScaffoldOfNoClusterIsRefused(t *testing.T) {
	for _, s := range []Scaffold{{Masters: 2}, {Masters: 0}, {Masters: 9}, {Masters: 3, Workers: -1}, {Masters: 3, Workers: 101}, {Masters: 3, VIP: netip.MustParseAddr("127.0.0.1")}, {Masters: 3, Cluster: "A b"}} {
		if text, err := s.YAML(); err == nil {
			t.Errorf("%+v: %s", s, text)
		}
	}
}

func TestScaffoldCommentsAreTheDocTags(t *testing.T) {
	text, err := Scaffold{Masters: 3}.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(string(text), "\n"); first != "# yaml-language-server: $schema="+SchemaName {
		t.Errorf("first line: %s", first)
	}
	var words []string
	for _, line := range strings.Split(string(text), "\n") {
		if doc, ok := strings.CutPrefix(strings.TrimSpace(line), "# "); ok {
			words = append(words, doc)
		}
		if len(line) > 100 {
			t.Errorf("long line: %s", line)
		}
	}
	comments := strings.Join(words, " ")
	eachField(reflect.TypeFor[Inventory](), func(typ reflect.Type, f field) {
		nested := typ == reflect.TypeFor[Bastion]() || typ == reflect.TypeFor[CAFiles]() || typ == reflect.TypeFor[Taint]() || typ == reflect.TypeFor[Registry]()
		if !nested && !strings.Contains(comments, f.doc) {
			t.Errorf("the scaffold does not explain %s.%s", typ.Name(), f.name)
		}
	})
}
