//go:build e2e

package e2e

import "testing"

// TestSecondUpChangesNothing runs up on a converged cluster.
func TestSecondUpChangesNothing(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	res := r.must(t, 0, "up", "--yes", "-o", "json")
	u := res.up(t)
	if u.Changed != 0 || !u.Status.Healthy || u.Trips < 1 {
		t.Errorf("result: %+v", u)
	}
	took(t, "second up", res.took)
	record(t, "round trips of a second up to one host", "count", float64(u.Trips))
	if u.Trips > 10 {
		t.Errorf("%d round trips to one host", u.Trips)
	}
	r.inSync(t)
}
