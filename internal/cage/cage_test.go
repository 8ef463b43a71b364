package cage

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hactl/internal/remote"
	"hactl/internal/testneeds"
)

const folder = "/var/lib/hactl/cage.abc123"

// Whatever comes of a try, its folder is gone from the host afterwards, and programs run
// nowhere but in the cage.
func TestTryLeavesNothingOnTheHost(t *testing.T) {
	const good = "etcd 3.6.16\nkeys 404\nrevision 1000000625\nend\n"
	for name, c := range map[string]struct {
		out  string
		fail error
		want string
	}{
		"well":           {good, nil, ""},
		"it fails":       {"", errors.New("no systemd-run"), "no systemd-run"},
		"it is cut":      {"etcd 3.6.16\n", nil, "ends early"},
		"an odd answer":  {"keys many\nend\n", nil, "unreadable"},
		"an odd word":    {"kyes 4\nend\n", nil, "unknown word"},
		"without a word": {"", nil, "ends early"},
	} {
		t.Run(name, func(t *testing.T) {
			h := remote.NewFake("m1", func(call remote.Call) (*remote.Result, error) {
				switch call.Cmd.Title {
				case "prepare the cage":
					return &remote.Result{Stdout: []byte("folder " + folder + "\n")}, nil
				case "try in the cage":
					return &remote.Result{Stdout: []byte(c.out)}, c.fail
				}
				return nil, nil
			})
			got, err := Try{Etcd: Program{Path: "etcd"}, Etcdctl: Program{Path: "etcdctl"}, Etcdutl: Program{Path: "etcdutl"}, Snapshot: &Snapshot{"file", "abc"}}.Run(t.Context(), h, "/var/lib/etcd")
			if c.want == "" && (err != nil || got.Keys != 404 || got.Revision != 1000000625 || got.Etcd != "3.6.16" || got.Err() != nil) {
				t.Errorf("%+v: %v", got, err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v", err)
			}
			calls := h.Calls()
			if last := calls[len(calls)-1].Cmd.Script; !strings.Contains(last, `rm -rf --one-file-system "$f"`) || !strings.Contains(last, "f="+folder) {
				t.Errorf("the last call is %q", last)
			}
			for _, call := range calls {
				if strings.Contains(call.Cmd.Script, "--data-dir") {
					t.Errorf("an etcd outside of the cage: %s", call.Cmd.Script)
				}
			}
		})
	}
	for _, want := range []string{"PrivateNetwork=yes", "InaccessiblePaths=-/var/lib/etcd", `InaccessiblePaths=-"$data"`, "TemporaryFileSystem=/etc/kubernetes", "InaccessiblePaths=-/run/containerd", "RuntimeMaxSec=", "MemoryMax="} {
		if !strings.Contains(enter, want) {
			t.Errorf("the cage has no %s", want)
		}
	}
}

// What is not on the host is sent into the folder of the try, and what cannot be sent
// ends it before anything starts.
func TestMissingProgramsAreSent(t *testing.T) {
	var sent []string
	send := func(_ context.Context, _ remote.Host, to string) error { sent = append(sent, to); return nil }
	var stdin string
	h := remote.NewFake("m1", func(call remote.Call) (*remote.Result, error) {
		switch call.Cmd.Title {
		case "prepare the cage":
			return &remote.Result{Stdout: []byte("folder " + folder + "\nmissing kubeadm\ntaken kube-apiserver\n")}, nil
		case "try in the cage":
			stdin = string(call.Cmd.Stdin)
			return &remote.Result{Stdout: []byte("etcd 3.6.16\napiserver 1.36.3\nready 3.0\nend\n")}, nil
		}
		return nil, nil
	})
	try := Try{Etcd: Program{Path: "/opt/etcd"}, Etcdctl: Program{Path: "etcdctl"}, APIServer: &APIServer{Kubeadm: Program{Path: "/opt/kubeadm", Send: send}, Kubectl: Program{Path: "kubectl"}, Version: "v1.36.3"}}
	got, err := try.Run(t.Context(), h, "/var/lib/etcd")
	if err != nil || got.Ready != 3 || got.Kubernetes != "1.36.3" {
		t.Errorf("%+v: %v", got, err)
	}
	if !slices.Equal(sent, []string{folder + "/kubeadm"}) {
		t.Errorf("sent %v", sent)
	}
	for _, want := range []string{"kubeadm=" + folder + "/kubeadm\n", "apiserver=" + folder + "/kube-apiserver\n", "etcd=/opt/etcd\n"} {
		if !strings.Contains(stdin, want) {
			t.Errorf("the cage is not told %q", want)
		}
	}
	try.APIServer.Kubeadm.Send = nil
	if _, err := try.Run(t.Context(), h, "/var/lib/etcd"); err == nil || !strings.Contains(err.Error(), "/opt/kubeadm is not on the host") {
		t.Errorf("got %v", err)
	}
}

// programs are stand-ins for what runs in the cage. The apiserver notes its flags; $MODE
// says what goes wrong.
var programs = map[string]string{
	"etcd": `case $1 in --version) echo "etcd Version: 3.6.16"; exit;; esac
[ "$MODE" != etcd ] || { echo "cannot read the data"; exit 1; }
exec sleep 60`,
	"etcdctl": `[ "$MODE" != etcd ]`,
	"kubeadm": `[ "$MODE" != kubeadm ] || { echo "error: unknown field"; exit 1; }
mkdir -p ETC/pki ETC/manifests; touch ETC/pki/ca.crt ETC/pki/apiserver-kubelet-client.crt ETC/pki/apiserver-kubelet-client.key
cat >ETC/manifests/kube-apiserver.yaml <<'END'
spec:
  containers:
  - command:
    - kube-apiserver
    - --advertise-address=192.0.2.11
    - --bind-address=192.0.2.11
    - --etcd-servers=https://192.0.2.11:2379,https://192.0.2.12:2379
    - '--oidc-username-prefix=it''s: a b'
    image: kube-apiserver
END`,
	"kube-apiserver": `case $1 in --version) echo "Kubernetes v1.36.3"; exit;; esac
printf '%s\n' "$@" >NOTED
[ "$MODE" != flag ] || { echo "Error: unknown flag: --bogus"; exit 1; }
exec sleep 60`,
	"kubectl": `case "$*" in
*readyz*) [ "$MODE" != flag ] && echo ok ;;
*api-resources*) printf 'configmaps\ncomponentstatuses\nsecrets\n' ;;
*configmaps*) echo configmap/a; echo configmap/b; echo "Warning: old" >&2; [ "$MODE" != damaged ] || { echo "Error from server: unexpected EOF" >&2; exit 1; } ;;
esac`,
}

// inCage runs the script as the cage would, with stand-ins and another folder in the
// place of /etc/kubernetes.
func inCage(t *testing.T, mode string, s *APIServer) (out *Outcome, flags []string) {
	t.Helper()
	testneeds.Tool(t, "sh", "base64", "awk")
	dir := t.TempDir()
	etc, noted := filepath.Join(dir, "kubernetes"), filepath.Join(dir, "noted")
	r := running{Try: Try{APIServer: s}, folder: folder, paths: map[string]string{}}
	for name, text := range programs {
		r.paths[name] = filepath.Join(dir, name)
		text = "#!/bin/sh\n" + strings.NewReplacer("ETC", etc, "NOTED", noted).Replace(text) + "\n"
		if err := os.WriteFile(r.paths[name], []byte(text), 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	sh := exec.CommandContext(t.Context(), "sh", "-s")
	sh.Env = append(os.Environ(), "MODE="+mode, "TMPDIR="+dir)
	sh.Stdin = strings.NewReader(strings.ReplaceAll(string(r.stdin(1)), "/etc/kubernetes", etc))
	answer, err := sh.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	if out, err = parse(string(answer)); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(noted)
	return out, strings.Split(strings.TrimSpace(string(text)), "\n")
}

func caged() *APIServer {
	return &APIServer{
		Config: "/etc/kubernetes/init.yaml", Port: 6443, Flags: []string{"--watch-cache=false"}, ReadAll: true,
		Files: []remote.File{{Path: "/etc/kubernetes/init.yaml", Content: []byte("secret: it's\n")}},
	}
}

// The apiserver gets kubeadm's flags as they are, but for those that lead out of the cage.
func TestAPIServerGetsTheFlagsOfKubeadm(t *testing.T) {
	out, flags := inCage(t, "", caged())
	want := []string{"--advertise-address=192.0.2.11", "--etcd-servers=http://127.0.0.1:2379", "--oidc-username-prefix=it's: a b", "--watch-cache=false"}
	if !slices.Equal(flags, want) {
		t.Errorf("flags %q", flags)
	}
	if err := out.Err(); err != nil || out.Objects["configmap"] != 2 || out.Kubernetes != "1.36.3" || out.Etcd != "3.6.16" {
		t.Errorf("%+v: %v", out, err)
	}
}

func TestWhatFailsIsNamedWithItsLastLines(t *testing.T) {
	for mode, want := range map[string]string{
		"etcd":    "etcd did not come up:\ncannot read the data",
		"kubeadm": "kubeadm refuses the configuration:\nerror: unknown field",
		"flag":    "the apiserver did not come up:\nError: unknown flag: --bogus",
		"damaged": "the apiserver cannot read every object:\nconfigmaps: Error from server: unexpected EOF",
	} {
		out, _ := inCage(t, mode, caged())
		if err := out.Err(); err == nil || err.Error() != want {
			t.Errorf("%s: got %v", mode, err)
		}
	}
}
