package drill

import "testing"

// A share of few requests says nothing: without a failure among 20 a quarter may be lost.
func TestShareOfFewRequestsIsUnclear(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		failed, sent int
		few          bool
	}{{0, 0, true}, {0, 20, true}, {0, 32, true}, {0, 33, false}, {0, enough, false}, {1, enough, true}, {1, 45, false}, {3, 60, false}, {15, 60, true}} {
		if got := fewFor(c.failed, c.sent); got != c.few {
			t.Errorf("%d of %d: %v", c.failed, c.sent, got)
		}
	}
}

// Requests go where the tightest bound is.
func TestRequestsGoWhereTheyDecide(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]map[string]int{
		"keepalived-stopped":        {vipReady: 1, vipRead: 4, vipWrite: 4, etcdWrite: 4},
		"controller-manager-killed": {vipReady: 1, vipRead: 4, vipWrite: 1, etcdWrite: 4},
		"etcd-follower-killed":      {vipReady: 4, vipRead: 4, vipWrite: 1, etcdWrite: 1},
		"apiserver-killed":          {vipReady: 1, vipRead: 3, vipWrite: 3, etcdWrite: 4},
		"apiserver-stopped":         {vipReady: 2, vipRead: 2, vipWrite: 2, etcdWrite: 4},
		"keepalived-killed":         {vipReady: 2, vipWrite: 4},
		"worker-lost":               {vipReady: 1, service: 2, vipWrite: 4},
	} {
		scenarios, err := Find(name)
		if err != nil {
			t.Fatal(err)
		}
		r := &runner{sc: scenarios[0]}
		for stream, every := range want {
			if got := r.every(stream); got != every {
				t.Errorf("%s: %s every %d intervals, want %d", name, stream, got, every)
			}
		}
	}
}
