package drill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"hactl/internal/kubeapi"
	"hactl/internal/wait"
)

// ledger remembers every acknowledged write. Each write makes an object or a
// key of its own, so that a single lost one is seen as missing.
type ledger struct {
	run string

	mu    sync.Mutex
	acked map[string][]string // by kind of store
}

// Stores of a ledger.
const (
	inKubernetes = "kubernetes"
	inEtcd       = "etcd"
)

func newLedger(run string) *ledger { return &ledger{run: run, acked: map[string][]string{}} }

func (l *ledger) ack(store, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[store] = append(l.acked[store], name)
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked[inKubernetes]) + len(l.acked[inEtcd])
}

// create is a probe that writes an object through k.
func (l *ledger) create(k *kube, stream string) probe {
	return func(ctx context.Context, seq int) error {
		name := fmt.Sprintf("%s-%s-%06d", l.run, stream, seq)
		err := k.do(ctx, http.MethodPost, mapsPath, object{
			"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": object{"name": name, "labels": object{runLabel: l.run}},
		}, nil)
		if kubeapi.HasStatus(err, http.StatusConflict) {
			err = nil // the client sent it twice: it is there
		}
		if err == nil {
			l.ack(inKubernetes, name)
		}
		return err
	}
}

// etcdPrefix is where drills write in etcd, outside of Kubernetes' own keys.
const etcdPrefix = "/hactl-drill/"

// put is a probe that writes a key to etcd.
func (l *ledger) put(e Etcd) probe {
	return func(ctx context.Context, seq int) error {
		key := fmt.Sprintf("%s%s/%06d", etcdPrefix, l.run, seq)
		err := e.Put(ctx, key, "1")
		if err == nil {
			l.ack(inEtcd, key)
		}
		return err
	}
}

const readBackBound = time.Minute

// readBack asks every apiserver and etcd for every acknowledged write and
// returns those that are missing somewhere. It asks again for a minute, all in all.
// The error says what could not be asked.
func (l *ledger) readBack(ctx context.Context, c *Cluster, dial dialFunc) (lost []string, err error) {
	ctx, cancel := wait.Within(ctx, "the writes to be read back", readBackBound)
	defer cancel()
	client := c.client(dial, false)
	var errs []error
	for _, m := range c.Masters() {
		have, err := persistently(ctx, func() (map[string]bool, error) {
			return (&kube{client: client, at: m.API}).names(ctx, mapsPath, runLabel+"="+l.run)
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("read back from %s: %w", m.Name, err))
			continue
		}
		lost = append(lost, missing(l.acked[inKubernetes], have, m.Name)...)
	}
	keys, err := persistently(ctx, func() ([]string, error) { return c.Etcd.Keys(ctx, etcdPrefix+l.run+"/") })
	if err != nil {
		errs = append(errs, fmt.Errorf("read back from etcd: %w", err))
	} else {
		have := map[string]bool{}
		for _, k := range keys {
			have[k] = true
		}
		lost = append(lost, missing(l.acked[inEtcd], have, "etcd")...)
	}
	slices.Sort(lost)
	return lost, errors.Join(errs...)
}

// persistently asks until there is an answer, or until ctx ends: an apiserver
// that lost etcd for a while fills its cache anew and answers 429 meanwhile.
func persistently[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	for {
		out, err := ask()
		if err == nil || !pause(ctx, 250*time.Millisecond) {
			return out, err
		}
	}
}

func missing(acked []string, have map[string]bool, where string) []string {
	var out []string
	for _, name := range acked {
		if !have[name] {
			out = append(out, where+": "+name)
		}
	}
	return out
}
