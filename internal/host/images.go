package host

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"hactl/internal/bundle"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/wait"
)

const (
	fetchTimeout  = 15 * time.Minute
	importTimeout = 10 * time.Minute
)

// containerdStore is where containerd keeps what it has, from its first start on.
const containerdStore = "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"

// imageStore is what containerd has.
type imageStore struct {
	unknown bool              // it has a store, and does not run
	labels  map[string]string // of its images, by their references
}

// lacks are the images that are not there, or have another archive's label.
func (s imageStore) lacks(want []bundle.Artifact) (out []bundle.Artifact) {
	for _, a := range want {
		if !strings.Contains(s.labels[a.Image], a.ArchiveLabel()) {
			out = append(out, a)
		}
	}
	return out
}

// imagesThere asks for all images: one listing serves every image.
func (h Host) imagesThere() sys.Question[imageStore] {
	return sys.Question[imageStore]{
		Title: "look at the images of containerd", Unit: "containerd.service", Script: h.searchPath() + `command -v ctr >/dev/null && about_unit containerd.service || exit 0
case $s in *ActiveState=active*) ;; *) [ ! -s ` + containerdStore + ` ] || echo unknown; exit 0;; esac
timeout ` + wait.Times(45) + ` ctr -n k8s.io images ls`,
		Parse: func(answer string) (imageStore, error) {
			s := imageStore{unknown: answer == "unknown", labels: map[string]string{}}
			for line := range strings.Lines(answer) { // reference first, labels last
				if f := strings.Fields(line); len(f) > 1 {
					s.labels[f[0]] = f[len(f)-1]
				}
			}
			return s, nil
		},
	}
}

// archives asks for the names of the files in archiveDir.
var archives = sys.Question[[]string]{
	Title: "look at the archives of images", Script: "! is_there " + archiveDir + " || ls " + archiveDir,
	Parse: func(answer string) ([]string, error) { return strings.Fields(answer), nil },
}

// apiserverImages are those without which no apiserver comes up, controlPlaneImages
// those that a master wants as soon as it is a node.
var (
	apiserverImages    = map[string]bool{"kube-apiserver": true, "pause": true}
	controlPlaneImages = map[string]bool{"kube-controller-manager": true, "kube-scheduler": true}
)

// FirstImages returns the step that imports what an apiserver needs.
func (h Host) FirstImages() plan.Step {
	return h.images("images", "apiserver's images", func(a bundle.Artifact) bool { return apiserverImages[a.Name] })
}

// OtherImages returns the step that imports everything else, while the apiserver
// starts.
func (h Host) OtherImages() plan.Step {
	return h.images("other-images", "other images", func(a bundle.Artifact) bool {
		switch {
		case apiserverImages[a.Name]:
			return false
		case a.Name == "flannel":
			return h.Inv.Network.Preset == "flannel"
		case a.Demo():
			return h.Inv.Artifacts.Demo != nil && *h.Inv.Artifacts.Demo
		}
		return true
	})
}

// AwaitImages returns a shell script that waits for the controller manager's and the
// scheduler's images: a kubelet that does not find one leaves the pod alone for a while.
// If they are not there within two seconds it exits with remote.NotYet: see await_images in
// host.sh.
func AwaitImages(b *bundle.Bundle) string {
	var refs []string
	for _, a := range b.Artifacts {
		if a.Kind == bundle.Image && controlPlaneImages[a.Name] {
			refs = append(refs, a.Image)
		}
	}
	if refs == nil {
		return ""
	}
	return fmt.Sprintf("await_images %d %s\n", remote.NotYet, remote.Quote(refs...))
}

// images returns the step that brings the archives of images that containerd
// does not have yet, and imports them: those of the control plane first.
func (h Host) images(what, title string, keep func(bundle.Artifact) bool) plan.Step {
	var want []bundle.Artifact
	for _, a := range h.Bundle.For(h.Host.Role) {
		if a.Kind == bundle.Image && keep(a) {
			want = append(want, a)
		}
	}
	slices.SortStableFunc(want, func(a, b bundle.Artifact) int { return cmp.Compare(rank(a), rank(b)) })
	return plan.Step{
		ID: h.id(what), Host: h.Host.Name, Title: title, Lane: RuntimeLane,
		Look: []plan.Look{plan.LookFor(h.imagesThere()), plan.LookFor(archives)},
		Check: func(_ context.Context, env plan.Env) (*plan.Change, error) {
			seen, err := plan.Answered(env, h.imagesThere())
			if err != nil {
				return nil, err
			}
			left, err := h.leftArchives(env, want)
			if err != nil {
				return nil, err
			}
			missing := seen.lacks(want)
			c := &plan.Change{Op: plan.Create, Summary: "import " + names(missing), Acts: imports(missing, left)}
			switch {
			case len(missing) == 0 && len(left) == 0:
				return nil, nil
			case len(missing) == 0:
				c.Op, c.Summary = plan.Delete, "remove what an import left in "+archiveDir+": "+names(left)
			case seen.unknown:
				c.Summary = "import what containerd lacks, once it runs, of " + names(missing)
			}
			return c, nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			seen, err := plan.Answered(env, h.imagesThere())
			if err != nil {
				return err
			}
			left, err := h.leftArchives(env, want)
			if err != nil {
				return err
			}
			return h.importAll(ctx, env, seen.lacks(want), left)
		},
	}
}

// searchPath is a line of shell by which ctr is found.
func (h Host) searchPath() string { return SearchPath(h.Bundle, "ctr") }

// imports are the acts of importing images, which removes their archives, and of
// removing the archives in left. Once containerd runs, it may lack fewer images than
// was known.
func imports(missing, left []bundle.Artifact) []string {
	var acts []string
	for _, a := range missing {
		acts = append(acts, "import "+a.Name, "remove the archive of "+a.Name)
	}
	for _, a := range left {
		acts = append(acts, "remove the archive of "+a.Name)
	}
	return acts
}

// rank is the order in which images are wanted.
func rank(a bundle.Artifact) int {
	switch {
	case apiserverImages[a.Name]:
		return 0
	case controlPlaneImages[a.Name]:
		return 1
	}
	return 2
}

// leftArchives are those of wanted images that lie on the host and are not the
// operator's: to be imported, or left by a run that died after the import.
func (h Host) leftArchives(env plan.Env, want []bundle.Artifact) ([]bundle.Artifact, error) {
	there, err := plan.Answered(env, archives)
	if err != nil || h.Inv.Artifacts.Source == "present" {
		return nil, err
	}
	return archivesIn(there, want), nil
}

// archivesIn picks those whose archives are among the names.
func archivesIn(there []string, want []bundle.Artifact) []bundle.Artifact {
	var out []bundle.Artifact
	for _, a := range want {
		if slices.Contains(there, path.Base(archivePath(a))) {
			out = append(out, a)
		}
	}
	return out
}

// importAll imports archives in one call, and removes those that are left; one
// that the host does not have is brought first. containerd records an image, with
// its labels, when it has all of its content; what was not unpacked by then is
// unpacked for the first container of it.
func (h Host) importAll(ctx context.Context, env plan.Env, as, left []bundle.Artifact) error {
	there, err := h.archivesThere(ctx, env, as)
	if err != nil {
		return err
	}
	var script strings.Builder
	script.WriteString(h.searchPath() + "set -e\n")
	for _, a := range as {
		at := archivePath(a)
		if !there[a.Name] {
			if _, err := h.deliver(ctx, env, a, at, 0o644); err != nil {
				return fmt.Errorf("bring image archive %s: %w", a.Name, err)
			}
		}
		nice := ""
		if rank(a) > 1 { // what starts beside it comes first
			nice = "nice -n 19 "
		}
		fmt.Fprintf(&script, "%sctr -n k8s.io images import --local --label %s --label %s %s >/dev/null\n", nice, a.ArchiveLabel(), bundle.PinnedLabel, remote.Quote(at))
		if h.Inv.Artifacts.Source != "present" { // there they are the operator's
			fmt.Fprintf(&script, "rm -f %s\n", remote.Quote(at))
		}
	}
	for _, a := range left {
		fmt.Fprintf(&script, "rm -f %s\n", remote.Quote(archivePath(a)))
	}
	if len(as) > 0 {
		env.Say("containerd imports %s", names(as))
	}
	_, err = env.Host.Run(ctx, remote.Cmd{Script: script.String(), Title: "import images", Timeout: importTimeout})
	return err
}

// archivesThere tells which archives, by name, are on the host as they should
// be.
func (h Host) archivesThere(ctx context.Context, env plan.Env, as []bundle.Artifact) (map[string]bool, error) {
	listed, err := plan.Answered(env, archives)
	if err != nil {
		return nil, err
	}
	found := archivesIn(listed, as)
	if len(found) == 0 {
		return nil, nil
	}
	paths := make([]string, len(found))
	for i, a := range found {
		paths[i] = archivePath(a)
	}
	sums, err := remote.Ask(ctx, env.Host, sys.Hashes(paths...), 10*time.Minute)
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, a := range found {
		there[a.Name] = sums[archivePath(a)] == a.SHA256
	}
	return there, nil
}

const archiveDir = stateDir + "/images"

func archivePath(a bundle.Artifact) string { return archiveDir + "/" + path.Base(a.File) }

func names(as []bundle.Artifact) string {
	out := make([]string, len(as))
	for i, a := range as {
		out[i] = a.Name + " " + a.Version
	}
	return strings.Join(out, ", ")
}
