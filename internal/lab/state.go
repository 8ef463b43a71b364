package lab

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// state is lab.json: what a lab is made of. It is written before the first
// namespace is made and not changed afterwards, so that Down can clean up
// after an Up that was killed anywhere.
type state struct {
	Name         string      `json:"name"`
	System       string      `json:"os,omitempty"` // absent: the first of Systems
	IPv6         bool        `json:"ipv6"`
	Bare         bool        `json:"bare"`
	Base         string      `json:"base"` // folder of the base, with root/ in it
	VM           bool        `json:"vm,omitempty"`
	Accel        string      `json:"accel,omitempty"`  // of the virtual machines: kvm or tcg
	Golden       string      `json:"golden,omitempty"` // folder of the bundle in their disk
	Disk         string      `json:"disk,omitempty"`   // that theirs are overlays on
	Preload      string      `json:"preload,omitempty"`
	CPUs         float64     `json:"cpus,omitempty"`
	SudoPassword string      `json:"sudoPassword"` // of the user opspw
	Hosts        []hostState `json:"hosts"`
}

type hostState struct {
	Host
	MAC string `json:"mac"`
}

func (s *state) count(role string) int {
	n := 0
	for _, h := range s.Hosts {
		if h.Role == role {
			n++
		}
	}
	return n
}

// emulated reports whether the hosts are machines emulated in software.
func (s *state) emulated() bool { return s.VM && s.Accel != accelKVM }

func (s *state) os() string { return cmp.Or(s.System, Systems[0]) }

// sameShape tells whether an Up with c would make the lab that s describes.
func (s *state) sameShape(c Config) bool {
	return s.count(Master) == c.Masters && s.count(Worker) == c.Workers && (s.count(Bastion) == 1) == c.Bastion &&
		s.os() == cmp.Or(c.OS, Systems[0]) && s.IPv6 == c.IPv6 && s.Bare == c.Bare && s.Preload == c.Preload && s.CPUs == c.CPUs &&
		s.VM == c.VM && s.Golden == c.Golden
}

func newState(c Config, base string) (*state, error) {
	pw := make([]byte, 12)
	if _, err := rand.Read(pw); err != nil {
		return nil, err
	}
	return &state{
		Name: c.Name, System: c.OS, IPv6: c.IPv6, Bare: c.Bare, Base: base, VM: c.VM, Golden: c.Golden, Preload: c.Preload, CPUs: c.CPUs,
		SudoPassword: hex.EncodeToString(pw), Hosts: planHosts(c),
	}, nil
}

func readState(dir string) (*state, error) {
	path := filepath.Join(dir, "lab.json")
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("read lab state %s: %w", path, err)
	}
	return &s, nil
}

func (s *state) write(dir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeAtomic(filepath.Join(dir, "lab.json"), append(b, '\n'), 0o600)
}

// writeAtomic replaces path in one step: a reader sees the old or the new file.
func writeAtomic(path string, content []byte, mode os.FileMode) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, content, mode); err != nil {
		return err
	}
	if err := os.Chmod(tmp, mode); err != nil { // the umask may have cut it
		return err
	}
	return os.Rename(tmp, path)
}

// registry holds one symlink per lab that may be running: name -> folder. It
// lies on a tmpfs, so a restart of the machine forgets what it ended.
const registry = "/run/hactl-lab"

// findDir returns the folder of the lab called name: where it was put by Up,
// else the default place.
func findDir(name string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	if dir, err := os.Readlink(filepath.Join(registry, name)); err == nil {
		return dir, nil
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "labs", name), nil
}

func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	return filepath.Join(dir, "hactl"), nil
}

// Names returns the names of the labs in the registry.
func Names() []string {
	entries, err := os.ReadDir(registry)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			out = append(out, e.Name())
		}
	}
	return out
}
