package drill

import (
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"hactl/internal/sys"
)

func TestMemberTellsWhatRunsAndWhatAnEarlierDrillLeft(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	for name, script := range map[string]string{
		"systemctl": `[ "$*" = "list-units --plain --no-legend --state=active kubelet.service etcd.service hactl-undo-*.timer" ] || exit 1
printf '%s loaded active %s\n' kubelet.service 'running kubelet: The Node Agent' hactl-undo-7.timer 'waiting /run/hactl-undo-7.timer'`,
		"nft": "echo 'table inet hactl_drill'",
		"ip":  "echo '1: lo    inet 10.0.0.100/32 scope global lo'",
	} {
		if err := os.WriteFile(bin+"/"+name, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil { //nolint:gosec // it is to run
			t.Fatal(err)
		}
	}
	q := memberQuestion(netip.MustParseAddr("10.0.0.100"), []string{kubeletUnit, etcdUnit})
	ask := func() (memberSeen, error) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", sys.With(q.Script))
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		out, err := cmd.Output()
		if err != nil {
			return memberSeen{}, err
		}
		return q.Parse(string(out))
	}
	want := memberSeen{active: []string{kubeletUnit}, armed: []string{"hactl-undo-7"}, cut: true, owns: true}
	if got, err := ask(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, name := range []string{"systemctl", "ip"} { // without the one, and then without both
		if err := os.WriteFile(bin+"/"+name, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil { //nolint:gosec // it is to run
			t.Fatal(err)
		}
		if got, err := ask(); err == nil {
			t.Errorf("%s fails, and the host says %+v", name, got)
		}
	}
}

func TestMemberWhoseAnswerIsBrokenIsNotSeen(t *testing.T) {
	t.Parallel()
	if got, err := parseMember("end\n"); err != nil || !reflect.DeepEqual(got, memberSeen{}) {
		t.Errorf("nothing runs: %+v, %v", got, err)
	}
	whole := unitLine(kubeletUnit) + "cut\nowner\nend\n"
	for _, answer := range []string{
		"", "\n", whole[:len(whole)-len("end\n")], whole + "owner\n", whole + whole, unitLine(kubeletUnit)[:20] + "\nend\n", "garbage\nend\n",
		strings.Replace(whole, "active", "failed", 1), "ownership\nend\n", "end of it all here\n",
	} {
		if got, err := parseMember(answer); err == nil {
			t.Errorf("%q gives %+v", answer, got)
		}
	}
}
