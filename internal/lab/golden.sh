# Imports images with a containerd of its own: folder of the programs, containerd's
# folder in the new root, a folder for what it keeps while it runs, and then
# three words each: an archive and its two labels.
set -eu
bin=$1 store=$2 run=$3
shift 3
mkdir -p "$store" "$run"
cat >"$run/config.toml" <<CONFIG
version = 3
root = "$store"
state = "$run/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[grpc]
address = "$run/sock"
CONFIG
PATH=$bin:$PATH
containerd --config "$run/config.toml" --log-level warn &
daemon=$!
i=0
until ctr -a "$run/sock" version >/dev/null 2>&1; do
	i=$((i + 1))
	[ $i -lt 300 ] || { echo "containerd does not answer" >&2; exit 1; }
	kill -0 $daemon || { echo "containerd ended" >&2; exit 1; }
	sleep 0.1
done
while [ $# -gt 0 ]; do
	ctr -a "$run/sock" -n k8s.io images import --local --label "$2" --label "$3" "$1"
	shift 3
done
kill $daemon
wait $daemon || :
rm -rf "$run"
