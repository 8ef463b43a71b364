# What a host can be asked and told, as functions of the shell. A script on a host gets
# those that it calls, and those that they call, without comments and indentation: see
# functions.go. A function stands below those that it calls. Its name is long enough not to be
# a word of a script by chance. One that sets variables for its caller says which.
#
# N is a newline, which about_file and about_unit need. Before (questions.go) sets it, and
# sums_of does; no script gets the line below, which is for the checker.
# shellcheck disable=SC2034 # variables that are set for the caller
N='
'

# --- Waits ---

# wait_until SECONDS WHAT COMMAND... runs the command again and again until it is true. After
# the seconds, longer on slow hosts (internal/wait), it prints "WHAT within SECONDS s" on
# stderr and returns 1. It sets T and W.
wait_until() {
    T=$(($1*10*${HACTL_SLOW_HOSTS:-1}))
    W="$2 within $((T/10)) s"; shift 2
    until "$@"; do [ $((T-=1)) -gt 0 ] || { echo "$W" >&2; return 1; }; sleep 0.1; done
}

# await_images EXIT IMAGE... waits until containerd has all of these. It ends the script with
# that exit code after two seconds, on slow hosts, too: what brings the images may wait for the
# session that the script has. It sets i, l and x.
await_images() {
    x=$1; shift; i=0 l=$(printf '%s\n' "$@")
    until [ "$(ctr -n k8s.io images ls -q 2>/dev/null | grep -cxF "$l")" = $# ]; do i=$((i+1)); [ $i -lt 10 ] || exit "$x"; sleep 0.2; done
}

# --- Files ---
# Only ENOENT and ENOTDIR mean absent; any other error of stat means unknown.

# says_absent MESSAGE is true when the message of a stat or ls that failed says that nothing
# is there. Else it prints the message on stderr; its caller ends the script.
says_absent() { case $1 in *'No such file'* | *'Not a directory'*) ;; *) echo "$1" >&2; return 1 ;; esac; }

# is_there PATH is true when something is there, and ends the script when it could not look.
is_there() { m=$(stat -Lc %F -- "$1" 2>&1) || { says_absent "$m" || exit 1; return 1; }; }

# hash_of FILE prints its SHA-256. It sets h. openssl, where it is, uses the processor's
# instructions for it and takes a tenth of sha256sum's time.
hash_of() { h=$(openssl dgst -sha256 -r <"$1" 2>/dev/null) || h=$(sha256sum <"$1") || return; echo "${h%% *}"; }

# has_log DIRECTORY is true when the log of an etcd member lies in that data directory, and
# ends the script when it could not look. It is what etcd itself goes by: a member without a
# log starts from nothing, whatever else is left, and a start that failed leaves the folders
# behind. It sets l.
has_log() {
    l=$(ls -A -- "$1/member/wal" 2>&1) || { says_absent "$l" || exit 1; return 1; }
    printf '%s\n' "$l" | grep -q '\.wal$'
}

# free_at PATH... prints a heading, and the bytes that are free at each of the paths and where
# its file system is mounted; of no paths nothing, where df would print all. A path that is not
# there counts as the nearest folder above it. It sets n, m and p.
free_at() {
    n=$#
    for p; do until is_there "$p" || [ "$p" = / ]; do p=${p%/*} p=${p:-/}; done; set -- "$@" "$p"; done
    shift $n; [ $# = 0 ] || df -B1 --output=avail,target -- "$@"
}

# look_at_files PATH... is called once, for what about_file then tells of each. It sets M
# to what stat and H to what sha256sum says.
look_at_files() {
    M=$(stat -c '%a %U:%G %F@%n' -- "$@" 2>&1)
    n=$#; for f; do [ ! -f "$f" ] || [ -L "$f" ] || set -- "$@" "$f"; done; shift $n
    H=; [ $# = 0 ] || H=$(sha256sum -- "$@" 2>&1)
}

# about_file PATH sets s to "MODE OWNER:GROUP TYPE" and h to a regular file's SHA-256, else
# to nothing; it returns 1 when nothing is there and 2, with the reason on stderr, when it
# could not look. A path stands at the end of its line, after a mark that no mode, owner or
# hash holds. Lines are read one by one: ${M##*...} is quadratic in dash (0.25 s for sixty
# files).
about_file() {
    set -f; IFS=$N; s=; h=
    for l in $M; do case $l in *"@$1") s=${l%"@$1"} ;; *"'$1': No such file"* | *"'$1': Not a directory"*) return 1 ;; esac; done
    case $s in *' regular'*) for l in $H; do case $l in *"  $1") h=${l%%" "*}; return ;; esac; done ;; ?*) return ;; esac
    for l in $M$N$H; do case $l in *" '$1': "* | *": $1: "*) echo "$l" >&2 ;; esac; done
    return 2
}

# show_file PATH SHA256 BYTES prints "absent", or what about_file tells; below it, in base64, the
# content of a file with another hash and at most that many bytes.
show_file() {
    about_file "$1" || { [ $? = 1 ] || exit 1; echo absent; return; }
    printf '%s\n' "$s"; [ -z "$h" ] || { echo "$h"; [ "$h" = "$2" ] || [ "$(stat -c %s -- "$1")" -gt "$3" ] || base64 <"$1"; }
}

# show_program PATH prints "absent", or the hash and whether it can be executed.
show_program() {
    is_there "$1" || { echo absent; return; }
    hash_of "$1" && if [ -x "$1" ]; then echo executable; else echo not; fi
}

# cached_sum FILE sets d to the sum that C has of the file as it is, with s of about_file.
cached_sum() { for l in $C; do case $l in "$1 $s "*) d=${l##*" "}; return ;; esac; done; return 1; }

# sums_of CACHE FILE... prints of each file "absent", or its SHA-256 and whether it can be
# executed, and its path behind that. The cache has of each file that was hashed its inode,
# size and times, and the sum: hashing 400 MB in every look would be most of its time. A file
# that was replaced has another inode or ctime. One process hashes what the cache lacks; for
# openssl see hash_of. It sets c, d, x, C and all that about_file needs and sets.
sums_of() {
    N='
'
    c=$1; shift; [ $# -gt 0 ] || return 0
    M=$(stat -Lc '%i:%s:%Y:%Z@%n' -- "$@" 2>&1) H='' C=$(cat "$c" 2>/dev/null)
    H=$(n=$#
    for f; do if about_file "$f"; then cached_sum "$f" || set -- "$@" "$f"; else [ $? = 1 ] || exit; fi; done
    shift $n; [ $# = 0 ] || openssl dgst -sha256 -r "$@" 2>/dev/null || sha256sum -- "$@") || exit
    for f; do
        about_file "$f" || { echo "absent $f"; continue; }
        if ! cached_sum "$f"; then
            d=; for l in $H; do case $l in *"  $f" | *" *$f") d=${l%%" "*} ;; esac; done
            [ -n "$d" ] || exit 1
            (umask 077; echo "$f $s $d" >>"$c")
        fi
        x=executable; [ -x "$f" ] || x=not; echo "$d $x $f"
    done
}

# old_builds FOLDER WANTED NAME prints the builds in the folder of a program that are neither
# the wanted one, nor the previous one, nor one that a process still runs from. NAME is the
# link by which people call the program. It sets b, d and exes.
old_builds() {
    [ -d "$1" ] || return 0
    b=$(readlink "$3") || b=
    case $b in "$1/$2/"*) b=$(readlink "$1/previous") || b= ;; "$1/"*) b=${b#"$1/"}; b=${b%%/*} ;; *) b=$(readlink "$1/previous") || b= ;; esac
    for d in "$1"/*/; do
        d=${d%/}; [ -d "$d" ] && [ ! -L "$d" ] || continue
        case ${d##*/} in "$2" | "$b") continue ;; esac
        [ -n "${exes+x}" ] || exes=$(ls -l /proc/[0-9]*/exe 2>/dev/null)
        case $exes in *" $d/"*) ;; *) echo "$d" ;; esac
    done
}

# --- Units ---

# show_units UNIT... prints their properties.
show_units() {
    systemctl show -p Id,LoadState,ActiveState,SubState,UnitFileState,MainPID,NeedDaemonReload -- "$@" 2>&1
}

# look_at_units UNIT... is called once, for what about_unit then tells of each. It sets U.
look_at_units() { U=$(show_units "$@"); }

# about_unit UNIT sets s to the unit's properties. r is what is left to read.
about_unit() {
    r=$U$N$N
    while [ -n "$r" ]; do
        s=${r%%"$N$N"*}; r=${r#*"$N$N"}
        case $N$s$N in *"${N}Id=$1$N"*) return ;; esac
    done
    echo "systemctl says nothing of $1: ${U%%"$N"*}" >&2
    return 1
}

# about_process UNIT sets s as about_unit does, p to the unit's main process, 0 when there
# is none, and e to the environment of that. Between fork and exec the main process is
# systemd's own, with systemd's environment and the name (PROGRAM) or systemd-executor.
# While the program is loaded, and after its end, the environment is empty. And the process
# may have ended since the units were listed. The loop waits up to 10 s for the unit's
# program, longer on slow hosts (internal/wait); after that the unit could not be looked at.
about_process() {
    about_unit "$1" || return
    i=0
    while e='' p=${s##*MainPID=} p=${p%%[!0-9]*}; [ "${p:-0}" -gt 0 ]; do
        c=; { read -r c <"/proc/$p/comm"; } 2>/dev/null
        case $c in "("* | systemd | systemd-exec*) ;; ?*) e=$(tr '\0' '\n' <"/proc/$p/environ"); [ -z "$e" ] || return 0 ;; esac
        i=$((i + 1)); [ $i -lt $((100*${HACTL_SLOW_HOSTS:-1})) ] || { echo "process $p ($c) did not become the program of $1 within $((10*${HACTL_SLOW_HOSTS:-1})) s" >&2; return 1; }
        sleep 0.1; s=$(show_units "$1")
    done
}

# show_service UNIT VARIABLE FILE prints a unit's properties, and of its process the variable
# and the lines of the file, as HASH NAME. NeedDaemonReload=yes has two meanings since systemd
# 255: the files of this unit differ from what systemd has loaded, or units were enabled or
# disabled on this host and systemd has not read them anew since. The second is the same for
# all units, init.scope included, which has no file; it says nothing of this unit. That one is
# asked for before and after the unit, since it comes and goes.
show_service() {
    about_process "$1" || exit 1
    echo "$s"
    case $s in *NeedDaemonReload=yes*) case $(systemctl show -p NeedDaemonReload --value -- init.scope "$1" init.scope | tr -d '\n') in
    noyesno | '') ;; *) echo NeedDaemonReload=all ;; esac ;; esac
    case $N$e$N in *"$N$2="*) e=$N$e; e=${e##*"$N$2="}; echo "$2=${e%%"$N"*}" ;; esac
    [ ! -r "$3" ] || while read -r h f; do echo "started $f=$h"; done <"$3"
}

# property_of PROPERTY UNIT prints one property of a unit.
property_of() { systemctl show -p "$1" --value -- "$2"; }

# main_process UNIT prints the pid of the unit's main process, 0 when there is none.
main_process() { property_of MainPID "$1"; }

# has_process UNIT is true when the unit has a main process. It sets p.
has_process() { p=$(main_process "$1") && [ "${p:-0}" -gt 0 ]; }

# is_running, is_stopped, is_loaded and is_enabled tell of a unit. One that starts or stops is
# neither running nor stopped; is_loaded is true when it has a file and is not masked.
is_running() { systemctl is-active --quiet -- "$1"; }
is_stopped() { case $(property_of ActiveState "$1") in inactive | failed) ;; *) return 1 ;; esac; }
is_loaded() { [ "$(property_of LoadState "$1")" = loaded ]; }
is_enabled() { systemctl is-enabled --quiet -- "$1" 2>/dev/null; }

# enablement_of UNIT prints whether it starts with the host: enabled, disabled, masked, ...
enablement_of() { systemctl is-enabled -- "$1" 2>/dev/null; }

# enable_unit UNIT lets it start with the host, by its files alone. When systemd is asked to,
# as with enable --no-reload, it says NeedDaemonReload=yes of every unit from then on (since
# version 255).
enable_unit() {
    [ "$(property_of LoadState "$1")" != masked ] || systemctl unmask --quiet -- "$1"
    is_enabled "$1" || systemctl --root=/ enable --quiet -- "$1"
}

# reload_for UNIT ASSIGNMENT makes systemd read its units anew, unless it has that assignment
# for the environment of the unit. A reload runs every generator: a fifth of a second on one
# core. It is done without where systemd, asked now, has the assignment and knows that the
# unit is enabled: a unit that was not named yet is read from the disk as it is.
# NeedDaemonReload alone would not do: it says no of a new drop-in folder. It sets s.
reload_for() {
    s=" $(systemctl show -p Environment -p NeedDaemonReload -p UnitFileState -- "$1" | tr '\n=' '  ') "
    case $s in *" ${2%%=*} ${2#*=} "*) ;; *) s= ;; esac
    case $s in *" NeedDaemonReload no "*) ;; *) s= ;; esac
    case $s in *" UnitFileState enabled "*) ;; *) systemctl daemon-reload ;; esac
}

# has_begun UNIT PID ASSIGNMENT is true when the unit has another main process than that, with
# the assignment in its environment. Until then a queued start may not have been looked at, or
# a process is still systemd's own, about to become the unit's. It sets p.
has_begun() { has_process "$1" && [ "$p" != "$2" ] && tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -qxF -- "$3"; }

# is_steady UNIT is true when it is active. One of Type=simple is that before its program has
# begun: it has to stay it for a second, as one process. For wait_until; it sets p and T.
is_steady() {
    is_running "$1" || return
    [ "$(property_of Type "$1")" = simple ] || return 0
    p=$(main_process "$1"); sleep 1; T=$((T-10))
    [ "$p" = "$(main_process "$1")" ] && is_running "$1"
}

# stop_unit UNIT stops it. One that systemd does not know is stopped.
stop_unit() { systemctl stop -- "$1" || [ $? = 5 ]; }

# swap_units prints the units that make swap when the host boots: those of /etc/fstab, of
# zram, of a swap partition, and others. systemd reads /etc/fstab anew at a reload.
swap_units() {
    systemctl list-unit-files --no-legend '*.swap' 2>/dev/null | while read -r x state _; do case $state in masked | disabled) ;; *) echo "$x" ;; esac; done
    ! is_enabled zramswap.service || echo zramswap.service
}

# --- Packages ---
# The name of a function begins with the package manager's; Go puts it together.

# apt_list and dnf_list print the names of all packages that are installed.
apt_list() { dpkg-query -W -f '${Package}\n'; }
dnf_list() { rpm -qa --qf '%{NAME}\n'; }

# apt_have and dnf_have NAME... print those that are installed, of no names none: dpkg-query
# would print all. They set p.
apt_have() { [ $# = 0 ] || dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null | sed -n 's/ installed$//p'; }
dnf_have() { for p; do ! rpm -q --quiet "$p" || echo "$p"; done; }

# apt_lack and dnf_lack NAME... print " NAME" for each that is not installed. What another
# package provides is there for dnf: EL 9 has curl-minimal, which conflicts with curl. They
# set p, and apt_lack a.
apt_lack() { a=" $(apt_have "$@" | tr '\n' ' ')"; for p; do case $a in *" $p "*) ;; *) printf ' %s' "$p" ;; esac; done; }
dnf_lack() { for p; do rpm -q --quiet --whatprovides "$p" || printf ' %s' "$p"; done; }

# --- Processes ---
# They are found by the name of their program; the kernel keeps 15 characters of it. A process
# is known by its pid and its start, as PID:START.

# pids_of NAME [PATTERN] prints the pids of the processes of the name, only of those whose
# command line has the pattern. It sets p and c.
pids_of() {
    for p in /proc/[0-9]*; do
        { read -r c <"$p/comm" && [ "$c" = "$1" ]; } 2>/dev/null || continue
        [ $# = 1 ] || tr '\0' ' ' 2>/dev/null <"$p/cmdline" | grep -q -e "$2" || continue
        echo "${p#/proc/}"
    done
}

# none_runs NAME... is true when there is no process of these names.
none_runs() { for c; do [ -z "$(pids_of "$c")" ] || return 1; done; }

# read_stat PID sets s to what /proc says of a process behind its name, to nothing when there
# is none.
read_stat() { s=; { read -r s <"/proc/$1/stat"; } 2>/dev/null; s=${s##*) }; }

# state_of and start_of PID print the state and the start of a process, an empty line when
# there is none.
# shellcheck disable=SC2086 # words are wanted
state_of() { read_stat "$1"; echo "${s%% *}"; }
start_of() { read_stat "$1"; set -- $s; echo "${20}"; }

# identify PID... prints each as PID:START, but 0.
identify() { for p; do [ "$p" = 0 ] || echo "$p:$(start_of "$p")"; done; }

# have_ended and are_stopped are true when all these processes, as identify printed them, have
# ended or are stopped by a signal, and there is at least one.
have_ended() {
    [ $# -gt 0 ] || return 1
    for t; do [ "$(start_of "${t%%:*}")" != "${t#*:}" ] || return 1; done
}
are_stopped() {
    [ $# -gt 0 ] || return 1
    for t; do [ "$(start_of "${t%%:*}")" = "${t#*:}" ] && [ "$(state_of "${t%%:*}")" = T ] || return 1; done
}

# --- Boots and addresses ---

# this_boot prints the running boot: the kernel's id and the start of PID 1. The first alone
# does not tell two boots of a host that shares its kernel with others.
this_boot() { b=$(cat /proc/sys/kernel/random/boot_id) && echo "$b.$(start_of 1)"; }

# reboot_required prints why the host itself wants a reboot, nothing when it does not: it says
# so, or a newer kernel than the running one is installed.
reboot_required() {
    r=$(uname -r)
    if [ -e /run/reboot-required ]; then echo "/run/reboot-required exists"
    elif [ -e "/boot/vmlinuz-$r" ]; then
        n=$(printf '%s\n' /boot/vmlinuz-* | sed 's,^/boot/vmlinuz-,,' | sort -V | tail -n 1)
        [ "$n" = "$r" ] || echo "kernel $n is installed, $r runs"
    fi
}

# has_address ADDRESS is true when an interface has the address, and ends the script when it
# could not look.
has_address() { a=$(ip -o address show to "$1") || exit 1; [ -n "$a" ]; }

# has_unsent ADDRESS PORT BYTES is true while more than so many bytes wait to be taken on a
# connection with the address that has the port at one end.
has_unsent() { [ -n "$(ss -Htn state established "dst $1" 2>/dev/null | awk -v most="$3" -v port=":$2\$" '$2 > most && ($3 ~ port || $4 ~ port)')" ]; }

# follow_address ADDRESS SECONDS tells every change of an address as the kernel does, and every
# half second "hactl", as a sign of life: in the first five seconds, and every other second
# after them, with the time and 1 where the address is there, else 0. The time gives the
# offset of the clock. It is seldom, since its programs run beside what a drill times. The
# watch ends when its reader has gone, and in any case after the seconds.
follow_address() {
    export LC_ALL=C TZ=UTC
    timeout "$2" ip -ts -o monitor address & m=$!
    trap 'kill $m 2>/dev/null' EXIT
    trap 'exit 0' HUP TERM PIPE
    n=0
    while [ $n -lt $((2*$2)) ]; do
        o=
        [ $n -ge 10 ] && [ $((n%4)) -gt 0 ] || { o=" $(date +%s.%N) 0"; ! has_address "$1" || o=${o%0}1; }
        echo "hactl$o" || exit 0
        n=$((n+1)); sleep 0.5
    done
}

# --- The lock ---
# A process holds it with flock on a file, in which it writes its holder and its pid.

# writer_runs PATTERN is true while a command of hactl runs whose label has the pattern, which
# must not match itself. A command is a timeout of this pid namespace: processes of containers,
# and of hosts that live in namespaces of this one, are not its own. It sets d, c and n.
writer_runs() {
    n=$(readlink /proc/self/ns/pid)
    for d in $(grep -ls "$1" /proc/[0-9]*/cmdline); do
        d=${d%/cmdline}
        read -r c 2>/dev/null <"$d/comm" && [ "$c" = timeout ] && [ "$(readlink "$d/ns/pid")" = "$n" ] && return 0
    done
    return 1
}

# hold_lock FILE HOLDER PATTERN LOCKED BUSY EXPIRY takes the lock, prints "held PID" and holds
# it until its stdin ends, or says nothing for EXPIRY seconds. LOCKED is the exit code when
# another process has it, whose holder it prints; one without a holder is about to be named or
# let go, so it looks again. BUSY is the one when commands with the PATTERN still run: those of
# a run that was killed get a TERM when their connection goes, and may need a moment.
hold_lock() {
    umask 077
    exec 9<>"$1" || exit 73
    i=0
    until flock -n 9; do
        [ $? -eq 1 ] || exit 74
        h=$(cat "$1"); i=$((i+1))
        [ -z "$h" ] && [ $i -lt $((20*${HACTL_SLOW_HOSTS:-1})) ] || { printf '%s\n' "$h"; exit "$4"; }
        sleep 0.1
    done
    printf '%s pid=%s\n' "$2" "$$" >"$1"
    i=0
    while writer_runs "$3"; do
        i=$((i+1)); [ $i -lt $((60*${HACTL_SLOW_HOSTS:-1})) ] || { : >"$1"; exit "$5"; }
        sleep 0.25
    done
    echo "held $$"
    while [ -n "$(exec 9<&-; timeout $(($6*${HACTL_SLOW_HOSTS:-1})) head -c 1)" ]; do :; done
    : >"$1"
}

# break_lock FILE ends whoever holds the lock and prints its holder. Only a process that really
# has the file open is ended. It sets p.
break_lock() {
    [ -e "$1" ] && ! flock -n "$1" true || exit 0
    cat "$1"
    p=$(sed -n 's/.* pid=\([0-9][0-9]*\)$/\1/p' "$1")
    [ -n "$p" ] && [ "$(readlink "/proc/$p/fd/9")" = "$1" ] || { echo "no process with the lock open" >&2; exit 1; }
    kill -TERM "$p"
    flock -w $((3*${HACTL_SLOW_HOSTS:-1})) "$1" true && exit 0
    [ "$(readlink "/proc/$p/fd/9")" = "$1" ] && kill -KILL "$p"
    flock -w $((3*${HACTL_SLOW_HOSTS:-1})) "$1" true
}
