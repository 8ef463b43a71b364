#!/bin/sh
# The procedure that hactl automates, scripted as an operator does it by hand:
# one host after another, over OpenSSH. Binaries are in place and the image
# archives lie on the hosts' disks; their import counts. Arguments: the lab's
# folder, then the masters' addresses. Run in the lab's hub. The last line is
# "by-hand: SECONDS"; lines before it are cumulative.
set -eu
. "$(dirname "$0")/article-keepalived.sh"
lab=$1
shift
vip=10.77.0.100
work=$(mktemp -d)
trap 'for m in "$@"; do ssh -q -o ControlPath="$work/%h" -O exit root@"$m" 2>/dev/null || :; done; rm -rf "$work"' EXIT
start=$(date +%s.%N)
mark() { printf '%-28s %5.1f s\n' "$1" "$(echo "$(date +%s.%N) - $start" | bc)"; }
opts="-q -i $lab/ssh/id_ed25519 -o UserKnownHostsFile=$lab/ssh/known_hosts -o IdentitiesOnly=yes -o ControlMaster=auto -o ControlPersist=120 -o ControlPath=$work/%h"
on() { h=$1; shift; ssh $opts "root@$h" "$@"; }
put() { scp $opts "$1" "root@$2:$3"; }

# 1, 2: certificates
cd "$work"
ca() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; openssl req -x509 -new -key "$1.key" -subj "/CN=$1" -days 1825 -out "$1.crt" 2>/dev/null; }
issue() { # name cn san ca
    openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=$2" -out "$1.csr" 2>/dev/null
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$3" >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA "$4.crt" -CAkey "$4.key" -CAcreateserial -days 1825 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
}
ca etcd
issue client client DNS:client etcd
n=0
cluster=
endpoints=
for m; do
    n=$((n + 1))
    issue "server-$m" "master-$n" "DNS:master-$n,DNS:localhost,IP:$m,IP:127.0.0.1" etcd
    issue "peer-$m" "master-$n" "DNS:master-$n,IP:$m" etcd
    cluster="$cluster${cluster:+,}master-$n=https://$m:2380"
    endpoints="$endpoints${endpoints:+,}https://$m:2379"
done
for m; do
    on "$m" 'mkdir -p /etc/etcd/pki /etc/kubernetes/pki/etcd'
    put etcd.crt "$m" /etc/etcd/pki/ca.crt
    put etcd.crt "$m" /etc/kubernetes/pki/etcd/ca.crt
    put client.crt "$m" /etc/kubernetes/pki/apiserver-etcd-client.crt
    put client.key "$m" /etc/kubernetes/pki/apiserver-etcd-client.key
    for f in server peer; do put "$f-$m.crt" "$m" "/etc/etcd/pki/$f.crt"; put "$f-$m.key" "$m" "/etc/etcd/pki/$f.key"; done
done
mark certificates

# 3: etcd
n=0
for m; do
    n=$((n + 1))
    cat >etcd.service <<UNIT
[Unit]
Description=etcd
[Service]
Type=notify
Restart=always
RestartSec=5s
LimitNOFILE=40000
TimeoutStartSec=0
ExecStart=/usr/local/bin/etcd --name master-$n --data-dir /var/lib/etcd --listen-client-urls https://$m:2379,https://127.0.0.1:2379 --advertise-client-urls https://$m:2379 --listen-peer-urls https://$m:2380 --initial-advertise-peer-urls https://$m:2380 --cert-file=/etc/etcd/pki/server.crt --key-file=/etc/etcd/pki/server.key --client-cert-auth --trusted-ca-file=/etc/etcd/pki/ca.crt --peer-cert-file=/etc/etcd/pki/peer.crt --peer-key-file=/etc/etcd/pki/peer.key --peer-client-cert-auth --peer-trusted-ca-file=/etc/etcd/pki/ca.crt --initial-cluster $cluster --initial-cluster-token byhand --initial-cluster-state new
[Install]
WantedBy=multi-user.target
UNIT
    put etcd.service "$m" /etc/systemd/system/etcd.service
    on "$m" 'systemctl daemon-reload && systemctl enable -q etcd && systemctl start --no-block etcd'
done
for m; do
    on "$m" "until etcdctl --endpoints $endpoints --cacert /etc/etcd/pki/ca.crt --cert /etc/etcd/pki/server.crt --key /etc/etcd/pki/server.key endpoint health >/dev/null 2>&1; do sleep 0.2; done"
done
mark etcd

# containerd and the images
cat >containerd.toml <<TOML
version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = 'registry.k8s.io/pause:3.10.2'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
TOML
cat >containerd.service <<UNIT
[Service]
Type=notify
ExecStart=/usr/local/bin/containerd
Delegate=yes
KillMode=process
Restart=always
[Install]
WantedBy=multi-user.target
UNIT
cat >kubelet.service <<'UNIT'
[Unit]
After=containerd.service
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS
Restart=always
RestartSec=2
[Install]
WantedBy=multi-user.target
UNIT
for m; do
    on "$m" 'mkdir -p /etc/containerd /etc/cni/net.d; sysctl -q -w net.ipv4.ip_forward=1; cp /usr/lib/cni/* /opt/cni/bin/ 2>/dev/null || :'
    put containerd.toml "$m" /etc/containerd/config.toml
    put containerd.service "$m" /etc/systemd/system/containerd.service
    put kubelet.service "$m" /etc/systemd/system/kubelet.service
    on "$m" 'systemctl daemon-reload && systemctl enable -q --now containerd && systemctl enable -q kubelet
for i in kube-apiserver kube-controller-manager kube-scheduler kube-proxy coredns pause; do ctr -n k8s.io images import /var/lib/hactl/images/$i.tar >/dev/null; done'
done
mark images

# 4: keepalived, the article's configuration
state=MASTER
for m; do
    article_keepalived . "$(on "$m" "ip -o -4 addr show to $m" | awk '{print $2}')" $vip $state
    put keepalived.conf "$m" /etc/keepalived/keepalived.conf
    put check_apiserver.sh "$m" /etc/keepalived/check_apiserver.sh
    on "$m" 'chmod +x /etc/keepalived/check_apiserver.sh; systemctl enable -q keepalived; systemctl restart keepalived'
    state=BACKUP
done
mark keepalived

# 5, 6: kubeadm
n=0
first=$1
for m; do
    n=$((n + 1))
    cat >kubeadm.yaml <<YAML
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint:
  advertiseAddress: "$m"
nodeRegistration:
  name: master-$n
  imagePullPolicy: IfNotPresent
  taints: []
  kubeletExtraArgs:
    - name: node-ip
      value: "$m"
  ignorePreflightErrors: [SystemVerification]
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.36.3
controlPlaneEndpoint: "$vip:6443"
encryptionAlgorithm: ECDSA-P256
networking:
  serviceSubnet: 10.96.0.0/16
etcd:
  external:
    endpoints: [$endpoints]
    caFile: /etc/kubernetes/pki/etcd/ca.crt
    certFile: /etc/kubernetes/pki/apiserver-etcd-client.crt
    keyFile: /etc/kubernetes/pki/apiserver-etcd-client.key
apiServer:
  certSANs: ["$vip", "127.0.0.1"]
  extraArgs:
    - name: endpoint-reconciler-type
      value: lease
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: $(on "$m" '[ -e /sys/fs/cgroup/cgroup.controllers ] && echo systemd || echo cgroupfs')
failCgroupV1: false
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.244.0.0/16
conntrack:
  maxPerCore: 0
YAML
    if [ "$m" != "$first" ]; then
        for f in ca.crt ca.key sa.key sa.pub front-proxy-ca.crt front-proxy-ca.key; do put "pki-$f" "$m" "/etc/kubernetes/pki/$f"; done
    fi
    put kubeadm.yaml "$m" /root/kubeadm.yaml
    on "$m" 'kubeadm init --config /root/kubeadm.yaml >/root/kubeadm.log 2>&1' || { on "$m" tail -20 /root/kubeadm.log; exit 1; }
    if [ "$m" = "$first" ]; then
        for f in ca.crt ca.key sa.key sa.pub front-proxy-ca.crt front-proxy-ca.key; do scp $opts "root@$m:/etc/kubernetes/pki/$f" "pki-$f"; done
    fi
    mark "kubeadm init on master-$n"
done

# 7: pod network, then look
n=0
for m; do
    cat >net.conflist <<CNI
{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.$n.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}
CNI
    put net.conflist "$m" /etc/cni/net.d/10-pods.conflist
    k=0
    for o; do [ "$o" = "$m" ] || on "$m" "ip route replace 10.244.$k.0/24 via $o"; k=$((k + 1)); done
    n=$((n + 1))
done
on "$first" 'until [ "$(kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes 2>/dev/null | grep -cw Ready)" = 3 ] && [ "$(kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system get deployment coredns -o jsonpath="{.status.readyReplicas}")" = 2 ]; do sleep 0.3; done'
mark "nodes and CoreDNS ready"
printf 'by-hand: %.1f\n' "$(echo "$(date +%s.%N) - $start" | bc)"
