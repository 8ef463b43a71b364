#!/bin/sh
# Builds the deb and the rpm of hactl in out/packages: packages.sh NFPM, the module of
# nfpm with its version. ARCH=arm64 builds them for another architecture.
set -eu
cd "$(dirname "$0")/../.."
go=${GO:-go}
ARCH=${ARCH:-$("$go" env GOARCH)}
out=out/packages
tree=$out/tree
rm -rf "$out"
mkdir -p "$tree/bin" "$tree/man"

CGO_ENABLED=0 GOARCH=$ARCH "$go" build -trimpath -buildvcs=auto -o "$tree/bin/" ./cmd/hactl ./cmd/hactl-prober ./cmd/hactl-network
for shell in bash zsh fish; do bin/hactl completion "$shell" >"$tree/hactl.$shell"; done
"$go" run ./internal/release/manpages "$tree/man"

# The version that the compiler found in the tree's history; none is 0.0.0.
VERSION=$("$go" version -m "$tree/bin/hactl" | sed -n 's/^\tmod\thactl\tv\([^\t]*\).*/\1/p')
: "${VERSION:=0.0.0}"
export ARCH VERSION
for packager in deb rpm; do
    "$go" run "$1" package --config internal/release/nfpm.yaml --packager "$packager" --target "$out"
done
ls -l "$out"
