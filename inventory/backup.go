package inventory

import "time"

// Period is the time between two snapshots of a master, 0 when none are scheduled.
func (b Backup) Period() time.Duration {
	d, err := time.ParseDuration(b.Schedule)
	if err != nil {
		return 0
	}
	return d
}
