package host

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/bundle"
	"hactl/internal/facts"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/inventory/inventorytest"
)

// programHost is a host in a folder, with a real shell: /opt/hactl, /usr and /proc are
// folders in it.
type programHost struct {
	dir string
	t   *testing.T
}

func (p programHost) in(text string) string {
	return strings.NewReplacer("/opt/hactl", p.dir+"/opt/hactl", "/usr/bin", p.dir+"/usr/bin", "/proc/", p.dir+"/proc/").Replace(text)
}

func (p programHost) run(script string) string {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), "sh", "-c", p.in(sys.With(script)))
	cmd.Dir, cmd.Env = p.dir, append(os.Environ(), "PATH="+p.dir+"/bin:"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
	return strings.ReplaceAll(strings.TrimSuffix(string(out), "\n"), p.dir, "")
}

// without has a program of this machine fail there.
func (p programHost) without(program string) {
	p.run("mkdir bin; echo 'exit 127' >bin/" + program + "; chmod +x bin/" + program)
}

// build puts a build of the kubelet there and returns a host that wants it.
func (p programHost) build(version string) Host {
	a := bundle.Artifact{Name: "kubelet", Kind: bundle.Binary, Version: version, SHA256: sumOf(version), Dest: "/usr/bin/kubelet"}
	p.run(fmt.Sprintf("mkdir -p %s /usr/bin; echo %s >%s", filepath.Dir(at(a)), version, at(a)))
	return machine(inventorytest.One(p.t), facts.Brief{}, a)
}

// bare is a machine with the artifacts of the test alone.
func (h Host) bare() []Program { return h.programs()[:1] }

// links is what the step of the names would do, and does it.
func (p programHost) links(h Host) *plan.Change {
	p.t.Helper()
	q := askNames(h.bare())
	seen, err := q.Parse(p.run(q.Script))
	if err != nil {
		p.t.Fatal(err)
	}
	c := h.linksChange(h.bare(), seen)
	if c != nil {
		p.run(h.linkScript(h.bare(), seen))
	}
	return c
}

func (p programHost) old(h Host) string {
	p.t.Helper()
	old, err := parseOld(p.run(h.oldPrograms(h.bare()).Look[0].Script))
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Join(old, "\n")
}

func newProgramHost(t *testing.T) programHost {
	p := programHost{t.TempDir(), t}
	p.run("mkdir -p /proc/7 /usr/bin")
	return p
}

// Three builds, one after another: the one that ran before stays, to go back to, and
// so does one that a process still runs from.
func TestOldBuildsGoButThePreviousOneAndThoseThatRun(t *testing.T) {
	t.Parallel()
	p := newProgramHost(t)
	one := p.build("v1.0.1")
	if c := p.links(one); c == nil || !c.Made[0].Former.Absent {
		t.Errorf("a name that was free: %+v", c)
	}
	if c := p.links(one); c != nil {
		t.Errorf("in place, and yet: %s", c.Summary)
	}
	two := p.build("v1.0.2")
	if got := p.old(two); got != "" {
		t.Errorf("before the second is in use, the first would go: %s", got)
	}
	p.links(two)
	if got := p.run("cat /usr/bin/kubelet; cat /opt/hactl/kubelet/previous/kubelet"); got != "v1.0.2\nv1.0.1" {
		t.Errorf("%q", got)
	}
	if got := p.old(two); got != "" {
		t.Errorf("the previous one would go: %s", got)
	}
	three := p.build("v1.0.3")
	first := filepath.Dir(one.bare()[0].Path)
	if got := p.old(three); got != first {
		t.Errorf("what a plan shows before the third is in use: %q, want %q", got, first)
	}
	p.run("ln -s " + one.bare()[0].Path + " /proc/7/exe")
	if got := p.old(three); got != "" {
		t.Errorf("a process runs from it: %s", got)
	}
	p.run("rm /proc/7/exe")
	p.links(three)
	if got := p.old(three); got != first {
		t.Errorf("%q, want %q", got, first)
	}
	st := three.oldPrograms(three.bare())
	var ran string
	env := scriptEnv(t, func(script string) { ran = script })
	if err := st.Apply(t.Context(), env, nil); err != nil {
		t.Fatal(err)
	}
	p.run(ran)
	if got := p.old(three) + p.run("ls /opt/hactl/kubelet | wc -l"); got != "3" { // two builds and the link
		t.Errorf("left: %s", got)
	}
}

// A name that another program has, or an older hactl, is taken over at the end; a
// file of the operator's own image stays.
func TestNamesThatAreTaken(t *testing.T) {
	t.Parallel()
	p := newProgramHost(t)
	h := p.build("v1.0.1")
	p.run("echo theirs >/usr/bin/kubelet")
	present := h
	inv := *h.Inv
	inv.Artifacts.Source = "present"
	present.Inv = &inv
	if c := p.links(present); c != nil {
		t.Errorf("the operator's file: %s", c.Summary)
	}
	if c := p.links(h); c == nil || !c.Made[0].Former.File {
		t.Errorf("a file: %+v", c)
	}
	p.run("ln -sfn /usr/lib/other/kubelet /usr/bin/kubelet")
	if c := p.links(h); c == nil || c.Made[0].Former.Value != "/usr/lib/other/kubelet" {
		t.Errorf("another link: %+v", c)
	}
	p.run("rm /usr/bin/kubelet && mkdir /usr/bin/kubelet")
	q := askNames(h.bare())
	if got, err := q.Parse(p.run(q.Script)); err == nil {
		t.Errorf("a folder in the place of a name is no error: %v", got)
	}
}

func TestBrokenAnswersOfNamesAreErrors(t *testing.T) {
	t.Parallel()
	q := askNames([]Program{{Link: "/usr/bin/kubelet"}, {Link: "/usr/bin/kube"}, {Link: "/usr/bin/ctr"}})
	const link, file, absent = "symbolic link@'/usr/bin/kubelet' -> '/opt/x'\n", "regular file@'/usr/bin/ctr'\n", "stat: cannot statx '/usr/bin/kube': No such file or directory\n"
	got, err := q.Parse(link + absent + file)
	if err != nil || !maps.Equal(got, map[string]string{"/usr/bin/kubelet": "/opt/x", "/usr/bin/kube": "absent", "/usr/bin/ctr": "file"}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, answer := range []string{
		"", link + file, link + absent, absent + file, strings.Replace(link, " -> '/opt/x'", "", 1) + absent + file,
		link + strings.Replace(absent, "kube'", "kubelet'", 1) + file, link + strings.Replace(absent, "No such file", "Input/output error", 1) + file,
	} {
		if got, err := q.Parse(answer); err == nil {
			t.Errorf("%q gives %v", answer, got)
		}
	}
	for _, answer := range []string{"", "/opt/x\n", "/opt/x\nen", "rm: error\nend\n", "end\n/opt/x\n"} {
		if got, err := parseOld(answer); err == nil {
			t.Errorf("%q gives %v", answer, got)
		}
	}
}

// A host of an older hactl, and one whose image has the program, is sent nothing.
// Some have no openssl.
func TestProgramThatIsThereByItsNameIsUsed(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{"v1.0.1": "taken", "another build": "other"} {
		p := newProgramHost(t)
		p.without("openssl")
		a := bundle.Artifact{Name: "kubelet", Version: "v1", SHA256: sumOf("v1.0.1"), Dest: "/usr/bin/kubelet"}
		p.run("printf %s '" + content + "' >/usr/bin/kubelet")
		seen := p.run(strings.ReplaceAll(askInstalled([]bundle.Artifact{a}).Script, sumsFile, p.dir+"/sums"))
		if seen != "absent "+at(a)+"\nfile /usr/bin/kubelet\nend" {
			t.Errorf("%q", seen)
		}
		answer := ""
		env := scriptEnv(t, func(script string) { answer = p.run(strings.ReplaceAll(script, "chown root:root", ": ")) })
		if _, err := takeFrom(t.Context(), env, a); err != nil || answer != want {
			t.Errorf("%s: %q, %v", content, answer, err)
		}
		_, err := os.Stat(p.in(at(a)))
		if there := err == nil; there != (want == "taken") {
			t.Errorf("%s: %v", content, err)
		}
	}
}

// scriptEnv is of a host that hands each script to run.
func scriptEnv(t *testing.T, run func(script string)) plan.Env {
	t.Helper()
	return plan.Env{Say: t.Logf, Host: remote.NewFake("host", func(c remote.Call) (*remote.Result, error) {
		run(c.Cmd.Script)
		return &remote.Result{}, nil
	})}
}
