#!/bin/sh
# Does the drill find what is wrong? Defects are put on the hosts of a lab, one after the
# other, and N runs of a scenario that has to notice are judged beside each (N=1 for a
# quick try; DEFECTS="prober-off lost-write" for some of them). A defect must never be
# met, and be missed, or fail a run, in four of five runs. The counts are added to those of
# earlier calls in out/drill-sensitivity.json.
set -eu
cd "$(dirname "$0")/.."
hactl=${HACTL_BIN:-$PWD/bin/hactl}
n=${N:-5}
all='article-cut-off article-killed prober-off slow-adverts slow-apiserver two-owners lost-write lossy-service'
defects=${DEFECTS:-$all}
lab=sensitivity-$$
vip=10.77.0.100
masters='master-1 master-2 master-3'
file=${E2E_ARTIFACTS:-out}/drill-sensitivity.json
out=$(mktemp -d)
: "${XDG_CACHE_HOME:=$HOME/.cache}"
dir=$XDG_CACHE_HOME/hactl/labs/$lab
trap '"$hactl" lab down --name "$lab" >/dev/null 2>&1 || :; rm -rf "$out" "$dir"' EXIT
trap 'exit 130' INT TERM

on() { # HOST, a script on stdin
    "$hactl" lab exec --name "$lab" "$1" -- sh
}
everywhere() { # a script on stdin
    cat >"$out/script"
    for m in $masters; do on "$m" <"$out/script" || return; done
}
in_hub() { "$hactl" lab hub --name "$lab" -- "$@"; }
up() { in_hub "$hactl" up --yes -i "$dir/inventory.yaml" >"$out/up" 2>&1 || { cat "$out/up" >&2; exit 1; }; }
settled() { # waits a minute at most until one master carries the VIP
    i=0
    until [ "$(echo "ip -o address show to $vip" | everywhere | wc -l)" = 1 ]; do
        i=$((i + 1))
        [ $i -lt 60 ] || { echo "no single owner of the VIP after a minute" >&2; exit 1; }
        sleep 1
    done
}

# The defects. Each names its scenario, is put on the hosts and is taken away by the second
# function where "hactl up" does not.
article() {
    for m in $masters; do
        { echo "set -- $m $vip"; cat e2e/article-keepalived.sh e2e/article-vip.sh; } | on "$m"
    done
}
no_article() { echo 'rm -rf /run/systemd/system/keepalived.service.d; systemctl daemon-reload' | everywhere; }
put() {
    case $1 in
    article-*) article ;;
    prober-off) echo 'systemctl stop hactl-prober' | everywhere ;;
    slow-adverts) echo 'sed -i "s/advert_int .*/advert_int 1/" /etc/keepalived/keepalived.conf && systemctl restart keepalived' | everywhere ;;
    # An apiserver that has just started does nothing for 75 s.
    slow-apiserver) everywhere <<'SCRIPT'
for p in $(pgrep -x kube-apiserver); do touch /run/slow-$p; done
systemd-run --quiet --unit=slow-apiserver sh -c 'while sleep 0.2; do
for p in $(pgrep -x kube-apiserver); do
    s=$(ps -o etimes= -p $p) || continue
    if [ ! -e /run/slow-$p ]; then touch /run/slow-$p; kill -STOP $p; fi
    if [ $s -ge 75 ] && [ -e /run/slow-$p ]; then kill -CONT $p; fi
done; done'
SCRIPT
        ;;
    # An owner that gives the VIP up has it again for a second.
    two-owners) everywhere <<SCRIPT
systemd-run --quiet --unit=two-owners sh -c 'ours=; ip -o monitor address | while read -r l; do
case \$l in Deleted*$vip/*)
    [ -z "\$ours" ] || { ours=; continue; }
    ours=1; set -- \$l; ip address add $vip/32 dev \$3; sleep 1; ip address del $vip/32 dev \$3;;
esac; done'
SCRIPT
        ;;
    # One write that was acknowledged is removed, once the fault is there.
    lost-write) on master-1 <<'SCRIPT'
systemd-run --quiet --unit=lost-write sh -c 'export KUBECONFIG=/etc/kubernetes/admin.conf
while sleep 0.5; do
    name=$(kubectl -n hactl-drill get configmaps -l hactl-drill-run -o name 2>/dev/null | grep keepalived-stopped | sed -n 5p)
    [ -z "$name" ] || { kubectl -n hactl-drill delete --wait=false "$name"; sleep 12; }
done'
SCRIPT
        ;;
    # Every fourth connection from the masters to a service is refused.
    lossy-service) echo 'nft "table inet lossy { chain out { type filter hook output priority -150; ip daddr 10.96.0.0/12 tcp dport 80 tcp flags & (syn | ack) == syn numgen random mod 4 == 0 reject with tcp reset; }; }"' | everywhere ;;
    esac
}
take_away() {
    case $1 in
    article-*) no_article ;;
    slow-apiserver) echo 'systemctl stop slow-apiserver; for p in $(pgrep -x kube-apiserver); do kill -CONT $p; done; rm -f /run/slow-*' | everywhere ;;
    two-owners) echo 'systemctl stop two-owners' | everywhere ;;
    lost-write) echo 'systemctl stop lost-write' | on master-1 ;;
    lossy-service) echo 'nft delete table inet lossy' | everywhere ;;
    esac
}
scenario_of() {
    case $1 in
    article-cut-off | slow-adverts) echo owner-cut-off ;;
    article-killed | prober-off | slow-apiserver) echo apiserver-killed ;;
    two-owners | lost-write) echo keepalived-stopped ;;
    lossy-service) echo worker-lost ;;
    *) echo "no defect is called $1: $all" >&2; return 1 ;;
    esac
}

judged() { # SCENARIO: the verdict of one run
    code=0
    in_hub "$hactl" drill "$1" --yes -o json --accept-risk=drift -i "$dir/inventory.yaml" >"$out/json" 2>"$out/err" || code=$?
    case $code in
    0 | 6 | 9) jq -er '.scenarios[0].verdict' "$out/json" ;;
    *) cat "$out/err" >&2; echo "refused ($code)" ;;
    esac
}

for d in $defects; do scenario_of "$d" >/dev/null; done
"$hactl" lab up --name "$lab" --masters 3 --workers 1 >/dev/null 2>&1
sed -i 's/^artifacts:/artifacts:\n  demo: true/' "$dir/inventory.yaml"
up
mkdir -p "$(dirname "$file")"
[ -s "$file" ] || echo '{}' >"$file"
bad=0
for d in $defects; do
    put "$d"
    settled
    verdicts=
    for _ in $(seq "$n"); do
        v=$(judged "$(scenario_of "$d")")
        verdicts="$verdicts $v"
        jq --arg d "$d" --arg v "$v" '.[$d][$v] += 1 | .[$d].runs += 1' "$file" >"$out/sum" && cp "$out/sum" "$file"
    done
    take_away "$d"
    up
    echo "$d ($(scenario_of "$d")):$verdicts"
    case $verdicts in *met* | *refused*) bad=1 ;; esac
done
jq -r 'to_entries[] | "\(.key): \(.value.runs) runs, \((.value.missed // 0) + (.value.failed // 0)) missed, \(.value.unclear // 0) unclear, \(.value.met // 0) met"' "$file"
jq -e 'all(.[]; (.met // 0) == 0 and ((.missed // 0) + (.failed // 0)) * 5 >= .runs * 4)' "$file" >/dev/null || bad=1
exit $bad
