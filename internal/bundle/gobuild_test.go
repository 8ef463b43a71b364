package bundle

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote"
	"hactl/internal/versions"
)

// fakeGo puts a script in the place of the go command.
func fakeGo(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte("#!/bin/sh\n"+script), 0o700); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	t.Setenv("CC", "cc") // so that no compiler is looked for
}

func TestBuildTellsAProxysTroubleFromTheCompilers(t *testing.T) {
	for line, trouble := range map[string]bool{
		"go: example.com/x@v1.2.3: reading https://proxy/x: 403 Forbidden":         true,
		"example.com/x@v1.2.3: reading https://proxy/x: 500 Internal Server Error": true,
		"dial tcp 192.0.2.1:443: i/o timeout":                                      true,
		"read tcp 192.0.2.1:443: connection reset by peer":                         true,
		"main.go:4:1: undefined: fmt":                                              false,
		"verifying example.com/x@v1.2.3: checksum mismatch":                        false,
		"example.com/x@v1.2.3: reading https://proxy/x: 404 Not Found":             false,
	} {
		fakeGo(t, "echo '"+line+"' >&2; exit 1")
		dir := t.TempDir()
		got, err := program{module: "pause", pkg: "."}.run(t.Context(), filepath.Join(strings.SplitN(os.Getenv("PATH"), ":", 2)[0], "go"), dir, "amd64", filepath.Join(dir, "out"), func(string) {})
		if err == nil || got != trouble || !strings.Contains(err.Error(), line) {
			t.Errorf("%s: trouble %v, %v", line, got, err)
		}
	}
}

func TestBuildAsksAStubbornProxyAgain(t *testing.T) {
	tries := 0
	attempts, err := retry(t.Context(), []time.Duration{time.Microsecond, time.Microsecond}, func(string) {}, func() (bool, error) {
		if tries++; tries < 3 {
			return true, errors.New("403")
		}
		return false, nil
	})
	if err != nil || attempts != 3 {
		t.Errorf("%d attempts, %v", attempts, err)
	}
	attempts, err = retry(t.Context(), []time.Duration{time.Microsecond}, func(string) {}, func() (bool, error) { return true, errors.New("403") })
	if err == nil || attempts != 2 {
		t.Errorf("for ever: %d attempts, %v", attempts, err)
	}
	attempts, err = retry(t.Context(), []time.Duration{time.Hour}, func(string) {}, func() (bool, error) { return false, errors.New("undefined") })
	if err == nil || attempts != 1 {
		t.Errorf("not passing: %d attempts, %v", attempts, err)
	}
}

func TestBuildRunsGoWithPinnedModuleAndItsFlags(t *testing.T) {
	fakeGo(t, `ls; echo "$@" CGO=$CGO_ENABLED ARCH=$GOARCH WORK=$GOWORK; for a; do case $prev in -o) cp go.mod "$a";; esac; prev=$a; done`)
	var lines []string
	out := filepath.Join(t.TempDir(), "flanneld")
	if err := programs(versions.OfDefault())["flannel"].build(t.Context(), "amd64", out, func(s string) { lines = append(lines, s) }); err != nil {
		t.Fatal(err)
	}
	said := strings.Join(lines, " ")
	for _, want := range []string{"go.mod go.sum tools.go", "-trimpath", "-extldflags -static", "CGO=1", "ARCH=amd64", "WORK=off", "github.com/flannel-io/flannel"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in %s", want, said)
		}
	}
	raw, err := os.ReadFile(out)
	if err != nil || !strings.Contains(string(raw), "module hactl.invalid/bundle/flannel") {
		t.Errorf("built in the wrong module: %s, %v", raw, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(out), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBuildWithoutGoSaysWhatToDo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := program{module: "pause", pkg: "."}.build(t.Context(), "amd64", filepath.Join(t.TempDir(), "x"), func(string) {})
	if err == nil || !strings.Contains(remote.HintOf(err), "--from upstream") {
		t.Errorf("error %v, hint %q", err, remote.HintOf(err))
	}
}

func TestBuildWithoutACompilerNamesThePackages(t *testing.T) {
	fakeGo(t, "exit 0")
	t.Setenv("CC", "")
	t.Setenv("PATH", strings.SplitN(os.Getenv("PATH"), ":", 2)[0])
	err := programs(versions.OfDefault())["flannel"].build(t.Context(), "amd64", filepath.Join(t.TempDir(), "x"), func(string) {})
	if err == nil || !strings.Contains(remote.HintOf(err), strings.Join(BuildPackages, " ")) {
		t.Errorf("error %v, hint %q", err, remote.HintOf(err))
	}
}

func TestDemoServerAndPauseAreGoPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles two small programs")
	}
	for _, n := range []string{"pause", "demo-v1"} {
		out := filepath.Join(t.TempDir(), n)
		if err := programs(versions.OfDefault())[n].build(t.Context(), "amd64", out, func(string) {}); err != nil {
			t.Fatal(err)
		}
	}
}
