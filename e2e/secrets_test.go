//go:build e2e

package e2e

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// bootstrapToken is the form of kubeadm's tokens.
var bootstrapToken = regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`)

// secrets are the strings that must not be seen anywhere: every line of every
// private key of the store and of the ssh folder, the operator's key as the
// kubeconfig has it, the sudo password.
func (r *rig) secrets(t *testing.T) []string {
	t.Helper()
	out := []string{r.SudoPassword()}
	for _, dir := range []string{r.Path("pki-" + r.Name()), r.Path("ssh")} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil || !bytes.Contains(b, []byte("PRIVATE KEY")) {
				return err
			}
			for line := range strings.Lines(string(b)) {
				if line = strings.TrimSpace(line); len(line) >= 32 && !strings.HasPrefix(line, "-----") {
					out = append(out, line)
				}
			}
			inline := base64.StdEncoding.EncodeToString(b)
			out = append(out, inline[len(inline)/2:])
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(out) < 20 {
		t.Fatalf("only %d secrets found: this test looks in the wrong place", len(out))
	}
	return out
}

// argvWatch collects the command line of every process on the machine, those
// of the lab's hosts among them, until stop is called.
func argvWatch() (stop func() (lines []string, looks int)) {
	seen := map[string]bool{}
	done := make(chan struct{})
	looks := 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, n := range names {
				if b, err := os.ReadFile(n); err == nil && len(b) > 0 {
					seen[string(bytes.ReplaceAll(b, []byte{0}, []byte{' '}))] = true
				}
			}
			looks++
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return func() ([]string, int) {
		close(done)
		wg.Wait()
		var out []string
		for s := range seen {
			out = append(out, s)
		}
		return out, looks
	}
}

// noSecrets fails the test for each secret in text.
func noSecrets(t *testing.T, where, text string, secrets []string) {
	t.Helper()
	for i, s := range secrets {
		if at := strings.Index(text, s); at >= 0 {
			t.Errorf("%s holds secret number %d, in: %.60q", where, i, text[max(0, at-60):at])
		}
	}
	if m := bootstrapToken.FindStringIndex(text); m != nil {
		t.Errorf("%s holds what looks like a bootstrap token, in: %.80q", where, text[max(0, m[0]-60):m[0]])
	}
}

// noSecretsInRuns looks into everything that every run so far has written.
func (r *rig) noSecretsInRuns(t *testing.T) {
	t.Helper()
	secrets := r.secrets(t)
	files, err := filepath.Glob(filepath.Join(r.runs, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no runs in %s: %v", r.runs, err)
	}
	size := 0
	for _, f := range files {
		text := readText(t, f)
		size += len(text)
		noSecrets(t, filepath.Base(f), text, secrets)
	}
	t.Logf("%d secrets looked for in %d files, %d bytes", len(secrets), len(files), size)
}
