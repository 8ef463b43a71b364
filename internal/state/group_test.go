package state

import "testing"

func TestHostsOfWhichTheSameIsKnownShareALine(t *testing.T) {
	r := &Report{Checks: []Check{
		{Area: "vip", What: "m-1", State: OK, Detail: "stands by"}, {Area: "vip", What: "m-2", State: OK, Detail: "holds it"},
		{Area: "vip", What: "m-3", State: OK, Detail: "stands by"}, {Area: "node", What: "m-1", State: OK, Detail: "stands by"},
		{Area: "vip", What: "m-4", State: Bad, Detail: "stands by"},
	}}
	got := r.Grouped()
	if len(got) != 4 || len(got[0].Names) != 2 || got[0].Names[1] != "m-3" || got[1].Names[0] != "m-2" {
		t.Errorf("got %+v", got)
	}
}
