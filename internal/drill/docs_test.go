package drill

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// table is the scenarios as docs/drill.md has them.
func table() string {
	var b strings.Builder
	b.WriteString("| scenario | what happens | undone | checks and bounds | needs |\n|---|---|---|---|---|\n")
	for _, e := range Catalogue() {
		var checks []string
		for _, c := range e.Checks {
			checks = append(checks, c.Check+" "+c.Bound)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", e.Name, e.Summary, e.Undone, strings.Join(checks, "<br>"), strings.Join(e.Needs, "<br>"))
	}
	return b.String()
}

func TestDocumentationListsEveryScenarioWithItsBounds(t *testing.T) {
	t.Parallel()
	const path = "../../docs/drill.md"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := table(); !strings.Contains(string(doc), want) {
		t.Errorf("%s is not what the list says; its table must be\n%s", path, want)
	}
}
