package reset

import (
	"os"
	"testing"

	"hactl/internal/fakehost"
)

func TestMain(m *testing.M) { os.Exit(fakehost.Main(m)) }

// A unit that made swap and was masked, or disabled where it could not be masked, is given
// back, and started where the host swapped. One that is as it was is left alone.
func TestUnitThatMadeSwapIsGivenBack(t *testing.T) {
	const unit = "dev-zram0.swap"
	for was, c := range map[string]struct{ is, said string }{
		"masked":    {"enabled", " " + unit},
		"disabled":  {"enabled", " " + unit},
		"enabled":   {"enabled", ""},
		"generated": {"generated", ""},
	} {
		h := fakehost.NewFolderHost(t, "h")
		h.Unit(unit, "[Swap]\n", "echo start >>/started", false)
		h.Write("/state/units/"+unit+".enabled", was+"\n", 0o644)
		look, run := unmask(unit, true)
		look = "m=\n" + look + `printf '<%s>' "$m"`
		if said := h.Out(look); said != "<"+c.said+">" {
			t.Errorf("%s: said is %q", was, said)
		}
		h.Out(run)
		if is := h.Out("systemctl is-enabled " + unit); is != c.is {
			t.Errorf("%s became %s", was, is)
		}
		if said := h.Out(look); said != "<>" {
			t.Errorf("%s: still %q", was, said)
		}
		if started := h.Content("/started"); started != "start\n" {
			t.Errorf("%s: started %q", was, started)
		}
	}
}
