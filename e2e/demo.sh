#!/bin/sh
# The demonstration behind `make demo`: three masters and one worker on this
# machine become a cluster, serve a small web server, lose their first master
# and go on. Every claim is checked; the first that does not hold ends the
# script with exit code 1. The hosts are removed in any case.
set -eu
cd "$(dirname "$0")/.."
hactl=$PWD/bin/hactl
name=${DEMO_LAB:-demo}
image=registry.hactl.invalid/demo:v1
dir=

say() { printf '\n==> %s\n' "$*"; }
fine() { printf '    ok: %s\n' "$*"; }
fail() {
    printf '    FAILED: %s\n' "$*" >&2
    exit 1
}
now() { date +%s.%N; }
since() { printf '%.1f s' "$(echo "$(now) - $1" | bc)"; }
clean() {
    code=$?
    trap - EXIT
    say "clean up: the hosts and everything of them go"
    "$hactl" lab down --name "$name" || code=1
    if [ -n "$dir" ]; then # what hactl up and this script wrote for the lab
        rm -rf "$dir/pki-$name" "$dir/$name.kubeconfig" "$dir"/up.??? "$dir/second.json" "$dir/before.yaml" "$dir/after.yaml"
        rmdir "$dir" 2>/dev/null || :
    fi
    [ $code -eq 0 ] && say "every claim held" || echo "demo: not every claim held (exit code $code)" >&2
    exit $code
}

# within SECONDS WHAT COMMAND...: COMMAND must succeed before the time is up.
within() {
    limit=$1
    what=$2
    shift 2
    from=$(now)
    end=$(($(date +%s) + limit))
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || fail "$what: not within $limit s"
        sleep 0.2
    done
    fine "$what ($(since "$from"))"
}
in_hub() { "$hactl" lab hub --name "$name" -- "$@"; }
kube() { in_hub "$kubectl" --kubeconfig "$dir/$name.kubeconfig" --request-timeout=5s "$@"; }
ready() { [ "$(kube get deployment "$1" -o 'jsonpath={.status.availableReplicas}')" = 2 ]; }

# deploy NAME: two replicas of the web server.
deploy() {
    cat >"$dir/$1.yaml" <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: $1}
spec:
  replicas: 2
  selector: {matchLabels: {app: $1}}
  template:
    metadata: {labels: {app: $1}}
    spec:
      containers:
        - {name: web, image: "$image", imagePullPolicy: IfNotPresent, ports: [{containerPort: 8080}]}
YAML
    # A write may have to wait for etcd's next leader.
    within 60 "the deployment $1 is accepted" kube apply -f "$dir/$1.yaml"
    within 60 "both replicas of $1 are available" ready "$1"
    # The pods' addresses are known to the cluster's hosts only: ask from one.
    ips=$(kube get pods -l "app=$1" -o 'jsonpath={.items[*].status.podIP}')
    [ "$(echo "$ips" | wc -w)" = 2 ] || fail "two pods must have an address, there are: ${ips:-none}"
    for ip in $ips; do
        answer=$("$hactl" lab exec --name "$name" master-2 -- curl -s --max-time 5 "http://$ip:8080/") ||
            fail "the pod at $ip does not answer"
        fine "a pod answers: $answer"
    done
}
owner() {
    for h in master-1 master-2 master-3; do
        if "$hactl" lab exec --name "$name" "$h" -- ip -o address show to "$vip" 2>/dev/null | grep -q .; then echo "$h"; fi
    done
}
condition() { kube get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'; }
not_ready() {
    case $(condition "$1") in
        False | Unknown) ;;
        *) return 1 ;; # no answer is no proof
    esac
}

[ "$(id -u)" = 0 ] || fail "root is needed: the local hosts are network namespaces"
kubectl=$("$hactl" bundle --print-dir)/bin/kubectl
[ -x "$kubectl" ] || fail "no bundle at ${kubectl%/bin/kubectl}; run: make bundle"
if "$hactl" lab status --name "$name" >/dev/null 2>&1; then
    trap - EXIT
    fail "a lab called $name is there already; run: bin/hactl lab down --name $name, or set DEMO_LAB"
fi
trap clean EXIT
trap 'exit 130' INT TERM HUP

say "1/7 boot three masters and a worker: systemd, sshd, addresses of their own, nothing of Kubernetes"
"$hactl" lab up --name "$name" --masters 3 --workers 1 >/dev/null
dir=$("$hactl" lab status --name "$name" -o json | jq -r .dir)
vip=$("$hactl" lab status --name "$name" -o json | jq -r .vip)
"$hactl" lab status --name "$name"

say "2/7 hactl up: from bare hosts to a verified control plane"
if [ -t 2 ]; then # the live view
    in_hub "$hactl" up --yes -i "$dir/inventory.yaml" || fail "hactl up"
else # of its some thousand lines, the stages and the table
    in_hub "$hactl" up --yes -i "$dir/inventory.yaml" >"$dir/up.out" 2>"$dir/up.err" ||
        { tail -n 40 "$dir/up.err" "$dir/up.out" >&2; fail "hactl up"; }
    grep -E '^[0-9:.]+ [^ ]' "$dir/up.err" | cut -c -110
    cat "$dir/up.out"
fi

say "3/7 hactl up again: nothing to do, and it says so"
in_hub "$hactl" up --yes -o json -i "$dir/inventory.yaml" >"$dir/second.json" 2>/dev/null || fail "the second hactl up"
jq -es '.[-1].changed == 0' "$dir/second.json" >/dev/null || fail "the second hactl up changed something"
fine "0 steps changed"

say "4/7 kubectl get nodes, through the virtual IP $vip"
kube config view -o 'jsonpath={.clusters[0].cluster.server}' | grep -qF "//$vip:" || fail "the kubeconfig does not name the virtual IP"
kube get nodes
for n in master-1 master-2 master-3 worker-1; do [ "$(condition $n)" = True ] || fail "$n is not Ready"; done
fine "four nodes are Ready"

say "5/7 two replicas of a small web server"
deploy before

say "6/7 power master-1 off: every process on it is killed at once, its links go down"
first=$(owner)
echo "    the virtual IP is on: $first"
[ "$(echo "$first" | wc -w)" = 1 ] || fail "the virtual IP must be on exactly one host"
"$hactl" lab fault --name "$name" off master-1
within 20 "the API answers through the virtual IP" kube get --raw /readyz
second=$(owner)
case $second in
    master-2 | master-3) ;;
    *) fail "the virtual IP must be on master-2 or master-3, it is on: ${second:-no host}" ;;
esac
fine "the virtual IP is on: $second"

say "7/7 without master-1 a new deployment still comes up"
deploy after
within 120 "Kubernetes has seen it too: master-1 is NotReady" not_ready master-1
kube get nodes
