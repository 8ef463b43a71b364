#!/bin/sh
# An upgrade of a patch on the same kind of hosts, three masters and a worker, measured in
# one run by the same requests through the VIP: hactl upgrade, the same with drains, and
# kubeadm upgrade by hand with drains, one host after another. Programs and images lie on
# the hosts' disks. Ratios stand on lines of their own.
set -eu
cd "$(dirname "$0")/.."
hactl=$PWD/bin/hactl
before=${FROM:-v1.36.1} after=${TO:-v1.36.3}
out=$(mktemp -d)
lab=bench-upgrade-$$
: "${XDG_CACHE_HOME:=$HOME/.cache}"
dir=$XDG_CACHE_HOME/hactl/labs/$lab
trap '"$hactl" lab down --name "$lab" >/dev/null 2>&1 || :; rm -rf "$out" "$dir"' EXIT
in_hub() { "$hactl" lab hub --name "$lab" -- "$@"; }
versions() { # VERSION: the lab's inventory with this version of Kubernetes
    { cat "$dir/plain.yaml"; printf 'versions:\n  kubernetes: %s\n' "$1"; } >"$dir/inventory.yaml"
}
cluster() { # three masters and a worker with the version of before
    "$hactl" lab down --name "$lab" >/dev/null 2>&1 || :
    rm -rf "$dir" # its keys are of the cluster that is gone
    "$hactl" lab up --name "$lab" --preload "$("$hactl" bundle --for "$after" --print-dir)" >"$out/log" 2>&1 || { cat "$out/log" >&2; exit 1; }
    cp "$dir/inventory.yaml" "$dir/plain.yaml"
    versions "$before"
    in_hub "$hactl" up --yes -i "$dir/inventory.yaml" >"$out/log" 2>&1 || { cat "$out/log" >&2; exit 1; }
}
judged() { # NAME: a line on what was measured
    jq -r --arg n "$1" '"\($n): \(.took_ms / 1000 | round) s, \(.failed_by_operation) of \(.requests) requests failed by it (\(.failed) in all), largest gap \(.operation_gap_ms | round) ms by it, \(.writes_lost) of \(.writes_acknowledged) writes lost"' "$out/$1.json"
}
by_hactl() { # NAME, flags
    name=$1
    shift
    cluster
    versions "$after"
    began=$(date +%s%3N)
    in_hub "$hactl" upgrade --yes --measure -o json -i "$dir/inventory.yaml" "$@" >"$out/log" 2>"$out/err" || { cat "$out/err" >&2; exit 1; }
    # The time is that of the whole command, with its looks, the snapshot and the try.
    tail -1 "$out/log" | jq --argjson took $(($(date +%s%3N) - began)) '.measured | {took_ms: $took, requests: map(.requests) | add, failed: map(.failed) | add, failed_by_operation: map(.failed_by_operation) | add,
        operation_gap_ms: map(.operation_gap_ms) | max, writes_acknowledged: map(.writes_acknowledged) | add, writes_lost: map(.writes_lost) | add}' >"$out/$name.json"
    judged "$name"
}
by_hand() {
    cluster
    in_hub "$hactl" measure -o json -i "$dir/inventory.yaml" -- sh e2e/upgrade-byhand.sh "$dir" "$after" \
        master-1=10.77.0.11 master-2=10.77.0.12 master-3=10.77.0.13 -- worker-1=10.77.0.21 >"$out/by-hand.json" 2>"$out/err" || { cat "$out/err" >&2; exit 1; }
    sed -n 's/^ *\([0-9]* s  .*\)/  \1/p' "$out/err"
    judged by-hand
}
ratio() { # NAME: its time and its failed requests, as a share of those by hand
    jq -rn --slurpfile a "$out/$1.json" --slurpfile b "$out/by-hand.json" --arg n "$1" \
        '"\($n)/by-hand: time \($a[0].took_ms / $b[0].took_ms * 100 | round / 100), failed requests \($a[0].failed_by_operation)/\($b[0].failed_by_operation)"'
}
by_hand
by_hactl upgrade
by_hactl upgrade-with-drains --drain
ratio upgrade
ratio upgrade-with-drains
