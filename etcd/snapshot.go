package etcd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// Snapshot is what was taken.
type Snapshot struct {
	Member string // who gave it
	Bytes  int64  // written, with the checksum at the end
}

// Snapshot writes a snapshot of the database to w, as etcdutl restores it: the
// database followed by its SHA-256, which is verified on the way. It is taken
// from a follower where there is one, to spare the leader. The bound is ctx's.
// After an error, what was written must be thrown away.
func (c *Cluster) Snapshot(ctx context.Context, w io.Writer) (*Snapshot, error) {
	cn, s, err := c.leading(ctx, "take a snapshot")
	if err != nil {
		return nil, err
	}
	for _, m := range s.Members {
		if m.Healthy && !m.Leader {
			cn = c.conn(m.Name)
			break
		}
	}
	r, err := cn.client.Snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("take a snapshot from %s: %w", cn.Name, err)
	}
	sum := newTrailer()
	n, err := io.Copy(io.MultiWriter(w, sum), r)
	err = errors.Join(err, r.Close())
	if err == nil {
		err = sum.check()
	}
	if err != nil {
		return nil, fmt.Errorf("take a snapshot from %s: %w", cn.Name, err)
	}
	return &Snapshot{Member: cn.Name, Bytes: n}, nil
}

// trailer hashes a stream but for its last 32 bytes, which are its checksum.
type trailer struct {
	sum interface {
		io.Writer
		Sum([]byte) []byte
	}
	held []byte
}

func newTrailer() *trailer { return &trailer{sum: sha256.New()} }

func (t *trailer) Write(p []byte) (int, error) {
	t.held = append(t.held, p...)
	if over := len(t.held) - sha256.Size; over > 0 {
		_, _ = t.sum.Write(t.held[:over]) // a hash never fails
		t.held = append(t.held[:0], t.held[over:]...)
	}
	return len(p), nil
}

func (t *trailer) check() error {
	if !bytes.Equal(t.held, t.sum.Sum(nil)) {
		return errors.New("its checksum is wrong: the stream was cut or damaged")
	}
	return nil
}
