package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"hactl/internal/plan"
)

// onceOnly are the steps that one master does for the cluster.
var onceOnly = []string{"kubeadm/master-1/once", "kubeadm/master-1/labels"}

// firstRun is the plan of a first run, recorded with one master and one worker
// and repeated for more of them.
func firstRun(t *testing.T, masters, workers int) *plan.Plan {
	t.Helper()
	text, err := os.ReadFile("testdata/first-run.json")
	if err != nil {
		t.Fatal(err)
	}
	var items []PlanItem
	if err := json.Unmarshal(text, &items); err != nil {
		t.Fatal(err)
	}
	p := &plan.Plan{}
	for _, i := range items {
		n, role := workers, "worker"
		if i.Host == "master-1" {
			n, role = masters, "master"
		}
		if slices.Contains(onceOnly, string(i.ID)) {
			n = 1
		}
		for k := range n {
			name := fmt.Sprintf("%s-%d", role, k+1)
			s := &plan.Step{ID: plan.ID(strings.ReplaceAll(string(i.ID), i.Host, name)), Host: name, Title: i.Title}
			c := &plan.Change{Op: i.Op, Summary: strings.ReplaceAll(i.Summary, i.Host, name), Secret: i.Secret, Cause: i.Cause}
			p.Stages = add(p.Stages, i.Stage, &plan.Item{Step: s, Change: c})
		}
	}
	return p
}

func add(stages []plan.StagePlan, name string, it *plan.Item) []plan.StagePlan {
	i := slices.IndexFunc(stages, func(s plan.StagePlan) bool { return s.Name == name })
	if i < 0 {
		i, stages = len(stages), append(stages, plan.StagePlan{Name: name})
	}
	stages[i].Items = append(stages[i].Items, it)
	return stages
}

func shortPlan(t *testing.T, p *plan.Plan) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteShortPlan(&b, p, Style{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPlanOfAFirstRunIsOneScreen(t *testing.T) {
	for name, c := range map[string]struct{ masters, workers int }{
		"one-master": {1, 0}, "three-masters": {3, 1}, "five-masters": {5, 2}, "53-hosts": {3, 50},
	} {
		p := firstRun(t, c.masters, c.workers)
		got := shortPlan(t, p)
		golden(t, "plan-"+name+".txt", got)
		if n := strings.Count(got, "\n"); n > 45 {
			t.Errorf("%s: %d lines", name, n)
		}
		for _, raw := range []string{"Get \"https", "dial ", "refused"} {
			if strings.Contains(got, raw) {
				t.Errorf("%s: the raw error is shown: %q", name, raw)
			}
		}
		steps := 0
		for _, s := range p.Stages {
			for _, r := range rowsOf(s.Items) {
				steps += r.steps
			}
		}
		if want := len(p.Pending()); steps != want {
			t.Errorf("%s: the rows count %d of %d steps", name, steps, want)
		}
	}
}

func TestFullPlanKeepsTheCause(t *testing.T) {
	var b bytes.Buffer
	if err := WriteFullPlan(&b, firstRun(t, 1, 0), Style{}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "once the control plane is up (") {
		t.Errorf("the cause is not there:\n%s", b.String())
	}
}

// What takes something away or interrupts it is never summed up.
func TestShortPlanNamesEveryRemovalAndRestart(t *testing.T) {
	var items []*plan.Item
	for _, op := range []plan.Op{plan.Delete, plan.Restart, plan.Do} {
		for n := range 12 {
			host := fmt.Sprintf("m-%d", n)
			items = append(items, item(fmt.Sprintf("x/%s/%s", host, op), host, "", &plan.Change{Op: op, Summary: fmt.Sprintf("write /%s/%d", op, n)}, nil))
		}
	}
	items = append(items, item("x/m-1/look", "m-1", "unit", nil, errors.New("exit 1")), item("x/m-2/look", "m-2", "unit", nil, errors.New("exit 2")))
	got := shortPlan(t, &plan.Plan{Stages: []plan.StagePlan{{Name: "s", Items: items}}})
	for _, it := range items {
		want := itemText(it)
		if !strings.Contains(got, want+" ") {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

// A text that names its own host is one line for all hosts; one that names another is not.
func TestShortPlanPutsHostsThatAreNamedTogether(t *testing.T) {
	var items []*plan.Item
	for _, host := range []string{"m-1", "m-10", "m-2"} {
		items = append(items,
			item("roll/"+host+"/back", host, "mark", &plan.Change{Op: plan.Delete, Summary: "mark " + host + " as back"}, nil),
			item("roll/"+host+"/route", host, "route", &plan.Change{Op: plan.Delete, Summary: "delete the route to m-1"}, nil))
	}
	got := shortPlan(t, &plan.Plan{Stages: []plan.StagePlan{{Name: "s", Items: items}}})
	for _, want := range []string{"3      - mark each as back", "1      - delete the route to m-1  m-1\n", "2      - delete the route to m-1  m-2, m-10\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func TestPlanOfADriftNamesTheFile(t *testing.T) {
	p := samplePlan()
	golden(t, "plan-short.txt", shortPlan(t, p))
	if got := shortPlan(t, &plan.Plan{}); got != "in sync: nothing to do\n" {
		t.Errorf("got %q", got)
	}
}
