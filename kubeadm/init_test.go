package kubeadm

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hactl/internal/kubeapi/kubeapitest"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory/inventorytest"
)

// initWorld is a master on which kubeadm runs, and two apiservers, its own and
// the first master's; a test sets what they answer.
type initWorld struct {
	Cluster
	host *remote.Fake
	lost bool // the connection to the host
	late bool // the kubelet, which has not found its apiserver when that is ready
	// importing is how often the images are not there yet when they are asked for.
	importing int

	mu   sync.Mutex
	code map[string]int // by address; 0 refuses the connection
	log  []string       // phases that ran, and questions that were answered
}

func (w *initWorld) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.log) == 0 || w.log[len(w.log)-1] != what {
		w.log = append(w.log, what)
	}
}

func (w *initWorld) set(addr string, code int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.code[addr] = code
}

func (w *initWorld) of(addr string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.code[addr]
}

// newInitWorld has ran called after each part of kubeadm init.
func newInitWorld(t *testing.T, ran func(w *initWorld, phases []string)) *initWorld {
	t.Helper()
	w := &initWorld{Cluster: clusterOf(t, inventorytest.Three(t), true), code: map[string]int{}}
	w.First, w.AwaitImages = w.Inv.Masters()[0].Name, "until images; do sleep 1; done\n"
	second := w.Inv.Masters()[1].Name
	w.host = remote.NewFake("m2", func(c remote.Call) (*remote.Result, error) {
		switch {
		case c.Kind == "dial":
			return nil, nil
		case c.Cmd.Script == ":" && w.lost:
			return nil, &remote.UnreachableError{Host: second, Op: "run", Err: io.ErrUnexpectedEOF}
		case c.Cmd.Script == ":": // it looks whether the host is there
			return &remote.Result{}, nil
		}
		var did []string
		for line := range strings.Lines(c.Cmd.Script) {
			if _, skipped, ok := strings.Cut(line, "--skip-phases "); ok {
				skipped, _, _ = strings.Cut(skipped, " ")
				for _, p := range slices.Concat(toFiles, toKubelet, toAPIServer, toNode, toCluster) {
					if !slices.Contains(strings.Split(skipped, ","), p) {
						did = append(did, p)
					}
				}
			}
		}
		script, awaits := strings.CutPrefix(c.Cmd.Script, w.AwaitImages)
		if strings.HasPrefix(script, restart) {
			did = append([]string{"kubelet-restart"}, did...)
		}
		if awaits && w.importing > 0 {
			w.importing--
			w.note("images are not there yet")
			return &remote.Result{Exit: remote.NotYet}, &remote.ExitError{Host: second, Exit: remote.NotYet}
		}
		if awaits {
			did = append([]string{"images"}, did...)
		}
		w.note(strings.Join(did, " "))
		ran(w, did)
		return &remote.Result{}, nil
	})
	servers := map[string]string{}
	for _, m := range w.Inv.Masters()[:2] {
		addr := w.apiAddress(m)
		srv := kubeapitest.Serve(t, w.PKI.KubernetesCA.CertPEM, w.PKI.KubernetesCA.KeyPEM, m.PrivateAddress.AsSlice(), http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == nodesPath+"/"+second {
				if w.late {
					rw.WriteHeader(http.StatusNotFound)
				}
				_, _ = io.WriteString(rw, "{}")
				return
			}
			code := w.of(addr)
			w.note(m.Name + " answers " + http.StatusText(code))
			// The next question finds it ready.
			if code != http.StatusOK {
				w.set(addr, http.StatusOK)
			}
			rw.WriteHeader(code)
			_, _ = io.WriteString(rw, "x")
		}))
		t.Cleanup(srv.Close)
		servers[addr] = srv.Listener.Addr().String()
	}
	w.host.DialWith(func(ctx context.Context, _, addr string) (net.Conn, error) {
		if w.lost {
			<-ctx.Done() // as over a line that died
			return nil, &remote.UnreachableError{Host: second, Op: "dial", Err: ctx.Err()}
		}
		if w.of(addr) == 0 {
			return nil, errors.New("connection refused")
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", servers[addr])
	})
	return w
}

// secondDoes makes the second master and compares what happened.
func (w *initWorld) secondDoes(t *testing.T, want ...string) {
	t.Helper()
	if err := w.init(t.Context(), plan.Env{Host: w.host, Say: func(string, ...any) {}}, w.Inv.Masters()[1], "x"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.log, want) {
		t.Errorf("what happened:\n%s\nwanted:\n%s", strings.Join(w.log, "\n"), strings.Join(want, "\n"))
	}
}

func TestAnotherMasterFollowsTheFirstOnesApiserver(t *testing.T) {
	w := newInitWorld(t, func(w *initWorld, phases []string) {
		first, second := w.apiAddress(w.Inv.Masters()[0]), w.apiAddress(w.Inv.Masters()[1])
		switch phases[len(phases)-1] {
		case "kubeconfig":
			w.set(first, http.StatusInternalServerError)
		case "control-plane/apiserver":
			w.set(second, http.StatusInternalServerError)
		}
	})
	w.secondDoes(t,
		"preflight certs kubeconfig",
		"master-1 answers Internal Server Error", "master-1 answers OK",
		"kubelet-start control-plane/apiserver",
		"master-2 answers Internal Server Error", "master-2 answers OK",
		"images control-plane/controller-manager control-plane/scheduler wait-control-plane mark-control-plane",
	)
}

// The first one's apiserver does not come, and the kubelet's requests fail meanwhile.
func TestAnotherMasterComesUpWithoutTheFirst(t *testing.T) {
	w := newInitWorld(t, func(w *initWorld, phases []string) {
		if slices.Contains(phases, "control-plane/apiserver") {
			w.set(w.apiAddress(w.Inv.Masters()[1]), http.StatusInternalServerError)
		}
	})
	w.patience, w.late = 50*time.Millisecond, true
	w.secondDoes(t,
		"preflight certs kubeconfig",
		"kubelet-start control-plane/apiserver",
		"master-2 answers Internal Server Error", "master-2 answers OK",
		"images kubelet-restart control-plane/controller-manager control-plane/scheduler wait-control-plane mark-control-plane",
	)
}

// The wait for images gives the session free between its questions, and what comes
// after it is done once.
func TestImagesAreAskedForAgain(t *testing.T) {
	w := newInitWorld(t, func(w *initWorld, phases []string) {
		for _, m := range w.Inv.Masters()[:2] {
			w.set(w.apiAddress(m), http.StatusOK)
		}
	})
	w.importing = 2
	for _, m := range w.Inv.Masters()[:2] {
		w.set(w.apiAddress(m), http.StatusOK)
	}
	w.secondDoes(t,
		"preflight certs kubeconfig",
		"master-1 answers OK",
		"kubelet-start control-plane/apiserver",
		"master-2 answers OK",
		"images are not there yet",
		"images control-plane/controller-manager control-plane/scheduler wait-control-plane mark-control-plane",
	)
}

func TestImagesThatNeverComeAreWaitedForOnlySoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, ran := 0, ""
		h := remote.NewFake("m2", func(c remote.Call) (*remote.Result, error) {
			if c.Cmd.Script != "phases" {
				asked++
				return &remote.Result{Exit: remote.NotYet}, &remote.ExitError{Host: "m2", Exit: remote.NotYet}
			}
			ran += c.Cmd.Script
			return &remote.Result{}, nil
		})
		start := time.Now()
		err := Cluster{AwaitImages: "images\n"}.runWithImages(t.Context(), plan.Env{Host: h}, "phases")
		if waited := time.Since(start); err != nil || ran != "phases" || asked < 2 || waited < imagesWait || waited > imagesWait+time.Minute {
			t.Errorf("%v: %q ran after %s, and the images were asked for %d times", err, ran, waited, asked)
		}
	})
}

// Each wait of init is a row of the critical path.
func TestInitNamesItsParts(t *testing.T) {
	w := newInitWorld(t, func(*initWorld, []string) {})
	for i, want := range []string{
		"files and kubelet; apiserver, until it answers; restart of the kubelet; apiserver, until it is ready; images and leaders",
		"files; wait for the apiserver of master-1; kubelet; apiserver, until it is ready; images and leaders",
	} {
		m := w.Inv.Masters()[i]
		w.set(w.apiAddress(m), http.StatusOK)
		change := &plan.Change{}
		st := plan.Step{ID: "init", Host: m.Name, Check: func(context.Context, plan.Env) (*plan.Change, error) { return change, nil }}
		st.Apply = func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			change = nil
			return w.init(ctx, env, m, "x")
		}
		hosts := plan.Hosts{m.Name: w.host}
		p, err := plan.Make(t.Context(), []plan.Stage{{Name: "s", Steps: []plan.Step{st}}}, hosts, plan.Discard)
		if err != nil {
			t.Fatal(err)
		}
		did, err := p.Apply(t.Context(), hosts, plan.Discard, nil)
		if err != nil || len(did.Timings) != 1 {
			t.Fatalf("%+v, %v", did, err)
		}
		var got []string
		for _, part := range did.Timings[0].Parts {
			got = append(got, part.Name)
		}
		if strings.Join(got, "; ") != want {
			t.Errorf("%s: %q", m.Name, got)
		}
	}
}

// A real shell moves the pair, from a kubeconfig as kubeadm writes it.
func TestKubeletGetsItsPairInAFile(t *testing.T) {
	dir := t.TempDir()
	conf, pem := filepath.Join(dir, "kubelet.conf"), filepath.Join(dir, "kubelet", "kubelet-client-current.pem")
	b64 := base64.StdEncoding.EncodeToString
	text := "users:\n- name: system:node:m1\n  user:\n    client-certificate-data: " + b64([]byte("certificate\n")) + "\n    client-key-data: " + b64([]byte("key\n")) + "\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	script := "set -e\n" + strings.NewReplacer(kubeletDir, filepath.Dir(pem), kubeDir, dir).Replace(ownPair)
	for range 2 { // the second time there is nothing to do
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", script).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got, err := os.ReadFile(pem); string(got) != "certificate\nkey\n" {
			t.Errorf("%q, %v", got, err)
		}
		if got, _ := os.ReadFile(conf); !strings.HasSuffix(string(got), "    client-certificate: "+pem+"\n    client-key: "+pem+"\n") {
			t.Errorf("%s", got)
		}
		// The kubelet refuses anything but a link, and goes on from it.
		if to, err := os.Readlink(pem); err != nil || to != "kubelet-client-kubeadm.pem" {
			t.Errorf("%q, %v", to, err)
		}
		if info, err := os.Stat(pem); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
}

func TestLostHostIsNotWaitedFor(t *testing.T) {
	w := newInitWorld(t, func(w *initWorld, _ []string) { w.lost = true })
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := w.init(t.Context(), plan.Env{Host: w.host, Say: func(string, ...any) {}}, w.Inv.Masters()[1], "x")
		if took := time.Since(start); !remote.Unreachable(err) || took != askTimeout {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

// Manifests with which no apiserver comes up must stay a change to be made: the
// next run ends at this master again instead of breaking the next one.
func TestManifestsAreInSyncOnlyOnceTheApiserverServes(t *testing.T) {
	w := newInitWorld(t, func(*initWorld, []string) {})
	second := w.Inv.Masters()[1]
	st, err := w.Manifests(second)
	if err != nil {
		t.Fatal(err)
	}
	env := plan.Env{Host: w.host, Say: func(string, ...any) {}}
	recorded := func() bool {
		return slices.ContainsFunc(w.host.Calls(), func(c remote.Call) bool { return strings.Contains(c.Cmd.Script, markerFile+".new") })
	}
	if err := st.Apply(t.Context(), env, &plan.Change{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := st.Ready(ctx, env); err == nil || recorded() {
		t.Errorf("no apiserver: %v, recorded: %v", err, recorded())
	}
	w.set(w.apiAddress(second), http.StatusOK)
	if err := st.Ready(t.Context(), env); err != nil || !recorded() {
		t.Errorf("it serves: %v, recorded: %v", err, recorded())
	}
}

// The kubelet of a run that was cut off may complete a file by itself. Whatever else
// differs from what the plan showed is not touched.
func TestInitMakesAnewOnlyWhatWasShown(t *testing.T) {
	t.Parallel()
	const two = "not initialised; made anew: kubelet.conf (its certificate is missing), apiserver.crt (empty)"
	for name, c := range map[string]struct {
		was, is string
		refused bool
	}{
		"the same":                   {was: two, is: two},
		"fewer files":                {was: two, is: "not initialised; made anew: apiserver.crt (empty)"},
		"no file any more":           {was: two, is: "not initialised"},
		"another file":               {was: "not initialised; made anew: apiserver.crt (empty)", is: two, refused: true},
		"a file where none was":      {was: "not initialised", is: "not initialised; made anew: apiserver.crt (empty)", refused: true},
		"initialised, and half-gone": {was: "not initialised", is: "admin.conf is missing", refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer, did := c.was, 0
			st := plan.Script{ID: "init", Host: "m1", Title: "kubeadm init", Look: "x", Op: plan.Create, Summary: "kubeadm init", Acts: initActs}.Step()
			st.Apply = func(context.Context, plan.Env, *plan.Change) error { did++; answer = "ok"; return nil }
			h := remote.NewFake("m1", func(call remote.Call) (*remote.Result, error) {
				_, rest, _ := strings.Cut(call.Cmd.Script, "hactl-")
				mark := "hactl-" + rest[:24]
				return &remote.Result{Stdout: []byte(answer + "\n\n" + mark + " 0 0\n")}, nil
			})
			hosts := plan.Hosts{"m1": h}
			p, err := plan.Make(t.Context(), []plan.Stage{{Name: "s", Steps: []plan.Step{st}}}, hosts, plan.Discard)
			if err != nil || p.Err() != nil || len(p.Pending()) != 1 {
				t.Fatal(err, p.Err())
			}
			answer = c.is
			_, err = p.Apply(t.Context(), hosts, plan.Discard, nil)
			if errors.Is(err, plan.ErrChanged) != c.refused || (did == 0) != c.refused {
				t.Errorf("applied %d times, %v", did, err)
			}
		})
	}
}
