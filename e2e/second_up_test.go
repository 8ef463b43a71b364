//go:build e2e

package e2e

import "testing"

// TestSecondUpChangesNothing runs up on a converged cluster.
func TestSecondUpChangesNothing(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	// When the server has closed the connection of the API client, a request costs one
	// round trip more, so the best of three runs counts. That nothing changes counts
	// in all.
	const most = 10
	trips := most + 1
	for run := 0; run < 3 && trips > most; run++ {
		res := r.must(t, 0, "up", "--yes", "-o", "json")
		u := res.up(t)
		if u.Changed != 0 || !u.Status.Healthy || u.Trips < 1 {
			t.Errorf("result: %+v", u)
		}
		trips = u.Trips
		took(t, "second up", res.took)
	}
	record(t, "round trips of a second up to one host", "count", float64(trips))
	if trips > most {
		t.Errorf("%d round trips to one host", trips)
	}
	r.inSync(t)
}
