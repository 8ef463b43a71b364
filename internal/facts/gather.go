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

//go:embed brief.sh
var briefScript string

//go:embed gather.sh
var restScript string

// gatherTimeout bounds the scripts, and the longer one takes about 0.1 s on
// an idle host.
const gatherTimeout = 30 * time.Second

// folders whose disks every host is asked about.
var folders = []string{"/var/lib/etcd", "/var/lib/containerd", "/var/lib/kubelet", "/opt/hactl", "/opt/cni", "/etc/kubernetes", "/run"}

// GatherBrief asks the host for the few facts that every run needs. Errors are
// as those of [Gather].
func GatherBrief(ctx context.Context, host remote.Host) (*Brief, error) {
	return ask(ctx, host, briefScript, parseBrief)
}

// Gather asks the host for all its facts in one round trip. dirs are further
// folders whose disks count, such as another etcd data directory. An answer that
// makes no sense is an error that names the field; a host that could not be looked
// at is an [*remote.UnreachableError].
func Gather(ctx context.Context, host remote.Host, dirs ...string) (*Facts, error) {
	all := slices.Clone(folders)
	for _, d := range dirs {
		if !slices.Contains(all, d) {
			all = append(all, d)
		}
	}
	return ask(ctx, host, clockBefore+"D="+remote.Quote(strings.Join(all, "\n"))+"\n"+briefScript+restScript, parse)
}

// clockBefore comes first: the time until the host's clock is read again is time
// on the host, not on the wire.
const clockBefore = `printf '\n%s clock-before\n%s\n' "$M" "$(date +%s%N)"
`

// ask runs a script on the host and has its answer read.
func ask[T any](ctx context.Context, host remote.Host, script string, read func(out []byte, mark string, w window) (*T, error)) (*T, error) {
	mark, err := newMark()
	if err != nil {
		return nil, err
	}
	cmd := remote.Cmd{Title: "look at the host", Timeout: gatherTimeout, Script: "M=" + mark + "\n" + script + "s end\n"}
	sent := time.Now()
	res, err := host.Run(ctx, cmd)
	if err != nil {
		return nil, fmt.Errorf("gather facts: %w", err)
	}
	f, err := read(res.Stdout, mark, window{sent, time.Now()})
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

// window is the time on the operator's clock in which the script ran.
type window struct{ from, to time.Time }
