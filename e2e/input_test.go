//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBadInventoryIsAnError gives the real binary files that no
// operator means to give it.
func TestBadInventoryIsAnError(t *testing.T) {
	bin, dir := hactlBinary(t), t.TempDir()
	huge := "cluster: x\nhosts:\n" + strings.Repeat("  - {name: h, address: 192.0.2.1, role: worker}\n", 10<<20/49)
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'j'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+p+",", 9), ",") + "]\n"
	}
	elf, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"empty": "", "blank": "\n\n \n", "binary": string(elf[:1<<20]), "nul": "cluster: a\x00b\n", "ten MB": huge, "ten MB of one line": strings.Repeat("a", 10<<20),
		"deep": strings.Repeat("[", 100_000), "aliases that explode": bomb, "a list": "- a\n- b\n", "a number": "42", "not UTF-8": "cluster: \xff\xfe\n",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			refused(t, bin, file)
		})
	}
	t.Run("a directory", func(t *testing.T) { refused(t, bin, dir) })
	t.Run("nothing there", func(t *testing.T) { refused(t, bin, filepath.Join(dir, "none")) })
	t.Run("a fifo without a writer", func(t *testing.T) {
		fifo := filepath.Join(dir, "fifo")
		if out, err := exec.CommandContext(t.Context(), "mkfifo", fifo).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		refused(t, bin, fifo)
	})
}

// refused runs validate, plan and up on the file: each says what is wrong.
func refused(t *testing.T, bin, file string) {
	t.Helper()
	for _, verb := range []string{"validate", "plan", "up"} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		cmd := exec.CommandContext(ctx, bin, verb, "-i", file, "--log-file", filepath.Join(t.TempDir(), "log"))
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		cancel()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() < 1 || exit.ExitCode() > 8 {
			t.Errorf("%s: %v: %.300s", verb, err, out.String())
			continue
		}
		record(t, "processor time until a bad inventory is refused", "s", (exit.UserTime() + exit.SystemTime()).Seconds())
		text := out.String()
		if !strings.Contains(text, "error:") && !strings.Contains(text, file) || strings.Contains(text, "panic") || strings.Contains(text, "goroutine ") {
			t.Errorf("%s says %.300q", verb, text)
		}
		if len(text) > 64<<10 {
			t.Errorf("%s says %d bytes about it", verb, len(text))
		}
	}
}
