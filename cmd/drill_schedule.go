package cmd

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"hactl/internal/remote"
)

// schedules are what --print-schedule can print, each once a month, with the command
// as the operator would type it. Nothing is installed: the operator's machine or CI has
// the store with the keys, the hosts have not.
var schedules = map[string]func(command, dir string) string{
	"cron": func(command, dir string) string {
		return fmt.Sprintf("# at 03:17 on the first of each month; drill.html is in the folder of --report\n17 3 1 * * cd %s && %s\n", remote.Quote(dir), strings.ReplaceAll(command, "%", `\%`))
	},
	"systemd": func(command, dir string) string {
		return fmt.Sprintf(`# /etc/systemd/system/hactl-drill.service
[Unit]
Description=Failover drill
[Service]
Type=oneshot
WorkingDirectory=%s
ExecStart=/bin/sh -c %s

# /etc/systemd/system/hactl-drill.timer
[Unit]
Description=Failover drill, once a month
[Timer]
OnCalendar=*-*-01 03:17
Persistent=true
[Install]
WantedBy=timers.target
`, strings.ReplaceAll(dir, "%", "%%"), strings.NewReplacer("%", "%%", "$", "$$").Replace(remote.Quote(command)))
	},
	"github": func(command, _ string) string {
		return fmt.Sprintf(`# .github/workflows/drill.yml; the runner reaches the hosts and has the store
name: drill
on:
  schedule:
    - cron: "17 3 1 * *"
  workflow_dispatch:
jobs:
  drill:
    runs-on: [self-hosted]
    steps:
      - uses: actions/checkout@v4
      - run: %s
      - uses: actions/upload-artifact@v4
        if: always()
        with:
          name: drill-report
          path: drill-report
`, command)
	},
	"gitlab": func(command, _ string) string {
		return fmt.Sprintf(`# .gitlab-ci.yml; make a pipeline schedule for it, such as 17 3 1 * *
drill:
  rules:
    - if: $CI_PIPELINE_SOURCE == "schedule"
  script:
    - %s
  allow_failure:
    exit_codes: [9] # no bound was missed, but the machine was too busy to tell
  artifacts:
    when: always
    paths: [drill-report]
    reports:
      junit: drill-report/drill.xml
`, command)
	},
}

// printSchedule prints a schedule of the named scenarios. It takes no --all: what is
// broken every month without a person at hand has been chosen by name.
func (a *app) printSchedule(o drillOptions, names []string) error {
	kinds := []string{}
	for k := range schedules {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	write, known := schedules[o.schedule]
	switch {
	case !known:
		return usagef("--print-schedule=%s: it is one of %s", o.schedule, strings.Join(kinds, ", "))
	case o.all || len(names) == 0:
		return usagef("--print-schedule goes with the names of scenarios, not with --all")
	}
	if _, err := o.choose(names); err != nil {
		return err
	}
	dir, err := filepath.Abs(".")
	if err != nil {
		return fmt.Errorf("find this folder: %w", err)
	}
	words := append([]string{"hactl", "drill"}, names...)
	words = append(words, "--yes", "--until-clear", "--report", "drill-report", "-i", remote.Quote(a.inventory))
	for _, r := range o.AcceptRisk {
		words = append(words, "--accept-risk="+r)
	}
	for _, m := range o.Allow {
		words = append(words, "--allow="+m)
	}
	_, err = fmt.Fprint(a.stdout, write(strings.Join(words, " "), dir))
	return err
}
