package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// getChunk is how much of a file one call brings, in bytes: less than what is kept of
// a command's output.
const getChunk = 8 << 20

// Got is what a file on a host was when [Get] began.
type Got struct {
	Bytes    int64
	SHA256   string // lower-case hex
	Modified time.Time
}

// Get writes a host's file to w, in chunks. It is an error when what came is not what
// the host hashed before: the file was changed meanwhile.
func Get(ctx context.Context, h Host, path string, w io.Writer) (Got, error) {
	p := Quote(path)
	res, err := h.Run(ctx, Cmd{Title: "look at " + path, Timeout: 10 * time.Minute,
		Script: "[ -f " + p + " ] || { echo 'there is no such file' >&2; exit 1; }; stat -Lc '%s %Y' -- " + p + " && sha256sum <" + p})
	if err != nil {
		return Got{}, err
	}
	got, err := parseGot(string(res.Stdout))
	if err != nil {
		return got, fmt.Errorf("look at %s: %w", path, err)
	}
	sum := sha256.New()
	for at := int64(0); at < got.Bytes; at += getChunk {
		res, err := h.Run(ctx, Cmd{Title: "read " + path, Timeout: 10 * time.Minute,
			Script: fmt.Sprintf("dd if=%s bs=%d skip=%d count=1 iflag=fullblock 2>/dev/null", p, getChunk, at/getChunk)})
		if err != nil {
			return got, err
		}
		if _, err := io.MultiWriter(w, sum).Write(res.Stdout); err != nil {
			return got, fmt.Errorf("write what %s has in %s: %w", h.Name(), path, err)
		}
	}
	if hex.EncodeToString(sum.Sum(nil)) != got.SHA256 {
		return got, fmt.Errorf("read %s: it changed while it was read", path)
	}
	return got, nil
}

func parseGot(out string) (Got, error) {
	f := strings.Fields(out)
	if len(f) < 3 || len(f[2]) != 2*sha256.Size {
		return Got{}, fmt.Errorf("unreadable answer")
	}
	size, err1 := strconv.ParseInt(f[0], 10, 64)
	at, err2 := strconv.ParseInt(f[1], 10, 64)
	if err1 != nil || err2 != nil || size < 0 {
		return Got{}, fmt.Errorf("unreadable answer")
	}
	return Got{Bytes: size, SHA256: f[2], Modified: time.Unix(at, 0).UTC()}, nil
}
