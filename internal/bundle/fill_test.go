package bundle

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hactl/internal/remote"
	"hactl/internal/versions"
	"hactl/inventory"
)

// fillEnv names the folder that a child process fills until it is killed.
const fillEnv = "HACTL_TEST_FILL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(fillEnv); dir != "" {
		jobs, _ := fakeJobs("stuck")
		_, _ = ensure(context.Background(), Options{Dir: dir, Arch: "amd64", Jobs: 1}, jobs)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// fakeJobs make four small artifacts. The one called stuck writes half of its
// file and then waits for ever. made counts what was made.
func fakeJobs(stuck string) (jobs []job, made *atomic.Int32) {
	made = &atomic.Int32{}
	for _, a := range []Artifact{
		binary("one", "v1", "/usr/bin"), binary("two", "v1", "/usr/bin"),
		binary("stuck", "v1", "/usr/bin"), image("four", "v1", "registry.hactl.invalid/four:v1"),
	} {
		jobs = append(jobs, job{Artifact: a, make: func(ctx context.Context, out string, _ func(string)) (string, error) {
			if a.Name == stuck {
				if err := os.WriteFile(out, []byte("ha"), 0o600); err != nil {
					return "", err
				}
				<-ctx.Done()
				return "", ctx.Err()
			}
			made.Add(1)
			id := ""
			if a.Kind == Image {
				id = "sha256:" + strings.Repeat("a", 64)
			}
			return id, os.WriteFile(out, []byte("the "+a.Name), 0o600)
		}})
	}
	return jobs, made
}

func fakeOptions(t *testing.T) Options {
	t.Helper()
	return Options{Dir: filepath.Join(t.TempDir(), "bundle"), Arch: "amd64", Jobs: 1}
}

func mustFill(t *testing.T, o Options) *Bundle {
	t.Helper()
	jobs, _ := fakeJobs("")
	b, err := ensure(t.Context(), o, jobs)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFilledBundleIsOpenedAsItWasWritten(t *testing.T) {
	o := fakeOptions(t)
	b := mustFill(t, o)
	again, err := Open(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Artifacts) != 4 || again.Artifacts[0].SHA256 != b.Artifacts[0].SHA256 || again.Origin != Source {
		t.Errorf("read back %+v", again.Manifest)
	}
	one, ok := again.Lookup("one")
	if st, err := os.Stat(again.Path(one)); !ok || err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("binary: found %v, %v, %v", ok, st, err)
	}
	if _, ok := again.Lookup("five"); ok {
		t.Error("found an artifact that is not there")
	}
	if err := again.Verify(); err != nil {
		t.Error(err)
	}
	for _, left := range []string{".work", partialName, fetchFolder} {
		if _, err := os.Stat(filepath.Join(o.Dir, left)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left behind: %v", left, err)
		}
	}
}

func TestCompleteBundleIsLeftAlone(t *testing.T) {
	o := fakeOptions(t)
	mustFill(t, o)
	jobs, made := fakeJobs("stuck") // would hang if it were asked
	if _, err := ensure(t.Context(), o, jobs); err != nil || made.Load() != 0 {
		t.Errorf("%d artifacts made again, %v", made.Load(), err)
	}
}

func TestKilledFillGoesOnWhereItStopped(t *testing.T) {
	o := fakeOptions(t)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), fillEnv+"="+o.Dir)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(o.Dir, ".work", "stuck")
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if st, err := os.Stat(half); err == nil && st.Size() > 0 {
			break
		}
		if time.Now().After(until) {
			t.Fatal("the child never came to the artifact that hangs")
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if _, err := Locate(o.Dir, inventory.Versions{}); !errors.Is(err, ErrIncomplete) || !strings.Contains(remote.HintOf(err), "--dir "+o.Dir) {
		t.Fatalf("a bundle that is half there opens with %v", err)
	}
	jobs, made := fakeJobs("")
	var kept atomic.Int32
	o.Progress = func(e Event) {
		if e.State == Kept {
			kept.Add(1)
		}
	}
	b, err := ensure(t.Context(), o, jobs)
	if err != nil {
		t.Fatal(err)
	}
	if made.Load() != 2 || kept.Load() != 2 {
		t.Errorf("made %d and kept %d, want 2 and 2", made.Load(), kept.Load())
	}
	if err := b.Verify(); err != nil {
		t.Error(err)
	}
}

func TestChangedFileIsFoundAndMadeAgain(t *testing.T) {
	changes := map[string]func(path string) error{
		"same size, new time": func(p string) error { return change(p, "THE two", time.Now().Add(time.Minute)) },
		"other size":          func(p string) error { return change(p, "longer than before", time.Now().Add(-time.Hour)) },
		"gone":                os.Remove,
		"a link": func(p string) error {
			return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p))
		},
	}
	for name, damage := range changes {
		t.Run(name, func(t *testing.T) {
			o := fakeOptions(t)
			b := mustFill(t, o)
			two, _ := b.Lookup("two")
			if err := damage(b.Path(two)); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(o.Dir); !errors.Is(err, ErrIncomplete) || name == "a link" && !strings.Contains(err.Error(), "not a plain file") {
				t.Fatalf("opens with %v", err)
			}
			jobs, made := fakeJobs("")
			b, err := ensure(t.Context(), o, jobs)
			if err != nil || made.Load() != 1 {
				t.Fatalf("made %d, %v", made.Load(), err)
			}
			if err := b.Verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

func change(path, content string, at time.Time) error {
	return errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chtimes(path, at, at))
}

func TestVerifyFindsWhatTheQuickLookCannot(t *testing.T) {
	b := mustFill(t, fakeOptions(t))
	one, _ := b.Lookup("one")
	if err := change(b.Path(one), "THE one", time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	b, err := Open(b.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Verify(); !errors.Is(err, ErrChecksum) || !strings.Contains(err.Error(), "bin/one") {
		t.Errorf("verify: %v", err)
	}
}

func TestSecondFillWaitsForTheFirst(t *testing.T) {
	o := fakeOptions(t)
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := lock(t.Context(), o.Dir, func() { t.Error("the first waits") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	jobs, made := fakeJobs("")
	o.Progress = func(e Event) {
		if e.State == Waiting {
			cancel()
		}
	}
	if _, err := ensure(ctx, o, jobs); !errors.Is(err, context.Canceled) || made.Load() != 0 {
		t.Errorf("made %d, %v", made.Load(), err)
	}
	o.Progress = func(e Event) {
		if e.State == Waiting {
			unlock()
		}
	}
	if _, err := ensure(t.Context(), o, jobs); err != nil || made.Load() != 4 {
		t.Errorf("made %d, %v", made.Load(), err)
	}
}

func TestAnErrorNamesTheArtifactAndEndsInAHint(t *testing.T) {
	jobs, _ := fakeJobs("")
	jobs[1].make = func(context.Context, string, func(string)) (string, error) { return "", errors.New("no space") }
	_, err := ensure(t.Context(), fakeOptions(t), jobs)
	if err == nil || !strings.Contains(err.Error(), "make two: no space") || remote.HintOf(err) == "" {
		t.Errorf("error %v, hint %q", err, remote.HintOf(err))
	}
}

func TestACopiedBundleServesAnyOriginUnlessOneIsAskedFor(t *testing.T) {
	jobs, _ := fakeJobs("")
	o := fakeOptions(t)
	o.From = Upstream
	b := mustFill(t, o)
	for from, want := range map[string]bool{"": true, Upstream: true, Source: false} {
		if got := b.satisfies(Options{Arch: "amd64", From: from}, jobs); got != want {
			t.Errorf("from %q: %v", from, got)
		}
	}
	if b.satisfies(Options{Arch: "arm64"}, jobs) {
		t.Error("an amd64 bundle serves arm64")
	}
	jobs[0].Version = "v2"
	if b.satisfies(Options{Arch: "amd64"}, jobs) {
		t.Error("an older version serves")
	}
}

func TestForGivesEachRoleWhatItNeeds(t *testing.T) {
	b := &Bundle{Manifest: Manifest{Artifacts: append(catalog(versions.OfDefault()), Artifact{Name: "notes", Kind: Extra})}}
	names := func(r inventory.Role) string {
		var out []string
		for _, a := range b.For(r) {
			out = append(out, a.Name)
		}
		return strings.Join(out, " ") + " "
	}
	master, worker := names(inventory.ControlPlane), names(inventory.Worker)
	for _, n := range []string{"etcd ", "kube-apiserver ", "kubectl "} {
		if !strings.Contains(master, n) || strings.Contains(worker, n) {
			t.Errorf("%s: masters get %s; workers get %s", n, master, worker)
		}
	}
	for _, n := range []string{"kubelet ", "kubeadm ", "containerd ", "pause ", "coredns ", "bridge "} {
		if !strings.Contains(worker, n) {
			t.Errorf("%s: workers get %s", n, worker)
		}
	}
	if strings.Contains(master+worker, "notes") {
		t.Error("extras are sent")
	}
}
