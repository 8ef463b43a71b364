package bundle

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/remote"
	"hactl/internal/testneeds"
)

// TestToolsBringTheirLibraries takes a program of this machine instead of nft,
// puts what is collected into a folder of its own and has the loader check it.
func TestToolsBringTheirLibraries(t *testing.T) {
	const program = "/usr/bin/find"
	if !hasAll("/", []string{program}) {
		testneeds.Missing(t, "no %s here", program)
	}
	files, err := closure("/", []string{program})
	if err != nil {
		testneeds.Missing(t, "not a dynamic program in Debian's layout: %v", err)
	}
	root, loader := t.TempDir(), ""
	for _, f := range files {
		if f.Link != "" {
			continue
		}
		if strings.Contains(f.Path, "/ld-linux") {
			loader = f.Path
		}
		to := filepath.Join(root, f.Path)
		raw, err := os.ReadFile(f.From)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, raw, 0o755); err != nil { //nolint:gosec // programs are to be run
			t.Fatal(err)
		}
	}
	if loader == "" {
		t.Fatal("the loader is missing")
	}
	libs, err := filepath.Glob(root + "/lib/*-linux-gnu*")
	if more, _ := filepath.Glob(root + "/usr/lib/*-linux-gnu*"); err == nil {
		libs = append(libs, more...)
	}
	list := exec.CommandContext(t.Context(), filepath.Join(root, loader), "--inhibit-cache", "--library-path", strings.Join(libs, ":"), "--list", filepath.Join(root, program))
	out, err := list.CombinedOutput()
	if err != nil || strings.Contains(string(out), "not found") {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if at := strings.Fields(line); len(at) > 2 && !strings.HasPrefix(at[2], root) {
			t.Errorf("%s comes from %s, outside what was collected", at[0], at[2])
		}
	}
}

func TestToolsFollowLinksInsideTheirRoot(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "real"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"absolute": "/real", "relative": "real", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	c := &linker{root: root}
	for _, l := range []string{"/absolute", "/relative"} {
		if got, err := c.resolve(l); err != nil || got != filepath.Join(root, "real") {
			t.Errorf("%s: %s, %v", l, got, err)
		}
	}
	if _, err := c.resolve("/loop"); err == nil {
		t.Error("a loop of links has an end")
	}
}

func TestToolsThatCannotBeFetchedNameThePackages(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := (&toolbox{root: t.TempDir(), dir: filepath.Join(t.TempDir(), "tools")}).collect(t.Context(), func(string) {})
	if err == nil || !strings.Contains(remote.HintOf(err), strings.Join(ToolPackages, " ")) {
		t.Errorf("error %v, hint %q", err, remote.HintOf(err))
	}
}

// nft reads the names of protocols from a file that is in no package of the tools.
func TestToolsHaveTheNamesOfProtocols(t *testing.T) {
	if !hasAll("/", toolPrograms) {
		testneeds.Missing(t, "nft, conntrack or iptables is not here")
	}
	files, err := (&toolbox{root: "/"}).collect(t.Context(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Path == "/etc/protocols" && strings.Contains(f.Content, "tcp\t6\t") && strings.Contains(f.Content, "udp\t17\t") {
			return
		}
	}
	t.Error("/etc/protocols is not among them, or lacks tcp or udp")
}
