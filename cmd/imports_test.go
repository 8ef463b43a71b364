package cmd

import (
	"os/exec"
	"strings"
	"testing"
)

// allowed says which packages of this module each package may import, itself
// left out. A new edge is a decision: write it here with its reason.
var allowed = map[string]struct{ imports, because string }{
	"internal/wait":                {"", "bounds of waits and their factor; every package that waits stands above it"},
	"internal/versions":            {"", "a table of versions"},
	"templates":                    {"", "text in, text out"},
	"internal/prober":              {"", "runs on the masters, alone"},
	"internal/network":             {"", "runs on every host, alone; kubeadm writes its configuration"},
	"internal/traffic":             {"", "runs in a pod on every host, alone; kubeadm puts questions to it"},
	"internal/vrrp":                {"", "runs on masters during a preflight, alone"},
	"cmd/hactl-network":            {"internal/network internal/traffic internal/vrrp", "is copied to the hosts: small, and knows nothing of the operator's side"},
	"cmd/hactl-prober":             {"internal/prober", "is copied to the masters: small, and knows nothing of the operator's side"},
	"internal/nearest":             {"", "words in, words out"},
	"inventory":                    {"internal/nearest internal/versions", "everything is derived from it, so it depends on no host"},
	"inventory/inventorytest":      {"inventory", "inventories for tests"},
	"internal/remote":              {"inventory internal/sys", "knows hosts and commands, not what they are for"},
	"internal/sys":                 {"", "what a host can be asked, as shell; whose connection carries it is elsewhere"},
	"internal/sys/systest":         {"", "answers of hosts, for tests"},
	"internal/remote/sshdtest":     {"", "an sshd for tests, not our client"},
	"internal/remote/faultproxy":   {"", "a wire for tests, not our client"},
	"internal/plan":                {"internal/remote internal/sys", "the engine knows no component and no protocol"},
	"internal/plan/plantest":       {"internal/plan", "hosts for tests of steps"},
	"internal/testneeds":           {"", "programs and rights of the machine that tests run on"},
	"internal/fakehost":            {"internal/remote internal/sys internal/testneeds", "hosts for tests, with a real shell and a systemd of files"},
	"internal/goldentest":          {"internal/plan internal/remote internal/testneeds", "golden files and real checkers, for tests"},
	"internal/kubeapi":             {"internal/remote", "requests and answers; who asks, and for what, is elsewhere"},
	"internal/kubeapi/kubeapitest": {"", "an apiserver for tests"},
	"internal/ui":                  {"internal/plan internal/remote inventory", "renders events and names hosts, connects to nothing"},
	"internal/facts":               {"internal/remote", "what a host says of itself, without judging"},
	"internal/bundle":              {"internal/remote internal/versions inventory", "files and hashes, no hosts"},
	"internal/lab":                 {"internal/bundle internal/remote", "hands back an inventory; nothing else may know that a host is a lab host"},
	"internal/drill":               {"internal/kubeapi internal/remote internal/sys", "breaks and watches through interfaces that ops fills"},
	"internal/host":                {"internal/bundle internal/facts internal/others internal/plan internal/remote internal/sys inventory templates", "prepares hosts, knows no component"},
	"internal/expiry":              {"internal/remote internal/sys pki", "what is seen of certificates, and rules; knows no component"},
	"internal/cage":                {"internal/remote internal/sys", "runs programs on a host, apart from its cluster; knows no component"},
	"internal/backup/backuptest":   {"", "snapshots for tests"},
	"internal/backup":              {"", "files on this machine; knows no host and no store"},
	"internal/others":              {"internal/remote internal/sys", "a table of kinds and a script; who asks is elsewhere"},
	"internal/reset":               {"internal/host internal/plan internal/remote internal/sys", "takes back what the record of a host says"},
	"internal/preflight":           {"internal/facts internal/others internal/plan internal/remote internal/sys inventory", "looks before any component is there"},
	"pki":                          {"internal/remote inventory", "keys and certificates, no component"},
	"pki/pkitest":                  {"inventory pki", "keys and certificates for tests"},
	"etcd":                         {"internal/plan internal/remote internal/sys inventory pki templates", "components do not know one another"},
	"keepalived":                   {"internal/facts internal/plan internal/remote internal/sys inventory templates", "components do not know one another"},
	"kubeadm":                      {"internal/cage internal/facts internal/kubeapi internal/network internal/plan internal/remote internal/sys internal/traffic inventory pki templates", "components do not know one another"},
	"internal/state":               {"etcd internal/plan internal/remote internal/traffic inventory keepalived kubeadm pki", "asks every component, changes nothing"},
	"internal/exitcode":            {"internal/plan internal/remote inventory", "which code an error stands for"},
	"internal/ops":                 {"etcd internal/backup internal/bundle internal/cage internal/drill internal/exitcode internal/expiry internal/facts internal/host internal/network internal/others internal/plan internal/preflight internal/remote internal/reset internal/ui internal/state internal/sys internal/versions inventory keepalived kubeadm pki", "puts the components together; shows nothing by itself"},
	"e2e":                          {"", "tests on lab hosts; without their build tag only the list of tiers"},
	"cmd/hactl":                    {"cmd", "five lines around cmd.Main"},
	"internal/release/manpages":    {"cmd", "writes the man pages; no program of hactl holds it"},
	"cmd":                          {"*", "flags in, one call, exit code out; no package imports it"},
}

func TestImportsGoOneWay(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "hactl/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		name := strings.TrimPrefix(words[0], "hactl/")
		rule, known := allowed[name]
		if !known {
			t.Errorf("%s is new: say in this test what it may import, and why", name)
			continue
		}
		may := " " + rule.imports + " "
		for _, i := range words[1:] {
			dep, ours := strings.CutPrefix(i, "hactl/")
			if dep == "internal/wait" { // bounds have one factor everywhere
				continue
			}
			if ours && may != " * " && !strings.Contains(may, " "+dep+" ") {
				t.Errorf("%s imports %s, which it may not: %s", name, dep, rule.because)
			}
		}
	}
}
