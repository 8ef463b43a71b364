package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hactl/internal/remote"
)

// trickster is a file server that misbehaves as it is told, once per trick.
type trickster struct {
	content []byte
	sums    string // of the checksum file
	tricks  []string

	mu   sync.Mutex
	seen []string // Range header of each request for the file, "-" without
}

func newTrickster(content string, tricks ...string) *trickster {
	h := sha256.Sum256([]byte(content))
	return &trickster{content: []byte(content), sums: hex.EncodeToString(h[:]) + "  file\n", tricks: tricks}
}

func (s *trickster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, ".sha256") {
		fmt.Fprint(w, s.sums)
		return
	}
	s.mu.Lock()
	trick := ""
	if len(s.tricks) > 0 {
		trick, s.tricks = s.tricks[0], s.tricks[1:]
	}
	rng := r.Header.Get("Range")
	if rng == "" {
		rng = "-"
	}
	s.seen = append(s.seen, rng)
	s.mu.Unlock()
	half := s.content[:len(s.content)/2]
	switch trick {
	case "404":
		http.NotFound(w, r)
	case "503":
		http.Error(w, "later", http.StatusServiceUnavailable)
	case "cut":
		w.Header().Set("Content-Length", fmt.Sprint(len(s.content)))
		_, _ = w.Write(half)
	case "stall":
		w.Header().Set("Content-Length", fmt.Sprint(len(s.content)))
		_, _ = w.Write(half)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case "no ranges":
		_, _ = w.Write(s.content)
	case "wrong range":
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 1-%d/%d", len(s.content)-1, len(s.content)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(s.content[1:])
	case "other half":
		w.Header().Set("Content-Length", fmt.Sprint(len(s.content)))
		_, _ = w.Write(bytes.ToUpper(half))
	default:
		http.ServeContent(w, r, "file", time.Time{}, bytes.NewReader(s.content))
	}
}

func (s *trickster) ranges() string { return strings.Join(s.seen, " ") }

func testFetcher(t *testing.T, s http.Handler) *fetcher {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	f, err := newFetcher(filepath.Join(t.TempDir(), fetchFolder), server.URL+"/mirror/")
	if err != nil {
		t.Fatal(err)
	}
	f.pauses, f.stall = []time.Duration{time.Millisecond, time.Millisecond}, 200*time.Millisecond
	return f
}

const testURL = "https://dl.k8s.io/release/file"

func (f *fetcher) get(t *testing.T) (string, error) {
	t.Helper()
	got, err := f.file(t.Context(), testURL, testURL+".sha256", func(string) {})
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(got)
	return string(raw), err
}

func TestDownloadSurvivesATroubledServer(t *testing.T) {
	const content = "abcdefgh01234567"
	for _, c := range []struct {
		name, ranges string
		tricks       []string
	}{
		{"nothing wrong", "-", nil},
		{"busy once", "- -", []string{"503"}},
		{"cut short", "- bytes=8-", []string{"cut"}},
		{"stalls in the middle", "- bytes=8-", []string{"stall"}},
		{"cut, then no ranges", "- bytes=8-", []string{"cut", "no ranges"}},
		{"cut, then the wrong range", "- bytes=8- -", []string{"cut", "wrong range"}},
		{"the file changed in between", "- bytes=8- -", []string{"other half"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTrickster(content, c.tricks...)
			got, err := testFetcher(t, s).get(t)
			if err != nil || got != content {
				t.Fatalf("got %q, %v", got, err)
			}
			if s.ranges() != c.ranges {
				t.Errorf("asked for %q, want %q", s.ranges(), c.ranges)
			}
		})
	}
}

func TestDownloadGivesUpWithANamedErrorAndAHint(t *testing.T) {
	for _, c := range []struct {
		name   string
		tricks []string
		want   error
		text   string
	}{
		{"missing", []string{"404"}, ErrFetch, "404 Not Found"},
		{"busy for ever", []string{"503", "503", "503", "503"}, ErrFetch, "3 attempts"},
		{"stalls for ever", []string{"stall", "stall", "stall"}, ErrFetch, "no data for 200ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := testFetcher(t, newTrickster("abcdefgh01234567", c.tricks...)).get(t)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || remote.HintOf(err) == "" {
				t.Errorf("error %v, hint %q", err, remote.HintOf(err))
			}
		})
	}
}

func TestWrongChecksumIsRefusedAndNothingIsKept(t *testing.T) {
	s := newTrickster("good")
	s.content = []byte("evil")
	f := testFetcher(t, s)
	if _, err := f.get(t); !errors.Is(err, ErrChecksum) || remote.HintOf(err) == "" {
		t.Fatalf("error %v", err)
	}
	if s.ranges() != "-" {
		t.Errorf("asked %q: a wrong file is not worth a second download", s.ranges())
	}
	left, err := filepath.Glob(filepath.Join(f.dir, "*", "file*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAStoppedRunGoesOnInsideTheFile(t *testing.T) {
	s := newTrickster("abcdefgh01234567", "stall")
	f := testFetcher(t, s)
	f.stall = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	_, err := f.file(ctx, testURL, testURL+".sha256", func(n string) {
		if strings.HasPrefix(n, "fetched 0.0 MB") && len(s.ranges()) > 0 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("stopped with %v", err)
	}
	if got, err := f.get(t); err != nil || got != "abcdefgh01234567" || s.ranges() != "- bytes=8-" {
		t.Errorf("got %q, %v, asked %q", got, err, s.ranges())
	}
}

func TestAVerifiedDownloadIsNotFetchedAgain(t *testing.T) {
	s := newTrickster("good")
	f := testFetcher(t, s)
	for range 2 {
		if got, err := f.get(t); err != nil || got != "good" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if s.ranges() != "-" {
		t.Errorf("asked %q", s.ranges())
	}
}

func TestChecksumFilesAsProjectsWriteThem(t *testing.T) {
	sum, other := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	for name, c := range map[string]struct{ text, want string }{
		"bare":           {sum, sum},
		"upper case":     {strings.ToUpper(sum) + "\n", sum},
		"one line":       {sum + "  etcd.tar.gz\n", sum},
		"several lines":  {other + "  other.tar.gz\n" + sum + " *etcd.tar.gz\n", sum},
		"with a folder":  {sum + "  ./out/etcd.tar.gz\n", sum},
		"another's only": {other + "  other.tar.gz\n", ""},
		"an error page":  {"<html>not found</html>", ""},
		"empty":          {"", ""},
	} {
		path := filepath.Join(t.TempDir(), "sums")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readSum(path, "etcd.tar.gz")
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestMirrorMustBeAPlainBaseURL(t *testing.T) {
	for _, bad := range []string{"mirror", "ftp://mirror", "https://", "https://u:secret@mirror", "https://mirror?x=y", "https://mirror#x", "http://[::1", "/path"} {
		_, err := newFetcher(t.TempDir(), bad)
		if err == nil || remote.HintOf(err) == "" || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestRedirectFromHTTPSToHTTPIsRefused(t *testing.T) {
	req := func(u string) *http.Request { return httptest.NewRequest(http.MethodGet, u, nil) }
	via := []*http.Request{req("https://dl.k8s.io/x")}
	if noDowngrade(req("http://elsewhere/x"), via) == nil {
		t.Error("followed to http")
	}
	if err := noDowngrade(req("https://elsewhere/x"), via); err != nil {
		t.Error(err)
	}
}
