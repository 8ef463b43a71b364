package kubeadm

import (
	"os"
	"strings"
	"testing"
	"time"
)

const (
	oldManifest = "metadata:\n  annotations:\n    a: b\nspec: old\n"
	newManifest = "metadata:\n  annotations:\n    a: b\nspec: new\n"
	oldPod      = "pod0123456789abcdef0123456789abcdef"
	podFolder   = "/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-" + oldPod + ".slice"
)

// restartWorld is a master with an apiserver, a kubelet of the test and a kubeadm that notes
// what was there when it wrote the new manifest.
func restartWorld(t *testing.T, next string) *disk {
	t.Helper()
	d := newDisk(t).initialised(t, nil)
	d.write(apiserverManifest, oldManifest)
	d.write("/proc/7/comm", "kube-apiserver\n")
	d.write("/proc/7/cgroup", "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-"+oldPod+".slice/x.scope\n")
	d.write(podFolder+"/cgroup.procs", "7\n")
	d.Write("/new", next, 0o600)
	d.Program("kubeadm", `case "$*" in
*certs*) echo x >`+pkiDir+`/apiserver.crt; echo x >`+pkiDir+`/apiserver.key ;;
*--dry-run*) [ ! -e /no-dry-run ] || exit 1; cp /new $KUBEADM_INIT_DRYRUN_DIR/kube-apiserver.yaml ;;
*control-plane*) { cat `+apiserverManifest+`; ls -d /proc/7 `+podFolder+` 2>/dev/null; } >/found
  cp /new `+apiserverManifest+`.tmp && mv `+apiserverManifest+`.tmp `+apiserverManifest+` ;;
esac`)
	return d
}

// endsOldApiserver is a kubelet that ends the apiserver, and forgets its pod a while later, once its manifest is not the
// old one.
func (d *disk) endsOldApiserver(t *testing.T) {
	t.Helper()
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		for end := time.Now().Add(time.Minute); time.Now().Before(end) && t.Context().Err() == nil; time.Sleep(5 * time.Millisecond) {
			if m := d.Content(apiserverManifest); m == oldManifest || m == "" {
				continue
			}
			for _, gone := range []string{"/proc/7", podFolder} {
				time.Sleep(150 * time.Millisecond)
				_ = os.RemoveAll(d.On(gone))
			}
			return
		}
	}()
}

// The kubelet gets the new manifest when the old apiserver has ended and its pod is
// forgotten: one that comes before is tried again only ten seconds later.
func TestNewManifestComesWhenTheOldApiserverIsForgotten(t *testing.T) {
	t.Parallel()
	d := restartWorld(t, newManifest)
	d.endsOldApiserver(t)
	if _, err := d.run(t.Context(), rewrite); err != nil {
		t.Fatal(err)
	}
	if found := d.Content("/found"); !strings.Contains(found, `hactl.io/ends: "true"`) || !strings.Contains(found, "spec: old") || strings.Contains(found, "/proc/7") || strings.Contains(found, podFolder) {
		t.Errorf("kubeadm wrote when this was there:\n%s", found)
	}
	if m := d.Content(apiserverManifest); m != newManifest {
		t.Errorf("the manifest is\n%s", m)
	}
}

// An apiserver whose manifest stays as it is is not ended.
func TestApiserverWithTheSameManifestIsNotEnded(t *testing.T) {
	t.Parallel()
	d := restartWorld(t, oldManifest)
	if _, err := d.run(t.Context(), rewrite); err != nil {
		t.Fatal(err)
	}
	if found := d.Content("/found"); found != oldManifest+"/proc/7\n"+podFolder+"\n" {
		t.Errorf("kubeadm wrote when this was there:\n%s", found)
	}
}

// Where kubeadm does not say before what it would write, it writes it at once.
func TestManifestIsWrittenWithoutADryRun(t *testing.T) {
	t.Parallel()
	d := restartWorld(t, newManifest)
	d.Write("/no-dry-run", "", 0o600)
	d.endsOldApiserver(t)
	if _, err := d.run(t.Context(), rewrite); err != nil {
		t.Fatal(err)
	}
	if found := d.Content("/found"); !strings.HasPrefix(found, oldManifest) || d.Content(apiserverManifest) != newManifest || d.Has("/proc/7") {
		t.Errorf("kubeadm wrote when this was there:\n%s", found)
	}
}
