package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

func TestHostsFileSaysHowARegistryIsReached(t *testing.T) {
	t.Setenv("HST_USER", "ann")
	t.Setenv("HST_PASSWORD", "s3cret")
	for name, c := range map[string]struct {
		r    inventory.Registry
		want string
	}{
		"mirrors": {inventory.Registry{Name: "docker.io", Mirrors: []string{"https://a.example.com", "https://b.example.com/v2/hub"}}, `server = "https://registry-1.docker.io"

[host."https://a.example.com"]
  capabilities = ["pull", "resolve"]

[host."https://b.example.com/v2/hub"]
  capabilities = ["pull", "resolve"]
  override_path = true
`},
		"the registry itself": {inventory.Registry{Name: "r.example.com:5000", CA: "ca.pem", UsernameEnv: "HST_USER", PasswordEnv: "HST_PASSWORD"}, `server = "https://r.example.com:5000"

[host."https://r.example.com:5000"]
  capabilities = ["pull", "resolve"]
  ca = "/etc/containerd/certs.d/r.example.com:5000/ca.crt"
  [host."https://r.example.com:5000".header]
    Authorization = "Basic YW5uOnMzY3JldA=="
`},
		"all others": {inventory.Registry{Name: "_default", Mirrors: []string{"https://a.example.com"}}, `
[host."https://a.example.com"]
  capabilities = ["pull", "resolve"]
`},
	} {
		got, err := hostsFile(c.r)
		_, rest, _ := strings.Cut(string(got), "\n")
		if err != nil || rest != c.want {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

// A password never stands in a plan, and one that is missing stops before any change.
func TestRegistryLogins(t *testing.T) {
	h := Host{Inv: inventorytest.One(t)}
	h.Host = &h.Inv.Hosts[0]
	h.Inv.Containerd.Registries = []inventory.Registry{{Name: "docker.io", UsernameEnv: "HST_USER", PasswordEnv: "HST_PASSWORD"}}
	t.Setenv("HST_USER", "ann")
	t.Setenv("HST_PASSWORD", "")
	if _, err := h.registries(); err == nil || !strings.Contains(err.Error(), "HST_PASSWORD") {
		t.Errorf("no password: %v", err)
	}
	t.Setenv("HST_PASSWORD", "s3cret")
	steps, err := h.registries()
	if err != nil {
		t.Fatal(err)
	}
	f := steps[0].File
	if f.Mode != 0o600 || !strings.Contains(string(f.Content), basic("ann", "s3cret")) || strings.Contains(steps[0].Look[0].Script, "base64 <") {
		t.Errorf("%v, %s", f.Mode, steps[0].Look[0].Script)
	}
	secrets := RegistrySecrets(h.Inv)
	if len(secrets) != 2 || secrets[0] != "s3cret" || secrets[1] != basic("ann", "s3cret") {
		t.Errorf("%q", secrets)
	}
}

// Files of an operator in the same folder stay.
func TestOnlyHactlsOldRegistriesAreRemoved(t *testing.T) {
	h := Host{Inv: inventorytest.One(t)}
	h.Host = &h.Inv.Hosts[0]
	h.Inv.Containerd.Registries = []inventory.Registry{{Name: "docker.io", Mirrors: []string{"https://a.example.com"}}}
	steps, err := h.registries()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"docker.io": registryMark + "\n", "old.example.com": registryMark + "; x\n", "theirs.example.com": "server = \"x\"\n"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "hosts.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	look := func() string {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(steps[1].Look[0].Script, registryDir, dir)).CombinedOutput()
		if err != nil {
			t.Fatal(err, string(out))
		}
		return strings.TrimSpace(string(out))
	}
	if got := look(); got != "in: "+dir+"/old.example.com" {
		t.Error(got)
	}
	if err := os.RemoveAll(filepath.Join(dir, "old.example.com")); err != nil {
		t.Fatal(err)
	}
	if got := look(); got != "ok" {
		t.Error(got)
	}
}
