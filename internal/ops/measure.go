package ops

import (
	"context"

	"hactl/internal/drill"
)

// Measure runs something that is not hactl's, with requests to the cluster around it. It
// takes no lock: what runs may be an operation of hactl. It returns the error of run
// together with what was measured.
func Measure(ctx context.Context, r Request, run func(context.Context) error) (*drill.Measurement, error) {
	s, err := open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.everyHost("", nil); err != nil {
		return nil, err
	}
	c, hangUp, err := s.drillCluster(ctx, &DrillOptions{})
	if err != nil {
		return nil, err
	}
	defer hangUp()
	return drill.During(ctx, c, drill.DuringOptions{Say: s.Note}, run)
}
