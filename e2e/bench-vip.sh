#!/bin/sh
# What a client of the VIP sees when its owner is cut off and when the owner's
# apiserver is killed: with hactl's keepalived configuration, and on the same
# hosts with the one that the procedure by hand uses (VRRP version 2 with
# adverts once a second, a check every three seconds that has to fail ten times).
# The figures are the largest gaps of all repeats: that of the fault itself, and
# that of the whole runs, in which a busy machine has gaps of its own.
set -eu
cd "$(dirname "$0")/.."
hactl=${HACTL_BIN:-$PWD/bin/hactl}
repeat=${REPEAT:-3}
lab=bench-vip-$$
out=$(mktemp -d)
trap '"$hactl" lab down --name "$lab" >/dev/null 2>&1 || :; rm -rf "$out"' EXIT
: "${XDG_CACHE_HOME:=$HOME/.cache}"
dir=$XDG_CACHE_HOME/hactl/labs/$lab
masters='master-1 master-2 master-3'
in_hub() { "$hactl" lab hub --name "$lab" -- "$@"; }

gap() { # SCENARIO, REPEATS and flags: prints the largest gaps of vip/ready/new in seconds: of the fault, of the runs
    scenario=$1
    shift
    code=0
    in_hub "$hactl" drill "$scenario" --yes -o json -i "$dir/inventory.yaml" "$@" >"$out/json" 2>"$out/err" || code=$?
    case $code in 0 | 6) ;; *) cat "$out/err" >&2; exit 1 ;; esac
    jq -er '[.scenarios[0].checks[] | select(.check == "gap vip/ready/new" and (.values | length) > 0)][0] | [.at_fault, .max] | map(. / 10 | round / 100) | join(" ")' "$out/json" ||
        { cat "$out/err" "$out/json" >&2; exit 1; }
}
line() { # WHAT OURS ARTICLE, each "OF-THE-FAULT OF-THE-RUNS"
    echo "vip $1: ours ${2% *} s, article ${3% *} s, ratio $(echo "scale=1; ${3% *} / ${2% *}" | bc)"
    echo "vip $1, whole runs: ours ${2#* } s, article ${3#* } s, ratio $(echo "scale=1; ${3#* } / ${2#* }" | bc)"
}

owners() {
    for m in $masters; do "$hactl" lab exec --name "$lab" "$m" -- ip -o address show to 10.77.0.100; done | wc -l
}
settled() { # waits a minute at most until one master carries the VIP
    n=0
    until [ "$(owners)" = 1 ]; do
        n=$((n + 1))
        [ $n -lt 120 ] || { echo "no single owner of the VIP after a minute" >&2; exit 1; }
        sleep 0.5
    done
}

# A host that is cut off tries without a pause and takes the processors that it can
# get; hosts of their own would not notice.
half=$(echo "scale=1; $(nproc) / 2" | bc)
"$hactl" lab up --name "$lab" --masters 3 --workers 0 --cpus "$half" >/dev/null 2>&1
in_hub "$hactl" up --yes -i "$dir/inventory.yaml" >"$out/up" 2>&1 || { cat "$out/up" >&2; exit 1; }
cut=$(gap owner-cut-off --repeat "$repeat")
killed=$(gap apiserver-killed --repeat "$repeat")
for m in $masters; do
    { echo "set -- $m 10.77.0.100"; cat e2e/article-keepalived.sh e2e/article-vip.sh; } | "$hactl" lab exec --name "$lab" "$m" -- sh
done
settled
article_cut=$(gap owner-cut-off --accept-risk=drift --repeat "$repeat")
settled
article_killed=$(gap apiserver-killed --accept-risk=drift --repeat "$repeat")
line 'owner cut off' "$cut" "$article_cut"
line 'apiserver killed' "$killed" "$article_killed"
