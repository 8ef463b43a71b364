package preflight

import (
	"errors"
	"os"
	"strings"
	"testing"

	"hactl/internal/remote"
)

// helperHere is this test as the program, since it is one for Linux hosts.
func helperHere() Helper {
	return Helper{Local: os.Args[0], SHA256: strings.Repeat("ab", 32), Installed: "/opt/hactl/hactl-network/x/hactl-network"}
}

// lacking is a host that says the helper is missing until it was sent so often.
func lacking(sends int, failure error) *remote.Fake {
	sent := 0
	return remote.NewFake("master-1", func(c remote.Call) (*remote.Result, error) {
		switch {
		case c.Kind == "send":
			sent++
			return nil, failure
		case sent < sends && !strings.Contains(c.Cmd.Script, "could not be sent"):
			return &remote.Result{Stdout: []byte("clock 1\nhelper missing\nclock-after 2\nend\n")}, nil
		}
		return &remote.Result{Stdout: []byte(goodProbe)}, nil
	})
}

func TestHelperIsSentOnlyWhereItIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		sends int
		fails error
		calls string
		last  string // in the last script
	}{
		"it is there":          {0, nil, "run", ""},
		"it is missing":        {1, nil, "run send run", ""},
		"another took it away": {2, nil, "run send run send run", ""},
		"again and again":      {9, nil, "run send run send run run", "could not be sent: another process removes it"},
		"no room on the host":  {9, errors.New("no space left"), "run send run", "could not be sent: no space left"},
	} {
		t.Run(name, func(t *testing.T) {
			host := lacking(c.sends, c.fails)
			p, err := helperHere().probe(t.Context(), host, "")
			if err != nil || p.LacksHelper || !p.VRRP.Heard {
				t.Fatalf("%+v, %v", p, err)
			}
			var kinds []string
			for _, call := range host.Calls() {
				kinds = append(kinds, call.Kind)
				if call.Kind == "send" && (call.Upload.Path != "/run/hactl-network-abababababab" || call.Upload.Mode != 0o700) {
					t.Errorf("sent: %+v", call.Upload)
				}
			}
			if got := strings.Join(kinds, " "); got != c.calls {
				t.Errorf("calls: %s, want %s", got, c.calls)
			}
			calls := host.Calls()
			if script := calls[len(calls)-1].Cmd.Script; !strings.Contains(script, "WITHOUT='hactl-network") == (c.last != "") || !strings.Contains(script, c.last) {
				t.Errorf("the last script does not say %q: %.200s", c.last, script)
			}
		})
	}
}

func TestHelperThatIsNotHereIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		helper Helper
		says   string
	}{
		"no program":      {Helper{Absent: errors.New("hactl-network is not beside hactl")}, "hactl-network is not beside hactl"},
		"no reason":       {Helper{}, "hactl-network is not on this machine"},
		"not a program":   {Helper{Local: "helper_test.go", SHA256: "ab"}, "helper_test.go is not a program for Linux hosts"},
		"a usual program": {helperHere(), ""},
	} {
		vars := c.helper.vars()
		if got := vars[len(vars)-1]; got != c.says {
			t.Errorf("%s: %q, want %q", name, got, c.says)
		}
	}
}
