package kubeadm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/traffic"
	"hactl/internal/wait"
	"hactl/inventory"
)

// HostSeen is what one call to a host said.
type HostSeen struct {
	Certificates []Certificate
	// Traffic is what the probe of the host tried; TrafficErr why it could not be asked.
	Traffic    *traffic.Answer
	TrafficErr error
	// Network is what hactl-network says is missing in the kernel, or why it does not
	// run; "" when all is in place.
	Network string
}

// TrafficQuestion is what the probe of a host is to try.
func (c Cluster) TrafficQuestion(peers []traffic.Peer) traffic.Question {
	return traffic.Question{Peers: peers, CA: string(c.PKI.KubernetesCA.CertPEM), Name: "kubernetes.default.svc." + c.Inv.Network.DNSDomain + ".", Slow: c.Inv.SlowHosts}
}

// seenEnd separates the certificates from what comes before.
const seenEnd = "---- certificates"

// SeeHost reads the certificates of a host, asks hactl-network what is missing, and has
// the probe try what the question says, all in one call.
func SeeHost(ctx context.Context, h remote.Host, q traffic.Question) (*HostSeen, error) {
	question, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("encode the question: %w", err)
	}
	res, err := h.Run(ctx, remote.Cmd{
		Title: "read certificates, ask the probe", Stdin: question,
		// One that is older knows no such flag, and would run as a second keeper without.
		Script: `a=$(timeout ` + wait.Times(8) + ` ` + NetworkLink + ` -ask 2>&1); echo "traffic $? $(echo "$a" | tail -n 1)"
` + sys.StatusOf(networkUnit).Script + `
echo "` + seenEnd + `"
` + readCertificates(append(append([]string{}, renewable...), kubeletPair)...),
	})
	if err != nil {
		return nil, err
	}
	return parseHostSeen(string(res.Stdout))
}

func parseHostSeen(out string) (*HostSeen, error) {
	before, after, ok := strings.Cut(out, seenEnd+"\n")
	if !ok {
		return nil, sys.Unreadable(out)
	}
	certs, err := parseCertificates(after)
	if err != nil {
		return nil, err
	}
	s := &HostSeen{Certificates: certs}
	line, is := strings.CutPrefix(before, "traffic ")
	if !is {
		return nil, sys.Unreadable(before)
	}
	line, _, _ = strings.Cut(line, "\n")
	s.Traffic, s.TrafficErr = parseTraffic(strings.TrimSpace(line))
	unit, err := sys.StatusOf(networkUnit).Parse(before)
	switch {
	case err != nil:
		return nil, err
	case unit.Active != "active":
		s.Network = networkUnit + " is " + remote.Clean(unit.Active)
	case strings.HasPrefix(unit.Text, "missing: "):
		s.Network = remote.Clean(unit.Text)
	}
	return s, nil
}

// parseTraffic reads "CODE TEXT".
func parseTraffic(line string) (*traffic.Answer, error) {
	code, text, _ := strings.Cut(line, " ")
	switch {
	case code != "0" && strings.Contains(text, "no such file or directory"), code != "0" && strings.Contains(text, "connection refused"):
		return nil, errors.New("no probe answers there")
	case code != "0":
		return nil, fmt.Errorf("ask the probe: %s", remote.Clean(text))
	}
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	var a traffic.Answer
	if err := d.Decode(&a); err != nil {
		return nil, fmt.Errorf("read the probe's answer: %w", err)
	}
	a.API, a.DNS = remote.Clean(a.API), remote.Clean(a.DNS)
	for node, text := range a.Peers {
		a.Peers[node] = remote.Clean(text)
	}
	return &a, nil
}

// Peers of a probe: all others up to fewPeers, else the next one (a ring, so that every
// host is asked by one) and some chosen by sample.
const (
	fewPeers    = 6
	samplePeers = 2
)

// PeersOf are the probes that the probe of the i-th host of hosts tries to reach. sample
// returns a number below n; probes that do not run are left out.
func PeersOf(hosts []*inventory.Host, i int, pods map[string]ProbePod, sample func(n int) int) []traffic.Peer {
	n := len(hosts)
	var chosen []int
	for k := 1; k < n; k++ {
		chosen = append(chosen, (i+k)%n)
	}
	if n > fewPeers {
		chosen = chosen[:1]
		for range samplePeers {
			chosen = append(chosen, (i+2+sample(n-2))%n)
		}
	}
	var out []traffic.Peer
	seen := map[int]bool{i: true}
	for _, k := range chosen {
		p := pods[hosts[k].Name]
		if !seen[k] && p.Running {
			out = append(out, traffic.Peer{Node: p.Node, Address: p.Address})
		}
		seen[k] = true
	}
	return out
}
