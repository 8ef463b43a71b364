package drill

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// requestDeadline is how long one probe waits for its answer.
const requestDeadline = time.Second

// keptDial bounds a dial of the one connection that is kept, which no other
// dial can overtake. The kernel repeats a lost SYN only after a second.
const keptDial = 250 * time.Millisecond

// newClient returns an HTTP/1.1 client: with kept a single connection that is
// used again and again, without it a new connection for each request.
func newClient(dial dialFunc, conf *tls.Config, kept bool) *http.Client {
	bound := requestDeadline
	if kept {
		bound = keptDial
	}
	conf = conf.Clone()
	if conf != nil {
		// A client that comes again resumes its session: a new connection costs
		// the hosts a fraction of the first one.
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	t := &http.Transport{
		// The transport dials on after its request was given up, without a
		// bound of its own: a dial into a black hole would hold up the kept
		// connection long after the VIP is back.
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, bound)
			defer cancel()
			return dial(ctx, network, addr)
		},
		TLSClientConfig:     conf,
		DisableKeepAlives:   !kept,
		DisableCompression:  true,
		TLSHandshakeTimeout: requestDeadline,
	}
	if kept {
		t.MaxConnsPerHost, t.MaxIdleConnsPerHost = 1, 1
	}
	return &http.Client{Transport: t}
}

// kube is the Kubernetes API at one address.
type kube struct {
	client *http.Client
	at     string // host:port
	scheme string // "https" unless it is a service of pods
}

// statusError is an answer that is not a success.
type statusError struct {
	Code int
	Path string
	Body string
}

// Error names the path and the status.
func (e *statusError) Error() string { return fmt.Sprintf("%s: status %d: %s", e.Path, e.Code, e.Body) }

const maxAnswer = 64 << 20

// do sends in as JSON and decodes the answer into out; both may be nil.
func (k *kube) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	scheme := k.scheme
	if scheme == "" {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, method, scheme+"://"+k.at+path, body)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if res.StatusCode/100 != 2 {
		return &statusError{Code: res.StatusCode, Path: path, Body: firstBytes(b, 200)}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}

func firstBytes(b []byte, n int) string {
	if len(b) > n {
		b = b[:n]
	}
	return string(b)
}

// names lists the names of the objects at path that carry the label.
func (k *kube) names(ctx context.Context, path, label string) (map[string]bool, error) {
	out := map[string]bool{}
	next := ""
	for {
		var list struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []struct {
				Metadata struct {
					Name string `json:"name"`
				} `json:"metadata"`
			} `json:"items"`
		}
		q := url.Values{"labelSelector": {label}, "limit": {"5000"}}
		if next != "" {
			q.Set("continue", next)
		}
		if err := k.do(ctx, http.MethodGet, path+"?"+q.Encode(), nil, &list); err != nil {
			return nil, err
		}
		for _, i := range list.Items {
			out[i.Metadata.Name] = true
		}
		if next = list.Metadata.Continue; next == "" {
			return out, nil
		}
	}
}

type object map[string]any

const (
	namespace     = "hactl-drill"
	namespacePath = "/api/v1/namespaces/" + namespace
	mapsPath      = namespacePath + "/configmaps"
	runLabel      = "hactl-drill-run"
)

// ensureNamespace makes the drill's namespace when it is not there.
func (k *kube) ensureNamespace(ctx context.Context) error {
	err := k.do(ctx, http.MethodPost, "/api/v1/namespaces", object{
		"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": namespace},
	}, nil)
	if err != nil && !hasStatus(err, http.StatusConflict) {
		return fmt.Errorf("make the namespace %s: %w", namespace, err)
	}
	return nil
}

// clearChunk is how many objects one request removes: thousands at once take an
// apiserver longer than a request may.
const clearChunk = 500

// clear removes what drills wrote, this one's and an interrupted one's. A request
// that fails is repeated until ctx ends: the cluster has just been broken.
func (k *kube) clear(ctx context.Context) error {
	for {
		err := k.do(ctx, http.MethodDelete, mapsPath+"?limit="+strconv.Itoa(clearChunk)+"&labelSelector="+runLabel, nil, nil)
		if err == nil {
			var left map[string]bool
			if left, err = k.names(ctx, mapsPath, runLabel); err == nil && len(left) == 0 {
				return nil
			}
		}
		if err != nil && !pause(ctx, 200*time.Millisecond) {
			return fmt.Errorf("remove the objects written: %w", err)
		}
	}
}
