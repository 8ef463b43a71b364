# shellcheck shell=sh disable=SC2154
# Runs in the cage, see cage.go: with a loopback alone, an empty /etc/kubernetes, and a
# /tmp that is gone afterwards. Before it stand the variables, the files, and "set --" with
# the further flags. The answer is a line for each finding, the word first; the last line
# is "end".
d=$(mktemp -d /tmp/cage.XXXXXX) && cd "$d" || exit 1
pids=
# An apiserver that is told to stop waits for its clients first.
trap 'kill -KILL $pids 2>/dev/null; wait 2>/dev/null; cd /; rm -rf "$d"' EXIT

# refuse STAGE LOG: this stage failed, and why; there is nothing more to find.
refuse() { echo "refused $1"; tail -n 15 "$2" | sed 's/^/| /'; echo end; exit 0; }
since() { awk -v a="$1" '{printf "%.1f", $1-a}' /proc/uptime; }
now() { cut -d' ' -f1 /proc/uptime; }
alive() { kill -0 "$1" 2>/dev/null; }

# --- etcd: empty, or on the snapshot
url=http://127.0.0.1:2379 peer=http://127.0.0.1:2380
if [ -n "$snapshot" ]; then
  "$etcdutl" snapshot restore "$snapshot" --name=cage --data-dir="$d/data" --initial-cluster=cage=$peer --initial-cluster-token="cage-$$" \
    --initial-advertise-peer-urls=$peer --bump-revision=1000000000 --mark-compacted >restore.log 2>&1 || refuse restore restore.log
fi
"$etcd" --name=cage --data-dir="$d/data" --listen-client-urls=$url --advertise-client-urls=$url --listen-peer-urls=$peer \
  --initial-advertise-peer-urls=$peer --initial-cluster=cage=$peer --unsafe-no-fsync >etcd.log 2>&1 &
pids=$!
ctl() { "$etcdctl" --endpoints=$url --command-timeout=$((60*slow))s "$@" </dev/null; }
n=0; until ctl endpoint health >/dev/null 2>&1; do
  n=$((n+1)); { [ $n -lt $((patience*10)) ] && alive "$pids"; } || refuse etcd etcd.log
  sleep 0.1
done
echo "etcd $("$etcd" --version | sed -n 's/^etcd Version: //p')"
if [ -n "$snapshot" ]; then
  ctl alarm list >alarms; [ ! -s alarms ] || refuse alarm alarms
  ctl get '' --from-key --write-out=fields >keys 2>keys.log || refuse keys keys.log
  echo "keys $(grep -c '^"Key" : ' keys || :)"; rm -f keys
  ctl put /hactl/rehearsal x >put.log 2>&1 || refuse write put.log
  echo "revision $(ctl get /hactl/rehearsal --write-out=fields | sed -n 's/^"ModRevision" : //p')"
  ctl del /hactl/rehearsal >/dev/null 2>&1
fi
[ -n "$apiserver" ] || { echo end; exit 0; }

# --- apiserver: kubeadm of the wanted version makes throw-away certificates and the flags
p=/etc/kubernetes/pki
for phase in "certs all" "kubeconfig super-admin" "control-plane apiserver"; do
  # shellcheck disable=SC2086
  "$kubeadm" init phase $phase --config "$config" >kubeadm.log 2>&1 </dev/null || refuse kubeadm kubeadm.log
  if [ "$phase" = "certs all" ]; then
    mkdir -p $p/etcd; cp $p/ca.crt $p/etcd/ca.crt
    for e in crt key; do cp $p/apiserver-kubelet-client.$e $p/apiserver-etcd-client.$e; done
  fi
done
sed -n "s/^    - '\{0,1\}\(--.*[^']\)'\{0,1\}\$/\1/p" /etc/kubernetes/manifests/kube-apiserver.yaml |
  sed -e "s/''/'/g" -e "s#^--etcd-servers=.*#--etcd-servers=$url#" -e '/^--bind-address=/d' >flags
further=$#
while IFS= read -r flag; do set -- "$@" "$flag"; done <flags
while [ $further -gt 0 ]; do further=$((further-1)); flag=$1; shift; set -- "$@" "$flag"; done
start=$(now)
"$apiserver" "$@" >apiserver.log 2>&1 &
api=$!; pids="$pids $api"
kube() { KUBECACHEDIR="$d/kubectl" "$kubectl" --kubeconfig=/etc/kubernetes/super-admin.conf --server="https://127.0.0.1:$port" "$@" </dev/null; }
n=0; until [ "$(kube get --raw=/readyz --request-timeout=$((5*slow))s 2>ready.log)" = ok ]; do
  n=$((n+1)); alive $api || refuse apiserver apiserver.log
  [ $n -lt $((patience*5)) ] || { kube get --raw='/readyz?verbose' 2>&1 | grep '^\[-\]' >>apiserver.log || :; refuse apiserver apiserver.log; }
  sleep 0.2
done
echo "apiserver $("$apiserver" --version | sed 's/^Kubernetes v//')"
echo "ready $(since "$start")"

# --- every object
[ -n "$read_all" ] || { echo end; exit 0; }
start=$(now)
kube api-resources --verbs=list -o name >all 2>resources.log || : # an aggregated API may not answer
grep -vx componentstatuses all >resources || refuse discovery resources.log
list() { kube get "$1" --all-namespaces --chunk-size=500 --ignore-not-found -o name 2>said; grep -v '^Warning: ' said >errors || :; }
list "$(paste -sd, resources)" >objects || :
sed 's#/[^/]*$##' objects | sort | uniq -c | awk '{print "objects", $1, $2}'
if [ -s errors ]; then # they do not name the kind
  while read -r kind; do
    list "$kind" >objects || :
    sed "s/^/unreadable $kind: /" errors | tail -n 3
  done <resources
fi
echo "read $(since "$start")"
echo end
