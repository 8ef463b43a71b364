package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"hactl/internal/sys"
)

// ErrHash says that what arrived is not what was to be sent.
var ErrHash = errors.New("the file on the host has another SHA-256 than it should")

const (
	// sendFloor is the slowest line that an upload is given time for, in bytes a
	// second; a line that stands still is ended by the keepalive long before.
	sendFloor = 16 << 10
	// hashFloor is the same for hashing on the host.
	hashFloor     = 20 << 20
	exitWrongHash = 71
	progressEvery = 200 * time.Millisecond
)

// Send implements [Host]. It takes one round trip when the host has the file,
// two when not. An upload that was cut leaves only a file .hactl-upload.* beside
// the path, which the next Send of that path removes.
func (c *Conn) Send(ctx context.Context, u Upload) (bool, error) {
	if err := checkPath(u.Path, u.Owner); err != nil {
		return false, err
	}
	if !sys.SHA256Form.MatchString(u.SHA256) {
		return false, fmt.Errorf("send %s: %q is not a SHA-256 in lower-case hex", u.Local, u.SHA256)
	}
	f, err := os.Open(u.Local)
	if err != nil {
		return false, fmt.Errorf("send: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("send: %w", err)
	}
	same, err := c.alreadyThere(ctx, u, st.Size())
	if same || err != nil {
		return false, err
	}
	if err := c.upload(ctx, u, f, st.Size()); err != nil {
		return false, err
	}
	return true, nil
}

// uploadPrefix is the same for every upload to one path, and for no other.
func uploadPrefix(p string) string {
	sum := sha256.Sum256([]byte(p))
	return ".hactl-upload." + hex.EncodeToString(sum[:6])
}

// alreadyThere removes leftovers and compares hashes; for a file that is there
// it sets owner and mode right.
func (c *Conn) alreadyThere(ctx context.Context, u Upload, size int64) (bool, error) {
	title := "compare " + u.Path
	script := fmt.Sprintf(`p=%s d=%s
rm -f "$d"/%s.*
[ -f "$p" ] && [ "$(wc -c <"$p")" -eq %d ] && [ "$(hash_of "$p")" = "%s" ] || { echo differs; exit 0; }
set -e
chown %s "$p"
chmod %04o "$p"
echo same
`, Quote(u.Path), Quote(path.Dir(u.Path)), uploadPrefix(u.Path), size, u.SHA256, Quote(orDefault(u.Owner, "root:root")), perm(u.Mode))
	out, err := c.perform(ctx, call{title: title, script: script, timeout: DefaultTimeout + atRate(size, hashFloor)})
	if err != nil {
		return false, err
	}
	if err := c.writeError(title, u.Path, out); err != nil {
		return false, err
	}
	return strings.TrimSpace(string(out.stdout)) == "same", nil
}

func (c *Conn) upload(ctx context.Context, u Upload, f io.Reader, size int64) error {
	title := "send " + u.Path
	script := writeHead(u.Path, uploadPrefix(u.Path), u.Owner, u.Mode) + fmt.Sprintf(`cat >"$t"
[ "$(wc -c <"$t")" -eq %d ] || exit %d
[ "$(hash_of "$t")" = %s ] || exit %d
`, size, exitCutShort, u.SHA256, exitWrongHash) + writeEnd
	from := &source{r: f, total: size, tell: u.Progress}
	out, err := c.perform(ctx, call{
		title: title, script: script, timeout: DefaultTimeout + atRate(size, sendFloor) + atRate(size, hashFloor),
		stream: func(w io.Writer) error {
			_, err := io.CopyBuffer(onlyWriter{w}, from, make([]byte, 256<<10))
			return err
		},
	})
	local := from.stop()
	switch {
	case local != nil:
		return fmt.Errorf("send %s: read it here: %w", u.Local, local)
	case err != nil:
		return err
	case out.exit == exitWrongHash:
		return Hint(fmt.Errorf("%w: %w", ErrHash, c.exitError(title, out)), "check %s here with sha256sum; was it replaced meanwhile?", u.Local)
	}
	if err := c.writeError(title, u.Path, out); err != nil {
		return err
	}
	if u.Progress != nil {
		u.Progress(size, size)
	}
	return nil
}

func atRate(size, perSecond int64) time.Duration {
	return time.Duration(size/perSecond) * time.Second
}

// source reads the local file, tells how far it is, and tells a disk that fails
// here from a line that does. An upload that was given up may still hang in a
// write: after stop nobody hears of it any more.
type source struct {
	r     io.Reader
	total int64
	tell  func(done, total int64)

	mu   sync.Mutex
	done int64
	told time.Time
	err  error
	over bool
}

// Read implements [io.Reader]. What was read before has been written by now.
func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return 0, os.ErrClosed
	}
	if now := time.Now(); s.tell != nil && s.done > 0 && now.Sub(s.told) >= progressEvery {
		s.told = now
		s.tell(s.done, s.total)
	}
	n, err := s.r.Read(p)
	s.done += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// stop ends the reading and returns what went wrong with the local file.
func (s *source) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	return s.err
}

// onlyWriter hides ReadFrom, so that the buffer given to CopyBuffer is used.
type onlyWriter struct{ io.Writer }
