package drill

import (
	"strings"
	"testing"
	"time"
)

// Programs on hosts would take the processors of what a drill times.
func TestHostsAreLookedAtSeldomWhileAnAPIServerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.slow = 2 * time.Second
		_, err := waitHealthy(t.Context(), s.cluster, 12*time.Second)
		time.Sleep(2 * s.slow) // until the apiservers, too, are done
		looks := 0
		for _, said := range s.said(titleLook) {
			if strings.HasPrefix(said, "master-1") {
				looks++
			}
		}
		if err == nil || !strings.Contains(err.Error(), "master-1: apiserver") || looks < 2 || looks > 3 {
			t.Errorf("%d looks in 12 s: %v", looks, err)
		}
	})
}
