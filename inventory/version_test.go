package inventory

import (
	"reflect"
	"strings"
	"testing"
)

func TestFileWithoutVersionIsReadAsTheFirstAndNoted(t *testing.T) {
	for name, c := range map[string]struct{ head, note string }{
		"neither":      {"", "has no apiVersion and no kind; it is read as if it began with the lines \"apiVersion: hactl/v1\", \"kind: Cluster\""},
		"version only": {"apiVersion: hactl/v1\n", "has no kind; it is read as if it began with the lines \"kind: Cluster\""},
		"kind only":    {"kind: Cluster\n", "has no apiVersion; it is read as if it began with the lines \"apiVersion: hactl/v1\""},
		"both":         {"apiVersion: hactl/v1\nkind: Cluster\n", ""},
	} {
		inv, err := Parse("inventory.yaml", []byte(c.head+minimalText))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if inv.APIVersion != "hactl/v1" || inv.Kind != "Cluster" {
			t.Errorf("%s: read as %q, %q", name, inv.APIVersion, inv.Kind)
		}
		if got := len(inv.Notes); got > 1 || (got == 0) != (c.note == "") {
			t.Errorf("%s: %d notes: %v", name, got, inv.Notes)
		}
		if !strings.Contains(inv.Notes.Error(), c.note) {
			t.Errorf("%s: note %q, want %q", name, inv.Notes.Error(), c.note)
		}
	}
}

// What is in a file of another version is not judged: only the version is.
func TestUnknownVersionIsTheOnlyProblem(t *testing.T) {
	for text, want := range map[string]string{
		"apiVersion: hactl/v2\ncolour: red\n":          `inventory.yaml:1:13: apiVersion: "hactl/v2" is no version of the inventory that this hactl reads; known: hactl/v1; write one of these`,
		minimalText + "apiVersion: v1\n":               `inventory.yaml:8:13: apiVersion: "v1" is no version`,
		"apiVersion: hactl/v1\nkind: Pod\ncolour: x\n": `inventory.yaml:2:7: kind: "Pod" is no kind of file that this hactl reads; known: Cluster`,
		"apiVersion: ''\n" + minimalText:               `inventory.yaml:1:13: apiVersion: ""`,
	} {
		inv, err := Parse("inventory.yaml", []byte(text))
		if inv != nil || err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want only %q", text, err, want)
		}
	}
}

// The tags feed the schema and the scaffold; the lists refuse.
func TestVersionTagsListWhatIsKnown(t *testing.T) {
	fs := fieldsOf(reflect.TypeFor[Inventory]())
	version, _ := lookup(fs, "apiVersion")
	kind, _ := lookup(fs, "kind")
	if !reflect.DeepEqual(version.enum, knownVersions) || !reflect.DeepEqual(kind.enum, knownKinds) {
		t.Errorf("tags say %v and %v, the lists %v and %v", version.enum, kind.enum, knownVersions, knownKinds)
	}
}
