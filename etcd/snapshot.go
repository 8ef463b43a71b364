package etcd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"hactl/internal/wait"
)

// Snapshot is what was taken.
type Snapshot struct {
	Member    string // who gave it
	ClusterID uint64 // etcd's id of the cluster
	Version   string // of the member
	Quorum    bool   // there was one; else writes that this member had not got may be missing
	Bytes     int64  // written, with the checksum at the end
}

// stalled is how long a snapshot may bring nothing. The member holds a read
// transaction meanwhile, and its database grows with every write.
const stalled = 30 * time.Second

// Snapshot writes a snapshot of the database to w, as etcdutl restores it: the
// database followed by its SHA-256, which is verified on the way. It is taken
// from a follower where there is one, to spare the leader, and without a quorum
// from the member that is furthest. The bound is ctx's. After an error, what was
// written must be thrown away.
func (c *Cluster) Snapshot(ctx context.Context, w io.Writer) (*Snapshot, error) {
	status := c.Status(ctx)
	from := status.source()
	if from == nil {
		return nil, status.refuse("take a snapshot", status.Healthy, status.Voters)
	}
	cn := c.conn(from.Name)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, err := cn.client.Snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("take a snapshot from %s: %w", cn.Name, err)
	}
	sum := newTrailer()
	bound := wait.Bound(ctx, stalled)
	watch := time.AfterFunc(bound, func() {
		cancel(&wait.OverError{What: "more of the snapshot", Bound: bound, Err: fmt.Errorf("nothing came for %s", bound)})
	})
	defer watch.Stop()
	n, err := io.Copy(io.MultiWriter(w, sum, resets{watch, bound}), r)
	err = errors.Join(err, r.Close())
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err == nil {
		err = sum.check()
	}
	if err != nil {
		return nil, fmt.Errorf("take a snapshot from %s: %w", cn.Name, err)
	}
	return &Snapshot{Member: cn.Name, ClusterID: from.ClusterID, Version: from.Version, Quorum: status.Quorum, Bytes: n}, nil
}

// source is the member to take a snapshot from: a healthy follower, the leader, or
// without a quorum the one that answers and has the latest term and entry. It is nil when
// no member answers.
func (s *Status) source() *MemberStatus {
	var best *MemberStatus
	better := func(a, b *MemberStatus) bool {
		switch {
		case a.Healthy != b.Healthy:
			return a.Healthy
		case a.Healthy:
			return !a.Leader && b.Leader
		case a.RaftTerm != b.RaftTerm:
			return a.RaftTerm > b.RaftTerm
		}
		return a.Applied > b.Applied
	}
	for i := range s.Members {
		m := &s.Members[i]
		if m.Reachable && !m.Learner && (best == nil || better(m, best)) {
			best = m
		}
	}
	return best
}

// resets starts a timer again whenever something is written.
type resets struct {
	*time.Timer
	after time.Duration
}

func (r resets) Write(p []byte) (int, error) {
	r.Reset(r.after)
	return len(p), nil
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
