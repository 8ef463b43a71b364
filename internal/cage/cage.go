// Package cage tries programs of a cluster on one of its hosts without a way to the
// cluster: an etcd that is thrown away, empty or on a snapshot, and a kube-apiserver of
// any version with any flags on it. They run in a unit of systemd with a network of its
// own, an empty /etc/kubernetes, no access to etcd's data and keys, and bounded memory,
// processor and time. Nothing of them stays on the host.
package cage

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"hactl/internal/remote"
	"hactl/internal/wait"
)

// Try is what is tried, in one cage.
type Try struct {
	Etcd, Etcdutl, Etcdctl Program
	// Snapshot is restored as a real restore does it; nil: etcd begins empty.
	Snapshot *Snapshot
	// APIServer is started on that etcd; nil: none is.
	APIServer *APIServer
}

// Program is a program that a try runs.
type Program struct {
	// Path is where it lies on the host, or a name that the host's shell finds.
	Path string
	// Send brings it to the host, to the path given, where nothing is at Path; nil: it
	// has to be there.
	Send func(ctx context.Context, h remote.Host, to string) error
}

// Snapshot is a file of this machine.
type Snapshot struct{ File, SHA256 string }

// APIServer is a kube-apiserver and what it is started with. Its flags are those that
// its kubeadm makes of the configuration; certificates and keys are made for the try.
type APIServer struct {
	Kubeadm, Kubectl, Program Program
	// Version is that of the program, "v1.36.3". Where nothing is at the program's Path,
	// that of the host's own apiserver is taken if it is of this version.
	Version string
	// Config is the path of the configuration of kubeadm, which is one of Files, and Port
	// the port in it.
	Config string
	Port   int
	// Files are laid down before the start, below /etc/kubernetes, where there is nothing
	// else: kubeadm's configuration and patches, and the operator's files. They may be
	// secret.
	Files []remote.File
	// Flags are further flags, after those of kubeadm. They are not secret.
	Flags []string
	// ReadAll has every object read: each kind that the apiserver serves is listed.
	ReadAll bool
}

// Outcome is what came of a try.
type Outcome struct {
	// Refused is the stage that failed, "" when all went well: "restore", "etcd", "alarm",
	// "keys", "write", "kubeadm", "apiserver" or "discovery". Log has the last lines of
	// what failed.
	Refused string
	Log     []string

	Etcd     string // version
	Keys     int    // of the snapshot, read with their values
	Revision int64  // after the restore, raised as a real one raises it

	Kubernetes string         // version of the apiserver
	Ready      float64        // seconds from its start until it was ready
	Objects    map[string]int // read, by kind ("configmap", "deployment.apps")
	Unreadable []string       // what the apiserver said of kinds that it could not list
	Read       float64        // seconds that this took
	Seconds    float64        // in all, without sending files
}

var stages = map[string]string{
	"restore": "the snapshot cannot be restored", "etcd": "etcd did not come up", "alarm": "etcd raised an alarm",
	"keys": "etcd cannot read every key", "write": "etcd takes no write", "kubeadm": "kubeadm refuses the configuration",
	"apiserver": "the apiserver did not come up", "discovery": "the apiserver does not say what it serves",
}

// Err is nil when everything came up and every object could be read. Its text ends with
// the last lines of the program that failed.
func (o *Outcome) Err() error {
	switch {
	case o.Refused != "":
		return fmt.Errorf("%s:\n%s", stages[o.Refused], strings.Join(o.Log, "\n"))
	case len(o.Unreadable) > 0:
		return fmt.Errorf("the apiserver cannot read every object:\n%s", strings.Join(o.Unreadable, "\n"))
	}
	return nil
}

// script runs in the cage.
//
//go:embed cage.sh
var script string

const (
	// patience bounds the start of etcd and of the apiserver, in seconds; lives is how
	// long the unit may live.
	patience = 180
	lives    = 15 * time.Minute
	// prepareTimeout bounds the preparation, without sending.
	prepareTimeout = 5 * time.Minute
)

// prepare makes the folder of a try, prints its path, copies the program of the host's
// own apiserver where that is of the wanted version, and prints the names of programs
// that are missing. A try that was cut off may have left a folder, which goes after an
// hour. (An image of containerd is no source: "ctr images mount" of 2.2 fails where its
// mount manager hands out a bind mount, and leaves what it has mounted for a day.)
const prepare = `set -e
mkdir -p /var/lib/hactl
find /var/lib/hactl -maxdepth 1 -name 'cage.*' -mmin +60 -exec rm -rf --one-file-system {} +
f=$(mktemp -d /var/lib/hactl/cage.XXXXXX); echo "folder $f"
trap '[ $? = 0 ] || rm -rf --one-file-system "$f"' EXIT
there() { [ -n "$2" ] && command -v "$2" >/dev/null || echo "missing $1"; }
running() { # VERSION
for p in $(pids_of kube-apiserver); do
[ "$("/proc/$p/exe" --version 2>/dev/null)" = "Kubernetes $1" ] || continue
cp "/proc/$p/exe" "$f/kube-apiserver" && { echo "taken kube-apiserver"; return; }
done
return 1
}
`

// enter runs what it reads from stdin in the cage of the folder $f. What the program may
// write is in memory or in a /tmp that is gone afterwards.
const enter = `exec systemd-run --quiet --wait --pipe --collect --unit="hactl-${f##*/}" -p PrivateNetwork=yes -p PrivateTmp=yes -p PrivateDevices=yes -p ProtectSystem=strict -p ProtectHome=yes \
 -p TemporaryFileSystem=/etc/kubernetes -p TemporaryFileSystem=/var/log -p InaccessiblePaths=-/var/lib/etcd -p InaccessiblePaths=-"$data" -p InaccessiblePaths=-/etc/etcd \
 -p InaccessiblePaths=-/var/lib/kubelet -p InaccessiblePaths=-/run/containerd -p InaccessiblePaths=-/run/dbus -p InaccessiblePaths=-/run/systemd/private \
 -p MemoryMax=3G -p CPUQuota=150% -p CPUWeight=20 -p IOWeight=20 -p TasksMax=2000 -p RuntimeMaxSec=$((900*` + wait.Shell + `)) /bin/sh -s`

// Run tries it on the host. dataDir is where the host's etcd keeps its data. An error
// says that nothing can be said of it; what the try found is in the outcome.
func (t Try) Run(ctx context.Context, h remote.Host, dataDir string) (_ *Outcome, err error) {
	r := running{Try: t}
	defer func() { err = errors.Join(err, r.remove(context.WithoutCancel(ctx), h)) }()
	if err := r.prepare(ctx, h); err != nil {
		return nil, err
	}
	start := time.Now()
	res, err := h.Run(ctx, remote.Cmd{
		Title: "try in the cage", Timeout: lives + time.Minute, Stdin: r.stdin(wait.Factor(ctx)),
		Script: variables("f", r.folder, "data", dataDir) + enter,
	})
	if err != nil {
		return nil, remote.Hint(err, "the try runs by systemd-run; journalctl -u 'hactl-cage.*' on %s may say more", h.Name())
	}
	out, err := parse(string(res.Stdout))
	if err != nil {
		return nil, err
	}
	out.Seconds = time.Since(start).Seconds()
	return out, nil
}

// running is a try on a host.
type running struct {
	Try
	folder string            // on the host
	paths  map[string]string // of the programs there, by name
}

// programs are those that the try needs, by name.
func (t Try) programs() map[string]Program {
	out := map[string]Program{"etcd": t.Etcd, "etcdctl": t.Etcdctl}
	if t.Snapshot != nil {
		out["etcdutl"] = t.Etcdutl
	}
	if s := t.APIServer; s != nil {
		out["kubeadm"], out["kubectl"], out["kube-apiserver"] = s.Kubeadm, s.Kubectl, s.Program
	}
	return out
}

// prepare makes the folder on the host, and brings there what the try needs.
func (r *running) prepare(ctx context.Context, h remote.Host) error {
	programs := r.programs()
	names := slices.Sorted(maps.Keys(programs))
	script := prepare
	for _, name := range names {
		look := "there " + name + " " + remote.Quote(programs[name].Path) + "\n"
		if s := r.APIServer; s != nil && name == "kube-apiserver" && s.Program.Path == "" {
			look = "running " + remote.Quote(s.Version) + " || " + look
		}
		script += look
	}
	res, err := h.Run(ctx, remote.Cmd{Title: "prepare the cage", Timeout: prepareTimeout, Script: script})
	if err != nil {
		return err
	}
	missing, err := r.prepared(string(res.Stdout))
	if err != nil {
		return err
	}
	for _, name := range missing {
		if programs[name].Send == nil {
			return fmt.Errorf("prepare the cage: %s is not on the host", cmp.Or(programs[name].Path, name))
		}
		if err := programs[name].Send(ctx, h, r.paths[name]); err != nil {
			return fmt.Errorf("send %s: %w", name, err)
		}
	}
	if s := r.Snapshot; s != nil {
		_, err = h.Send(ctx, remote.Upload{Local: s.File, Path: r.folder + "/snapshot.db", SHA256: s.SHA256, Mode: 0o600})
	}
	return err
}

// prepared reads what the preparation says, and returns the programs that are missing.
func (r *running) prepared(answer string) (missing []string, err error) {
	r.paths = map[string]string{}
	for name, p := range r.programs() {
		r.paths[name] = p.Path
	}
	for line := range strings.Lines(answer) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "folder":
			if strings.HasPrefix(value, "/var/lib/hactl/cage.") && !strings.ContainsAny(value, " '") {
				r.folder = value
			}
		case "missing":
			missing = append(missing, value)
			r.paths[value] = r.folder + "/" + value
		case "taken":
			r.paths[value] = r.folder + "/" + value
		}
	}
	if r.folder == "" {
		return nil, fmt.Errorf("prepare the cage: the host names no folder: %q", remote.Clean(answer))
	}
	return missing, nil
}

// remove takes back what prepare made, and ends a try that still runs.
func (r *running) remove(ctx context.Context, h remote.Host) error {
	if r.folder == "" {
		return nil
	}
	_, err := h.Run(ctx, remote.Cmd{Title: "remove the cage", Script: variables("f", r.folder) + `stop_unit "hactl-${f##*/}.service" 2>/dev/null
rm -rf --one-file-system "$f"`})
	return err
}

// stdin is what the shell in the cage reads: variables, files, further flags, and the
// script.
func (r *running) stdin(slow int) []byte {
	s, snapshot, readAll := r.APIServer, "", ""
	if r.Snapshot != nil {
		snapshot = r.folder + "/snapshot.db"
	}
	if s == nil {
		s = &APIServer{}
	}
	if s.ReadAll {
		readAll = "yes"
	}
	var b bytes.Buffer
	b.WriteString(variables("etcd", r.paths["etcd"], "etcdutl", r.paths["etcdutl"], "etcdctl", r.paths["etcdctl"], "snapshot", snapshot,
		"kubeadm", r.paths["kubeadm"], "kubectl", r.paths["kubectl"], "apiserver", r.paths["kube-apiserver"],
		"config", s.Config, "port", strconv.Itoa(s.Port), "read_all", readAll, "patience", strconv.Itoa(patience*slow), "slow", strconv.Itoa(slow)))
	b.WriteString("umask 077\nput() { mkdir -p \"${1%/*}\"; base64 -d >\"$1\"; }\n")
	for _, f := range s.Files {
		fmt.Fprintf(&b, "put %s <<'EOF'\n%s\nEOF\n", remote.Quote(f.Path), base64.StdEncoding.EncodeToString(f.Content))
	}
	b.WriteString("set -- " + remote.Quote(s.Flags...) + "\n" + script)
	return b.Bytes()
}

// variables assigns in the shell: name, value, name, value.
func variables(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		b.WriteString(pairs[i] + "=" + remote.Quote(pairs[i+1]) + "\n")
	}
	return b.String()
}
