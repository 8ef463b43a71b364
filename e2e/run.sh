#!/bin/sh
# The end-to-end tests behind `make e2e`, `make e2e-all` and `make e2e-vm`: run.sh core|all|vm [RUN].
# RUN is a scenario or a part of one, in the form of go test -run. The last line says
# how many tests passed, failed and were skipped; the exit code is that of go test.
set -u
cd "$(dirname "$0")/.." || exit 1
tier=$1
run=${2:-}
go=${GO:-go}
out=$(mktemp)
trap 'rm -f "$out"' EXIT

tests() { # PACKAGE FLAGS...
    package=$1
    shift
    "$go" test -tags e2e -count=1 -v "$@" "$package" || echo "$package" >>"$out.failed"
}

rm -f "$out.failed"
{
    if [ -z "$run" ] && [ "$tier" != vm ]; then
        tests ./kubeadm -run '^TestKubeadmAccepts'
        HACTL_BUNDLE=$(bin/hactl bundle --print-dir) tests ./etcd -run '^TestRealEtcd$'
    fi
    export HACTL_E2E_TIER="$tier"
    set -- -timeout 3h
    [ -z "$run" ] || set -- "$@" -run "$run"
    tests ./e2e "$@"
} 2>&1 | tee "$out"

awk '/^ *--- PASS/ { p++ } /^ *--- FAIL/ { f++; failed = failed "\n" $3 } /^ *--- SKIP/ { s++ }
END { if (f) print "failed:" failed; printf "%d passed, %d failed, %d skipped\n", p, f, s }' "$out"
[ ! -e "$out.failed" ] || { rm -f "$out.failed"; exit 1; }
