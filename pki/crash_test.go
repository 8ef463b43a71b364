package pki

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/remote"
)

var errKilled = errors.New("killed")

// cut makes the store die at its n-th change: that change does not happen (a
// write happens by half), nor does any later one, as after a kill -9.
func cut(s *Store, n int) (count *int) {
	count = new(int)
	s.before = func(op, name string) error {
		*count++
		if *count < n {
			return nil
		}
		if *count == n && op == "write" {
			_ = os.WriteFile(filepath.Join(s.Dir(), name), []byte("-----BEGIN CERT"), 0o600)
		}
		return errKilled
	}
	return count
}

// published reads what a CA certificate in the store is at the moment.
func published(s *Store) string {
	text, err := os.ReadFile(filepath.Join(s.Dir(), authorities, nameEtcdCA, certFile))
	if err != nil {
		return ""
	}
	return Fingerprint(text)
}

func TestEveryCutOfAFirstRunConverges(t *testing.T) {
	total := 0
	for n := 1; ; n++ {
		s := open(t, testInventory(t))
		s.inv.Hosts = s.inv.Hosts[:1]
		cut(s, n)
		_, _, err := keep(s)
		if err == nil {
			total = n - 1
			break
		}
		if !errors.Is(err, errKilled) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		checkConverges(t, s, n)
	}
	if total < 40 {
		t.Errorf("only %d points to cut at; does the hook still see every change?", total)
	}
	t.Logf("%d cut points", total)
}

func TestEveryCutOfARenewalConverges(t *testing.T) {
	for n := 1; ; n++ {
		s := open(t, testInventory(t))
		s.inv.Hosts = s.inv.Hosts[:1]
		kept(t, s)
		s.inv.Hosts[0].PrivateAddress = netip.MustParseAddr("192.0.2.9")
		cut(s, n)
		_, _, err := keep(s)
		if err == nil {
			t.Logf("%d cut points", n-1)
			return
		}
		if !errors.Is(err, errKilled) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		checkConverges(t, s, n)
	}
}

// checkConverges runs the store again after a cut, uncut.
func checkConverges(t *testing.T, s *Store, n int) {
	t.Helper()
	was := published(s)
	s.before = nil
	again := open(t, s.inv)
	m, _, err := keep(again)
	if err != nil {
		t.Fatalf("run after a cut at %d: %v", n, err)
	}
	if was != "" && was != m.EtcdCA.Fingerprint() {
		t.Fatalf("cut at %d: the published CA changed", n)
	}
	for _, p := range m.pairs {
		leaf(t, p)
	}
	if _, created := kept(t, again); len(created) != 0 {
		t.Fatalf("second run after a cut at %d made %q", n, created)
	}
	entries, err := os.ReadDir(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	// The lock, the identity, the authorities, three pairs of the master, three clients.
	if len(entries) != 1+1+1+3+3 {
		t.Errorf("cut at %d left something behind: %v", n, entries)
	}
}

// TestProcessesAgreeOnOneCA starts the test binary four times on one empty
// store and lets all go at the same moment.
func TestProcessesAgreeOnOneCA(t *testing.T) {
	inv := testInventory(t)
	if path := os.Getenv("PKI_TEST_INVENTORY"); path != "" {
		inv.Path = path
		inv.Hosts = inv.Hosts[:1]
		inv.PKI.Algorithm = "rsa-2048" // slow enough for all to be at it together
		fmt.Println("waiting")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		m, created, err := keep(open(t, inv))
		for err != nil && strings.Contains(remote.HintOf(err), "run the same command again") {
			m, created, err = keep(open(t, inv))
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("fingerprint %s %d\n", m.EtcdCA.Fingerprint(), len(created))
		return
	}
	type child struct {
		cmd *exec.Cmd
		in  interface{ Close() error }
		out *bufio.Scanner
	}
	var children []child
	for range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestProcessesAgreeOnOneCA$", "-test.v")
		cmd.Env = append(os.Environ(), "PKI_TEST_INVENTORY="+inv.Path)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, child{cmd, in, bufio.NewScanner(out)})
	}
	for _, c := range children {
		for c.out.Scan() && c.out.Text() != "waiting" {
		}
	}
	for _, c := range children {
		_ = c.in.Close()
	}
	seen, makers := map[string]bool{}, 0
	for _, c := range children {
		for c.out.Scan() {
			var fp string
			var made int
			if n, _ := fmt.Sscanf(c.out.Text(), "fingerprint %s %d", &fp, &made); n == 2 {
				seen[fp] = true
				if made > 0 {
					makers++
				}
			}
		}
		if err := c.cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if len(seen) != 1 || makers != 1 {
		t.Errorf("%d CAs made by %d processes, want one by one: %v", len(seen), makers, seen)
	}
}
