package ops

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"hactl/internal/remote"
	"hactl/kubeadm"
)

// buildHint is what makes the programs that run on hosts.
const buildHint = "make build puts hactl and the programs for hosts into bin; keep them together"

// networkProgram is the hactl-network for the hosts.
func networkProgram() (kubeadm.NetworkProgram, error) {
	path, err := findHelper("hactl-network")
	if err != nil {
		return kubeadm.NetworkProgram{}, err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return kubeadm.NetworkProgram{}, fmt.Errorf("read hactl-network: %w", err)
	}
	sum := sha256.Sum256(content)
	return kubeadm.NetworkProgram{Path: path, SHA256: hex.EncodeToString(sum[:])}, nil
}

// findHelper looks for a program that runs on the hosts beside this executable. Its error
// has a hint.
func findHelper(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	p := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(p); err != nil {
		return "", remote.Hint(fmt.Errorf("%s is not beside %s", name, self), buildHint)
	}
	if needsLibraries(p) {
		return "", remote.Hint(fmt.Errorf("%s needs the libraries of the machine that built it, and would not start on hosts", p), buildHint)
	}
	return p, nil
}

// needsLibraries reports whether a program is linked dynamically, which a plain go build
// does where there is a C compiler. Hosts, and the image in which it runs as a pod, may
// have another C library or none.
func needsLibraries(program string) bool {
	f, err := elf.Open(program)
	if err != nil {
		return false
	}
	defer f.Close()
	return slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}
