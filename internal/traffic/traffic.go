// Package traffic is the probe that runs as a pod on every host, and the question that
// a host puts to its own probe: which pods of other hosts, is the API's service
// address, is the cluster's DNS reached from a pod here. A cluster whose members, nodes
// and ready counts are all in order may have pods that reach nothing.
//
// The program is hactl-network, which lies on every host: the probe needs no image of
// its own and no registry. It holds no credentials.
package traffic

import "time"

const (
	// Port is where a probe answers the others, in its pod's network.
	Port = 10988
	// Socket is where a probe takes questions from its own host.
	Socket = "/run/hactl/probe/socket"
	// Patience bounds each part of an answer, stretched by the factor of the question: a
	// connection whose first packet is lost comes about after a second.
	Patience = 2 * time.Second
	// answerSize is how many bytes a probe answers with: more than a packet holds, so
	// that packets which are too large for a link on the way are noticed.
	answerSize = 16 << 10
)

// Question is what a probe is to try.
type Question struct {
	Peers []Peer `json:"peers"`
	CA    string `json:"ca"`   // whom the apiserver behind the service address shows a certificate of, PEM
	Name  string `json:"name"` // of the API's service, as the cluster's DNS knows it
	// Slow is how many times as long as usual the probe is to wait; 0: as usual.
	Slow int `json:"slow,omitempty"`
}

// Peer is the probe of another host.
type Peer struct {
	Node    string `json:"node"`
	Address string `json:"address"` // of its pod
}

// Answer is what came of it: the empty text where all is well, otherwise the error.
type Answer struct {
	Node  string            `json:"node"`
	Peers map[string]string `json:"peers"` // by node
	API   string            `json:"api"`
	DNS   string            `json:"dns"`
}
