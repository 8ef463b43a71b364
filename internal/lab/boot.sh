# Runs as PID 1 of a new host, in its own mount, PID, UTS and IPC namespace and
# its own network. Waits until it was put into its cgroups, builds the root file
# system and becomes init. Arguments: the folder of the host, the base's root.
set -eu
disk=$1 base=$2
if [ -z "${LAB_IN_CGROUP-}" ]; then
	read -r _ || exit 1 # the process that started us died before the cgroups were ready
	exec unshare --cgroup env LAB_IN_CGROUP=1 sh -c "$LAB_SCRIPT" boot "$@"
fi

mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$base,upperdir=$disk/upper,workdir=$disk/work" "$disk/root"
cd "$disk/root"

# containerd cannot put an overlay on an overlay, and etcd's disk should be a disk.
for d in containerd kubelet etcd; do
	mkdir -p "var/lib/$d"
	mount --bind "$disk/$d" "var/lib/$d"
done

mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755,size=4m tmpfs dev
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p dev/pts dev/shm dev/net run/lock
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
node() { mknod -m "$2" "dev/$1" c "$3" "$4"; }
node null 666 1 3
node zero 666 1 5
node full 666 1 7
node random 666 1 8
node urandom 666 1 9
node kmsg 600 1 11
node tty 666 5 0
node fuse 666 10 229
node net/tun 666 10 200
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr

# The hierarchies as the machine has them; what is seen is this host's part.
case $LAB_CGROUPS in
unified) mount -t cgroup2 cgroup2 sys/fs/cgroup ;;
*)
	mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
	for c in $LAB_CGROUPS; do
		dir=${c#name=}
		mkdir "sys/fs/cgroup/$dir"
		case $c in
		unified) mount -t cgroup2 cgroup2 "sys/fs/cgroup/$dir" ;;
		name=*) mount -t cgroup -o "none,$c" cgroup "sys/fs/cgroup/$dir" ;;
		*) mount -t cgroup -o "$c" cgroup "sys/fs/cgroup/$dir" ;;
		esac
	done
	;;
esac

readonly_bind() { # folder of the machine, place on the host
	mkdir -p "$2"
	mount --bind "$1" "$2"
	mount -o remount,bind,ro "$2"
}
[ -z "${LAB_PRELOAD-}" ] || readonly_bind "$LAB_PRELOAD" opt/hactl/bundle-preload
[ -z "${LAB_APT-}" ] || readonly_bind "$LAB_APT" srv/apt
[ -z "${LAB_RPMS-}" ] || readonly_bind "$LAB_RPMS" srv/rpms
[ ! -d /lib/modules ] || readonly_bind /lib/modules usr/lib/modules

hostname "$LAB_HOSTNAME"
mkdir -p .machine
pivot_root . .machine
umount -l /.machine
rmdir /.machine
mount --make-rshared / # the kubelet hands mounts on to containers
exec env -i container=hactl PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=linux /sbin/init </dev/null
