package wait_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// apart are folders whose bounds are none of a run on hosts.
var apart = []string{
	"internal/wait", "internal/lab", "internal/bundle", "internal/release", "internal/ui", "internal/goldentest", "internal/testneeds",
	"internal/remote/sshdtest", "internal/remote/faultproxy", "internal/kubeapi/kubeapitest", "internal/plan/plantest", "internal/backup", "pki/pkitest",
	"internal/prober", "internal/network", "internal/vrrp", "cmd/hactl-prober", // tuning of the product, not waits of a run
}

// unstretched are the bounds that no factor stretches, by the folder or file and what stands
// there, with the reason.
var unstretched = map[string]string{
	"internal/remote/options.go context.WithTimeout":                        "the default of a hook; its callers stretch",
	"internal/drill/cluster.go context.WithTimeout(ctx, requestDeadline/2)": "a request of the traffic that a drill judges",
	"internal/drill/kube.go context.WithTimeout(ctx, bound)":                "a request of the traffic that a drill judges",
	"internal/drill/traffic.go":                                             "requests of the traffic that a drill judges",
	"internal/drill/watch.go":                                               "what a drill measures; a look that is too late is repeated",
	"internal/drill/run_phases.go time.Now().Add(r.sc.Hold)":                "how long a fault lasts is a part of the scenario",
	"internal/drill/clock.go":                                               "measures how far this machine stands still",
	"internal/drill/injection.go time.NewTimer(d)":                          "a pause",
	"internal/ops/dead_host.go time.AfterFunc":                              "when a person is told what is waited for",
	"internal/ops/renew.go time.Now().Add(pollOfKubeletClient)":             "a time that is told to a person",
	"internal/ops/upgrade_obstacles.go time.Now().Add(7 * 24 * time.Hour)":  "the life of certificates",
	"internal/traffic/serve.go":                                             "bounds a connection by what the slowest question takes",
	"cmd/hactl-network/preflight_linux.go":                                  "a knock: only the neighbour table is read",
	"kubeadm/drain.go time.Now().Add(within)":                               "a person gives it, or cmd stretches the default",
	"etcd/members.go time.Now().Add(c.sayEvery)":                            "how often something is said",
	"etcd/snapshot.go time.AfterFunc":                                       "its bound is stretched in the line above",
}

// timers are the calls that bound something.
var timers = regexp.MustCompile(`^(context\.With(Timeout|Deadline)(Cause)?|time\.(NewTimer|AfterFunc)|net\.DialTimeout|time\.Now\(\)\.Add)$`)

// inScripts are bounds of loops and programs, as they stand in scripts for hosts. A number
// after them is one that no factor stretches.
var inScripts = regexp.MustCompile(`(-l[te] (\d+|%d|%\[\d\]d)|\btimeout (-k \d+ )?(\d+|%d)|--[a-z-]*timeout[= ]\d|--max-time \d|flock -w \d|\bseq \d|RuntimeMaxSec=\d|--wait=\d)`)

// inScriptsUnstretched are places of scripts, with the reason.
var inScriptsUnstretched = map[string]string{
	"internal/sys/host.sh -lt 10":           "a look that is repeated: one session must not be held for longer",
	"internal/preflight/probe.sh timeout 1": "a knock: the neighbour table is what is read",
	"internal/preflight/probe.sh -lt 100":   "how many writes are measured",
}

func TestNoBoundGoesRoundTheFactor(t *testing.T) {
	used := map[string]bool{}
	walk(t, func(path string) {
		src, err := os.ReadFile(filepath.Join("../..", path))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, ".sh") {
			report(t, used, path, string(src))
			return
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					report(t, used, path, text)
				}
			case *ast.SelectorExpr:
				if text := source(set, n); timers.MatchString(text) && text == "context.WithTimeout" {
					call(t, used, path, set, f, n)
				}
			case *ast.CallExpr:
				if text := source(set, n.Fun); timers.MatchString(text) && text != "context.WithTimeout" && !strings.Contains(source(set, n), "wait.Bound(") {
					judge(t, used, path, source(set, n))
				}
			}
			return true
		})
	})
	for key := range unstretched {
		if !used[key] {
			t.Errorf("%q is in the list, and not in the source any more", key)
		}
	}
}

// call reports a use of context.WithTimeout with its arguments, where it has some.
func call(t *testing.T, used map[string]bool, path string, set *token.FileSet, f *ast.File, s *ast.SelectorExpr) {
	t.Helper()
	text := source(set, s)
	ast.Inspect(f, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok && c.Fun == s {
			text = source(set, c)
		}
		return true
	})
	judge(t, used, path, text)
}

func judge(t *testing.T, used map[string]bool, path, text string) {
	t.Helper()
	for key := range unstretched {
		if strings.HasPrefix(path+" "+text, key) {
			used[key] = true
			return
		}
	}
	t.Errorf("%s: %s is stretched by no factor: use wait.Within or wait.Bound, or say in this test why not", path, text)
}

func report(t *testing.T, used map[string]bool, path, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		m := inScripts.FindString(line)
		if m == "" {
			continue
		}
		if why := inScriptsUnstretched[path+" "+m]; why != "" {
			used[path+" "+m] = true
			continue
		}
		t.Errorf("%s: %q is stretched by no factor: use wait.Times or wait.Shell, or say in this test why not", path, strings.TrimSpace(line))
	}
}

func source(set *token.FileSet, n ast.Node) string {
	var b bytes.Buffer
	_ = printer.Fprint(&b, set, n)
	return b.String()
}

// walk calls visit for every source file whose bounds count.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	for _, root := range []string{"cmd", "internal", "etcd", "kubeadm", "keepalived", "pki"} {
		err := filepath.WalkDir(filepath.Join("../..", root), func(at string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			path, _ := filepath.Rel("../..", at)
			for _, a := range apart {
				if path == a {
					return filepath.SkipDir
				}
			}
			if d.IsDir() && d.Name() == "testdata" {
				return filepath.SkipDir
			}
			if ext := filepath.Ext(path); !d.IsDir() && (ext == ".go" || ext == ".sh") && !strings.HasSuffix(path, "_test.go") {
				visit(filepath.ToSlash(path))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
