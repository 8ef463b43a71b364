package sys

import (
	"reflect"
	"strings"
	"testing"
)

func TestRoomIsThatOfTheFileSystemsInTheOrderOfThePaths(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bin := program(t, "df", `[ "$*" = "-B1 --output=avail,target -- `+dir+` / `+dir+`" ] || exit 1
printf '      Avail Mounted on\n 8589934592 /var lib\n          0 /\n 8589934592 /var lib\n'`)
	want := []Free{{8 << 30, "/var lib"}, {0, "/"}, {8 << 30, "/var lib"}}
	if got, err := ask(t, FreeAt(dir, "/no such folder/at/all", dir+"/not/yet"), bin); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := ask(t, FreeAt(dir)); err != nil || got[0].Bytes == 0 {
		t.Errorf("of this machine: %v, %v", got, err)
	}
}

func TestPathIsThereOrNotOrNotKnown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for path, want := range map[string]bool{dir: true, dir + "/it's": false} {
		if got, err := ask(t, IsThere(path)); err != nil || got != want {
			t.Errorf("%s: %t, %v", path, got, err)
		}
	}
	if got, err := ask(t, IsThere("/"+strings.Repeat("x", 300))); err == nil {
		t.Errorf("one that cannot be looked at: %t", got)
	}
	for _, answer := range []string{"", "y", "yes no", "No"} {
		if got, err := IsThere("/").Parse(answer); err == nil {
			t.Errorf("%q: %t", answer, got)
		}
	}
}

func TestRoomOfNoPathsIsNotThatOfAll(t *testing.T) {
	t.Parallel()
	if got, err := FreeAt().Parse(""); err != nil || len(got) != 0 || FreeAt().Script != "" {
		t.Errorf("%v, %v", got, err)
	}
	if out, err := run(t, "free_at"); err != nil || out != "" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestRoomThatIsNotKnownIsAnError(t *testing.T) {
	t.Parallel()
	if got, err := ask(t, FreeAt("/"+strings.Repeat("x", 300))); err == nil {
		t.Errorf("of a path that cannot be looked at: %v", got)
	}
	if got, err := ask(t, FreeAt("/"), program(t, "df", "echo no >&2; exit 1")); err == nil {
		t.Errorf("df fails: %v", got)
	}
	for _, answer := range []string{
		"", "Avail Mounted on", "Avail Mounted on\n1 /\n", "1 /\n2 /var\n", "Avail Mounted on\n1 /\n2 /var\n3 /usr\n", "Avail Mounted on\n- /\n2 /var\n",
		"Avail Mounted on\n-1 /\n2 /var\n", "Avail Mounted on\n1 /\n2 \n", "Avail Mounted on\n1 /\n2", "Avail Mounted on\n1 /\n9223372036854775808 /var\n",
	} {
		if got, err := FreeAt("/a", "/b").Parse(answer); err == nil {
			t.Errorf("%q gives %v", answer, got)
		}
	}
}
