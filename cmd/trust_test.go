package cmd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/knownhosts"

	"hactl/internal/exitcode"
	"hactl/internal/remote/sshdtest"
)

func trustInventory(t *testing.T, srv *sshdtest.Server, knownHosts string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "inventory.yaml")
	text := fmt.Sprintf(`cluster: demo
vip:
  address: 192.0.2.9
ssh:
  port: %d
  key: %s
  knownHosts: %s
hosts:
  - name: master-1
    address: 127.0.0.1
    privateAddress: 192.0.2.1
    role: control-plane
`, srv.Port, srv.ClientKey, knownHosts)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func runTrust(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return runHactl(t, append([]string{"trust"}, args...)...)
}

func runHactl(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	var out, errOut bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut}
	code = a.run(context.Background(), args)
	return code, out.String(), errOut.String()
}

func TestTrustShowsBothKeysAndReplacesTheStaleOne(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Config{})
	stale := knownhosts.Line([]string{knownhosts.Normalize(srv.Addr)}, sshdtest.NewKey(t).PublicKey()) + "\n"
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	inv := trustInventory(t, srv, file)

	code, _, errOut := runTrust(t, "-i", inv, "master-1")
	if got, _ := os.ReadFile(file); code != exitcode.Usage || string(got) != stale || !strings.Contains(errOut, "--yes") {
		t.Fatalf("without anybody to ask: exit %d, file %q, stderr %s", code, got, errOut)
	}
	for _, args := range [][]string{{"plan"}, {"up", "--yes"}, {"drill", "--all", "--yes", "--accept-risk=quorum"}} {
		code, _, errOut = runHactl(t, append(args, "-i", inv)...)
		if code != exitcode.Unknown || !strings.Contains(errOut, "hactl trust") || strings.Contains(errOut, "--skip") {
			t.Errorf("%s: exit %d, stderr %s", args[0], code, errOut)
		}
	}
	code, out, errOut := runTrust(t, "-i", inv, "-y", "master-1")
	for _, want := range []string{"known  ssh-ed25519 SHA256:", file + ":1", "shows  ssh-ed25519 SHA256:"} {
		if !strings.Contains(errOut, want) {
			t.Errorf("stderr lacks %q:\n%s", want, errOut)
		}
	}
	want := knownhosts.Line([]string{knownhosts.Normalize(srv.Addr)}, srv.HostKey()) + "\n"
	if got, _ := os.ReadFile(file); code != exitcode.OK || string(got) != want || !strings.Contains(out, "master-1: trusted") {
		t.Errorf("exit %d, file %q, stdout %q", code, got, out)
	}
	if code, out, _ := runTrust(t, "-i", inv, "-o", "json", "master-1"); code != exitcode.OK || !strings.Contains(out, `"changed": false`) {
		t.Errorf("again: exit %d, %s", code, out)
	}
	if code, _, errOut := runTrust(t, "-i", inv, "master-9"); code != exitcode.Usage || !strings.Contains(errOut, "hactl validate") {
		t.Errorf("unknown host: exit %d, %s", code, errOut)
	}
}
