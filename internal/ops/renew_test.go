package ops

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hactl/etcd"
	"hactl/internal/plan"
	"hactl/internal/plan/plantest"
	"hactl/internal/remote"
	"hactl/internal/sys/systest"
	"hactl/inventory"
	"hactl/kubeadm"
	"hactl/pki"
)

const (
	kubernetesPKI = "/etc/kubernetes/pki/"
	renewingMark  = "/etc/kubernetes/hactl-renewing"
	kubeletMark   = "/var/lib/kubelet/pki/hactl-renewing"
	kubeletLink   = "/var/lib/kubelet/pki/kubelet-client-current.pem"
)

// renewWorld is a cluster whose certificates are renewed: the real steps, on hosts that
// have files and processes that serve them.
type renewWorld struct {
	*rebootWorld
	plain *httptest.Server // the API behind the certificate of a master
	disks map[string]*renewHost
	real  bool // the order and the gate are the real ones
	// after is called after each change; may be nil.
	after func(what string)
}

// renewHost is what a host is at this moment.
type renewHost struct {
	files   map[string]remote.File
	link    string                     // what kubeletLink names
	serves  map[string]tls.Certificate // by the file: the last whole pair that its process read
	started map[string]string          // the kubeconfig with which a component was started
	kubelet string                     // the pair with which it was started
}

func (h *renewHost) clone() *renewHost {
	c := *h
	c.files, c.serves, c.started = maps.Clone(h.files), maps.Clone(h.serves), maps.Clone(h.started)
	return &c
}

// servedFrom is the certificate that a port of a host serves.
var servedFrom = map[string]string{
	"2379": "/etc/etcd/pki/server.crt", "2380": "/etc/etcd/pki/peer.crt", "6443": kubernetesPKI + "apiserver.crt",
	"10250": "/var/lib/kubelet/pki/kubelet.crt", "10257": kubernetesPKI + "serving/server.crt", "10259": kubernetesPKI + "serving/server.crt",
}

// toRenew is the cluster with the files of its hosts. expired: the time of all of them is over.
func (w *rebootWorld) toRenew(t *testing.T, expired bool) *renewWorld {
	t.Helper()
	out := &renewWorld{rebootWorld: w.anew(t), disks: map[string]*renewHost{}}
	for i := range w.inv.Hosts {
		h := &w.inv.Hosts[i]
		out.disks[h.Name] = &renewHost{files: map[string]remote.File{}, serves: map[string]tls.Certificate{}, started: map[string]string{}}
		out.install(t, h, expired)
	}
	return out.listen(t)
}

// listen is the world with a server of its own.
func (w *renewWorld) listen(t *testing.T) *renewWorld {
	w.plain = httptest.NewServer(http.HandlerFunc(w.serveAPI))
	t.Cleanup(w.plain.Close)
	return w
}

// install lays down what up and kubeadm leave on a host. The first master is of an older
// hactl: the pairs of its components are inside their kubeconfigs.
func (w *renewWorld) install(t *testing.T, h *inventory.Host, expired bool) {
	t.Helper()
	k := kubeadm.Cluster{Inv: w.inv, PKI: w.material}
	serving, err := k.ServingPair(h)
	must(t, err)
	at := w.disks[h.Name]
	put := func(name string, content []byte, mode int) {
		if expired && strings.Contains(name, ".crt") && !strings.HasSuffix(name, "ca.crt") {
			content = w.expire(t, content)
		}
		at.files[name] = remote.File{Path: name, Content: content, Mode: 0o600, Owner: "root:root"}
		if mode == 0o644 {
			f := at.files[name]
			f.Mode = 0o644
			at.files[name] = f
		}
	}
	steps := serving
	if h.Role == inventory.ControlPlane {
		pairs, err := (&etcd.Plan{Inv: w.inv, PKI: w.material}).Pairs(h)
		must(t, err)
		certs, err := k.Certificates(h)
		must(t, err)
		steps = slices.Concat(serving, pairs, certs)
	}
	for _, st := range steps {
		put(st.File.Path, st.File.Content, int(st.File.Mode))
		f := at.files[st.File.Path]
		f.Owner = st.File.Owner
		at.files[st.File.Path] = f
	}
	node, err := w.material.KubernetesCA.ForNode(h.Name, time.Hour*24*300)
	must(t, err)
	at.link = "kubelet-client-kubeadm.pem"
	both := slices.Concat(node.CertPEM, node.KeyPEM)
	if expired {
		both = slices.Concat(w.expire(t, node.CertPEM), node.KeyPEM)
	}
	put(path.Dir(kubeletLink)+"/"+at.link, both, 0o600)
	at.kubelet = at.link
	if h.Role == inventory.ControlPlane {
		w.installPairs(t, h, expired, put)
	}
	for name := range at.files {
		at.read(name)
	}
}

// installPairs lays down what kubeadm makes on a master.
func (w *renewWorld) installPairs(t *testing.T, h *inventory.Host, expired bool, put func(name string, content []byte, mode int)) {
	t.Helper()
	like := func(ca *pki.CA, cn string, usage x509.ExtKeyUsage, sans ...string) pki.Pair {
		pair, err := ca.Like(cn, &x509.Certificate{Subject: pkix.Name{CommonName: cn}, ExtKeyUsage: []x509.ExtKeyUsage{usage}, DNSNames: sans,
			IPAddresses: []net.IP{h.PrivateAddress.AsSlice(), w.inv.VIP.Address.AsSlice()}}, 300*24*time.Hour)
		must(t, err)
		return pair
	}
	pair := func(file string, p pki.Pair) {
		put(kubernetesPKI+file+".crt", p.CertPEM, 0o644)
		put(kubernetesPKI+file+".key", p.KeyPEM, 0o600)
	}
	pair("apiserver", like(w.material.KubernetesCA, "kube-apiserver", x509.ExtKeyUsageServerAuth, "kubernetes"))
	pair("apiserver-kubelet-client", like(w.material.KubernetesCA, "kube-apiserver-kubelet-client", x509.ExtKeyUsageClientAuth))
	pair("front-proxy-client", like(w.material.FrontProxyCA, "front-proxy-client", x509.ExtKeyUsageClientAuth))
	for _, name := range []string{"admin", "controller-manager", "scheduler"} {
		p := like(w.material.KubernetesCA, "system:"+name, x509.ExtKeyUsageClientAuth)
		file := "/etc/kubernetes/" + name + ".conf"
		if expired {
			p.CertPEM = w.expire(t, p.CertPEM)
		}
		text := "client-certificate-data: " + base64.StdEncoding.EncodeToString(p.CertPEM) + "\n"
		if name != "admin" && h.Name != "master-1" {
			text = "client-certificate: " + kubernetesPKI + "serving/" + name + "-client.crt\n"
			pair("serving/"+name+"-client", p)
		}
		put(file, []byte(text), 0o600)
		if name != "admin" {
			w.disks[h.Name].started[name] = text
		}
	}
}

// expire is the certificate as it would be if its time were over.
func (w *renewWorld) expire(t *testing.T, certPEM []byte) []byte {
	t.Helper()
	certs, err := pki.ParseCertificates(certPEM)
	must(t, err)
	for _, ca := range []*pki.CA{w.material.EtcdCA, w.material.KubernetesCA, w.material.FrontProxyCA} {
		pair, err := tls.X509KeyPair(ca.CertPEM, ca.KeyPEM)
		must(t, err)
		if certs[0].CheckSignatureFrom(pair.Leaf) != nil {
			continue
		}
		old := *certs[0]
		old.SerialNumber, old.NotBefore, old.NotAfter = big.NewInt(7), time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, &old, pair.Leaf, old.PublicKey, pair.PrivateKey.(crypto.Signer))
		must(t, err)
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	t.Fatal("no CA of the cluster has signed it")
	return nil
}

// read has the process that serves a pair read it, if both files belong together.
func (h *renewHost) read(file string) (whole bool) {
	cert := strings.TrimSuffix(strings.TrimSuffix(file, ".crt"), ".key") + ".crt"
	pair, err := tls.X509KeyPair(h.files[cert].Content, h.files[strings.TrimSuffix(cert, ".crt")+".key"].Content)
	if err == nil {
		h.serves[cert] = pair
	}
	return err == nil
}

// write changes a file, and holds what etcd needs: it reads certificate and key at each
// handshake, so that they belong together at every moment.
func (w *renewWorld) write(name string, f remote.File) {
	h := w.disks[name]
	if f.Owner == "" {
		f.Owner = "root:root"
	}
	h.files[f.Path] = f
	if !h.read(f.Path) && strings.HasPrefix(f.Path, "/etc/etcd/pki/") && !strings.HasSuffix(f.Path, "/ca.crt") {
		w.wrong = append(w.wrong, name+": "+f.Path+" is half of a pair")
	}
}

// at is the world with these hosts.
func (w *renewWorld) at(t *testing.T, disks map[string]*renewHost) *renewWorld {
	out := &renewWorld{rebootWorld: w.rebootWorld.anew(t), disks: map[string]*renewHost{}}
	for name, h := range disks {
		out.disks[name] = h.clone()
	}
	return out.listen(t)
}

func (w *renewWorld) did(what string) {
	w.changes = append(w.changes, what)
	if w.after != nil {
		w.after(what)
	}
}

// session is a new run of hactl.
func (w *renewWorld) session() *session {
	s := &session{Console: quiet{}, inv: w.inv, hosts: plan.Hosts{}, identity: new(sync.Mutex), pace: time.Millisecond, looks: 1}
	for name := range w.disks {
		f := remote.NewFake(name, func(c remote.Call) (*remote.Result, error) { return w.call(name, c) })
		f.DialWith(func(ctx context.Context, network, addr string) (net.Conn, error) {
			return w.dial(ctx, network, name, addr)
		})
		s.hosts[name] = f
	}
	return s
}

// run is one run of hactl, from the moment at which the hosts were asked for their facts.
func (w *renewWorld) run(n *renewal) (*pki.Material, error) {
	ctx := w.t.Context()
	s := w.session()
	defer func() { s.control.Close() }()
	var err error
	if s.store, err = pki.Open(w.inv); err != nil {
		return nil, err
	}
	s.store.RenewAlso(func(pair string) bool { return n.group(groupOf(pair)) })
	m, _, err := s.store.Preview(ctx)
	if err != nil {
		return nil, err
	}
	s.secrets(m)
	stages, err := n.stages(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, st := range stages {
		if st.Roll != nil && !w.real {
			st.Roll.Gate.Look = w.gate
			st.Roll.Hosts = func(context.Context) ([]string, error) { return slices.Sorted(maps.Keys(w.disks)), nil }
		}
	}
	p, err := plan.Make(ctx, stages, s.hosts, s)
	if err == nil {
		err = p.Err()
	}
	if err == nil {
		_, err = p.Apply(ctx, s.hosts, plan.Discard, nil)
	}
	return m, err
}

// gate holds what has to be so before the next host is begun: every process serves what
// is on the disk.
func (w *renewWorld) gate(context.Context, []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.disks {
		if wrong := w.unserved(name); wrong != "" {
			return errors.New(wrong)
		}
	}
	return nil
}

func (w *renewWorld) unserved(name string) string {
	h := w.disks[name]
	for file, pair := range h.serves {
		certs, err := pki.ParseCertificates(h.files[file].Content)
		if err != nil || !pair.Leaf.Equal(certs[0]) {
			return name + ": " + file + " is not in use"
		}
	}
	return ""
}

// dial reaches a process of a host, with the certificate that it serves at this moment.
func (w *renewWorld) dial(ctx context.Context, network, from, addr string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ip, port, _ := net.SplitHostPort(addr)
	to := w.disks[from]
	for i := range w.inv.Hosts {
		if h := &w.inv.Hosts[i]; ip == h.PrivateAddress.String() || ip == w.inv.VIP.Address.String() && h.Name == w.owner {
			to = w.disks[h.Name]
		}
	}
	direct := map[string]string{"127.0.0.1:10248": w.kubelet.Listener.Addr().String(), "127.0.0.1:2379": w.etcd}[addr]
	if direct != "" {
		return (&net.Dialer{}).DialContext(ctx, network, direct)
	}
	pair, is := to.serves[servedFrom[port]]
	if !is {
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	}
	near, far, err := connected()
	if err == nil {
		go w.answer(far, pair, port == "6443")
	}
	return near, err
}

// connected are the two ends of a connection with buffers, which net.Pipe has not: an
// alert of TLS would wait there for a peer that waits itself.
func connected() (near, far net.Conn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, err
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		ends[i], err = net.FileConn(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, nil, err
		}
	}
	return ends[0], ends[1], nil
}

// answer ends the handshake, and leads to the API if this is an apiserver.
func (w *renewWorld) answer(conn net.Conn, pair tls.Certificate, api bool) {
	defer func() { _ = conn.Close() }()
	t := tls.Server(conn, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}})
	if t.Handshake() != nil || !api {
		return
	}
	to, err := net.Dial("tcp", w.plain.Listener.Addr().String())
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	go func() {
		_, _ = io.Copy(to, t)
		_ = to.Close()
	}()
	_, _ = io.Copy(t, to)
}

// call answers what a renewal asks of a host.
func (w *renewWorld) call(name string, c remote.Call) (*remote.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.disks[name]
	say := func(out string) (*remote.Result, error) { return &remote.Result{Stdout: []byte(out)}, nil }
	if c.Kind == "dial" {
		return nil, nil
	}
	if c.Kind == "put" { // each file by a rename of its own, in this order
		for _, f := range c.Files {
			w.write(name, f)
			w.did(name + ": " + f.Path)
		}
		return nil, nil
	}
	if out, is := plantest.Looks(c.Cmd.Script, func(look string) plan.Answer { return w.look(name, look) }); is {
		return say(out)
	}
	switch c.Cmd.Title {
	case "look for the VIP":
		return say(systest.VIP(w.owner == name))
	case "look for " + renewingMark:
		return say(map[bool]string{true: "yes\n", false: "no\n"}[h.has(renewingMark)])
	case "begin the renewal":
		return say(h.certificates())
	case "read certificates":
		if strings.HasPrefix(c.Cmd.Script, "date ") {
			return say(h.evidence())
		}
		return say(h.certificates())
	case "make what is missing": // nothing is: files are whole here
	case "restart what has an earlier kubeconfig":
		for component := range h.stale() {
			h.started[component] = string(h.files["/etc/kubernetes/"+component+".conf"].Content)
			w.did(name + ": restart of " + component)
		}
	case "restart the kubelet":
		_, rest, _ := strings.Cut(c.Cmd.Script, "ln -sf ")
		h.link, _, _ = strings.Cut(rest, " ")
		w.did(name + ": link of the kubelet's pair")
		h.kubelet = h.link
		w.did(name + ": restart of the kubelet")
		delete(h.files, kubeletMark)
		w.did(name + ": end of the kubelet's renewal")
	case "end the renewal":
		delete(h.files, renewingMark)
		w.did(name + ": end of the renewal")
	default:
		w.t.Errorf("%s is to run %q", name, c.Cmd.Title)
	}
	return nil, nil
}

func (h *renewHost) has(file string) bool { _, is := h.files[file]; return is }

// stale are the components that run with another kubeconfig than the one that is there.
func (h *renewHost) stale() map[string]bool {
	out := map[string]bool{}
	for component, conf := range h.started {
		if string(h.files["/etc/kubernetes/"+component+".conf"].Content) != conf {
			out[component] = true
		}
	}
	return out
}

// certificates prints those that kubeadm made, as head -v does.
func (h *renewHost) certificates() string {
	var has, text strings.Builder
	for _, f := range slices.Sorted(maps.Keys(h.files)) {
		base, is := strings.CutPrefix(f, "/etc/kubernetes/")
		conf := strings.HasSuffix(base, ".conf")
		made := strings.HasPrefix(base, "pki/apiserver.") || strings.HasPrefix(base, "pki/apiserver-kubelet-client.") || strings.HasPrefix(base, "pki/front-proxy-client.") || strings.HasSuffix(base, "-client.crt") && strings.HasPrefix(base, "pki/serving/")
		if !is || !conf && (!made || !strings.HasSuffix(base, ".crt")) {
			continue
		}
		fmt.Fprintf(&has, "has %s\n", base)
		fmt.Fprintf(&text, "==> %s <==\n", base)
		for line := range strings.Lines(string(h.files[f].Content)) {
			line = strings.TrimSpace(line)
			data, inside := strings.CutPrefix(line, "client-certificate-data: ")
			switch {
			case !conf:
				text.WriteString(line + "\n")
			case inside:
				text.WriteString(data + "\n")
			case strings.HasPrefix(line, "client-certificate: "):
				text.WriteString("file\n")
			}
		}
	}
	return has.String() + text.String() + "end\n"
}

// evidence prints what the report of all certificates asks a host.
func (h *renewHost) evidence() string {
	var b strings.Builder
	b.WriteString(systest.Clock(time.Now()))
	for _, f := range slices.Sorted(maps.Keys(h.files)) {
		if strings.HasSuffix(f, ".crt") {
			fmt.Fprintf(&b, "cert %s\n%s", f, h.files[f].Content)
		}
	}
	return b.String() + "end\n"
}

// look answers a look of a step.
func (w *renewWorld) look(name, script string) plan.Answer {
	h, m := w.disks[name], w.inv.Host(name)
	k := kubeadm.Cluster{Inv: w.inv, PKI: w.material}
	is := func(st plan.Step) bool {
		return strings.TrimSuffix(st.Look[0].Script, "\n") == strings.TrimSuffix(script, "\n")
	}
	if strings.HasPrefix(script, "show_file ") {
		f, there := h.files[strings.Fields(script)[1]]
		if !there {
			return plan.Answer{Out: "absent"}
		}
		return plan.Answer{Out: fmt.Sprintf("%o %s regular file\n%x\n%s", f.Mode, f.Owner, sha256.Sum256(f.Content), base64.StdEncoding.EncodeToString(f.Content))}
	}
	switch {
	case is(k.KubeletRenewal(m, nil)):
		if h.has(kubeletMark) {
			return plan.Answer{Out: "cut"}
		}
		return plan.Answer{Out: string(h.files[path.Dir(kubeletLink)+"/"+h.link].Content)}
	case is(k.Renewal(m, nil)) && h.has(renewingMark):
		return plan.Answer{Out: "cut"}
	case is(k.Renewal(m, nil)):
		out := ""
		for component := range h.stale() {
			out += "stale kube-" + component + "\n"
		}
		return plan.Answer{Out: out + h.certificates()}
	}
	w.t.Errorf("%s is asked %q", name, script)
	return plan.Answer{Exit: 1}
}

// ended says what is not as it has to be after a renewal: every pair is whole, is another
// one than before, and is in use; the pairs of the store are those of the hosts.
func (w *renewWorld) ended(before map[string]*renewHost, m *pki.Material) string {
	out := slices.Clone(w.wrong)
	for name, h := range w.disks {
		if wrong := w.unserved(name); wrong != "" {
			out = append(out, wrong)
		}
		if h.has(renewingMark) || h.has(kubeletMark) || len(h.stale()) > 0 || h.kubelet != h.link || h.link == before[name].link {
			out = append(out, fmt.Sprintf("%s: renewing %v, stale %v, kubelet with %s of %s", name, h.has(renewingMark), h.stale(), h.kubelet, h.link))
		}
		for f, was := range before[name].files {
			base := path.Base(f)
			if is := string(h.files[f].Content) == string(was.Content); is && (strings.HasSuffix(f, ".crt") && !strings.HasSuffix(f, "ca.crt") || base == "admin.conf") {
				out = append(out, name+": "+f+" is as it was")
			}
		}
		for f := range h.files {
			if key, is := strings.CutSuffix(f, ".crt"); is && h.has(key+".key") && !h.clone().read(f) {
				out = append(out, name+": "+f+" has another key")
			}
		}
		pair, err := m.NodeServer(name)
		must(w.t, err)
		if string(h.files["/var/lib/kubelet/pki/kubelet.crt"].Content) != string(pair.CertPEM) {
			out = append(out, name+": it does not have the store's pair")
		}
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// Whatever the change after which a renewal is cut, the next run completes it: every
// certificate is another one, whole and in use. No apiserver restarts; the controller
// manager and the scheduler do only where their pairs were inside the kubeconfig. So it
// is too where everything has expired.
func TestRenewalCutAnywhereIsCompletedByTheNext(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		masters int
		expired bool
		n       RenewOptions
	}{"all are renewed": {2, false, RenewOptions{All: true}}, "all have expired": {1, true, RenewOptions{}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := newRebootWorld(t, c.masters, 1).toRenew(t, c.expired)
			w := begin.at(t, begin.disks)
			type point struct {
				number int
				after  string
				disks  map[string]*renewHost
			}
			var points []point
			w.after = func(what string) {
				p := point{len(points) + 1, what, map[string]*renewHost{}}
				for name, h := range w.disks {
					p.disks[name] = h.clone()
				}
				points = append(points, p)
			}
			m, err := w.run(&renewal{RenewOptions: c.n})
			must(t, err)
			if wrong := w.ended(begin.disks, m); wrong != "" {
				t.Fatalf("the uncut run: %s", wrong)
			}
			again := slices.DeleteFunc(slices.Clone(w.changes), func(c string) bool { return !strings.Contains(c, "restart of") || strings.Contains(c, "kubelet") })
			slices.Sort(again)
			if got := strings.Join(again, ", "); got != "master-1: restart of controller-manager, master-1: restart of scheduler" {
				t.Errorf("these restarted: %s", got)
			}
			t.Logf("%d cuts", len(points))
			for _, at := range resumed(t, points) {
				t.Run(fmt.Sprintf("%d after %s", at.number, at.after), func(t *testing.T) {
					t.Parallel()
					next := w.at(t, at.disks)
					m, err := next.run(&renewal{RenewOptions: c.n})
					if err != nil {
						t.Fatalf("the next run fails: %v", err)
					}
					if wrong := next.ended(begin.disks, m); wrong != "" {
						t.Error(wrong)
					}
				})
			}
		})
	}
}

// With one master, or two, nothing of the control plane stops for a renewal: no permission is
// needed, and the gate holds.
func TestRenewalOfOneOrTwoMastersTakesNothingDown(t *testing.T) {
	t.Parallel()
	for _, masters := range []int{1, 2} {
		begin := newRebootWorld(t, masters, 1).toRenew(t, false)
		for _, h := range begin.disks {
			h.started = map[string]string{} // the pairs are files already
		}
		w := begin.at(t, begin.disks)
		w.real = true
		m, err := w.run(&renewal{RenewOptions: RenewOptions{All: true}})
		must(t, err)
		if wrong := w.ended(begin.disks, m); wrong != "" {
			t.Error(wrong)
		}
		for _, c := range w.changes {
			if strings.Contains(c, "restart of") && !strings.HasSuffix(c, "restart of the kubelet") {
				t.Errorf("%d masters: %s", masters, c)
			}
		}
	}
}
