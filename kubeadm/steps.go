package kubeadm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
	"hactl/templates"
)

// Files returns the steps that lay down what a node needs before kubeadm runs,
// beside its [Cluster.Certificates] and [Cluster.KubeletFiles]: the kubelet's pair and,
// on masters, kubeadm's configuration. The first step compares with a node that is there.
func (c Cluster) Files(h *inventory.Host) ([]plan.Step, error) {
	steps := []plan.Step{c.Fixed(h)}
	pair, err := c.ServingPair(h)
	if err != nil {
		return nil, err
	}
	steps = append(steps, pair...)
	if h.Role != inventory.ControlPlane {
		return steps, nil
	}
	conf, err := c.Configuration(h)
	return append(steps, conf...), err
}

// KubeletFiles returns the steps of the files by which the kubelet of a new node starts.
// On a node that is there they come with its process, see [Cluster.KubeletTurn].
func (c Cluster) KubeletFiles(h *inventory.Host) ([]plan.Step, error) {
	settings, err := c.KubeletSettings(h)
	if err != nil {
		return nil, err
	}
	unit, err := c.KubeletUnit(h)
	return []plan.Step{settings, unit}, err
}

// KubeletUnit returns the step for the kubelet's unit, which names its build.
func (c Cluster) KubeletUnit(h *inventory.Host) (plan.Step, error) {
	unit, _, err := c.kubeletUnit(h)
	return plan.File{ID: id(h, "kubelet-unit"), Host: h.Name, Path: kubeletUnitFile, Content: unit, Lane: Lane}.Step(), err
}

// Configuration returns the steps for what kubeadm and the apiserver read on a master.
func (c Cluster) Configuration(h *inventory.Host) ([]plan.Step, error) {
	extra, err := c.extraFiles()
	if err != nil {
		return nil, err
	}
	steps := extra.steps(h)
	conf, err := c.InitConfig(h)
	if err != nil {
		return nil, err
	}
	patch, err := templates.Render("coredns-patch.yaml.tmpl", nil)
	if err != nil {
		return nil, err
	}
	steps = append(steps, plan.File{ID: id(h, "coredns-patch"), Host: h.Name, Path: patchDir + "/corednsdeployment+strategic.yaml", Content: patch, Lane: Lane}.Step())
	return append(steps, plan.File{ID: id(h, "config"), Host: h.Name, Path: initFile, Content: conf, Mode: 0o600, Lane: Lane}.Step()), nil
}

// ServingPair returns the steps for the pair by which a kubelet serves.
func (c Cluster) ServingPair(h *inventory.Host) ([]plan.Step, error) {
	serving, err := c.PKI.NodeServer(h.Name)
	return []plan.Step{
		plan.File{ID: id(h, "kubelet-cert"), Host: h.Name, Path: kubeletDir + "/kubelet.crt", Content: serving.CertPEM, Lane: Lane}.Step(),
		plan.File{ID: id(h, "kubelet-key"), Host: h.Name, Path: kubeletDir + "/kubelet.key", Content: serving.KeyPEM, Mode: 0o600, Secret: true, Lane: Lane}.Step(),
	}, err
}

// kubeletUnit renders the unit and names the configuration that a running
// kubelet must have.
func (c Cluster) kubeletUnit(h *inventory.Host) (unit []byte, config string, err error) {
	settings, err := c.kubeletPatch()
	if err != nil {
		return nil, "", err
	}
	reads, dir, parts := []string{kubeletUnitFile}, "", [][]byte{nil}
	if settings != nil {
		reads, dir, parts = append(reads, kubeletPatchFile), kubeletPatchDir, append(parts, settings)
	}
	render := func(config string) ([]byte, error) {
		return templates.Render("kubelet.service.tmpl", map[string]any{"Program": c.Program, "Config": config, "Node": h.Name, "Reads": reads, "ConfigDir": dir})
	}
	if parts[0], err = render(""); err != nil {
		return nil, "", err
	}
	config = plan.Digest(parts...)
	unit, err = render(config)
	return unit, config, err
}

// Certificates returns the steps that lay down the shared secrets of the control
// plane on a master, and its own pairs. The prober trusts one of them: they are
// there before the VIP. A host that holds other authorities belongs to another
// cluster: they are never replaced.
func (c Cluster) Certificates(h *inventory.Host) ([]plan.Step, error) {
	serving, err := c.PKI.NodeServer(h.Name)
	if err != nil {
		return nil, err
	}
	keep := "the host uses a CA or key that the store " + c.Inv.PKI.Store + " does not know; restore that store from its backup, or name the CA under pki.externalCA in " + c.Inv.Path
	file := func(what, name string, content []byte, mode fs.FileMode, keep string) plan.Step {
		return plan.File{ID: id(h, what), Host: h.Name, Path: pkiDir + "/" + name, Content: content, Mode: mode, Secret: mode == 0o600, Keep: keep, Lane: Lane}.Step()
	}
	m := c.PKI
	steps := []plan.Step{
		file("ca-cert", "ca.crt", m.KubernetesCA.CertPEM, 0o644, keep),
		file("ca-key", "ca.key", m.KubernetesCA.KeyPEM, 0o600, keep),
		// The controller manager signs with a pair of its own: its signer takes one
		// certificate only, while what is trusted can be two.
		file("signing-cert", "signing/ca.crt", m.KubernetesCA.IssuerPEM(), 0o644, keep),
		file("signing-key", "signing/ca.key", m.KubernetesCA.KeyPEM, 0o600, keep),
		file("front-proxy-ca-cert", "front-proxy-ca.crt", m.FrontProxyCA.CertPEM, 0o644, keep),
		file("sa-key", "sa.key", m.ServiceAccount.KeyPEM, 0o600, keep),
		file("sa-pub", "sa.pub", m.ServiceAccount.PubPEM, 0o644, keep),
		file("etcd-ca-cert", "etcd/ca.crt", m.EtcdCA.CertPEM, 0o644, keep),
		file("etcd-client-cert", "apiserver-etcd-client.crt", m.EtcdClient().CertPEM, 0o644, ""),
		file("etcd-client-key", "apiserver-etcd-client.key", m.EtcdClient().KeyPEM, 0o600, ""),
		file("serving-cert", "serving/server.crt", serving.CertPEM, 0o644, ""),
		file("serving-key", "serving/server.key", serving.KeyPEM, 0o600, ""),
	}
	if len(m.FrontProxyCA.KeyPEM) > 0 {
		return append(steps, file("front-proxy-ca-key", "front-proxy-ca.key", m.FrontProxyCA.KeyPEM, 0o600, keep)), nil
	}
	// It signs elsewhere: kubeadm takes the pair that is there.
	client, ok := m.FrontProxyClient()
	if !ok {
		return nil, errors.New("the front proxy's certificate waits for a signature")
	}
	return append(steps,
		file("front-proxy-client-key", "front-proxy-client.key", client.KeyPEM, 0o600, ""),
		file("front-proxy-client-cert", "front-proxy-client.crt", client.CertPEM, 0o644, "")), nil
}

// Kubelet returns the step that keeps the kubelet running with this binary and
// unit, once kubeadm has configured it.
func (c Cluster) Kubelet(h *inventory.Host) (plan.Step, error) {
	unit, config, err := c.kubeletUnit(h)
	if err != nil {
		return plan.Step{}, err
	}
	reads := map[string][]byte{kubeletUnitFile: unit}
	settings, err := c.kubeletPatch()
	if settings != nil {
		reads[kubeletPatchFile] = settings
	}
	return plan.Service{
		ID: id(h, "kubelet"), Host: h.Name, Unit: "kubelet.service", Config: config, Wait: 60 * time.Second, Reads: reads,
	}.Step(), err
}

// Join returns the step that makes a worker. The token is made on the master
// when it is needed, lives for 15 minutes, and reaches the worker through stdin.
func (c Cluster) Join(h *inventory.Host, master func() remote.Host) plan.Step {
	st := plan.Script{
		ID: id(h, "join"), Host: h.Name, Title: "kubeadm join", Op: plan.Create, Summary: "kubeadm join, in place of any node of that name",
		Look: `[ -s ` + kubeDir + `/kubelet.conf ] && [ -s /var/lib/kubelet/config.yaml ] && [ -s ` + pkiDir + `/ca.crt ] && [ ! -e ` + joinFile + ` ] && echo ok || echo "not joined"`,
	}.Step()
	st.Apply = func(ctx context.Context, env plan.Env, _ *plan.Change) error {
		if err := c.forgetNode(ctx, env.Host, master(), h.Name); err != nil {
			return err
		}
		token, err := c.newToken(ctx, master())
		if err != nil {
			return err
		}
		conf, err := c.joinConfig(h, token)
		if err != nil {
			return err
		}
		// The join file goes last: while it is there the join is not complete
		// and is run again from the start.
		if err := env.Host.Put(ctx, remote.File{Path: joinFile, Content: conf, Mode: 0o600}); err != nil {
			return err
		}
		_, err = env.Host.Run(ctx, remote.Cmd{
			Title: "kubeadm join", Timeout: 8 * time.Minute, Output: func(l string) { env.Say("%s", l) },
			Script: c.SearchPath + `enable_unit kubelet.service &&
rm -f ` + kubeDir + `/kubelet.conf ` + kubeDir + `/bootstrap-kubelet.conf ` + pkiDir + `/ca.crt &&
kubeadm join --config ` + joinFile + ` && sync ` + kubeDir + `/kubelet.conf ` + pkiDir + `/ca.crt /var/lib/kubelet/*.[ey]* ` + kubeDir + ` ` + pkiDir + ` && rm -f ` + joinFile,
		})
		return err
	}
	return st
}

// forgetNode removes the node of a host that has not joined: of the machine
// that was there before, or of a join that was cut off. kubeadm refuses to join
// beside one that is still Ready. The kubelet is stopped first, or it would
// register again.
func (c Cluster) forgetNode(ctx context.Context, host, master remote.Host, name string) error {
	if _, err := host.Run(ctx, remote.Cmd{Title: "stop the kubelet", Timeout: 2 * time.Minute,
		Script: "stop_unit kubelet.service"}); err != nil {
		return err
	}
	_, err := master.Run(ctx, remote.Cmd{
		Title: "forget the node " + name, Timeout: 2 * time.Minute,
		Script: c.kubectl(c.Inv.Host(master.Name())) + "delete node " + remote.Quote(name) + " --ignore-not-found --timeout=" + wait.Times(60) + "s",
	})
	if err != nil {
		return fmt.Errorf("on %s: %w", master.Name(), err)
	}
	return nil
}

// kubectl begins a call on a master: of its own apiserver, since the VIP may be about
// to move.
func (c Cluster) kubectl(m *inventory.Host) string {
	return c.SearchPath + "KUBECACHEDIR=/run/hactl/kubectl kubectl --kubeconfig " + kubeDir + "/admin.conf --server https://" + c.apiAddress(m) + " "
}

var tokenForm = regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)

func validToken(t string) bool { return tokenForm.MatchString(t) }

// newToken lets a master make a bootstrap token; it stands in no command line.
func (c Cluster) newToken(ctx context.Context, master remote.Host) (string, error) {
	res, err := master.Run(ctx, remote.Cmd{
		Title: "make a bootstrap token", Timeout: time.Minute,
		Script: c.SearchPath + "kubeadm --kubeconfig " + kubeDir + "/admin.conf token create --ttl 15m --description 'hactl join'",
	})
	if err != nil {
		return "", fmt.Errorf("on %s: %w", master.Name(), err)
	}
	return strings.TrimSpace(string(res.Stdout)), nil
}
