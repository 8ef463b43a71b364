// Package etcd makes the members run and keep their quorum: their units, their
// membership, and a client that reaches them through ssh.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/wait"
	"hactl/inventory"
	"hactl/pki"
	"hactl/templates"
)

// Lane is the lane of the member's steps: they need nothing of the others.
const Lane = "etcd"

// Plan knows how each master's member is to be brought up.
type Plan struct {
	Inv     *inventory.Inventory
	PKI     *pki.Material
	Disks   map[string]Disk
	Program string // path of etcd on a host, of its build alone
	// Joined names the workers whose kubelet belongs to this cluster.
	Joined []string
	// RecordQuorum notes on the operator's side, once, that the cluster has run.
	RecordQuorum func(context.Context) error
}

// RefusedError says that the hosts and the store do not fit together, and that
// going on could lose a cluster.
type RefusedError struct{ Err error }

// Error gives the reason.
func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Err }

// ExitCode is the code for "refused: not safe".
func (e *RefusedError) ExitCode() int { return 7 }

// Established reports whether the cluster has ever had a quorum.
func (p *Plan) Established() bool {
	for _, d := range p.Disks {
		if d.Established != "" {
			return true
		}
	}
	return false
}

// Token is the cluster token.
func (p *Plan) Token() string { return p.PKI.Identity.Token() }

// Validate finds what no step could repair: a member of another cluster or in
// another folder, a half-made bootstrap with another set of masters, a cluster
// that has no data left.
func (p *Plan) Validate() error {
	errs := []error{p.emptied()}
	want := p.initialCluster(p.Inv.Masters())
	for _, m := range p.Inv.Masters() {
		d := p.Disks[m.Name]
		switch {
		case d.Established != "" && d.Established != p.Token():
			errs = append(errs, p.otherCluster(m, d))
		case d.Elsewhere != "":
			was, now := d.Elsewhere, p.Inv.Etcd.DataDir
			errs = append(errs, remote.Hint(fmt.Errorf("etcd/%s: its member keeps its data in %s, the inventory says %s", m.Name, was, now),
				"set etcd.dataDir back to %s in %s; or move the data by hand first, on one master after another, each healthy before the next: %s", was, p.Inv.Path, moveByHand(was, now)))
		case !p.Established() && d.Data && d.Initial != want:
			errs = append(errs, remote.Hint(fmt.Errorf("etcd/%s: %s holds a member of a bootstrap with other masters: %s", m.Name, p.Inv.Etcd.DataDir, d.Initial),
				"on %s, if nothing in it is needed: systemctl stop etcd; mv %s %s.old", m.Name, p.Inv.Etcd.DataDir, p.Inv.Etcd.DataDir))
		}
	}
	return errors.Join(errs...)
}

// Ours is an error when a master holds a member of another cluster, or of a later generation
// than the store: the store does not belong to these hosts, or is an old copy. Members of an
// earlier generation are no error.
func (p *Plan) Ours() error {
	var errs []error
	for _, m := range p.Inv.Masters() {
		d := p.Disks[m.Name]
		if n := p.PKI.Identity.GenerationOf(d.Established); d.Established != "" && (n == 0 || n > p.PKI.Identity.Generation) {
			errs = append(errs, p.otherCluster(m, d))
		}
	}
	return errors.Join(errs...)
}

// emptied is an error when the cluster has run and no master has its data: the
// bootstrap of an empty one would take its place. Three witnesses know that it
// has run: a master, the store, and a worker that belongs to it.
func (p *Plan) emptied() error {
	if p.anyData() {
		return nil
	}
	witness := ""
	switch {
	case p.Established():
		witness = establishedFile + " on a master says so"
	case p.PKI.Identity.HadQuorum:
		witness = "the store " + p.Inv.PKI.Store + " says so"
	case len(p.Joined) > 0:
		witness = "still joined to it: " + strings.Join(p.Joined, ", ")
	default:
		return nil
	}
	return remote.Hint(&RefusedError{fmt.Errorf("cluster %s has run (%s), and no master holds its etcd data in %s: an empty cluster would take its place", p.Inv.Cluster, witness, p.Inv.Etcd.DataDir)},
		"if a disk is not mounted or a master is switched off: bring it back and run hactl again. If the data is lost: hactl restore FILE, from a snapshot. "+
			"To give this cluster up: move the store away (mv %[1]s %[1]s.old), use hosts that are not joined to it, and run hactl up", p.Inv.PKI.Store)
}

// otherCluster says what it means that a master's member has another token.
func (p *Plan) otherCluster(m *inventory.Host, d Disk) error {
	if n := p.PKI.Identity.GenerationOf(d.Established); n > p.PKI.Identity.Generation {
		return remote.Hint(&RefusedError{fmt.Errorf("etcd/%s: the host is of generation %d of cluster %s, the store %s is of generation %d: it is an old copy", m.Name, n, p.Inv.Cluster, p.Inv.PKI.Store, p.PKI.Identity.Generation)},
			"use the store of the operator who restored the cluster last, or its backup")
	}
	if n := p.PKI.Identity.GenerationOf(d.Established); n > 0 {
		return remote.Hint(&RefusedError{fmt.Errorf("etcd/%s: the host is of generation %d of cluster %s, which is of generation %d by now", m.Name, n, p.Inv.Cluster, p.PKI.Identity.Generation)},
			"if a restore is under way, complete it: hactl restore FILE. If the host was away meanwhile, move its old data away, and hactl up adds it anew: mv %[1]s/member %[1]s/member.old; rm %[2]s", p.Inv.Etcd.DataDir, establishedFile)
	}
	return remote.Hint(&RefusedError{fmt.Errorf("etcd/%s: the host holds a member of cluster %q, expected %q", m.Name, d.Established, p.Token())},
		"restore the PKI store of that cluster (%s), or use hosts without an etcd member", p.Inv.PKI.Store)
}

// moveByHand is a command for the operator: hactl does not move data.
func moveByHand(was, now string) string {
	return fmt.Sprintf("systemctl stop etcd && install -d -o etcd -g etcd -m 700 %[2]s && mv %[1]s/member %[2]s/ && "+
		"sed -i 's|--data-dir=%[1]s |--data-dir=%[2]s |; s|%[1]s/member/|%[2]s/member/|' %[3]s && systemctl daemon-reload && systemctl start etcd", was, now, unitFile)
}

// anyData reports whether a master has a member's data: once the cluster has had
// a quorum, of a member that knows of it.
func (p *Plan) anyData() bool {
	established := p.Established()
	for _, d := range p.Disks {
		if (d.Established != "" || !established) && (d.Data || d.Elsewhere != "") {
			return true
		}
	}
	return false
}

// Joins reports whether the master is to be added to a running cluster.
func (p *Plan) Joins(m *inventory.Host) bool { return p.Established() && !p.Disks[m.Name].Data }

// ClientAddress is HOST:PORT where a master's member serves clients.
func ClientAddress(m *inventory.Host) string {
	return net.JoinHostPort(m.PrivateAddress.String(), "2379")
}

// ClientURL is where a master's member serves clients.
func ClientURL(m *inventory.Host) string { return memberURL(m.PrivateAddress, "2379") }

// PeerURL is where a master's member serves its peers.
func PeerURL(m *inventory.Host) string { return memberURL(m.PrivateAddress, "2380") }

func memberURL(a netip.Addr, port string) string {
	return "https://" + net.JoinHostPort(a.String(), port)
}

func (p *Plan) initialCluster(ms []*inventory.Host) string {
	parts := make([]string, len(ms))
	for i, m := range ms {
		parts[i] = m.Name + "=" + PeerURL(m)
	}
	return strings.Join(parts, ",")
}

func id(m *inventory.Host, what string) plan.ID { return plan.ID("etcd/" + m.Name + "/" + what) }

// Files returns the steps for a member's certificates, bootstrap settings and
// unit.
func (p *Plan) Files(m *inventory.Host) ([]plan.Step, error) {
	unit, err := p.Unit(m)
	if err != nil {
		return nil, err
	}
	steps, err := p.Pairs(m)
	if err != nil {
		return nil, err
	}
	steps = append(steps, p.dataDir(m))
	if !p.Joins(m) {
		steps = append(steps, p.bootstrap(m))
	}
	return append(steps, unit), nil
}

// Unit returns the step for a member's unit, which names its build.
func (p *Plan) Unit(m *inventory.Host) (plan.Step, error) {
	unit, _, err := p.unit(m)
	return plan.File{ID: id(m, "unit"), Host: m.Name, Path: unitFile, Content: unit, Lane: Lane}.Step(), err
}

// Pairs returns the steps for a member's CA and pairs. It reads them anew at each
// handshake.
func (p *Plan) Pairs(m *inventory.Host) ([]plan.Step, error) {
	file := func(what, path string, content []byte, mode fs.FileMode, secret bool) plan.Step {
		return plan.File{ID: id(m, what), Host: m.Name, Path: path, Content: content, Mode: mode, Owner: "etcd:etcd", Secret: secret, Lane: Lane}.Step()
	}
	server, err := p.PKI.EtcdServer(m.Name)
	if err != nil {
		return nil, err
	}
	peer, err := p.PKI.EtcdPeer(m.Name)
	if err != nil {
		return nil, err
	}
	ca := plan.File{ID: id(m, "ca"), Host: m.Name, Path: pkiDir + "/ca.crt", Content: p.PKI.EtcdCA.CertPEM, Owner: "etcd:etcd", Lane: Lane, Keep: foreignCA(p.Inv)}
	return []plan.Step{
		ca.Step(),
		file("server-cert", pkiDir+"/server.crt", server.CertPEM, 0o644, false),
		file("server-key", pkiDir+"/server.key", server.KeyPEM, 0o600, true),
		file("peer-cert", pkiDir+"/peer.crt", peer.CertPEM, 0o644, false),
		file("peer-key", pkiDir+"/peer.key", peer.KeyPEM, 0o600, true),
	}, nil
}

// foreignCA refuses to replace a CA that hosts already use.
func foreignCA(inv *inventory.Inventory) string {
	return "the host uses a CA that the store " + inv.PKI.Store + " does not know; restore that store from its backup, or name the CA under pki.externalCA in " + inv.Path
}

func (p *Plan) unit(m *inventory.Host) (unit []byte, config string, err error) {
	e := p.Inv.Etcd
	data := map[string]any{
		"Name": m.Name, "Cluster": p.Inv.Cluster, "DataDir": e.DataDir, "PKI": pkiDir, "Bootstrap": bootstrapFile, "Established": establishedFile,
		"ClientURL": ClientURL(m), "PeerURL": PeerURL(m), "LocalURL": "https://127.0.0.1:2379",
		"Heartbeat": e.HeartbeatInterval.Milliseconds(), "Election": e.ElectionTimeout.Milliseconds(), "Quota": e.QuotaBackendBytes,
		"Program": p.Program, "Config": "", "Reads": []string{unitFile},
	}
	bare, err := templates.Render("etcd.service.tmpl", data)
	if err != nil {
		return nil, "", err
	}
	// etcd reads its certificates anew at each handshake: they are no reason to
	// restart it, so they are not part of the configuration's name.
	config = plan.Digest(bare)
	data["Config"] = config
	unit, err = templates.Render("etcd.service.tmpl", data)
	return unit, config, err
}

func (p *Plan) dataDir(m *inventory.Host) plan.Step {
	d := remote.Quote(p.Inv.Etcd.DataDir)
	return plan.Script{
		ID: id(m, "data-dir"), Host: m.Name, Title: "data directory", Lane: Lane, Op: plan.Create,
		Look: `s=$(stat -Lc '%a %U' ` + d + ` 2>&1) || { says_absent "$s" && echo absent; exit; }
[ "$s" = '700 etcd' ] && echo ok || echo "is $s"`,
		// A data directory that is a mount point or was made by hand keeps its
		// content; only its owner and mode are set.
		Summary: "make " + p.Inv.Etcd.DataDir + " 0700 and etcd's own",
		Run:     "mkdir -p " + d + " && chown etcd:etcd " + d + " && chmod 0700 " + d,
	}.Step()
}

// bootstrap writes what etcd reads while its data directory is empty. Once
// there is data the content does not matter any more and is left alone.
func (p *Plan) bootstrap(m *inventory.Host) plan.Step {
	f := plan.File{ID: id(m, "bootstrap"), Host: m.Name, Path: bootstrapFile, Content: p.bootstrapEnv(p.initialCluster(p.Inv.Masters()), "new"), Owner: "etcd:etcd", Lane: Lane}
	st := f.Step()
	if p.Disks[m.Name].Data {
		check := st.Check
		st.Check = func(ctx context.Context, env plan.Env) (*plan.Change, error) {
			c, err := check(ctx, env)
			if c != nil && c.Op == plan.Update {
				c = nil
			}
			return c, err
		}
	}
	return st
}

func (p *Plan) bootstrapEnv(cluster, state string) []byte {
	return fmt.Appendf(nil, "ETCD_INITIAL_CLUSTER=%s\nETCD_INITIAL_CLUSTER_STATE=%s\nETCD_INITIAL_CLUSTER_TOKEN=%s\n", cluster, state, p.Token())
}

// Start returns the step that keeps the member running. It queues the start
// and does not wait: members that are started one after another and wait to be
// ready wait for one another. A restart of a running member is guarded by the
// quorum and waited for.
func (p *Plan) Start(m *inventory.Host, dial dialer) (plan.Step, error) {
	unit, config, err := p.unit(m)
	if err != nil {
		return plan.Step{}, err
	}
	s := plan.Service{
		ID: id(m, "service"), Host: m.Name, Unit: "etcd.service", Config: config, Lane: Lane, NoBlock: true,
		Reads: map[string][]byte{unitFile: unit},
	}
	if p.Established() {
		restarts := false
		s.Guard = func(ctx context.Context, env plan.Env) error {
			var err error
			restarts, err = p.guardRestart(ctx, env, m, dial)
			return err
		}
		s.Ready = func(ctx context.Context, env plan.Env) error {
			if !restarts {
				return nil
			}
			env.Say("waiting up to %s for the member to be healthy", wait.Bound(ctx, time.Minute))
			return WaitReady(ctx, env.Host, time.Minute)
		}
	}
	if p.Joins(m) {
		return p.startAnew(m, s), nil
	}
	return s.Step(), nil
}

// guardRestart lets a member that runs be restarted only when the others have a
// quorum without it. A member whose process is not there has nothing to lose.
func (p *Plan) guardRestart(ctx context.Context, env plan.Env, m *inventory.Host, dial dialer) (runs bool, err error) {
	units, err := remote.Ask(ctx, env.Host, sys.Units("etcd.service"), 0)
	if err != nil || units["etcd.service"].Process == 0 {
		return false, err
	}
	if len(p.Inv.Masters()) == 1 {
		return true, nil // there is no other way
	}
	c, err := dial(ctx)
	if err != nil {
		return true, fmt.Errorf("ask the cluster whether it can spare %s: %w", m.Name, err)
	}
	defer c.Close()
	return true, c.patiently(ctx, env.Say, func() error { return c.SurvivesStopping(ctx, m.Name) })
}

// Quorum returns the step that waits until the cluster serves and then lays
// down, on this master, that it did.
func (p *Plan) Quorum(m *inventory.Host, dial dialer) plan.Step {
	st := plan.File{ID: id(m, "quorum"), Host: m.Name, Path: establishedFile, Content: []byte(p.Token() + "\n"), Owner: "etcd:etcd", Lane: Lane}.Step()
	st.Title, st.Quick = "quorum", false
	marker, check := *st.File, st.Check
	st.File = nil
	if p.Joins(m) {
		st.Look = append(st.Look, plan.LookFor(p.joining()))
	}
	st.Check = func(ctx context.Context, env plan.Env) (*plan.Change, error) {
		const what = "wait for a quorum of etcd and a first acknowledged write"
		c, err := check(ctx, env)
		if err == nil && c == nil && p.Joins(m) { // adding the member takes the file away
			return p.pendingUntilJoined(env, plan.Then(plan.Do, what, "note the quorum, absent"))
		}
		if c != nil {
			c.Op, c.Summary, c.Acts = plan.Do, what, []string{"note the quorum, " + c.Pin}
		}
		return c, err
	}
	st.Apply = func(ctx context.Context, env plan.Env, _ *plan.Change) error {
		c, err := dial(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.WaitWrite(ctx, 90*time.Second, env.Say); err != nil {
			return err
		}
		// The store first: were the host first and lost with the others, an empty
		// cluster could take the place of this one.
		if p.RecordQuorum != nil {
			if err := p.RecordQuorum(ctx); err != nil {
				return err
			}
		}
		return env.Host.Put(ctx, marker)
	}
	return st
}
