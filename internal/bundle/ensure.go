package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hactl/internal/remote"
	"hactl/internal/versions"
)

// The origins of a bundle.
const (
	Source   = "source"   // built here with the Go toolchain
	Upstream = "upstream" // fetched from the projects' releases
)

// Options say what bundle is wanted and where.
type Options struct {
	Dir      string       // holds the sets, each in a folder of its own; empty: the user's cache. A folder with a manifest of its own is one set
	Set      versions.Set // what is in it; zero: the default set
	From     string       // Source or Upstream; empty: Source, and what the folder has of either origin will do
	Mirror   string       // base URL in place of the release hosts' scheme and host; Upstream only
	Arch     string       // empty: this machine's
	Jobs     int          // artifacts made at a time, 1 to 16; 0: 2 (linking one takes up to 2 GB)
	Progress func(Event)  // called one event at a time; may be nil
}

// job makes one artifact: out is a path in the work folder, whose siblings it
// may use, note takes news. It returns the image's ID, or "".
type job struct {
	Artifact
	make func(ctx context.Context, out string, note func(string)) (imageID string, err error)
}

// Ensure returns the wanted bundle, filling its folder first where something is
// missing. A complete bundle costs a few stats. A run that was killed goes on
// with the artifact it was at.
func Ensure(ctx context.Context, o Options) (*Bundle, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	jobs, err := o.jobs()
	if err != nil {
		return nil, err
	}
	return ensure(ctx, o, jobs)
}

func (o Options) withDefaults() (Options, error) {
	if o.Arch == "" {
		o.Arch = runtime.GOARCH
	}
	if o.Jobs == 0 {
		o.Jobs = 2
	}
	if o.Set == (versions.Set{}) {
		o.Set = versions.OfDefault()
	}
	return o.withFolder()
}

func (o Options) origin() string {
	if o.From == "" {
		return Source
	}
	return o.From
}

func ensure(ctx context.Context, o Options, jobs []job) (*Bundle, error) {
	if b, err := Open(o.Dir); err == nil && b.satisfies(o, jobs) {
		return b, nil
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make bundle: %w", err)
	}
	f := &filler{Options: o, jobs: jobs, have: map[string]Artifact{}}
	f.siblings = o.siblings()
	unlock, err := lock(ctx, o.Dir, func() {
		f.report(Event{Name: o.Dir, Total: len(jobs), State: Waiting, Detail: "another hactl fills it"})
	})
	if err != nil {
		return nil, err
	}
	defer unlock()
	if b, err := Open(o.Dir); err == nil && b.satisfies(o, jobs) {
		return b, nil
	}
	if err := f.fill(ctx); err != nil {
		return nil, err
	}
	return Open(o.Dir)
}

// satisfies says whether a bundle is what the options ask for: a bundle that an
// operator copied here from elsewhere will do when its versions are the same.
func (b *Bundle) satisfies(o Options, jobs []job) bool {
	if b.Arch != o.Arch || o.From != "" && b.Origin != o.From {
		return false
	}
	for _, j := range jobs {
		a, ok := b.Lookup(j.Name)
		if !ok || !j.same(a) {
			return false
		}
	}
	return true
}

// same says whether a, of a manifest, is what the job makes.
func (j job) same(a Artifact) bool {
	return a.Name == j.Name && a.Kind == j.Kind && a.Version == j.Version && a.File == j.File &&
		a.Dest == j.Dest && a.Image == j.Image && a.Recipe == j.Recipe && slices.Equal(a.Roles, j.Roles)
}

// filler fills one folder.
type filler struct {
	Options
	jobs     []job
	siblings []string // folders of other sets whose artifacts may be shared

	reporting sync.Mutex
	mu        sync.Mutex
	have      map[string]Artifact // finished, by name
}

// partialName holds the finished artifacts of a bundle that is not complete.
const partialName = ".partial.json"

func (f *filler) fill(ctx context.Context) error {
	f.adopt()
	if err := os.Remove(filepath.Join(f.Dir, manifestName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reopen bundle: %w", err)
	}
	if err := os.RemoveAll(f.work()); err != nil { // a killed run's
		return fmt.Errorf("clear work folder: %w", err)
	}
	if err := os.MkdirAll(f.work(), 0o755); err != nil {
		return fmt.Errorf("make work folder: %w", err)
	}
	defer os.RemoveAll(f.work())
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(f.Jobs)
	for i, j := range f.jobs {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := f.run(ctx, i+1, j); err != nil {
				return fmt.Errorf("make %s: %w", j.Name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return remote.Hint(fmt.Errorf("fill bundle %s: %w", f.Dir, err), "%s", f.hint(err))
	}
	if err := f.save(manifestName); err != nil {
		return err
	}
	for _, name := range []string{partialName, fetchFolder} {
		if err := os.RemoveAll(filepath.Join(f.Dir, name)); err != nil {
			return fmt.Errorf("clean up bundle: %w", err)
		}
	}
	return nil
}

// work is the folder for what is half made: nothing in it outlives a run.
func (o Options) work() string { return filepath.Join(o.Dir, ".work") }

func (f *filler) hint(err error) string {
	if h := remote.HintOf(err); h != "" {
		return h
	}
	return "run hactl bundle again: finished artifacts are kept"
}

// adopt takes over what an earlier run finished, after hashing it.
func (f *filler) adopt() {
	for _, name := range []string{manifestName, partialName} {
		m, _, err := readManifest(filepath.Join(f.Dir, name))
		if err != nil || m.Arch != f.Arch || m.Origin != f.origin() {
			continue
		}
		for _, a := range m.Artifacts {
			if verify(f.Dir, a) == nil {
				f.have[a.Name] = a
			}
		}
	}
}

func (f *filler) run(ctx context.Context, n int, j job) error {
	e := Event{Name: j.Name, N: n, Total: len(f.jobs), State: Started}
	f.mu.Lock()
	a, ok := f.have[j.Name]
	f.mu.Unlock()
	if ok && j.same(a) {
		e.State, e.Size = Kept, a.Size
		f.report(e)
		return nil
	}
	a, from, err := f.share(j)
	if err != nil {
		return err
	}
	if from != "" {
		e.State, e.Size, e.Detail = Kept, a.Size, "shared with "+filepath.Base(from)
	} else {
		start := time.Now()
		note, stop := watch(e, f.report)
		a, err = f.makeOne(ctx, j, note)
		stop()
		if err != nil {
			return err
		}
		e.State, e.Elapsed, e.Size = Done, time.Since(start), a.Size
	}
	f.report(e)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.have[j.Name] = a
	return f.save(partialName)
}

// makeOne makes an artifact in the work folder and renames it into its place, so that a
// file with its final name is always whole.
func (f *filler) makeOne(ctx context.Context, j job, note func(string)) (Artifact, error) {
	a := j.Artifact
	final := filepath.Join(f.Dir, filepath.FromSlash(a.File))
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return a, fmt.Errorf("make folder: %w", err)
	}
	out := filepath.Join(f.work(), a.Name)
	id, err := j.make(ctx, out, note)
	if err != nil {
		return a, err
	}
	a.ImageID = id
	if a.SHA256, a.Size, err = HashFile(out); err != nil {
		return a, err
	}
	mode := os.FileMode(0o644)
	if a.Kind != Image {
		mode = 0o755
	}
	if err := os.Chmod(out, mode); err != nil {
		return a, fmt.Errorf("set mode: %w", err)
	}
	if err := os.Rename(out, final); err != nil {
		return a, fmt.Errorf("put in place: %w", err)
	}
	return a, a.validate()
}

// save writes the finished artifacts, in the order of the jobs, atomically.
func (f *filler) save(name string) error {
	m := Manifest{Schema: schema, Arch: f.Arch, Origin: f.origin()}
	for _, j := range f.jobs {
		if a, ok := f.have[j.Name]; ok && j.same(a) {
			m.Artifacts = append(m.Artifacts, a)
		}
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	path := filepath.Join(f.Dir, name)
	if err := os.WriteFile(path+".tmp", append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (f *filler) report(e Event) {
	if f.Progress == nil {
		return
	}
	f.reporting.Lock()
	defer f.reporting.Unlock()
	f.Progress(e)
}
