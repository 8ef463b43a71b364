package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"hactl/internal/plan"
)

func item(id, host, title string, c *plan.Change, err error) *plan.Item {
	return &plan.Item{Step: &plan.Step{ID: plan.ID(id), Host: host, Title: title}, Change: c, Err: err}
}

func samplePlan() *plan.Plan {
	unit := &plan.Change{
		Op: plan.Update, Summary: "rewrite /etc/systemd/system/etcd.service",
		Before: "[Unit]\nDescription=etcd\n[Service]\nNice=0\r\nType=simple\n", After: "[Unit]\nDescription=etcd\n[Service]\nType=notify\nNice=-10",
	}
	key := &plan.Change{Op: plan.Create, Summary: "write /etc/etcd/pki/peer.key", Secret: true, After: "very secret key", Before: "old secret key"}
	pinned := &plan.Change{Op: plan.Update, Summary: "rewrite /etc/etcd/pki/server.key", Secret: true, Pin: strings.Repeat("ab", 32)}
	return &plan.Plan{Stages: []plan.StagePlan{
		{Name: "host preparation", Items: []*plan.Item{item("host/master-1/swap", "master-1", "swap", nil, nil)}},
		{Name: "etcd", Items: []*plan.Item{
			item("etcd/master-1/unit", "master-1", "/etc/systemd/system/etcd.service", unit, nil),
			item("etcd/master-2/unit", "master-2", "/etc/systemd/system/etcd.service", nil, errors.New("look at the host: dial 10.0.0.2:22: \x1b[31mtimed out")),
			item("etcd/master-1/key", "master-1", "/etc/etcd/pki/peer.key", key, nil),
			item("etcd/master-1/server-key", "master-1", "/etc/etcd/pki/server.key", pinned, nil),
			item("etcd/master-1/service", "master-1", "etcd", &plan.Change{Op: plan.Restart, Summary: "restart: the running process has another configuration"}, nil),
		}},
		{Name: "addons", Items: []*plan.Item{
			item("addons/master-1/run", "master-1", "", &plan.Change{Op: plan.Do, Summary: "apply the manifest"}, nil),
			item("addons/master-3/old", "master-3", "old unit", &plan.Change{Op: plan.Delete, Summary: "remove /etc/old"}, nil),
			item("addons/master-3/up", "master-3", "kubelet", &plan.Change{Op: plan.Start, Summary: "start kubelet"}, nil),
		}},
	}}
}

func TestPlanIsGroupedByStageAndHost(t *testing.T) {
	var b bytes.Buffer
	if err := WriteFullPlan(&b, samplePlan(), Style{}); err != nil {
		t.Fatal(err)
	}
	golden(t, "plan.txt", b.String())
}

func TestDiffShowsTextsAndMasksSecrets(t *testing.T) {
	var b, colored bytes.Buffer
	if err := WriteDiff(&b, samplePlan(), Style{}); err != nil {
		t.Fatal(err)
	}
	golden(t, "diff.txt", b.String())
	if err := WriteDiff(&colored, samplePlan(), Style{on: true}); err != nil {
		t.Fatal(err)
	}
	golden(t, "diff-color.txt", colored.String())
	doc, err := json.Marshal(Document(samplePlan(), true))
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{b.String(), colored.String(), string(doc)} {
		if strings.Contains(out, "secret key") {
			t.Errorf("a secret is shown:\n%s", out)
		}
	}
}

func TestPlanDocument(t *testing.T) {
	out, err := json.MarshalIndent(Document(samplePlan(), false), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "plan.json", string(out)+"\n")
}

func TestEmptyPlanSaysInSync(t *testing.T) {
	p := &plan.Plan{Stages: samplePlan().Stages[:1]}
	if got := PlanSummary(p); got != "in sync: nothing to do" {
		t.Errorf("got %q", got)
	}
	if d := Document(p, true); !d.InSync || d.Items == nil {
		t.Errorf("got %+v", d)
	}
}

func TestPlanWithAnUnknownHostIsNotInSync(t *testing.T) {
	p := &plan.Plan{Stages: []plan.StagePlan{{Items: []*plan.Item{
		item("a", "m1", "", nil, nil), item("b", "m2", "", nil, errors.New("no")),
	}}}}
	if got, want := PlanSummary(p), "1 step in sync; unknown: could not look at 1 step on 1 host"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if Document(p, false).InSync {
		t.Error("unknown taken for in sync")
	}
}

func TestLongTextsHaveADiff(t *testing.T) {
	var before, after strings.Builder
	for n := range 20_000 {
		fmt.Fprintf(&before, "line %d\n", n)
		if n%1000 == 0 {
			fmt.Fprintf(&after, "another %d\n", n)
		} else {
			fmt.Fprintf(&after, "line %d\n", n)
		}
	}
	got := unified(&plan.Change{Before: before.String(), After: after.String()})
	if n, m := strings.Count(got, "\n-line "), strings.Count(got, "\n+another "); n != 20 || m != 20 {
		t.Errorf("%d lines removed and %d added, want 20 each: %.200q", n, m, got)
	}
	if got := unified(&plan.Change{Before: strings.Repeat("a\n", 20_000), After: strings.Repeat("b\n", 20_000)}); strings.Count(got, "\n-a") != 20_000 {
		t.Errorf("of other lines: %.200q", got)
	}
}

func TestDiffOfASecretShowsHashesOnly(t *testing.T) {
	pin, want := strings.Repeat("aa", 32), strings.Repeat("bb", 32)
	for name, c := range map[string]struct {
		change plan.Change
		says   string
	}{
		"replaced": {plan.Change{Op: plan.Update, Summary: "rewrite /key", Secret: true, Pin: pin, Want: want}, "(secret, sha256 aaaa… -> bbbb…)"},
		"new":      {plan.Change{Op: plan.Create, Summary: "write /key", Secret: true, Pin: "absent", Want: want}, "(secret, sha256 none -> bbbb…)"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &plan.Plan{Stages: []plan.StagePlan{{Items: []*plan.Item{{Step: &plan.Step{ID: "x/key", Host: "m1"}, Change: &c.change}}}}}
			var b strings.Builder
			if err := WriteDiff(&b, p, Style{}); err != nil || !strings.Contains(b.String(), c.says) || strings.Contains(b.String(), pin) || strings.Contains(b.String(), want) {
				t.Errorf("%v\n%s", err, b.String())
			}
		})
	}
}
