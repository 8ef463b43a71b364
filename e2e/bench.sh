#!/bin/sh
# What hactl claims in seconds, measured in one run on the same kind of hosts:
# (a) the procedure scripted by hand, (b) hactl up, (c) a second hactl up, with
# binaries in place and image archives on the hosts' disks, and (d) hactl up on
# bare hosts with the upload. Ratios stand on lines of their own.
set -eu
cd "$(dirname "$0")/.."
hactl=$PWD/bin/hactl
out=$(mktemp -d)
lab=bench-$$
: "${XDG_CACHE_HOME:=$HOME/.cache}"
dir=$XDG_CACHE_HOME/hactl/labs/$lab
trap '"$hactl" lab down --name "$lab" >/dev/null 2>&1 || :; rm -rf "$out" "$dir"' EXIT
rounds=${ROUNDS:-1}
bundle=$("$hactl" bundle --print-dir)
masters='10.77.0.11 10.77.0.12 10.77.0.13'

boot() { # boots three bare masters, and with "placed" puts the bundle's files on them
    "$hactl" lab down --name "$lab" >/dev/null 2>&1 || :
    rm -rf "$dir" # its keys are of the cluster that is gone
    "$hactl" lab up --name "$lab" --masters 3 --workers 0 --preload "$bundle" >"$out/lab" 2>&1 || { cat "$out/lab" >&2; exit 1; }
    [ "$1" = placed ] || return 0
    for h in master-1 master-2 master-3; do
        jq -r '.artifacts[] | select(.kind == "binary" and .dest != null) | .file + " " + .dest' "$bundle/manifest.json" | while read -r file dest; do
            echo "install -D -m 0755 /opt/hactl/bundle-preload/$file $dest"
        done | "$hactl" lab exec --name "$lab" "$h" -- sh -e
        "$hactl" lab exec --name "$lab" "$h" -- sh -ec 'mkdir -p /var/lib/hactl/images; cp /opt/hactl/bundle-preload/images/*.tar /var/lib/hactl/images/'
    done
    sync
}
in_hub() { "$hactl" lab hub --name "$lab" -- "$@"; }
seconds() { # runs its arguments, prints how long they took
    from=$(date +%s.%N)
    "$@" >"$out/stdout" 2>"$out/stderr" || { cat "$out/stdout" "$out/stderr" >&2; exit 1; }
    echo "$(date +%s.%N) - $from" | bc
}
median() { sort -n "$1" | awk '{a[NR] = $1} END {print (a[int((NR + 1) / 2)] + a[int((NR + 2) / 2)]) / 2}'; }
worst() { sort -n "$1" | tail -1; }

i=0
while [ $i -lt "$rounds" ]; do
    i=$((i + 1))
    echo "round $i of $rounds: by hand"
    boot placed
    in_hub sh e2e/byhand.sh "$dir" $masters | tee "$out/byhand"
    sed -n 's/^by-hand: //p' "$out/byhand" >>"$out/a"
    echo "round $i of $rounds: hactl up"
    boot placed
    seconds in_hub "$hactl" up --yes --timeline -i "$dir/inventory.yaml" >>"$out/b"
    sed -n '/^critical path/,$p' "$out/stderr"
    for _ in 1 2 3 4 5; do
        seconds in_hub "$hactl" up --yes -o json -i "$dir/inventory.yaml" >>"$out/c"
        tail -1 "$out/stdout" | jq -e '.changed == 0' >/dev/null || { echo "the second up changed something" >&2; exit 1; }
        tail -1 "$out/stdout" | jq .trips >>"$out/trips"
    done
    echo "round $i of $rounds: hactl up with the upload"
    boot bare
    seconds in_hub "$hactl" up --yes --timeline -i "$dir/inventory.yaml" >>"$out/d"
    sed -n '/^critical path/,$p' "$out/stderr"
done
echo
echo "median over $rounds rounds (worst)"
echo "by-hand: $(median "$out/a") s ($(worst "$out/a") s)"
echo "up: $(median "$out/b") s ($(worst "$out/b") s)"
echo "up with upload: $(median "$out/d") s ($(worst "$out/d") s)"
echo "second-up: $(median "$out/c") s ($(worst "$out/c") s)"
echo "second-up round trips a host: $(worst "$out/trips")"
echo "up/by-hand: $(echo "$(median "$out/b") $(median "$out/a")" | awk '{printf "%.2f", $1 / $2}')"
