package bundle

import (
	"bufio"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"hactl/internal/remote"
)

// modules holds one small Go module per project and version, with every dependency
// pinned by hash. The files carry .txt because a folder with a go.mod is another
// module, which cannot be embedded.
//
//go:embed modules
var modules embed.FS

// ErrModuleDownload says that the module proxy did not serve a module, even
// when asked again.
var ErrModuleDownload = errors.New("module download")

// program is a Go program and how it is linked.
type program struct {
	module string // folder in modules: "etcd/v3.6.16"
	pkg    string // import path; "." is the module's own
	tags   string
	flags  string // -ldflags beyond -s -w
	cgo    bool   // link against the C library, statically
}

// known refuses a version that has no build module. Its error lists those that do.
func (p program) known() error {
	if _, err := fs.Stat(modules, path.Join("modules", p.module, "go.mod.txt")); err == nil {
		return nil
	}
	project, version := path.Split(p.module)
	var have []string
	entries, _ := fs.ReadDir(modules, path.Join("modules", project))
	for _, e := range entries {
		have = append(have, e.Name())
	}
	return remote.Hint(fmt.Errorf("build %s %s from source: this hactl can build %s", path.Clean(project), version, strings.Join(have, ", ")),
		"name one of these versions, or fetch the release with hactl bundle --from upstream")
}

// downloadPauses are the waits between attempts: a proxy that fetches a
// version on demand refuses it first and serves it a minute later.
var downloadPauses = []time.Duration{5 * time.Second, 15 * time.Second, 30 * time.Second, 60 * time.Second}

// downloadTrouble is what the go command prints when a proxy, not the build,
// is at fault.
var downloadTrouble = regexp.MustCompile(`(?i)(403 forbidden|429 too many|50[0234] |not available|i/o timeout|tls handshake timeout|connection re(set|fused)|unexpected eof|no such host)`)

// build links p to out, fetching what is missing through the configured module
// proxy. GOPROXY, GOFLAGS, GOTOOLCHAIN and the like are taken from the environment.
func (p program) build(ctx context.Context, arch, out string, note func(string)) error {
	goTool, err := exec.LookPath("go")
	if err != nil {
		return remote.Hint(fmt.Errorf("find the go command: %w", err), "install Go %s or later, or fetch releases with hactl bundle --from upstream", strings.TrimPrefix(runtime.Version(), "go"))
	}
	if _, err := exec.LookPath("gcc"); err != nil && p.cgo && os.Getenv("CC") == "" {
		return remote.Hint(fmt.Errorf("find a C compiler: %w", err), "apt-get install %s, then hactl bundle again", strings.Join(BuildPackages, " "))
	}
	dir, err := os.MkdirTemp(filepath.Dir(out), ".module-")
	if err != nil {
		return fmt.Errorf("make build folder: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := unpackModule(p.module, dir); err != nil {
		return err
	}
	trouble := false
	attempts, err := retry(ctx, downloadPauses, note, func() (bool, error) {
		trouble, err = p.run(ctx, goTool, dir, arch, out, note)
		return trouble, err
	})
	if err != nil && trouble {
		return remote.Hint(fmt.Errorf("%w, %d attempts: %w", ErrModuleDownload, attempts, err), "check GOPROXY (go env GOPROXY) and run hactl bundle again: what was fetched and built is kept")
	}
	return err
}

// run is one go build; trouble says that the error is the proxy's.
func (p program) run(ctx context.Context, goTool, dir, arch, out string, note func(string)) (trouble bool, err error) {
	flags := strings.TrimSpace("-s -w " + p.flags)
	cgo := "0"
	if p.cgo {
		flags, cgo = flags+" -extldflags -static", "1"
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", out}
	if p.tags != "" {
		args = append(args, "-tags", p.tags)
	}
	cmd := exec.CommandContext(ctx, goTool, append(args, p.pkg)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo, "GOOS=linux", "GOARCH="+arch, "GOWORK=off", "PWD="+dir)
	// Interrupt first: go removes its temporary files then.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	last, err := runNoting(cmd, note)
	if err == nil {
		return false, nil
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return downloadTrouble.MatchString(last), fmt.Errorf("go build %s: %w: %s", p.pkg, err, last)
}

// keptLines is how much of a tool's output stands in an error.
const keptLines = 12

// runNoting runs a command, notes each line that it prints and returns the last few.
func runNoting(cmd *exec.Cmd, note func(string)) (last string, err error) {
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	done := make(chan []string)
	go func() {
		var lines []string
		for s := bufio.NewScanner(r); s.Scan(); {
			note(s.Text())
			lines = append(lines, s.Text())
			lines = lines[max(0, len(lines)-keptLines):]
		}
		_, _ = io.Copy(io.Discard, r) // a line too long for the scanner
		done <- lines
	}()
	err = cmd.Run()
	w.Close()
	return strings.Join(<-done, "\n"), err
}

func unpackModule(name, dir string) error {
	src := path.Join("modules", name)
	entries, err := fs.ReadDir(modules, src)
	if err != nil {
		return fmt.Errorf("read build module %s: %w", name, err)
	}
	for _, e := range entries {
		raw, err := modules.ReadFile(path.Join(src, e.Name()))
		if err != nil {
			return fmt.Errorf("read build module %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, strings.TrimSuffix(e.Name(), ".txt")), raw, 0o600); err != nil {
			return fmt.Errorf("write build module: %w", err)
		}
	}
	return nil
}
