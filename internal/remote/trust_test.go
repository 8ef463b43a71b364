package remote

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"hactl/internal/remote/sshdtest"
)

func TestTrustReplacesTheStaleLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	stale, other := sshdtest.NewKey(t).PublicKey(), sshdtest.NewKey(t).PublicKey()
	name := knownhosts.Normalize(w.srv.Addr)
	keep := knownhosts.Line([]string{"elsewhere"}, other)
	content := strings.Join([]string{
		"# my hosts", keep, "",
		knownhosts.Line([]string{name}, stale),
		knownhosts.Line([]string{knownhosts.HashHostname(name)}, stale),
		knownhosts.Line([]string{name, "friend"}, stale),
	}, "\n") // no newline at the end
	real := write(t, filepath.Join(t.TempDir(), "real"), content, 0o640)
	link := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	w.host().SSH.KnownHosts = link
	w.refused(t, "changed", "hactl trust master-1")
	tr, err := FetchTrust(t.Context(), w.inv, w.host(), false, w.opts)
	if err != nil {
		t.Fatal(err)
	}
	if tr.Same || len(tr.Known) != 3 || !strings.Contains(tr.Known[0], link+":4") || tr.Shown != describeKey(w.srv.HostKey()) {
		t.Fatalf("trust %+v", tr)
	}
	if err := tr.Accept(); err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(real)
	want := strings.Join([]string{"# my hosts", keep, "", knownhosts.Line([]string{"friend"}, stale), knownhosts.Line([]string{name}, w.srv.HostKey()), ""}, "\n")
	if string(got) != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if st, _ := os.Lstat(link); st.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	if st, _ := os.Stat(real); st.Mode().Perm() != 0o640 || len(names(t, filepath.Dir(real))) != 1 {
		t.Errorf("mode %v, files %q", st.Mode(), names(t, filepath.Dir(real)))
	}
	w.connect(t)
	if tr, err := FetchTrust(t.Context(), w.inv, w.host(), false, w.opts); err != nil || !tr.Same {
		t.Errorf("again: %+v %v", tr, err)
	}
}

func TestTrustOfAnUnknownHostMakesTheFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	w.host().SSH.KnownHosts = filepath.Join(t.TempDir(), "new", "known_hosts")
	tr, err := FetchTrust(t.Context(), w.inv, w.host(), false, w.opts)
	if err != nil || len(tr.Known) != 0 {
		t.Fatalf("%+v %v", tr, err)
	}
	if err := tr.Accept(); err != nil {
		t.Fatal(err)
	}
	w.connect(t)
	if st, _ := os.Stat(w.host().SSH.KnownHosts); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
}

func TestTrustLeavesWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	stale := sshdtest.NewKey(t).PublicKey()
	w := newWorld(t, sshdtest.Config{})
	content := strings.Replace(knownhosts.Line([]string{"x"}, stale), "x ", "[127.0.0.*]:* ", 1)
	content = strings.Replace(content, "]:*", "]:"+strings.TrimPrefix(w.srv.Addr, "127.0.0.1:"), 1)
	file := write(t, filepath.Join(t.TempDir(), "kh"), content+"\n", 0o600)
	w.host().SSH.KnownHosts = file
	tr, err := FetchTrust(t.Context(), w.inv, w.host(), false, w.opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Accept(); err == nil || !strings.Contains(HintOf(err), "line 1 by hand") {
		t.Errorf("error %v, hint %q", err, HintOf(err))
	}
	if got, _ := os.ReadFile(file); string(got) != content+"\n" {
		t.Errorf("file became %q", got)
	}

	w.host().SSH.HostKey = ssh.FingerprintSHA256(stale)
	tr, err = FetchTrust(t.Context(), w.inv, w.host(), false, w.opts)
	if err != nil || !tr.Pinned || tr.Same {
		t.Fatalf("%+v %v", tr, err)
	}
	if err := tr.Accept(); !strings.Contains(HintOf(err), "hostKey: ssh-ed25519 ") {
		t.Errorf("hint %q", HintOf(err))
	}
}

func TestTrustGoesThroughTheBastionAndToIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	w.host().SSH.KnownHosts = filepath.Join(t.TempDir(), "kh")
	jump := withBastion(t, w, sshdtest.Config{})
	known := w.inv.SSH.Bastion.KnownHosts
	w.inv.SSH.Bastion.KnownHosts = filepath.Join(t.TempDir(), "kh2")
	if _, err := FetchTrust(t.Context(), w.inv, w.host(), false, w.opts); !strings.Contains(HintOf(err), "hactl trust --bastion master-1") {
		t.Errorf("went through an unknown bastion: %v", err)
	}
	tr, err := FetchTrust(t.Context(), w.inv, w.host(), true, w.opts)
	if err != nil || tr.Shown != describeKey(jump.HostKey()) || tr.Addr != jump.Addr {
		t.Fatalf("%+v %v", tr, err)
	}
	w.inv.SSH.Bastion.KnownHosts = known
	if tr, err = FetchTrust(t.Context(), w.inv, w.host(), false, w.opts); err != nil || tr.Shown != describeKey(w.srv.HostKey()) {
		t.Fatalf("%+v %v", tr, err)
	}
	w.inv.SSH.Bastion = nil
	if _, err := FetchTrust(t.Context(), w.inv, w.host(), true, w.opts); err == nil || HintOf(err) == "" {
		t.Errorf("error %v", err)
	}
}

func TestTrustOfADeadHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	w.throughProxy(t).Refuse()
	_, err := FetchTrust(t.Context(), w.inv, w.host(), false, w.opts)
	wantUnreachable(t, err, "connection refused", "is sshd running")
}
