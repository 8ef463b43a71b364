package kubeadm

// endBeforeNew is a shell script that ends the apiserver before kubeadm writes a new manifest
// for it. It does nothing where kubeadm would write the manifest that is there.
//
// A kubelet that finds a new manifest while the old apiserver still ends, which takes seven
// seconds, tries to start the new one again only after ten to fifteen. So the apiserver is ended
// by its old manifest with one more annotation, and the new manifest comes when the kubelet
// has forgotten the old pod: it starts at once. On lab hosts an apiserver was ready again
// after 11 s in place of 18. There is a manifest that serves at every moment: a run that is cut
// leaves the old one, which the kubelet starts.
//
// It sets old to the pids of an apiserver that has still to end, m to its manifest, n, pod and d.
const endBeforeNew = `m=` + kubeDir + `/manifests/kube-apiserver.yaml n=` + kubeDir + `/hactl-manifest-next
old=$(pids_of kube-apiserver)
stopped() { [ "$(pids_of kube-apiserver)" != "$old" ]; }
forgotten() {
  for d in /sys/fs/cgroup/kubepods*/*"$pod"* /sys/fs/cgroup/kubepods*/*/*"$pod"* /sys/fs/cgroup/*/kubepods*/*"$pod"* /sys/fs/cgroup/*/kubepods*/*/*"$pod"*; do
    [ ! -e "$d" ] || return 1
  done
}
rm -rf $n; mkdir -m 0700 $n
if [ -n "$old" ] && KUBEADM_INIT_DRYRUN_DIR=$n kubeadm init phase control-plane apiserver --config ` + initFile + ` --dry-run >/dev/null &&
  [ -s $n/kube-apiserver.yaml ] && ! cmp -s $n/kube-apiserver.yaml $m && cp -p $m $n/ends &&
  sed 's/^  annotations:$/&\n    hactl.io\/ends: "true"/' $m >$n/ends && ! cmp -s $n/ends $m; then
  pod=$(grep -o 'pod[0-9a-f]\{32\}' "/proc/${old%%[!0-9]*}/cgroup" 2>/dev/null | head -n 1)
  sync $n/ends
  mv $n/ends $m
  wait_until 120 "the kubelet did not stop the apiserver" stopped
  if [ -n "$pod" ]; then wait_until 5 "the old pod was not forgotten" forgotten || :; sleep 0.2; else sleep 1; fi
  old=$(pids_of kube-apiserver) # a kubelet that was faster has started the old one again
fi
rm -rf $n
`
