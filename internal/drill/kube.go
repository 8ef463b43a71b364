package drill

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"hactl/internal/kubeapi"
	"hactl/internal/wait"
)

// requestDeadline is how long one probe waits for its answer.
const requestDeadline = time.Second

// keptDial bounds a dial of the one connection that is kept, which no other
// dial can overtake. The kernel repeats a lost SYN only after a second.
const keptDial = 250 * time.Millisecond

// client returns an HTTP/1.1 client of the cluster's apiservers: with kept a single
// connection that is used again and again, without it a new connection for each
// request.
func (c *Cluster) client(dial dialFunc, kept bool) *http.Client {
	if c.transport != nil {
		return &http.Client{Transport: c.transport(dial, kept)}
	}
	bound := requestDeadline
	if kept {
		bound = keptDial
	}
	conf := c.TLS.Clone()
	if conf != nil {
		// A client that comes again resumes its session: a new connection costs
		// the hosts a fraction of the first one.
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		// A resumed session agrees on a new key all the same. The default, a hybrid
		// with ML-KEM, costs either side five times as much as X25519 alone.
		conf.CurvePreferences = []tls.CurveID{tls.X25519}
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

// do sends in as JSON and reads the answer into out; both may be nil.
func (k *kube) do(ctx context.Context, method, path string, in, out any) error {
	c := kubeapi.Client{HTTP: k.client, Base: cmp.Or(k.scheme, "https") + "://" + k.at}
	return c.Do(ctx, method, path, in, out)
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

// insist asks again for half a minute, while nothing but the time after an outage
// may be what is wrong ([kubeapi.Final] knows what else is).
func insist(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := wait.Within(ctx, "an apiserver to take the request", 30*time.Second)
	defer cancel()
	for {
		tryCtx, cancel := wait.Within(ctx, "an answer of an apiserver", 5*time.Second)
		err := ask(tryCtx)
		cancel()
		if err == nil || kubeapi.Final(err) || !pause(ctx, 500*time.Millisecond) {
			return err
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
	err := insist(ctx, func(ctx context.Context) error {
		return k.do(ctx, http.MethodPost, "/api/v1/namespaces", object{
			"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": namespace},
		}, nil)
	})
	if err != nil && !kubeapi.HasStatus(err, http.StatusConflict) {
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
