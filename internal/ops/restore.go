package ops

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hactl/etcd"
	"hactl/internal/backup"
	"hactl/internal/exitcode"
	"hactl/internal/host"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/ui"
	"hactl/inventory"
	"hactl/kubeadm"
)

// RestoreOptions are the flags of a restore.
type RestoreOptions struct {
	Options
	File     string // the snapshot; "" with Survivor
	Survivor bool   // take the snapshot from a member that still answers
	Word     string // the cluster's name, as typed on the command line
}

// Restore makes the cluster anew from a snapshot, as its next generation: every master
// gets the same data, the data of before is moved aside. Objects that are newer are gone.
// Killed anywhere, the next run completes it; no member of the old generation
// runs beside one of the new.
func Restore(ctx context.Context, r Request, o RestoreOptions) (*Result, error) {
	x := &restore{RestoreOptions: o, keepIn: SnapshotDir(r.Inv)}
	if o.DryRun { // what there is is only compared with
		dir, err := os.MkdirTemp("", "hactl-restore-")
		if err != nil {
			return &Result{}, fmt.Errorf("make folder: %w", err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		x.keepIn = dir
	}
	keep := func(ctx context.Context, s *session) error { return s.store.Keep(ctx, s.material) }
	yes := func(context.Context, *session, *plan.Plan) error { return nil } // the typed word was for all of it
	return operation{
		verb: "restore", anyQuorum: true,
		phases: []phase{
			{make: x.fence, confirm: x.confirm, before: x.begin},
			{name: "look at the masters", make: x.prepare, confirm: yes, before: keep},
			{name: "look before the swap", make: x.swap, confirm: yes},
			{name: "look before the start", make: x.start, confirm: yes},
			{name: "look at the cluster", make: x.up, confirm: yes, before: keep},
		},
		finish: x.finish,
	}.run(ctx, r, o.Options)
}

// restore is one run of Restore.
type restore struct {
	RestoreOptions
	plan    *etcd.Restore
	content *backup.Content
	saved   time.Time // of the snapshot
	resumed bool      // an earlier run began it
	lost    []string  // objects that the living cluster has and the snapshot has not
	keepIn  string    // folder of the snapshot of what there was
	current string    // the snapshot of what there was, "" when no member answered
}

// fence chooses the snapshot and the generation, and lists what is stopped.
func (x *restore) fence(ctx context.Context, s *session) (*plan.Plan, error) {
	// What later phases would miss is known before anything stops.
	m, _, err := s.preview(ctx, signing{verb: x.command(), dry: x.DryRun})
	if err != nil {
		return nil, err
	}
	if m.KubernetesCA.New { // there is no store
		return nil, s.loadStore(ctx)
	}
	s.secrets(m)
	if s.disks, err = etcd.Observe(ctx, s.inv, s.hosts); err != nil {
		return nil, err
	}
	begun, err := etcd.UnderWay(ctx, s.inv.Masters(), s.hosts)
	if err != nil {
		return nil, err
	}
	if err := (&etcd.Plan{Inv: s.inv, PKI: s.material, Disks: s.disks}).Ours(); err != nil {
		return nil, err
	}
	if x.File != "" { // before what there is is saved, which takes time
		if _, err := os.Stat(x.File); err != nil {
			_, _, err := verified(s.inv, x.File, backup.Expected{})
			return nil, err
		}
	}
	if len(begun) == 0 {
		if err := x.look(ctx, s); err != nil {
			return nil, err
		}
	}
	if err := x.choose(s, begun); err != nil {
		return nil, err
	}
	if !x.resumed {
		if err := x.plan.Room(ctx, s.hosts); err != nil {
			return nil, err
		}
	}
	if x.DryRun {
		var text strings.Builder
		x.show(&text, s)
		s.Note(text.String() + "after the masters are stopped: the data is exchanged, etcd and the control plane start, the kubelets of workers restart; then what hactl up would do")
	}
	return x.stop(ctx, s)
}

// command is the one that goes on with this restore.
func (x *restore) command() string {
	if x.Survivor {
		return "restore --survivor"
	}
	return "restore " + x.File
}

// stop stops every master, and keeps etcd from starting there.
func (x *restore) stop(ctx context.Context, s *session) (*plan.Plan, error) {
	stage := plan.Stage{Name: "stop the masters"}
	for _, m := range x.plan.Masters {
		stage.Steps = append(stage.Steps, x.nodes(s).StopControlPlane(m), x.plan.Fence(m))
	}
	if x.resumed && s.served(x.plan.Token()) { // nothing to stop: the data is in place everywhere
		stage.Steps = nil
	}
	return plan.Make(ctx, []plan.Stage{stage}, s.hosts, s)
}

// served reports whether a master has seen a quorum of that generation.
func (s *session) served(token string) bool {
	for _, d := range s.disks {
		if d.Established == token {
			return true
		}
	}
	return false
}

// look finds out what there is: a living cluster, whose state is saved first, a
// survivor, or nothing. It refuses to restore where starting what is there would do.
func (x *restore) look(ctx context.Context, s *session) error {
	members, err := (&cluster{session: s}).dialEtcd(ctx)
	if err != nil {
		return err
	}
	status := members.Status(ctx)
	members.Close()
	data, answers := 0, 0
	for _, m := range s.inv.Masters() {
		if s.disks[m.Name].Data && s.disks[m.Name].Established != "" {
			data++
		}
		if st := status.Member(m.Name); st != nil && st.Reachable {
			answers++
		}
	}
	if !status.Quorum && data >= len(s.inv.Masters())/2+1 {
		return exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("%d of %d masters still have their data: together they are a quorum, and no write is lost", data, len(s.inv.Masters())),
			"start them: hactl up. If a member cannot start, move its %s/member away by hand first", s.inv.Etcd.DataDir))
	}
	if answers == 0 {
		if x.Survivor {
			return exitcode.With(exitcode.Unsafe, fmt.Errorf("no member of etcd answers: there is no survivor to take a snapshot from"))
		}
		return nil
	}
	now, err := s.saveSnapshot(ctx, x.keepIn)
	if err != nil {
		return fmt.Errorf("save what there is: %w", err)
	}
	x.current = now.File
	if !x.DryRun {
		s.Note("saved what there is: " + now.File)
	}
	if x.Survivor {
		x.File = now.File
	}
	return nil
}

// choose verifies the snapshot and decides the generation: the next one, or that of a
// restore which was begun from the same snapshot.
func (x *restore) choose(s *session, begun map[string][2]string) error {
	id := s.material.Identity
	if x.File == "" {
		return exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("a restore is under way, and which snapshot it is from is not known"), "name the snapshot: hactl restore FILE"))
	}
	content, m, err := verified(s.inv, x.File, backup.Expected{ID: id.ID, Generation: id.Generation, CA: sumOfCA(s.material.KubernetesCA), Etcd: s.inv.Versions.Etcd})
	if err != nil {
		return err
	}
	if m != nil && m.Kubernetes != "" && m.Kubernetes != s.inv.Versions.Kubernetes && !s.established() {
		return exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("the snapshot is of Kubernetes %s, and %s would install %s on empty masters", m.Kubernetes, s.inv.Path, s.inv.Versions.Kubernetes),
			"write versions.kubernetes: %s into the inventory", m.Kubernetes))
	}
	x.content = content
	of := 0
	if m != nil {
		of, x.saved = m.Generation, m.Saved
	}
	if x.resumed = resumes(begun, id.Token(), content.SHA256); !x.resumed {
		id.Generation++
	}
	id.HadQuorum = true
	material := *s.material
	material.Identity = id
	x.plan = &etcd.Restore{File: x.File, SHA256: content.SHA256, Size: content.Bytes, Of: of,
		Plan: &etcd.Plan{Inv: s.inv, PKI: &material, Disks: s.disks, RecordQuorum: s.recordQuorum}}
	for _, h := range s.inv.Masters() {
		if s.hosts[h.Name] != nil {
			x.plan.Masters = append(x.plan.Masters, h)
		}
	}
	if x.current != "" && x.current != x.File {
		x.lost, err = backup.Newer(x.File, x.current)
	}
	return err
}

// resumes reports whether a restore of this generation was begun from this snapshot. What
// was begun from another one is begun anew, as the next generation.
func resumes(begun map[string][2]string, token, sha256 string) bool {
	for _, mark := range begun {
		if mark == [2]string{token, sha256} {
			return true
		}
	}
	return false
}

func (x *restore) nodes(s *session) kubeadm.Cluster {
	return kubeadm.Cluster{Inv: s.inv, Facts: s.facts, PKI: x.plan.PKI}
}

// mostLost is how many objects that are lost are listed by name.
const mostLost = 20

// confirm shows what is restored and what is lost. The cluster's name has to be typed;
// --yes does not answer it.
func (x *restore) confirm(ctx context.Context, s *session, p *plan.Plan) error {
	if x.resumed {
		s.Note("a restore from this snapshot was begun; it goes on")
	}
	return s.Confirm(ctx, Question{
		Show:       func(w io.Writer, st ui.Style) error { x.show(w, s); return ui.WritePlan(w, p, x.Full, st) },
		Text:       "\nThe cluster is stopped and made anew from this snapshot.",
		Word:       s.inv.Cluster,
		Yes:        x.Word == s.inv.Cluster,
		NoTerminal: fmt.Sprintf("a restore has to be confirmed, and there is no terminal to ask on; give --yes-restore %s", s.inv.Cluster),
		Undone:     "nothing was changed",
	})
}

func (x *restore) show(w io.Writer, s *session) {
	age := "at a time that is not known"
	if !x.saved.IsZero() {
		age = x.saved.Local().Format(time.DateTime) + ", " + ui.Took(time.Since(x.saved)) + " ago"
	}
	fmt.Fprintf(w, "restore cluster %s as generation %d\nfrom %s\nsaved %s; revision %d, %s\n", s.inv.Cluster, x.plan.PKI.Identity.Generation, x.File, age,
		x.content.Revision, ui.Count(x.content.Keys, "key"))
	var names []string
	for _, m := range x.plan.Masters {
		names = append(names, m.Name)
	}
	fmt.Fprintf(w, "members: %s; the data of before stays in %s\n", inventory.Ranges(names), filepath.Join(s.inv.Etcd.DataDir, fmt.Sprintf("member.before-r%d", x.plan.PKI.Identity.Generation)))
	if len(x.lost) > 0 {
		fmt.Fprintf(w, "newer than the snapshot, and gone afterwards: %s\n", ui.Count(len(x.lost), "object"))
		for i, o := range x.lost {
			if i == mostLost {
				fmt.Fprintf(w, "  and %d more\n", len(x.lost)-i)
				break
			}
			fmt.Fprintf(w, "  %s\n", remote.Clean(o))
		}
	}
}

// begin records the new generation in the store, before a host is of it.
func (x *restore) begin(ctx context.Context, s *session) error {
	if !x.resumed {
		if err := s.store.Record(ctx, x.plan.PKI.Identity); err != nil {
			return err
		}
	}
	s.material = x.plan.PKI
	return nil
}

// prepare brings masters that are empty so far that etcd can run there.
func (x *restore) prepare(ctx context.Context, s *session) (*plan.Plan, error) {
	c, err := x.cluster(ctx, s)
	if err != nil {
		return nil, err
	}
	b := &builder{connected: s.hosts}
	b.stage("prepare hosts")
	b.each(x.plan.Masters, c.osSteps)
	b.each(x.plan.Masters, c.binaries)
	b.each(x.plan.Masters, c.certificates)
	b.stage("etcd's files")
	b.each(x.plan.Masters, c.etcdFiles)
	if b.err != nil {
		return nil, b.err
	}
	return plan.Make(ctx, b.out, s.hosts, s)
}

// cluster looks at the hosts as up does, and accepts that no master may have data of this
// generation yet.
func (x *restore) cluster(ctx context.Context, s *session) (*cluster, error) {
	m, _, err := s.preview(ctx, signing{verb: x.command()})
	if err != nil {
		return nil, err
	}
	s.secrets(m)
	x.plan.PKI = m
	if err := s.ask(ctx); err != nil {
		return nil, err
	}
	// Each will have data: no master is added to a cluster that runs.
	for name, d := range s.disks {
		d.Data = true
		s.disks[name] = d
	}
	x.plan.Disks = s.disks
	c, err := s.unchecked()
	if err == nil {
		x.plan.Etcdutl = host.ProgramPath(c.bundle, "etcdutl")
	}
	return c, err
}

// swap exchanges the data, on all masters at once.
func (x *restore) swap(ctx context.Context, s *session) (*plan.Plan, error) {
	stage := plan.Stage{Name: "restore the data"}
	for _, m := range x.plan.Masters {
		stage.Steps = append(stage.Steps, x.plan.Swap(m))
	}
	return plan.Make(ctx, []plan.Stage{stage}, s.hosts, s)
}

// start brings etcd up, and then what asks it.
func (x *restore) start(ctx context.Context, s *session) (*plan.Plan, error) {
	var err error
	if x.plan.Disks, err = etcd.Observe(ctx, s.inv, s.hosts); err != nil {
		return nil, err
	}
	dial := (&cluster{session: s}).dialEtcd
	stages := []plan.Stage{{Name: "start etcd"}, {Name: "quorum"}, {Name: "start the control plane"}, {Name: "kubelets"}, {Name: "note that it is over"}}
	k := x.nodes(s)
	for _, m := range x.plan.Masters {
		stages[0].Steps = append(stages[0].Steps, x.plan.Unfence(m))
		stages[1].Steps = append(stages[1].Steps, x.quorum(m, dial))
		stages[2].Steps = append(stages[2].Steps, k.StartControlPlane(m))
		stages[4].Steps = append(stages[4].Steps, x.plan.Over(m))
	}
	for _, w := range s.inv.Workers() {
		if s.hosts[w.Name] != nil {
			stages[3].Steps = append(stages[3].Steps, k.RestartKubelet(w))
		}
	}
	return plan.Make(ctx, stages, s.hosts, s)
}

// quorum waits for one, drops the leases of before, and notes on the master that the
// new generation has run.
func (x *restore) quorum(m *inventory.Host, dial func(context.Context) (*etcd.Cluster, error)) plan.Step {
	st := x.plan.Quorum(m, dial)
	apply := st.Apply
	st.Apply = func(ctx context.Context, env plan.Env, change *plan.Change) error {
		c, err := dial(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.WaitWrite(ctx, 90*time.Second, env.Say); err != nil {
			return err
		}
		if err := c.DropLeases(ctx); err != nil {
			return err
		}
		return apply(ctx, env, change)
	}
	return st
}

// up is what is left: empty masters join, and whatever differs from the inventory.
func (x *restore) up(ctx context.Context, s *session) (*plan.Plan, error) {
	m, _, err := s.preview(ctx, signing{verb: x.command()})
	if err != nil {
		return nil, err
	}
	s.secrets(m)
	if err := s.ask(ctx); err != nil {
		return nil, err
	}
	return s.look(ctx)
}

// finish writes the kubeconfig and saves the restored cluster.
func (x *restore) finish(ctx context.Context, s *session, res *Result) (err error) {
	if res.Kubeconfig, err = kubeadm.SaveKubeconfig(s.inv, s.material); err != nil {
		return err
	}
	saved, err := s.saveSnapshot(ctx, SnapshotDir(s.inv))
	if err != nil {
		return fmt.Errorf("save the restored cluster: %w", err)
	}
	s.Note("saved the restored cluster: " + saved.File)
	return nil
}
