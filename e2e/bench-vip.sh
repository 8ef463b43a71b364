#!/bin/sh
# What clients of the VIP notice of seven faults with hactl's keepalived configuration,
# and of three of them, on the same hosts, with the one of the procedure by hand (VRRP
# version 2 with adverts once a second, a check every three seconds that has to fail ten
# times). Prints a table: the fault's part of the largest gap of new connections (median
# and worst of REPEAT runs), what was seen without any difference made, the time of it in
# which the machine stood still, and the ratio of the two configurations.
set -eu
cd "$(dirname "$0")/.."
hactl=${HACTL_BIN:-$PWD/bin/hactl}
repeat=${REPEAT:-3}
ours=${FAULTS:-keepalived-stopped apiserver-killed owner-cut-off apiserver-hung apiserver-stopped node-back owner-powered-off}
theirs='keepalived-stopped apiserver-killed owner-cut-off'
lab=bench-vip-$$
out=$(mktemp -d)
: "${XDG_CACHE_HOME:=$HOME/.cache}"
dir=$XDG_CACHE_HOME/hactl/labs/$lab
trap '"$hactl" lab down --name "$lab" >/dev/null 2>&1 || :; rm -rf "$out" "$dir"' EXIT
masters='master-1 master-2 master-3'
in_hub() { "$hactl" lab hub --name "$lab" -- "$@"; }

drilled() { # FILE, flags and scenarios: leaves the report in FILE
    file=$1
    shift
    code=0
    in_hub "$hactl" drill --yes -o json -i "$dir/inventory.yaml" --repeat "$repeat" \
        "--power-off-command=$hactl lab fault --name $lab off {host}" \
        "--power-on-command=$hactl lab fault --name $lab boot {host}" "$@" >"$file" 2>"$out/err" || code=$?
    case $code in 0 | 6 | 9) ;; *) cat "$out/err" >&2; exit 1 ;; esac
}
figures() { # FILE: the check of the VIP of each scenario: NAME MEDIAN WORST SEEN NOISE VERDICT REQUESTS, in ms
    jq -r '.scenarios[] | . as $s | (.checks // [])[] | select(.check == "gap vip/ready/new" or .check == "failures vip/ready/new" or .check == "stays after the undo" and $s.name == "node-back")
        | [$s.name, .p50, .max, .seen, (.noise_ms // 0), .verdict, "\(.failed // 0)/\(.sent // 0)", .unit] | map(tostring) | join(" ")' "$1"
}
table() { # OURS THEIRS
    echo '| fault | fault'"'"'s part: median, worst | seen | noise | verdict | requests that failed | by hand: median, worst | ratio of the medians |'
    echo '|---|---|---|---|---|---|---|---|'
    figures "$2" >"$out/theirs"
    figures "$1" | while read -r name p50 max seen noise verdict failed unit; do
        other=$(grep "^$name " "$out/theirs" || :)
        hand='' ratio=''
        if [ -n "$other" ]; then
            hand=$(echo "$other" | awk '{ printf "%.2f s, %.2f s", $2 / 1000, $3 / 1000 }')
            ratio=$(echo "$other $p50" | awk '{ if ($NF > 0) printf "%.1f", $2 / $NF }')
        fi
        case $unit in
        ms) echo "$p50 $max $seen $noise" | awk -v n="$name" '{ printf "| %s | %.2f s, %.2f s | %.2f s | %.2f s ", n, $1 / 1000, $2 / 1000, $3 / 1000, $4 / 1000 }' ;;
        *) printf '| %s | %s, %s | | ' "$name" "$p50" "$max" ;;
        esac
        echo "| $verdict | $failed | $hand | $ratio |"
    done
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
# shellcheck disable=SC2086 # names
drilled "$out/ours" $ours
for m in $masters; do
    { echo "set -- $m 10.77.0.100"; cat e2e/article-keepalived.sh e2e/article-vip.sh; } | "$hactl" lab exec --name "$lab" "$m" -- sh
done
settled
# shellcheck disable=SC2086 # names
drilled "$out/theirs-report" --accept-risk=drift $theirs
table "$out/ours" "$out/theirs-report"
