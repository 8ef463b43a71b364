package testneeds

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// recorder is a test that notes how it ended. Skipf and Fatalf end the calling
// goroutine, as those of a real test do.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(format string, args ...any) {
	r.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func ask(t *testing.T, f func(testing.TB)) *recorder {
	r := &recorder{TB: t}
	done := make(chan bool)
	go func() { defer close(done); f(r) }()
	<-done
	return r
}

func TestMissingProgramSkipsWithItsPackage(t *testing.T) {
	t.Setenv("HACTL_TEST_REQUIRE", "")
	t.Setenv("PATH", t.TempDir())
	debian["no-such-program"] = "its-package"
	t.Cleanup(func() { delete(debian, "no-such-program") })
	r := ask(t, func(tb testing.TB) { Tool(tb, "no-such-program") })
	if r.failed != "" || !strings.Contains(r.skipped, "no-such-program is not installed (Debian package its-package") {
		t.Errorf("skipped %q, failed %q", r.skipped, r.failed)
	}
}

func TestMissingProgramFailsWhereEverythingIsRequired(t *testing.T) {
	t.Setenv("HACTL_TEST_REQUIRE", "1")
	r := ask(t, func(tb testing.TB) { Tool(tb, "no-such-program") })
	if r.skipped != "" || !strings.Contains(r.failed, "no-such-program is not installed") {
		t.Errorf("skipped %q, failed %q", r.skipped, r.failed)
	}
}

func TestPresentProgramNeitherSkipsNorFails(t *testing.T) {
	r := ask(t, func(tb testing.TB) { Tool(tb, "sh") })
	if r.skipped != "" || r.failed != "" {
		t.Errorf("skipped %q, failed %q", r.skipped, r.failed)
	}
}
