package preflight

import (
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write docs/preflight.md")

func TestDocumentIsUpToDate(t *testing.T) {
	const file = "../../docs/preflight.md"
	if *update {
		if err := os.MkdirAll("../../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != Markdown() {
		t.Errorf("%s is out of date: go test ./internal/preflight -run Document -update", file)
	}
}
