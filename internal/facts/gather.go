package facts

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"hactl/internal/remote"
)

//go:embed gather.sh
var script string

// gatherTimeout bounds the script, which takes about 0.1 s on an idle host.
const gatherTimeout = 30 * time.Second

// folders whose disks every host is asked about.
var folders = []string{"/var/lib/etcd", "/var/lib/containerd", "/var/lib/kubelet", "/usr/local/bin", "/opt/cni", "/etc/kubernetes", "/run"}

// Gather asks the host for its facts in one round trip. dirs are further folders
// whose disks count, such as another etcd data directory. An answer that makes
// no sense is an error that names the field; a host that could not be looked at
// is an [*remote.UnreachableError].
func Gather(ctx context.Context, host remote.Host, dirs ...string) (*Facts, error) {
	mark, err := newMark()
	if err != nil {
		return nil, err
	}
	cmd := remote.Cmd{Title: "look at the host", Timeout: gatherTimeout, Script: prelude(mark, dirs) + script}
	sent := time.Now()
	res, err := host.Run(ctx, cmd)
	if err != nil {
		return nil, fmt.Errorf("gather facts: %w", err)
	}
	f, err := parse(res.Stdout, mark, window{sent, time.Now()})
	if err != nil {
		return nil, fmt.Errorf("gather facts: %w", err)
	}
	return f, nil
}

// newMark returns a marker that the host cannot know before the script arrives,
// so that no file on it forges a section.
func newMark() (string, error) {
	var nonce [12]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return "", fmt.Errorf("make a marker: %w", err)
	}
	return "hactl-" + hex.EncodeToString(nonce[:]), nil
}

func prelude(mark string, dirs []string) string {
	all := slices.Clone(folders)
	for _, d := range dirs {
		if !slices.Contains(all, d) {
			all = append(all, d)
		}
	}
	return "M=" + mark + "\nD=" + remote.Quote(strings.Join(all, "\n")) + "\n"
}

// window is the time on the operator's clock in which the script ran.
type window struct{ from, to time.Time }
