package network

import (
	"os"
	"path/filepath"
	"testing"
)

func TestBadConfigurationIsAnError(t *testing.T) {
	for text, bad := range map[string]bool{
		`{"routes": [{"to": "10.244.1.0/24", "via": "192.0.2.12"}], "masquerade": "10.244.0.0/16", "kubeProxy": "nftables"}`: false,
		`{"routes": [], "masquerade": "", "kubeProxy": ""}`:                                                                  false,
		``:                                      true,
		`{"routes": [], "other": 1}`:            true,
		`{"kubeProxy": "ipvs"}`:                 true,
		`{"routes": [{"to": "10.244.1.0/24"}]}`: true,
		`{"routes": [{"to": "10.244.1.0/24", "via": "2001:db8::1"}]}`: true,
		`{"routes": [{"to": "10.244.1.9/24", "via": "192.0.2.12"}]}`:  true,
	} {
		path := filepath.Join(t.TempDir(), "network.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := ReadConfig(path); (err != nil) != bad {
			t.Errorf("%s: %+v, %v", text, c, err)
		}
	}
}
