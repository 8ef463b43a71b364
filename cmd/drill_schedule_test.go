package cmd

import (
	"strings"
	"testing"

	"hactl/internal/drill"
	"hactl/internal/exitcode"
	"hactl/internal/ops"
)

func schedule(t *testing.T, o drillOptions, names ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	o.Repeat, o.Armed, o.Settle = 1, drill.DefaultArmed, drill.DefaultSettle
	err := (&app{stdout: &out, inventory: "my prod.yaml", getenv: func(string) string { return "" }}).printSchedule(o, names)
	return out.String(), err
}

func TestScheduleRunsNamedScenariosWithTheirPermissions(t *testing.T) {
	for kind, when := range map[string]string{"cron": "17 3 1 * *", "systemd": "OnCalendar=*-*-01 03:17", "github": `cron: "17 3 1 * *"`, "gitlab": `"schedule"`} {
		out, err := schedule(t, drillOptions{schedule: kind, DrillOptions: ops.DrillOptions{Options: drill.Options{AcceptRisk: []string{"quorum"}}}}, "etcd-no-quorum", "owner-cut-off")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{when, "hactl drill etcd-no-quorum owner-cut-off --yes --until-clear --report drill-report -i ", "my prod.yaml", "--accept-risk=quorum"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is not in\n%s", kind, want, out)
			}
		}
	}
}

func TestScheduleNeedsNames(t *testing.T) {
	for name, c := range map[string]struct {
		o     drillOptions
		names []string
	}{
		"all":     {drillOptions{schedule: "cron", all: true}, nil},
		"no name": {drillOptions{schedule: "cron"}, nil},
		"unknown": {drillOptions{schedule: "cron"}, []string{"no-such"}},
		"kind":    {drillOptions{schedule: "at"}, []string{"owner-cut-off"}},
	} {
		if out, err := schedule(t, c.o, c.names...); exitcode.Of(err) != exitcode.Usage || out != "" {
			t.Errorf("%s: %v, %q", name, err, out)
		}
	}
}
