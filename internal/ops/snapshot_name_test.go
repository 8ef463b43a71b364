package ops

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestTwoSnapshotsOfOneSecondHaveTwoNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		first, _, err := snapshotName(t.Context(), dir, "c")
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, first), nil, 0o600))
		second, _, err := snapshotName(t.Context(), dir, "c")
		must(t, err)
		if first == second || time.Since(begin) > time.Second {
			t.Errorf("%s and %s after %s", first, second, time.Since(begin))
		}
	})
}
