package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"hactl/internal/sys"
)

// getChunk is how much of a file one call brings, in bytes: less than what is kept of
// a command's output.
const getChunk = 8 << 20

// Get writes a host's file to w, in chunks. It is an error when what came is not what
// the host hashed before: the file was changed meanwhile.
func Get(ctx context.Context, h Host, path string, w io.Writer) (sys.File, error) {
	got, err := Ask(ctx, h, sys.FileAt(path), 10*time.Minute)
	if err != nil {
		return got, err
	}
	sum := sha256.New()
	for at := int64(0); at < got.Bytes; at += getChunk {
		res, err := h.Run(ctx, Cmd{Title: "read " + path, Timeout: 10 * time.Minute,
			Script: fmt.Sprintf("dd if=%s bs=%d skip=%d count=1 iflag=fullblock 2>/dev/null", Quote(path), getChunk, at/getChunk)})
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
