package state

import (
	"testing"
	"time"

	"hactl/etcd"
)

func TestBackupsAreBadWhenNoMasterHasANewOne(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	master := func(installed time.Duration, ages ...time.Duration) *etcd.Scheduled {
		s := &etcd.Scheduled{Now: now, Installed: now.Add(-installed), Active: true}
		for _, a := range ages {
			s.Saved = append(s.Saved, etcd.SavedOnHost{Modified: now.Add(-a)})
		}
		return s
	}
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		seen []*etcd.Scheduled
		want State
	}{
		"one of three has a new one":      {[]*etcd.Scheduled{master(9*day, 3*day), master(9*day, 90*time.Minute), nil}, OK},
		"all are old":                     {[]*etcd.Scheduled{master(9*day, 3*day), master(9*day, 3*time.Hour), master(9 * day)}, Bad},
		"there is none":                   {[]*etcd.Scheduled{master(9 * day), master(9 * day), master(9 * day)}, Bad},
		"the timer is new":                {[]*etcd.Scheduled{master(time.Hour), master(time.Hour), master(time.Hour)}, OK},
		"old ones, and one was not asked": {[]*etcd.Scheduled{master(9*day, 3*day), nil, master(9*day, 3*day)}, Unknown},
		"none was asked":                  {[]*etcd.Scheduled{nil, nil, nil}, Unknown},
		"a clock was ahead":               {[]*etcd.Scheduled{master(9*day, -time.Hour)}, OK},
	} {
		if k := newestBackup(c.seen, time.Hour); k.State != c.want {
			t.Errorf("%s: %s, %s", name, k.State, k.Detail)
		}
	}
}

func TestBackupOfAMasterSaysWhatIsWrong(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	good := etcd.Scheduled{Now: now, Installed: now.Add(-time.Hour), Active: true, Saved: []etcd.SavedOnHost{{Modified: now.Add(-5 * time.Minute)}}}
	for want, change := range map[string]func(*etcd.Scheduled){
		"1 verified, the newest 5 min ago":                                         func(*etcd.Scheduled) {},
		"there is no timer: hactl up makes it":                                     func(s *etcd.Scheduled) { s.Installed = time.Time{} },
		"its timer does not run: hactl up starts it":                               func(s *etcd.Scheduled) { s.Active = false },
		"no snapshot yet":                                                          func(s *etcd.Scheduled) { s.Saved = nil },
		"1 verified, the newest 5 min ago; the last run failed: no space":          func(s *etcd.Scheduled) { s.Last = etcd.LastRun{State: "failed", Reason: "no space"} },
		"1 verified, the newest 5 min ago; the last run skipped: hactl is at work": func(s *etcd.Scheduled) { s.Last = etcd.LastRun{State: "skipped", Reason: "hactl is at work"} },
	} {
		s := good
		change(&s)
		k := backupOf("master-1", &s, time.Hour)
		bad := s.Last.State == "failed" || s.Installed.IsZero() || !s.Active
		if k.Detail != want || (k.State == Bad) != bad {
			t.Errorf("%s: got %s, %s", want, k.State, k.Detail)
		}
	}
}
