package etcd

import (
	"errors"
	"strings"
	"testing"

	"hactl/internal/remote"
)

// The snapshot is gone from the host whatever came of the rehearsal, and the script that
// starts an etcd runs nowhere but in the cage.
func TestRehearsalLeavesNothingOnTheHost(t *testing.T) {
	const good = "version 3.6.16\nkeys 404\nrevision 1000000625\n"
	for name, c := range map[string]struct {
		out  string
		fail error
		want string
	}{
		"well":           {good, nil, ""},
		"it fails":       {"", errors.New("etcd did not come up"), "did not come up"},
		"it is cut":      {"version 3.6.16\n", nil, "ends early"},
		"an odd answer":  {"keys many\n", nil, "unreadable"},
		"without a word": {"", nil, "ends early"},
	} {
		t.Run(name, func(t *testing.T) {
			h := remote.NewFake("m1", func(c2 remote.Call) (*remote.Result, error) {
				if c2.Cmd.Title == "rehearse the snapshot" {
					return &remote.Result{Stdout: []byte(c.out)}, c.fail
				}
				return nil, nil
			})
			got, err := Rehearse(t.Context(), h, "file", "abc")
			if c.want == "" && (err != nil || got.Keys != 404 || got.Revision != 1000000625 || got.Etcd != "3.6.16") {
				t.Errorf("%+v: %v", got, err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v", err)
			}
			calls := h.Calls()
			if last := calls[len(calls)-1].Cmd.Script; last != "rm -f "+rehearsalFile {
				t.Errorf("the last call is %q", last)
			}
			for _, call := range calls {
				if strings.Contains(call.Cmd.Script, "--data-dir") {
					t.Errorf("an etcd outside of the cage: %s", call.Cmd.Script)
				}
			}
		})
	}
	for _, want := range []string{"PrivateNetwork=yes", "InaccessiblePaths=-/var/lib/etcd", "InaccessiblePaths=-/etc/kubernetes", "RuntimeMaxSec="} {
		if !strings.Contains(cage, want) {
			t.Errorf("the cage has no %s", want)
		}
	}
}
