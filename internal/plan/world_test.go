package plan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"hactl/internal/fakehost"
	"hactl/internal/remote"
)

func TestMain(m *testing.M) { os.Exit(fakehost.Main(m)) }

// shell is a host that really runs the scripts, as the user of the test, on
// this machine's files: tests hand it paths in a temporary folder.
func shell(t *testing.T, name string) *remote.Fake {
	t.Helper()
	return remote.NewFake(name, func(c remote.Call) (*remote.Result, error) {
		switch c.Kind {
		case "run":
			return runLocally(t.Context(), c.Cmd)
		case "put":
			for _, f := range c.Files {
				if err := put(f); err != nil {
					return nil, err
				}
			}
		}
		return nil, nil
	})
}

func runLocally(ctx context.Context, c remote.Cmd) (*remote.Result, error) {
	var out, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "sh", "-c", c.Script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.Stdin), &out, &stderr
	err := cmd.Run()
	res := &remote.Result{Stdout: out.Bytes(), Stderr: stderr.Bytes()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		res.Exit, err = exit.ExitCode(), nil
	}
	return res, err
}

func put(f remote.File) error {
	if err := os.WriteFile(f.Path, f.Content, f.Mode); err != nil {
		return err
	}
	return os.Chmod(f.Path, f.Mode)
}

// me is the owner of what the test writes.
func me(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	return u.Username + ":" + g.Name
}

// world is hosts whose state is a set of facts in memory; a step of fact wants
// one of them to hold.
type world struct {
	mu     sync.Mutex
	facts  map[string]bool
	log    []string // what was applied, in order
	before func(id ID)
	fail   map[ID]error
}

func newWorld() *world { return &world{facts: map[string]bool{}, fail: map[ID]error{}} }

func (w *world) holds(f string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.facts[f]
}

func (w *world) applied() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.log...)
}

func (w *world) step(host, what string) Step {
	id := ID(host + "/" + what)
	return Step{
		ID: id, Host: host, Title: what,
		Check: func(context.Context, Env) (*Change, error) {
			if w.holds(string(id)) {
				return nil, nil
			}
			return &Change{Op: Do, Summary: "make " + what}, nil
		},
		Apply: func(context.Context, Env, *Change) error {
			if w.before != nil {
				w.before(id)
			}
			if err := w.fail[id]; err != nil {
				return err
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.facts[string(id)] = true
			w.log = append(w.log, string(id))
			return nil
		},
	}
}

func fakes(names ...string) Hosts {
	h := Hosts{}
	for _, n := range names {
		h[n] = remote.NewFake(n, func(c remote.Call) (*remote.Result, error) {
			if c.Kind == "run" {
				return runLocally(context.Background(), c.Cmd)
			}
			return nil, nil
		})
	}
	return h
}

func mustMake(t *testing.T, stages []Stage, hosts Hosts) *Plan {
	t.Helper()
	p, err := Make(t.Context(), stages, hosts, Discard)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// recorder keeps events.
type recorder struct {
	mu     sync.Mutex
	events []Event
}

func (r *recorder) Report(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) lines(kinds ...Kind) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.events {
		for _, k := range kinds {
			if e.Kind == k {
				out = append(out, strings.TrimSuffix(fmt.Sprintf("%s %s%s", k, e.Stage, "/"+string(e.Step)), "/"))
			}
		}
	}
	return out
}

// script of a look that shows the file as it is.
func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
