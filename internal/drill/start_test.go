package drill

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A request of the first look that is lost, and a plan that is not empty yet, are waited
// for: the drill says what it waits for, and starts.
func TestDrillWaitsForWhatIsInOrderSoon(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(s *sim)
		says  string
	}{
		"a lost request": {func(s *sim) {
			next, lost := s.handler, false
			s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/api/v1/nodes" && !lost {
					lost = true
					<-r.Context().Done()
					w.WriteHeader(http.StatusGatewayTimeout)
					return
				}
				next.ServeHTTP(w, r)
			})
		}, "list nodes through the VIP"},
		"a plan that recovers": {func(s *sim) {
			n := 0
			s.cluster.PlanEmpty = func(context.Context) error {
				if n++; n < 4 {
					return errors.New("master-2: the apiserver refuses")
				}
				return nil
			}
		}, "master-2: the apiserver refuses"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simTest(t, func(t *testing.T, s *sim) {
				c.spoil(s)
				s.onFault = s.moveAfter(50*ms, "master-2")
				var said strings.Builder
				d := s.drill(testScenario(s1, gap(vipReady, s1)))
				d.Observer.Say = func(text string) { said.WriteString(text + "\n") }
				from := time.Now()
				rep, err := d.Run(t.Context())
				if err != nil || rep.Verdict != Met || !strings.Contains(said.String(), "waiting 30s at most") || !strings.Contains(said.String(), c.says) {
					t.Errorf("%v, said:\n%s", err, said.String())
				}
				if began := rep.Scenarios[0].Runs[0].Started.Sub(from); began > 10*s1 {
					t.Errorf("the run began after %v", began)
				}
			})
		})
	}
}
