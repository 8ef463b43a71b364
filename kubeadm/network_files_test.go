package kubeadm

import (
	"maps"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"hactl/internal/network"
	"hactl/internal/sys"
)

func TestPodSubnetsAreReadFromTheFilesThatAreThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := strings.NewReplacer(conflist, dir+"/conflist", network.ConfigFile, dir+"/network", olderRoutes, dir+"/routes").Replace(askSubnets.Script)
	run := func(first string) (podSubnets, error) {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", sys.With(first+"\n"+script)).Output()
		if err != nil {
			return podSubnets{}, err
		}
		return askSubnets.Parse(string(out))
	}
	if got, err := run("cd " + dir); err != nil || got.own.IsValid() || len(got.others) > 0 {
		t.Errorf("of a bare host: %+v, %v", got, err)
	}
	got, err := run("cd " + dir + `
echo '  "ranges": [[{"subnet": "10.244.1.7/24"}]]' >conflist
echo '{"routes": [
{"to": "10.244.2.0/24", "via": "192.0.2.12"},
]}' >network
echo 'ip -4 route replace 10.244.3.0/24 via 192.0.2.13 proto static' >routes`)
	want := map[netip.Addr]netip.Prefix{
		netip.MustParseAddr("192.0.2.12"): netip.MustParsePrefix("10.244.2.0/24"), netip.MustParseAddr("192.0.2.13"): netip.MustParsePrefix("10.244.3.0/24"),
	}
	if err != nil || got.own.String() != "10.244.1.0/24" || !maps.Equal(got.others, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, spoil := range map[string]string{"a folder": "rm routes; mkdir routes", "no subnet": `echo '"subnet": "none"' >conflist`} {
		if got, err := run("cd " + dir + "\n" + spoil); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestBrokenAnswersOfPodSubnetsAreErrors(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		"", "10.244.1.0/24\n", "10.244.1.0\nend\n", "10.244.1.0/24 192.0.2.12\n", "10.244.1.0/24 192.0.2\nend\n", "end\n10.244.1.0/24\n", "10.244.1.0/24 192.0.2.12 x\nend\n", "backend\n",
	} {
		if got, err := askSubnets.Parse(answer); err == nil {
			t.Errorf("%q gives %+v", answer, got)
		}
	}
}
