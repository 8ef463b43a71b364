package bundle

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"hactl/internal/remote"
)

// fetchFolder holds downloads until the bundle is complete, so that a run that
// was stopped goes on inside a file.
const fetchFolder = ".fetch"

// ErrFetch says that a server did not deliver a file. A checksum that differs
// is [ErrChecksum] instead.
var ErrFetch = errors.New("fetch")

// fetcher downloads files with checksums, each once.
type fetcher struct {
	dir    string
	mirror *url.URL // nil: the real hosts
	client *http.Client
	stall  time.Duration   // the longest silence of a server that is put up with
	pauses []time.Duration // between attempts

	mu    sync.Mutex
	files map[string]*sync.Mutex // by URL
}

func newFetcher(dir, mirror string) (*fetcher, error) {
	f := &fetcher{dir: dir, stall: 30 * time.Second, pauses: []time.Duration{time.Second, 5 * time.Second, 15 * time.Second}, files: map[string]*sync.Mutex{}}
	f.client = &http.Client{CheckRedirect: noDowngrade}
	var err error
	f.mirror, err = parseMirror(mirror)
	return f, err
}

// parseMirror takes a plain base URL; without one, nil.
func parseMirror(mirror string) (*url.URL, error) {
	if mirror == "" {
		return nil, nil
	}
	u, err := url.Parse(mirror)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, remote.Hint(errors.New("mirror is not a plain base URL"), "write it as https://mirror.example.com/path, without user, query or fragment")
	}
	return u, nil
}

func noDowngrade(req *http.Request, via []*http.Request) error {
	if len(via) > 10 {
		return errors.New("too many redirects")
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("redirected from https to %s", req.URL.Scheme)
	}
	return nil
}

// locate is where a release file is fetched from: its own host, or the same
// path below the mirror.
func (f *fetcher) locate(u url.URL) string {
	if f.mirror != nil {
		u.Path = strings.TrimSuffix(f.mirror.Path, "/") + u.Path
		u.RawPath = ""
		u.Scheme, u.Host = f.mirror.Scheme, f.mirror.Host
	}
	return u.String()
}

// maxSums bounds a checksum file.
const maxSums = 1 << 20

// file returns the local path of a release file whose hash stands in the
// checksum file sums. Downloads of an earlier run are taken up again.
func (f *fetcher) file(ctx context.Context, from, sums string, note func(string)) (string, error) {
	u, err := url.Parse(from)
	if err != nil {
		return "", fmt.Errorf("fetch: %w", err)
	}
	defer f.hold(from)()
	key := sha256.Sum256([]byte(from))
	dir := filepath.Join(f.dir, hex.EncodeToString(key[:8]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("fetch: %w", err)
	}
	sumFile := filepath.Join(dir, "sums")
	if err := os.Remove(sumFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("fetch: %w", err)
	}
	s, err := url.Parse(sums)
	if err != nil {
		return "", fmt.Errorf("fetch: %w", err)
	}
	if _, err := f.download(ctx, f.locate(*s), sumFile, maxSums, note); err != nil {
		return "", err
	}
	want, err := readSum(sumFile, path.Base(u.Path))
	if err != nil {
		return "", fmt.Errorf("read checksum from %s: %w", f.locate(*s), err)
	}
	return f.verified(ctx, f.locate(*u), filepath.Join(dir, path.Base(u.Path)), want, note)
}

// hold keeps two artifacts that come out of one archive from fetching it twice.
func (f *fetcher) hold(from string) (release func()) {
	f.mu.Lock()
	m := f.files[from]
	if m == nil {
		m = &sync.Mutex{}
		f.files[from] = m
	}
	f.mu.Unlock()
	m.Lock()
	return m.Unlock
}

// verified downloads to a path unless the wanted bytes are there. What differs
// is removed: an interrupted download whose source changed heals in one more
// attempt, and a wrong file is fetched no more than that.
func (f *fetcher) verified(ctx context.Context, from, to, want string, note func(string)) (string, error) {
	part := to + ".part"
	if sum, _, err := HashFile(to); err == nil && sum == want {
		return to, nil
	}
	if sum, _, err := HashFile(part); err == nil && sum == want { // stopped just before the rename
		return to, os.Rename(part, to)
	}
	for first := true; ; first = false {
		resumed, err := f.download(ctx, from, part, maxFile, note)
		if err != nil {
			return "", err
		}
		sum, _, err := HashFile(part)
		if err != nil {
			return "", err
		}
		if sum == want {
			return to, os.Rename(part, to)
		}
		if err := os.Remove(part); err != nil {
			return "", fmt.Errorf("fetch: %w", err)
		}
		if !resumed || !first {
			return "", remote.Hint(fmt.Errorf("%w: %s has sha256 %s, its checksum file says %s", ErrChecksum, from, sum, want),
				"the server or something in between changed the file: compare with another source before you use it")
		}
	}
}

// maxFile bounds one release file, in bytes.
const maxFile = 1 << 30

// download gets a URL into a file, going on behind what is there, with a few
// attempts for what may pass; resumed says that the file is put together of
// more than one answer.
func (f *fetcher) download(ctx context.Context, from, to string, limit int64, note func(string)) (resumed bool, err error) {
	passing := false
	attempts, err := retry(ctx, f.pauses, note, func() (bool, error) {
		if st, err := os.Stat(to); err == nil && st.Size() > 0 {
			resumed = true
		}
		var err error
		passing, err = f.attempt(ctx, from, to, limit, note)
		return passing, err
	})
	if err == nil {
		return resumed, nil
	}
	err = fmt.Errorf("%w %s, %d attempts: %w", ErrFetch, from, attempts, err)
	if ctx.Err() != nil {
		return false, err
	}
	if !passing {
		return false, remote.Hint(err, "%s", f.missingHint())
	}
	return false, remote.Hint(err, "check the network and proxy settings (HTTPS_PROXY) and run hactl bundle again: it goes on where it was")
}

func (f *fetcher) missingHint() string {
	if f.mirror != nil {
		return "the mirror must serve the release hosts' paths below its base URL (docs/bundle.md lists them)"
	}
	return "hactl bundle --from source builds the same versions, --mirror URL fetches them from elsewhere"
}

// attempt is one request; passing says that another one may succeed.
func (f *fetcher) attempt(ctx context.Context, from, to string, limit int64, note func(string)) (passing bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(f.stall, func() { cancel(fmt.Errorf("no data for %s", f.stall)) })
	defer silence.Stop()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return false, err
	}
	defer out.Close()
	have, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return true, because(ctx, err)
	}
	defer resp.Body.Close()
	start, again := begin(resp, have)
	if again {
		return true, restart(out)
	}
	if resp.StatusCode >= 400 {
		return resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests, errors.New(resp.Status)
	}
	if err := rewind(out, start); err != nil {
		return false, err
	}
	return f.receive(ctx, resp, out, start, limit, silence, note)
}

// begin says at which byte the answer's body starts; again asks for a request
// without what is there, which is not a beginning of what the server has.
func begin(resp *http.Response, have int64) (start int64, again bool) {
	switch resp.StatusCode {
	case http.StatusPartialContent:
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &start); err != nil || start != have {
			return 0, true
		}
		return have, false
	case http.StatusRequestedRangeNotSatisfiable:
		return 0, true
	}
	return 0, false
}

var errRestart = errors.New("server cannot go on where the download stopped")

func restart(out *os.File) error {
	return errors.Join(errRestart, rewind(out, 0))
}

func rewind(out *os.File, start int64) error {
	if err := out.Truncate(start); err != nil {
		return err
	}
	_, err := out.Seek(start, io.SeekStart)
	return err
}

// receive copies the body; the silence timer is put back with every read.
func (f *fetcher) receive(ctx context.Context, resp *http.Response, out *os.File, start, limit int64, silence *time.Timer, note func(string)) (passing bool, err error) {
	total := start
	buf := make([]byte, 256<<10)
	for {
		n, err := resp.Body.Read(buf)
		silence.Reset(f.stall)
		if total += int64(n); total > limit {
			return false, fmt.Errorf("more than %d bytes", limit)
		}
		if _, werr := out.Write(buf[:n]); werr != nil {
			return false, werr
		}
		note(fmt.Sprintf("fetched %.1f MB", float64(total)/1e6))
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil { // with a Content-Length, a body cut short is io.ErrUnexpectedEOF
			return true, because(ctx, err)
		}
	}
}

func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// readSum finds a file's hash in a checksum file: either the hash alone, or
// lines of a hash and a name as sha256sum writes them.
func readSum(sums, name string) (string, error) {
	f, err := os.Open(sums)
	if err != nil {
		return "", err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		fields := strings.Fields(s.Text())
		if len(fields) == 0 || !sumForm.MatchString(strings.ToLower(fields[0])) {
			continue
		}
		if len(fields) == 1 || len(fields) == 2 && path.Base(strings.TrimPrefix(fields[1], "*")) == name {
			return strings.ToLower(fields[0]), nil
		}
	}
	return "", errors.Join(s.Err(), fmt.Errorf("%w: no sha256 of %s in it", ErrChecksum, name))
}
