package etcd

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote"
)

func metricsHost(t *testing.T, handler http.HandlerFunc) *tunnel {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	return &tunnel{name: "m1", to: srv.Listener.Addr().String()}
}

func TestReadyAsksTheHostsOwnMetricsListener(t *testing.T) {
	h := metricsHost(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
	})
	if err := Ready(context.Background(), h); err != nil {
		t.Error(err)
	}
	if len(h.asks) != 1 || h.asks[0] != "127.0.0.1:2381" {
		t.Errorf("dialled %q", h.asks)
	}
}

func TestReadyQuotesTheFailedChecks(t *testing.T) {
	h := metricsHost(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("[+]serializable_read ok\n[-]linearizable_read failed: no leader\x1b[2J\n[-]non_learner failed\n"))
	})
	err := Ready(context.Background(), h)
	if err == nil || !strings.Contains(err.Error(), "linearizable_read failed: no leader [2J; non_learner failed") {
		t.Errorf("got %v", err)
	}
}

func TestReadyTellsUnreachableFromNotReady(t *testing.T) {
	h := &tunnel{name: "m1", err: &remote.UnreachableError{Host: "m1", Op: "dial", Err: errors.New("timeout")}}
	if err := Ready(context.Background(), h); !remote.Unreachable(err) {
		t.Errorf("got %v, want unreachable", err)
	}
	h.fail(errors.New("connection refused"))
	if err := Ready(context.Background(), h); err == nil || remote.Unreachable(err) {
		t.Errorf("got %v, want an ordinary error", err)
	}
}

func TestWaitReadyEndsWithTheLastReason(t *testing.T) {
	h := &tunnel{name: "m1", err: errors.New("connection refused")}
	err := WaitReady(context.Background(), h, 50*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(remote.HintOf(err), "journalctl -u etcd") {
		t.Errorf("got %v with hint %q", err, remote.HintOf(err))
	}
}
