package sys

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestEntryIsWhatLiesAtThePath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const sum = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb" // of "a"
	file := filepath.Join(dir, "f[::1]:5000")
	if err := os.WriteFile(file, []byte("a"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path, known string
		most        int
		want        Entry
	}{
		"a file":               {file, "", 1, Entry{Type: "regular file", Mode: "640", SHA256: sum, Content: []byte("a")}},
		"a known one":          {file, sum, 1, Entry{Type: "regular file", Mode: "640", SHA256: sum}},
		"one that is too long": {file, "", 0, Entry{Type: "regular file", Mode: "640", SHA256: sum}},
		"a link":               {dir + "/link", "", 1, Entry{Type: "symbolic link", Mode: "777"}},
		"a folder":             {dir, "", 1, Entry{Type: "directory", Mode: "755"}},
		"nothing":              {dir + "/no", "", 1, Entry{}},
		"below a file":         {file + "/no", "", 1, Entry{}},
	} {
		got, err := ask(t, EntryAt(c.path, c.known, c.most))
		owner := got.Owner
		got.Owner = ""
		if err != nil || !reflect.DeepEqual(got, c.want) || (owner == "") != (c.want.Type == "") || got.Regular() != (c.want.SHA256 != "") {
			t.Errorf("%s: %+v of %q, %v", name, got, owner, err)
		}
	}
	for path, reason := range map[string]string{dir + "/" + strings.Repeat("n", 300): "File name too long", dir + "/it's here": "letters, digits", dir + "/a b": "letters, digits", "relative": "letters, digits", "/x\n/y": "letters, digits"} {
		if got, err := ask(t, EntryAt(path, "", 1)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%.80q: %+v, %v", path, got, err)
		}
	}
}

func TestProgramIsWhatCanBeExecuted(t *testing.T) {
	t.Parallel()
	const sum = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
	path := t.TempDir() + "/it's here"
	for _, c := range []struct {
		mode os.FileMode
		want Program
	}{{0, Program{}}, {0o644, Program{SHA256: sum}}, {0o755, Program{SHA256: sum, Executable: true}}} {
		if c.mode != 0 {
			if err := os.WriteFile(path, []byte("a"), c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := ask(t, ProgramAt(path)); err != nil || got != c.want {
			t.Errorf("%o: %+v, %v", c.mode, got, err)
		}
	}
	if got, err := ask(t, ProgramAt(strings.Repeat("n", 300))); err == nil {
		t.Errorf("%+v", got)
	}
}
