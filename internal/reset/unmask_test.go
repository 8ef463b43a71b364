package reset

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/sys"
)

// systemctl of files: UNIT holds its state, and each call is noted.
const systemctl = `#!/bin/sh
cd "$(dirname "$0")" || exit
for u; do :; done
case $1 in
is-enabled) cat "$u" 2>/dev/null ;;
unmask) echo enabled >"$u" ;;
enable) echo enabled >"$u" ;;
start) echo "start $u" >>started ;;
esac
`

// A unit that made swap and was masked, or disabled where it could not be masked, is given
// back, and started where the host swapped. One that is as it was is left alone.
func TestUnitThatMadeSwapIsGivenBack(t *testing.T) {
	for was, c := range map[string]struct{ is, said string }{
		"masked":    {"enabled", " dev-zram0.swap"},
		"disabled":  {"enabled", " dev-zram0.swap"},
		"enabled":   {"enabled", ""},
		"generated": {"generated", ""},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"systemctl": systemctl, "dev-zram0.swap": was + "\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil { //nolint:gosec // it is run
				t.Fatal(err)
			}
		}
		sh := func(script string) string {
			cmd := exec.CommandContext(t.Context(), "sh", "-c", sys.With(script))
			cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v %s", was, err, out)
			}
			return string(out)
		}
		look, run := unmask("dev-zram0.swap", true)
		if said := sh("m=\n" + look + `printf '%s' "$m"`); said != c.said {
			t.Errorf("%s: said is %q", was, said)
		}
		sh(run)
		if is := strings.TrimSpace(sh("systemctl is-enabled dev-zram0.swap")); is != c.is {
			t.Errorf("%s became %s", was, is)
		}
		if said := sh("m=\n" + look + `printf '%s' "$m"`); said != "" {
			t.Errorf("%s: still %q", was, said)
		}
		if started, _ := os.ReadFile(filepath.Join(dir, "started")); string(started) != "start dev-zram0.swap\n" {
			t.Errorf("%s: started %q", was, started)
		}
	}
}
