package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"hactl/internal/remote/sshdtest"
	"hactl/internal/sys"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestPutWritesContentModeAndParents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	c := w.connect(t)
	dir := filepath.Join(t.TempDir(), "it's", "new")
	for _, f := range []File{
		{Path: dir + "/a file", Content: []byte("a\x00b\n'"), Mode: 0o600},
		{Path: dir + "/a file", Content: bytes.Repeat([]byte("x"), 300_000)},
		{Path: dir + "/empty", Mode: 0o755},
	} {
		f.Owner = w.owner
		if err := c.Put(t.Context(), f); err != nil {
			t.Fatalf("%v (%s)", err, HintOf(err))
		}
		got, err := os.ReadFile(f.Path)
		st, serr := os.Stat(f.Path)
		if err != nil || serr != nil || !bytes.Equal(got, f.Content) || st.Mode().Perm() != orDefault(f.Mode, 0o644) {
			t.Errorf("%d bytes, %v, %v", len(got), st, err)
		}
	}
	if got := names(t, dir); len(got) != 2 {
		t.Errorf("left behind: %q", got)
	}
	if st, _ := os.Stat(dir); st.Mode().Perm() != 0o755 {
		t.Errorf("parent made %v", st.Mode())
	}
	if n := w.srv.Sessions(); n != 3 {
		t.Errorf("%d sessions for 3 files", n)
	}
}

func TestPutReplacesALinkAndNotItsTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	dir := t.TempDir()
	victim := write(t, dir+"/victim", "keep", 0o600)
	if err := os.Symlink(victim, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := w.connect(t).Put(t.Context(), File{Path: dir + "/link", Content: []byte("new"), Owner: w.owner}); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(victim); string(b) != "keep" {
		t.Errorf("target is %q", b)
	}
}

func TestPutWritesManyFilesInOneSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	c := w.connect(t)
	dir := t.TempDir()
	var files []File
	for i := range 12 { // more than nine: ${10} is not $1 and a 0
		files = append(files, File{Path: fmt.Sprintf("%s/%d/f %d", dir, i%2, i), Content: bytes.Repeat([]byte{byte(i)}, i*1000), Mode: fs.FileMode(0o600 + 4*(i%3)), Owner: w.owner})
	}
	if err := c.Put(t.Context(), files...); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		got, err := os.ReadFile(f.Path)
		if st, _ := os.Stat(f.Path); err != nil || !bytes.Equal(got, f.Content) || st.Mode().Perm() != f.Mode {
			t.Errorf("%s: %d bytes, %v, %v", f.Path, len(got), st, err)
		}
	}
	if got := append(names(t, dir+"/0"), names(t, dir+"/1")...); len(got) != len(files) || w.srv.Sessions() != 1 {
		t.Errorf("%q in %d sessions", got, w.srv.Sessions())
	}

	// The second of three cannot be written: the error names it, and none of the
	// others has changed.
	files = files[:3]
	for i := range files {
		files[i].Content = []byte("new")
	}
	files[1].Path = dir + "/0"
	err := c.Put(t.Context(), files...)
	if !errors.Is(err, ErrIsFolder) || !strings.Contains(err.Error(), "write "+dir+"/0:") || strings.Contains(err.Error(), at) {
		t.Errorf("got %v", err)
	}
	if b, _ := os.ReadFile(files[2].Path); string(b) == "new" || len(names(t, dir+"/0")) != 6 {
		t.Errorf("left behind: %q %q", b, names(t, dir+"/0"))
	}
}

func TestPutRefusesOddPaths(t *testing.T) {
	t.Parallel()
	c := (&Conn{})
	for _, p := range []string{"", "etc/x", "/", "/etc/../x", "/etc/", "/a\x00b"} {
		if err := c.Put(t.Context(), File{Path: p}); err == nil {
			t.Errorf("took %q", p)
		}
	}
	if err := c.Put(t.Context(), File{Path: "/tmp/x", Owner: "--reference=/etc/shadow"}); err == nil {
		t.Error("took an option for an owner")
	}
}

// The host's tools are replaced by ones that fail as a sick disk does.
func TestDiskTroubleIsNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		profile, hint string
		want          error
	}{
		"full":       {"head() { echo 'head: write error: No space left on device' >&2; return 1; }", "df -h", ErrNoSpace},
		"read-only":  {"mktemp() { echo 'mktemp: failed to create file: Read-only file system' >&2; return 1; }", "remount,rw", ErrReadOnly},
		"permission": {"mktemp() { echo 'mktemp: failed to create file: Permission denied' >&2; return 1; }", "ssh.sudo", ErrPermission},
		"cut short":  {"head() { :; }", "again", ErrCutShort},
	} {
		t.Run(name, func(t *testing.T) {
			bin := t.TempDir()
			fn, _, _ := strings.Cut(c.profile, "(")
			body := strings.TrimSuffix(strings.TrimPrefix(c.profile, fn+"() { "), " }")
			write(t, bin+"/"+fn, "#!/bin/sh\n"+strings.ReplaceAll(body, "return", "exit")+"\n", 0o755)
			w := newWorld(t, sshdtest.Config{})
			w.opts.hostPath = bin + ":" + hostPath
			dir := t.TempDir()
			write(t, dir+"/f", "old", 0o600)
			err := w.connect(t).Put(t.Context(), File{Path: dir + "/f", Content: []byte("new content"), Owner: w.owner})
			if !errors.Is(err, c.want) || Unreachable(err) || !strings.Contains(HintOf(err), c.hint) {
				t.Errorf("error %v, hint %q", err, HintOf(err))
			}
			if b, _ := os.ReadFile(dir + "/f"); string(b) != "old" || len(names(t, dir)) != 1 {
				t.Errorf("left behind: %q %q", b, names(t, dir))
			}
		})
	}
	w := newWorld(t, sshdtest.Config{})
	dir := t.TempDir()
	err := w.connect(t).Put(t.Context(), File{Path: dir, Content: []byte("x"), Owner: w.owner})
	if !errors.Is(err, ErrIsFolder) || HintOf(err) == "" {
		t.Errorf("error %v", err)
	}
}

// A real full file system, where the machine has a device that is always full.
func TestFullDeviceIsNamed(t *testing.T) {
	t.Parallel()
	c := newWorld(t, sshdtest.Config{}).connect(t)
	for script, is := range map[string]struct {
		want error
		hint string
	}{
		"env echo x >/dev/full":                                    {ErrNoSpace, "make room on master-1: df -h; df -i"},
		"echo 'sh: 1: echo: echo: I/O error' >&2; exit 1":          {ErrIO, "look at the disk of master-1: df -h; df -i; dmesg | tail"},
		"echo 'mktemp: /etc/x: Input/output error' >&2; exit 1":    {ErrIO, "look at the disk of master-1: df -h; df -i; dmesg | tail"},
		"echo 'mktemp: /etc/x: Read-only file system' >&2; exit 1": {ErrReadOnly, "look at the disk of master-1: dmesg | tail; then mount -o remount,rw the file system"},
	} {
		_, err := c.Run(t.Context(), Cmd{Script: script, Title: "fill"})
		if !errors.Is(err, is.want) || !errors.As(err, new(*ExitError)) || HintOf(err) != is.hint {
			t.Errorf("%s: error %v, hint %q", script, err, HintOf(err))
		}
	}
	out, err := c.perform(t.Context(), call{title: "fill", script: "cat >/dev/full", stdin: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.writeError("fill", "/dev/full", out); !errors.Is(err, ErrNoSpace) {
		t.Errorf("error %v", err)
	}
}

func randomFile(t testing.TB, size int) (string, string) {
	t.Helper()
	b := make([]byte, size)
	_, _ = rand.Read(b)
	file := filepath.Join(t.TempDir(), "local")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return file, hex.EncodeToString(sum[:])
}

func TestSendSkipsWhatIsThere(t *testing.T) {
	t.Parallel()
	t.Run("openssl hashes", func(t *testing.T) { sendsOnce(t, newWorld(t, sshdtest.Config{})) })
	t.Run("sha256sum hashes", func(t *testing.T) {
		w, bin := newWorld(t, sshdtest.Config{}), t.TempDir()
		write(t, bin+"/openssl", "#!/bin/sh\nexit 127\n", 0o755)
		w.opts.hostPath = bin + ":" + hostPath
		sendsOnce(t, w)
	})
}

func sendsOnce(t *testing.T, w *world) {
	t.Helper()
	p := w.throughProxy(t)
	c := w.connect(t)
	local, sum := randomFile(t, 3<<20)
	var done, total int64
	u := Upload{Local: local, Path: t.TempDir() + "/bin/etcd", SHA256: sum, Mode: 0o755, Owner: w.owner,
		Progress: func(d, n int64) { done, total = d, n }}
	sent, err := c.Send(t.Context(), u)
	if err != nil || !sent || done != 3<<20 || total != 3<<20 {
		t.Fatalf("sent %v, %v, progress %d/%d", sent, err, done, total)
	}
	if err := os.Chmod(u.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	before := p.Sent()
	sent, err = c.Send(t.Context(), u)
	if err != nil || sent || p.Sent()-before > 10_000 {
		t.Errorf("second: sent %v, %v, %d bytes", sent, err, p.Sent()-before)
	}
	if st, err := os.Stat(u.Path); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("mode not set right: %v %v", st, err)
	}
	if n := w.srv.Sessions(); n != 3 {
		t.Errorf("%d sessions, want 2 + 1", n)
	}
	hashes, err := Ask(t.Context(), c, sys.Hashes(u.Path, "/no such file", local), 0)
	if err != nil || len(hashes) != 2 || hashes[u.Path] != sum || hashes[local] != sum {
		t.Errorf("hashes %v, %v", hashes, err)
	}
}

func TestSendRefusesAWrongHash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	local, _ := randomFile(t, 1000)
	dir := t.TempDir()
	write(t, dir+"/f", "old", 0o600)
	_, err := w.connect(t).Send(t.Context(), Upload{Local: local, Path: dir + "/f", SHA256: strings.Repeat("0", 64), Owner: w.owner})
	if !errors.Is(err, ErrHash) || HintOf(err) == "" || Unreachable(err) {
		t.Errorf("error %v", err)
	}
	if b, _ := os.ReadFile(dir + "/f"); string(b) != "old" || len(names(t, dir)) != 1 {
		t.Errorf("left behind: %q %q", b, names(t, dir))
	}
	if _, err := (&Conn{}).Send(t.Context(), Upload{Local: local, Path: dir + "/f", SHA256: "$(reboot)"}); err == nil {
		t.Error("took a hash that is none")
	}
}

func TestUploadCutInTheMiddle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	p := w.throughProxy(t)
	c := w.connect(t)
	mustRun(t, c, "true")
	local, sum := randomFile(t, 8<<20)
	dir := t.TempDir()
	write(t, dir+"/f", "old", 0o600)
	// What a power cut would leave, of this path and of another one.
	stale := write(t, dir+"/"+uploadPrefix(dir+"/f")+".stale1", "half", 0o600)
	others := write(t, dir+"/"+uploadPrefix(dir+"/g")+".stale1", "half", 0o600)
	u := Upload{Local: local, Path: dir + "/f", SHA256: sum, Owner: w.owner}
	p.CutAfter(3 << 20)
	_, err := c.Send(t.Context(), u)
	wantUnreachable(t, err, "connection lost", "run the same command again")
	wantUnreachable(t, err, "outcome unknown", "run the same command again")
	if b, _ := os.ReadFile(dir + "/f"); string(b) != "old" {
		t.Fatalf("half a file in place: %d bytes", len(b))
	}
	if sent, err := c.Send(t.Context(), u); err != nil || !sent {
		t.Fatalf("again: %v %v", sent, err)
	}
	if b, _ := os.ReadFile(dir + "/f"); len(b) != 8<<20 {
		t.Errorf("%d bytes", len(b))
	}
	eventually(t, "the temporary file of the cut upload is gone", func() bool { return len(names(t, dir)) == 2 })
	if _, err := os.Stat(stale); err == nil {
		t.Error("the leftover of this path is still there")
	}
	if _, err := os.Stat(others); err != nil {
		t.Error("the upload of another path was removed")
	}
}

// Which of those who use a connection hears first that it is lost is chance.
func TestWriteOnALostConnectionSaysSo(t *testing.T) {
	t.Parallel()
	reset := &net.OpError{Op: "write", Net: "tcp", Err: syscall.ECONNRESET}
	if err := feedError(fmt.Errorf("copy: %w", reset)); !strings.HasPrefix(err.Error(), "connection lost: ") || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("error %v", err)
	}
	if err := feedError(os.ErrClosed); !errors.Is(err, os.ErrClosed) || strings.Contains(err.Error(), "connection") {
		t.Errorf("error %v", err)
	}
}

func TestUploadStopsWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	p := w.throughProxy(t)
	p.Throttle(200_000, 0)
	c := w.connect(t)
	local, sum := randomFile(t, 4<<20)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Send(ctx, Upload{Local: local, Path: t.TempDir() + "/f", SHA256: sum, Owner: w.owner,
		Progress: func(int64, int64) { cancel() }})
	wantUnreachable(t, err, "interrupted", "")
}

func TestMissingLocalFileIsNotTheHostsFault(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	_, err := w.connect(t).Send(t.Context(), Upload{Local: "/no/such", Path: "/tmp/x", SHA256: strings.Repeat("0", 64)})
	if !errors.Is(err, os.ErrNotExist) || Unreachable(err) {
		t.Errorf("error %v", err)
	}
}

func BenchmarkSend(b *testing.B) {
	for _, hosts := range []int{1, 3} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			const size = 200 << 20
			local, sum := randomFile(b, size)
			conns := make([]*Conn, hosts)
			for i := range conns {
				conns[i] = newWorld(b, sshdtest.Config{}).connect(b)
			}
			b.SetBytes(int64(size * hosts))
			for b.Loop() {
				var wg sync.WaitGroup
				for _, c := range conns {
					wg.Go(func() {
						path := filepath.Join(b.TempDir(), "f")
						if _, err := c.Send(b.Context(), Upload{Local: local, Path: path, SHA256: sum, Owner: fmt.Sprint(os.Getuid())}); err != nil {
							b.Error(err)
						}
						_ = os.Remove(path)
					})
				}
				wg.Wait()
			}
		})
	}
}
