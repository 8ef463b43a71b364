package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// shellHost runs scripts on this machine.
func shellHost(change func()) *Fake {
	return NewFake("m1", func(c Call) (*Result, error) {
		if strings.HasPrefix(c.Cmd.Title, "read ") {
			change()
		}
		out, err := exec.Command("sh", "-c", c.Cmd.Script).Output() //nolint:noctx // short
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return &Result{Exit: exit.ExitCode(), Stderr: exit.Stderr}, nil
		}
		return &Result{Stdout: out}, err
	})
}

func TestGetBringsAFileOfSeveralChunks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a file")
	want := make([]byte, 2*getChunk+777)
	_, _ = rand.Read(want)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	got, err := Get(context.Background(), shellHost(func() {}), path, &b)
	if err != nil || !bytes.Equal(b.Bytes(), want) || got.Bytes != int64(len(want)) || got.Modified.IsZero() {
		t.Errorf("%+v, %d bytes: %v", got, b.Len(), err)
	}
}

func TestGetRefusesAFileThatChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := shellHost(func() { _ = os.WriteFile(path, []byte("after."), 0o600) })
	if _, err := Get(context.Background(), h, path, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "changed while it was read") {
		t.Errorf("got %v", err)
	}
	if _, err := Get(context.Background(), h, path+".no", &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}
