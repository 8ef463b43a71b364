package kubeadm

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/wait"
	"hactl/inventory"
	"hactl/pki"
)

// Group names what is renewed together: what one process uses.
type Group string

// The groups of certificates that kubeadm or a kubelet made on a host.
const (
	APIServer   Group = "apiserver"
	Controllers Group = "controllers"
	Admin       Group = "admin"
	Kubelet     Group = "kubelet"
)

// groupOf is the group of a file below kubeDir.
func groupOf(file string) Group {
	switch file {
	case "controller-manager.conf", "scheduler.conf", controllerCert, schedulerCert:
		return Controllers
	case "admin.conf", "super-admin.conf":
		return Admin
	}
	return APIServer
}

// kubeconfigs are those that kubeadm makes and hactl renews: the user in each, and for
// the two components where their pair lies.
var kubeconfigs = map[string]struct {
	user, pair string
	local      bool // asks the apiserver of its own host
}{
	"controller-manager.conf": {"system:kube-controller-manager", controllerCert, true},
	"scheduler.conf":          {"system:kube-scheduler", schedulerCert, true},
	"admin.conf":              {"kubernetes-admin", "", false},
	"super-admin.conf":        {"kubernetes-super-admin", "", false},
}

// staleLook prints the components whose process was started with another kubeconfig
// than the one that is there: the pod has the file as it was mounted.
const staleLook = `for n in controller-manager:kube-controller scheduler:kube-scheduler; do
f=` + kubeDir + `/${n%%:*}.conf
for p in $(pids_of "${n#*:}"); do [ ! -e "/proc/$p/root$f" ] || cmp -s "/proc/$p/root$f" "$f" || echo "stale ${n#*:}"; done
done
`

// signed is what a master says of the certificates that kubeadm made.
type signed struct {
	cut    bool     // a renewal of them was cut off
	remade bool     // an earlier step makes the kubeconfigs anew, and processes run
	stale  []string // programs that run with an earlier kubeconfig
	certs  []Certificate
}

var howSigned = sys.Question[signed]{
	Title: "look at the certificates of kubeadm",
	Script: `[ -e ` + markerFile + ` ] || { none_runs kube-controller kube-scheduler && echo none || echo remade; exit 0; }
[ ! -e ` + renewingFile + ` ] || { echo cut; exit 0; }
` + staleLook + readCertificates(renewable...),
	Parse: func(answer string) (s signed, err error) {
		if s.cut, s.remade = answer == "cut", answer == "remade"; s.cut || s.remade || answer == "none" {
			return s, nil
		}
		s.stale, answer = takeStale(answer)
		s.certs, err = parseCertificates(answer)
		return s, err
	},
}

// restartStale has the kubelet start again what staleLook names. Only a kubeconfig
// with the pair inside, as kubeadm makes it, takes a restart.
const restartStale = `set -e
again() {
  old=$(pids_of "$1"); [ -n "$old" ] || return 0
  echo "waiting up to $((120*` + wait.Shell + `))s for the kubelet to start $1 again"
  for p in $old; do kill "$p" || :; done
  wait_until 30 "" anew "$1" 2>/dev/null && return
  for p in $old; do kill -9 "$p" 2>/dev/null || :; done
  wait_until 90 "the kubelet did not start the killed $1 again" anew "$1"
}
anew() { now=$(pids_of "$1"); [ -n "$now" ] && [ "$now" != "$old" ]; }
# The kubelet waits for up to five minutes before it starts again what ended with an
# expired certificate; a new kubelet does not.
! none_runs kube-apiserver || { echo "restarting the kubelet: there is no apiserver"; systemctl restart kubelet.service; }
for name in $( ( ` + staleLook + `) | sed -n 's/^stale //p' | sort -u); do again "$name"; done
`

// Renewal returns the step that signs the certificates that kubeadm made on a master
// anew, before they expire, and those of the groups that also wants, whether due or not.
// No apiserver restarts: each reads its pairs by itself when they change, which is
// proven by the certificate that it serves. The controller manager and the scheduler
// restart once, when their kubeconfigs first refer to files.
func (c Cluster) Renewal(h *inventory.Host, also func(Group) bool) plan.Step {
	renewal := &renewal{c: c, h: h, also: also}
	if c.PKI != nil {
		renewal.elsewhere = len(c.PKI.FrontProxyCA.KeyPEM) == 0
	}
	return plan.Step{
		ID: id(h, "certificates"), Host: h.Name, Title: "certificates of kubeadm",
		Look: []plan.Look{plan.LookFor(howSigned)},
		Check: func(_ context.Context, env plan.Env) (*plan.Change, error) {
			seen, err := plan.Answered(env, howSigned)
			if err != nil {
				return nil, err
			}
			return renewal.check(seen, time.Now()), nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error { return renewal.apply(ctx, env) },
		Ready: renewal.ready,
	}
}

// renewal is the renewal of one master.
type renewal struct {
	c    Cluster
	h    *inventory.Host
	also func(Group) bool
	// elsewhere: the front-proxy CA's key is, and the store has its pair.
	elsewhere bool

	done bool // what was asked for is there: the step has been applied
}

// ours drops the certificates that the store has: they are files like others.
func (r *renewal) ours(certs []Certificate) []Certificate {
	if !r.elsewhere {
		return certs
	}
	return slices.DeleteFunc(certs, func(c Certificate) bool { return strings.HasPrefix(c.Name, "front-proxy-") })
}

func (r *renewal) wants(file string) bool { return !r.done && r.also != nil && r.also(groupOf(file)) }

func (r *renewal) check(seen signed, now time.Time) *plan.Change {
	switch {
	case seen.cut:
		return r.change("a renewal was cut off")
	case seen.remade:
		return plan.Then(plan.Update, "renew certificates, where a process runs with an earlier kubeconfig", "renew")
	}
	certs := r.ours(seen.certs)
	var why []string
	if d := due(certs, now); d != "" {
		why = append(why, d)
	}
	var asked []string
	for _, cert := range certs {
		if r.wants(cert.file) {
			asked = append(asked, cert.Name)
		}
	}
	if len(asked) > 0 {
		why = append(why, "asked for: "+strings.Join(asked, ", "))
	}
	if len(seen.stale) > 0 {
		why = append(why, strings.Join(seen.stale, " and ")+" runs with an earlier kubeconfig")
	}
	if len(why) == 0 {
		return nil
	}
	return r.change(strings.Join(why, "; "))
}

// change is the same act whichever are due: more of them may be by the step's turn.
func (r *renewal) change(why string) *plan.Change {
	return &plan.Change{Op: plan.Update, Summary: "renew certificates: " + why, Acts: []string{"renew"}}
}

// takeStale takes the lines of staleLook out of an answer.
func takeStale(out string) (stale []string, rest string) {
	var b strings.Builder
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "stale "); ok {
			if !slices.Contains(stale, name) {
				stale = append(stale, name)
			}
			continue
		}
		b.WriteString(line)
	}
	return stale, b.String()
}

// makeMissing has kubeadm make anew what a run that was cut, or the power with it, left
// damaged or took away.
const makeMissing = `set -e
` + removePartial + `cd ` + kubeDir + `
for n in apiserver apiserver-kubelet-client front-proxy-client; do
  [ -e pki/$n.crt ] || kubeadm init phase certs $n --config ` + initFile + `
done
for n in admin kubelet controller-manager scheduler; do
  [ -e $n.conf ] || kubeadm init phase kubeconfig $n --config ` + initFile + `
done
` + fsyncKubeadmFiles + ownPairs

// apply reads what is there, signs what is due and puts it in place in one call.
func (r *renewal) apply(ctx context.Context, env plan.Env) error {
	cut, err := r.completeCut(ctx, env)
	if err != nil {
		return err
	}
	begin := certificatesAt(renewable...)
	begin.Title = "begin the renewal"
	certs, err := remote.Ask(ctx, env.Host, begin, 0)
	if err != nil {
		return err
	}
	now := time.Now()
	var files []remote.File
	for _, cert := range r.ours(certs) {
		if !cut && cert.NotAfter.Sub(now) >= pki.RenewBefore && !r.wants(cert.file) {
			continue
		}
		made, err := r.files(cert)
		if err != nil {
			return err
		}
		files = append(files, made...)
	}
	if len(files) > 0 {
		mark := remote.File{Path: renewingFile, Mode: 0o600}
		if err := env.Host.Put(ctx, append([]remote.File{mark}, files...)...); err != nil {
			return err
		}
	}
	r.done = true
	_, err = env.Host.Run(ctx, remote.Cmd{Script: restartStale, Title: "restart what has an earlier kubeconfig", Timeout: 8 * time.Minute, Output: func(line string) { env.Say("%s", line) }})
	return err
}

// completeCut reports whether an earlier run was cut, and has what it left damaged made
// anew.
func (r *renewal) completeCut(ctx context.Context, env plan.Env) (bool, error) {
	cut, err := remote.Ask(ctx, env.Host, sys.IsThere(renewingFile), 0)
	if err != nil || !cut {
		return false, err
	}
	_, err = env.Host.Run(ctx, remote.Cmd{Title: "make what is missing", Script: r.c.SearchPath + makeMissing, Timeout: 5 * time.Minute, Output: func(line string) { env.Say("%s", line) }})
	return true, err
}

// files signs a certificate anew and returns the files that hold it. The key comes
// first: a certificate that is not there yet is due again for the next run.
func (r *renewal) files(cert Certificate) ([]remote.File, error) {
	ca := r.c.PKI.KubernetesCA
	if strings.HasPrefix(cert.Name, "front-proxy-") {
		ca = r.c.PKI.FrontProxyCA
	}
	pair, err := ca.Like(cert.Name, cert.cert, r.c.Inv.PKI.Expiry)
	if err != nil {
		return nil, err
	}
	conf, ok := kubeconfigs[cert.file]
	if !ok {
		return pairFiles(cert.file, pair), nil
	}
	text, err := r.kubeconfig(cert.file, pair)
	if err != nil {
		return nil, err
	}
	var out []remote.File
	if conf.pair != "" {
		out = pairFiles(conf.pair, pair)
	}
	return append(out, remote.File{Path: kubeDir + "/" + cert.file, Content: text, Mode: 0o600}), nil
}

// pairFiles are the two files of a pair, whose certificate lies there below kubeDir.
func pairFiles(file string, pair pki.Pair) []remote.File {
	key := strings.TrimSuffix(file, ".crt") + ".key"
	return []remote.File{
		{Path: kubeDir + "/" + key, Content: pair.KeyPEM, Mode: 0o600},
		{Path: kubeDir + "/" + file, Content: pair.CertPEM, Mode: 0o644},
	}
}

// kubeconfig renders one as kubeadm does, with the pair inside or, for a component, as
// two files.
func (r *renewal) kubeconfig(file string, pair pki.Pair) ([]byte, error) {
	conf := kubeconfigs[file]
	server := "https://" + Endpoint(r.c.Inv)
	if conf.local {
		server = "https://" + r.c.apiAddress(r.h)
	}
	user := map[string]any{"client-certificate-data": encode(pair.CertPEM), "client-key-data": encode(pair.KeyPEM)}
	if conf.pair != "" {
		at := kubeDir + "/" + conf.pair
		user = map[string]any{"client-certificate": at, "client-key": strings.TrimSuffix(at, ".crt") + ".key"}
	}
	name := conf.user + "@" + r.c.Inv.Cluster
	return yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "preferences": map[string]any{}, "current-context": name,
		"clusters": []any{map[string]any{"name": r.c.Inv.Cluster, "cluster": map[string]any{
			"server": server, "certificate-authority-data": encode(r.c.PKI.KubernetesCA.CertPEM),
		}}},
		"contexts": []any{map[string]any{"name": name, "context": map[string]any{"cluster": r.c.Inv.Cluster, "user": conf.user}}},
		"users":    []any{map[string]any{"name": conf.user, "user": user}},
	})
}

// inUseWithin bounds how long an apiserver may take to serve a renewed certificate. It
// watches the file, and looks at it once a minute besides.
const inUseWithin = 2 * time.Minute

// ready waits until the apiserver serves the certificate that is on the disk, and is
// ready. Only then the renewal is over.
func (r *renewal) ready(ctx context.Context, env plan.Env) error {
	certs, err := remote.Ask(ctx, env.Host, certificatesAt(renewable...), 0)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(certs, func(c Certificate) bool { return c.Name == "apiserver.crt" })
	if i < 0 {
		return remote.Hint(errors.New("there is no certificate of the apiserver"), "hactl up has kubeadm make what is missing")
	}
	if err := AwaitServed(ctx, env, r.c.apiAddress(r.h), certs[i].cert); err != nil {
		return err
	}
	if err := r.c.awaitAPI(ctx, env, r.h, apiserverTimeout, isReady); err != nil {
		return err
	}
	_, err = env.Host.Run(ctx, remote.Cmd{Title: "end the renewal", Script: "rm -f " + renewingFile})
	return err
}

// kubeletRenewing is there from before the kubelet's pair is exchanged until the kubelet
// was started with it.
const kubeletRenewing = kubeletDir + "/hactl-renewing"

// kubeletSigned is what a host says of its kubelet's own certificate.
type kubeletSigned struct {
	cut  bool              // a renewal was cut off
	cert *x509.Certificate // nil: it has none, and did not join
}

var howKubeletSigned = sys.Question[kubeletSigned]{
	Title: "look at the kubelet's certificate",
	Script: `[ ! -e ` + kubeletRenewing + ` ] || { echo cut; exit 0; }
is_there ` + kubeletPair + ` || { echo none; exit; }
sed -n '/^-----BEGIN CERTIFICATE-/,/^-----END CERTIFICATE-/p' ` + kubeletPair,
	Parse: func(answer string) (kubeletSigned, error) {
		if answer == "none" || answer == "cut" {
			return kubeletSigned{cut: answer == "cut"}, nil
		}
		certs, err := pki.ParseCertificates([]byte(answer))
		if err != nil {
			return kubeletSigned{}, remote.Hint(fmt.Errorf("read %s: %w", kubeletPair, err), "hactl certs renew --only kubelet signs another one")
		}
		return kubeletSigned{cert: certs[0]}, nil
	},
}

// KubeletRenewal returns the step that signs a kubelet's own client certificate, by
// which it is a node. A kubelet renews it at 70 to 90 % of its life by itself: this is
// for one that did not, whose time is over, or that was asked for. It restarts.
func (c Cluster) KubeletRenewal(h *inventory.Host, also func(Group) bool) plan.Step {
	done := false
	return plan.Step{
		ID: id(h, "kubelet-certificate"), Host: h.Name, Title: "certificate of the kubelet",
		Look: []plan.Look{plan.LookFor(howKubeletSigned)},
		Check: func(_ context.Context, env plan.Env) (*plan.Change, error) {
			seen, err := plan.Answered(env, howKubeletSigned)
			if err != nil {
				return nil, err
			}
			why := seen.due(also != nil && !done && also(Kubelet), time.Now())
			if why == "" {
				return nil, nil
			}
			return &plan.Change{Op: plan.Restart, Summary: "renew the kubelet's certificate: " + why, Acts: []string{"renew"}}, nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			done = true
			return c.renewKubelet(ctx, env, h)
		},
	}
}

// due is why the kubelet's certificate has to be signed anew, "" when it has not.
func (k kubeletSigned) due(asked bool, now time.Time) string {
	if k.cut {
		return "a renewal was cut off"
	}
	if k.cert == nil {
		return ""
	}
	left, life := k.cert.NotAfter.Sub(now), k.cert.NotAfter.Sub(k.cert.NotBefore)
	switch {
	case left <= 0:
		return "it expired on " + k.cert.NotAfter.Format(time.DateOnly)
	case left < life/10:
		return "it ends on " + k.cert.NotAfter.Format(time.DateOnly) + ", and the kubelet did not renew it"
	case asked:
		return "asked for"
	}
	return ""
}

// renewKubelet puts a new pair beside the old one, as the kubelet does, and turns the
// link.
func (c Cluster) renewKubelet(ctx context.Context, env plan.Env, h *inventory.Host) error {
	pair, err := c.PKI.KubernetesCA.ForNode(h.Name, c.Inv.PKI.Expiry)
	if err != nil {
		return err
	}
	name := "kubelet-client-" + time.Now().UTC().Format("2006-01-02-15-04-05") + ".pem"
	both := append(slices.Clone(pair.CertPEM), pair.KeyPEM...)
	mark := remote.File{Path: kubeletRenewing, Mode: 0o600}
	if err := env.Host.Put(ctx, mark, remote.File{Path: kubeletDir + "/" + name, Content: both, Mode: 0o600}); err != nil {
		return err
	}
	env.Say("waiting up to %s for the kubelet", wait.Bound(ctx, time.Minute))
	_, err = env.Host.Run(ctx, remote.Cmd{Title: "restart the kubelet", Timeout: 90 * time.Second, Script: `set -e
ln -sf ` + name + ` ` + kubeletDir + `/.current.new && mv -T ` + kubeletDir + `/.current.new ` + kubeletPair + ` && sync ` + kubeletDir + `
systemctl restart kubelet.service
rm -f ` + kubeletRenewing + ` && sync ` + kubeletDir + `
`})
	return err
}
