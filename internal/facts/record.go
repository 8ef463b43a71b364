package facts

import (
	"encoding/json"
	"fmt"
	"net/netip"
)

// RecordFile is where a host keeps its [Record].
const RecordFile = "/var/lib/hactl/host.json"

// recordVersion is the form of RecordFile.
const recordVersion = "hactl/v1"

// Record is what must not follow a host's place in the inventory. It is given
// once and kept on the host, so that hosts can come and go before it.
type Record struct {
	APIVersion string `json:"apiVersion"`
	Cluster    string `json:"cluster"` // id of the cluster that the host belongs to
	Name       string `json:"name"`    // of the host in the inventory, and of its node
	// VIPPriority is the VRRP priority of a master, 1 to 254; 0 on a worker.
	VIPPriority int `json:"vipPriority,omitempty"`
	// PodSubnet is where the node's pods get their addresses, when hactl hands
	// those out.
	PodSubnet netip.Prefix `json:"podSubnet,omitzero"`
	Versions  Versions     `json:"versions,omitzero"`
}

// Versions is what a host was given. Values carry a leading v.
type Versions struct {
	Kubernetes string `json:"kubernetes,omitempty"`
	Etcd       string `json:"etcd,omitempty"` // on masters
	Containerd string `json:"containerd,omitempty"`
}

// Text is the content of RecordFile.
func (r Record) Text() ([]byte, error) {
	r.APIVersion = recordVersion
	text, err := json.MarshalIndent(r, "", "  ")
	return append(text, '\n'), err
}

// parseRecord reads the content of RecordFile; of none it is the zero Record.
func parseRecord(text string) (Record, error) {
	var r Record
	if text == "" {
		return r, nil
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, err
	}
	switch {
	case r.APIVersion != recordVersion:
		return r, fmt.Errorf("apiVersion is %.32q, this hactl knows %q", r.APIVersion, recordVersion)
	case len(r.Cluster) > maxText || len(r.Name) > maxText:
		return r, fmt.Errorf("a name is longer than %d bytes", maxText)
	case !r.Versions.valid():
		return r, fmt.Errorf("a version is not of the form v1.2.3")
	case r.VIPPriority < 0 || r.VIPPriority > 254:
		return r, fmt.Errorf("vipPriority is %d, not 1 to 254", r.VIPPriority)
	}
	return r, nil
}

func (v Versions) valid() bool {
	for _, s := range []string{v.Kubernetes, v.Etcd, v.Containerd} {
		if s != "" && (!wordForm.MatchString(s) || s[0] != 'v') {
			return false
		}
	}
	return true
}
