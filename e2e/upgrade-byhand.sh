#!/bin/sh
# The upgrade of a patch as an operator does it by hand with kubeadm: one host after
# another, over OpenSSH, each drained for its kubelet. Images and programs lie on the
# hosts' disks; their import counts. Arguments: the lab's folder, the version, then
# NAME=ADDRESS of the masters and, after "--", of the workers.
set -eu
lab=$1 version=$2
shift 2
work=$(mktemp -d)
hosts=
trap 'for a in $hosts; do ssh -q -o ControlPath="$work/%h" -O exit "root@$a" 2>/dev/null || :; done; rm -rf "$work"' EXIT
opts="-q -i $lab/ssh/id_ed25519 -o UserKnownHostsFile=$lab/ssh/known_hosts -o IdentitiesOnly=yes -o ControlMaster=auto -o ControlPersist=600 -o ControlPath=$work/%h"
from=/opt/hactl/bundle-preload
# shellcheck disable=SC2086 # options
on() { a=$1; shift; ssh $opts "root@$a" "$@"; }
kubectl() { on "$first" kubectl --kubeconfig /etc/kubernetes/admin.conf "$@"; }
start=$(date +%s)
said() { printf '%4d s  %s\n' $(($(date +%s) - start)) "$1"; }

first='' role=master verb="apply $version --yes"
for arg; do
    if [ "$arg" = -- ]; then
        role=worker
        continue
    fi
    name=${arg%%=*} address=${arg#*=}
    first=${first:-$address}
    hosts="$hosts $address"
    images=kube-proxy
    [ "$role" = worker ] || images='kube-apiserver kube-controller-manager kube-scheduler kube-proxy coredns pause'
    on "$address" "for i in $images; do ctr -n k8s.io images import $from/images/\$i.tar >/dev/null 2>&1; done"
    # kubeadm does not renew the certificates of kubeconfigs that refer to files.
    # CreateJob pulls an image, ImagePull looks for one that is called otherwise.
    on "$address" "$from/bin/kubeadm upgrade $verb --certificate-renewal=false --ignore-preflight-errors=CreateJob,ImagePull,SystemVerification >/root/kubeadm-upgrade.log 2>&1" ||
        { on "$address" tail -20 /root/kubeadm-upgrade.log >&2; exit 1; }
    said "kubeadm upgrade ${verb%% *} on $name"
    verb=node
    kubectl drain "$name" --ignore-daemonsets --delete-emptydir-data --timeout=120s >/dev/null
    on "$address" "unit=\$(systemctl show -p FragmentPath --value kubelet.service)
install -m 0755 $from/bin/kubelet /usr/local/bin/kubelet-$version
sed -i 's#^ExecStart=[^ ]*#ExecStart=/usr/local/bin/kubelet-$version#' \"\$unit\"
systemctl daemon-reload && systemctl restart kubelet"
    until [ "$(kubectl get node "$name" -o jsonpath='{.status.nodeInfo.kubeletVersion}')" = "$version" ] &&
        kubectl wait --for=condition=Ready "node/$name" --timeout=60s >/dev/null; do sleep 1; done
    kubectl uncordon "$name" >/dev/null
    said "kubelet of $name"
done
