package ops

import (
	"hactl/internal/fakehost"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"hactl/etcd"
	"hactl/inventory"
)

// A cluster grows from one master to three, and then to five: both new masters have
// everything before the first of them votes, and the second one follows at once, because
// two voters, or four, tolerate no more than one, or three.
func TestMastersJoinInPairs(t *testing.T) {
	t.Parallel()
	sh := fakehost.Remembered(t)
	all := newCrashWorld(t, 5, 1)
	first := all.fresh(t, sh)
	small, err := inventoryOf(all.s.inv, "master-1", "worker-1")
	must(t, err)
	first.s.inv = small
	_, err = first.up(t.Context())
	must(t, err)
	first.s.inv = all.s.inv
	w := (&replaceWorld{crashWorld: first, file: all.s.inv}).at(t, sh, first.cut(0, "").disks, &fakehost.Order{})
	m := all.s.inv.Masters()[0]
	w.v.save([]*pb.Member{{ID: 1, Name: m.Name, PeerURLs: []string{etcd.PeerURL(m)}}})
	for _, step := range [][]string{{"master-1", "master-2", "master-3", "worker-1"}, {"master-1", "master-2", "master-3", "master-4", "master-5", "worker-1"}} {
		w.s.inv, err = inventoryOf(all.s.inv, step...)
		must(t, err)
		w.known()
		var events []string
		w.hosts[0].Order().After = func(host, title string) { events = append(events, host+": "+title) }
		_, err := w.up(t.Context())
		must(t, err)
		w.hosts[0].Order().After = nil
		pairIsPromotedTogether(t, events, step[len(step)-3:len(step)-1])
	}
	if got := strings.Count(w.v.String(), "learner=false"); got != 5 {
		t.Errorf("members: %s", w.v)
	}
}

// pairIsPromotedTogether looks at the order of what was done on hosts.
func pairIsPromotedTogether(t *testing.T, events, pair []string) {
	t.Helper()
	var promoted []int
	for i, e := range events {
		if strings.HasSuffix(e, ": promote a member") {
			promoted = append(promoted, i)
		}
	}
	if len(promoted) != 2 {
		t.Fatalf("%d members became voters: %q", len(promoted), events)
	}
	for i, e := range events {
		host, title, _ := strings.Cut(e, ": ")
		switch {
		case strings.HasPrefix(title, "import ") && slices.Contains(pair, host) && i > promoted[0]:
			t.Errorf("%s comes after the first promotion", e)
		case i > promoted[0] && i < promoted[1] && host != pair[1] && title != "look" && title != "add a member":
			t.Errorf("%s comes between the two promotions", e)
		}
	}
	t.Logf("%d events, promotions at %v: %q", len(events), promoted, events[promoted[0]:promoted[1]+1])
}

// inventoryOf is the inventory with these hosts alone.
func inventoryOf(inv *inventory.Inventory, names ...string) (*inventory.Inventory, error) {
	data, err := os.ReadFile(inv.Path)
	if err != nil {
		return nil, err
	}
	head, hosts, _ := strings.Cut(string(data), "hosts:\n")
	text := head + "hosts:\n"
	for _, block := range regexp.MustCompile(`(?m)^  - name: (\S+)\n(    .*\n)*`).FindAllStringSubmatch(hosts, -1) {
		if slices.Contains(names, block[1]) {
			text += block[0]
		}
	}
	path := filepath.Join(filepath.Dir(inv.Path), strings.Join(names, "-")+".yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return inventory.Load(path)
}
