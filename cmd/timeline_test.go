package cmd

import (
	"strings"
	"testing"
	"time"

	"hactl/internal/plan"
)

// The path of a run that made one master, as --timeline prints it.
func TestTimelineIsTheWholeRunWithThePartsOfItsSteps(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	var out strings.Builder
	(&app{stderr: &out, noColor: true, getenv: func(string) string { return "" }}).printTimeline([]plan.Timing{
		{Stage: "look and check", Start: at(0), End: at(1.5)},
		{Stage: "prepare hosts", Step: "host/master-2/sysctls", Start: at(1.6), End: at(1.8)},
		{Stage: "control plane", Step: "kubeadm/master-2/init", Start: at(5.3), End: at(23.1), Parts: []plan.Part{
			{Name: "files", Start: at(5.3), End: at(7)}, {Name: "wait for the apiserver of master-1", Start: at(7), End: at(14.2)},
			{Name: "kubelet", Start: at(14.2), End: at(23.1)},
		}},
		{Stage: "verify", Start: at(23.2), End: at(27.9)},
	})
	want := `critical path:
AT     TOOK   STAGE           STEP
0.0s   1.5s   look and check
1.6s   0.2s   prepare hosts   host/master-2/sysctls
5.3s   17.8s  control plane   kubeadm/master-2/init
5.3s   1.7s                   - files
7.0s   7.2s                   - wait for the apiserver of master-1
14.2s  8.9s                   - kubelet
23.2s  4.7s   verify
`
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
}
