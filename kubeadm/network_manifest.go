package kubeadm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"hactl/internal/plan"
	"hactl/inventory"
	"hactl/templates"
)

// appliedFile on the first master names the pod network manifest that was
// applied last.
const appliedFile = kubeDir + "/hactl-pod-network"

// Manifest returns the step that applies the pod network's manifest through
// this master: the preset's, or the operator's own.
func (c Cluster) Manifest(h *inventory.Host) ([]plan.Step, error) {
	content, err := c.manifest()
	if err != nil || content == nil {
		return nil, err
	}
	s := sha256.Sum256(content)
	sum := hex.EncodeToString(s[:])
	return []plan.Step{plan.Script{
		ID: id(h, "pod-network"), Host: h.Name, Title: "pod network manifest", Op: plan.Update, Timeout: 2 * time.Minute,
		Look:    `s=$(cat ` + appliedFile + ` 2>/dev/null) || s=nothing; [ "$s" = ` + sum + ` ] && echo ok || echo "applied: $s"`,
		Summary: "apply the pod network manifest", Stdin: content,
		Run: c.kubectl(h) + `apply --server-side --force-conflicts -f - && printf '%s\n' ` + sum + ` >` + appliedFile,
	}.Step()}, nil
}

func (c Cluster) manifest() ([]byte, error) {
	switch {
	case c.Inv.Network.Manifest != "":
		b, err := os.ReadFile(c.Inv.Network.Manifest)
		if err != nil {
			return nil, fmt.Errorf("read network.manifest: %w", err)
		}
		return b, nil
	case c.Inv.Network.Preset == "flannel":
		return templates.Render("flannel.yaml.tmpl", map[string]any{
			"PodSubnet": c.Inv.Network.PodSubnet.String(), "IPv6": c.Inv.IPv6(), "Image": c.Inv.Versions.Set().FlannelImage(),
		})
	}
	return nil, nil
}
