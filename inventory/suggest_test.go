package inventory

import "testing"

func TestClosestFindsWhatWasMeant(t *testing.T) {
	words := []string{"etcd", "knownHosts", "virtualRouterID", "address", "vip", "ssh"}
	for typed, want := range map[string]string{
		"etdc": "etcd", "known_hosts": "knownHosts", "virtualRouterId": "virtualRouterID", "adress": "address", "VIP": "vip", "shs": "ssh",
		"colour": "", "x": "", "": "",
	} {
		if got := closestOf(typed, words); got != want {
			t.Errorf("%q: got %q, want %q", typed, got, want)
		}
	}
}
