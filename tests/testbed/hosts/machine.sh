# One host's life, run as process 1 of a process namespace, in a mount namespace of its own and in
# the host's network namespace. Whatever ends this shell (its standard input closing, which the
# test run's death does; a signal) makes the kernel remove all processes and mounts in here.
#
# Arguments: name, base image, directory of files laid over it, empty directory to mount on,
# size of the host's disk, name of the bed's control group, machine id.
# Commands on standard input: boot, shutdown, kill. Every boot ends with "off" on standard output.
set -eu
name=$1 base=$2 seed=$3 place=$4 size=$5 bed=$6 id=$7

# The disk is memory: nothing of it can be left behind, and "full" is cheap to have.
mount -t tmpfs -o "size=$size,mode=0755" tmpfs "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay -o "lowerdir=$base,upperdir=$place/upper,workdir=$place/work" overlay "$place/root"
cp -a "$seed/." "$place/root/"
# nspawn leaves directories here.
mount -t tmpfs -o mode=0755 tmpfs /run

# A version 2 hierarchy of our own, whatever the machine has mounted: without it all hosts would
# share one tree of control groups on a machine of version 1, and each systemd clean up the others'.
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "/sys/fs/cgroup/$bed/$name"

boot() {
    echo 0 >"/sys/fs/cgroup/$bed/$name/cgroup.procs"
    while :; do
        code=0
        # --network-namespace-path does not imply the capability that --private-network brings, and
        # nspawn's own filter of system calls would keep the host's systemd from filtering devices.
        SYSTEMD_SECCOMP=0 systemd-nspawn --quiet --settings=no --register=no --keep-unit --boot \
            --directory="$place/root" --machine="$name" --uuid="$id" \
            --resolv-conf=off --timezone=off --link-journal=no --console=pipe \
            --network-namespace-path=/proc/self/ns/net --capability=CAP_NET_ADMIN,CAP_PERFMON \
            </dev/null >&2 &
        echo "$!" >/run/nspawn.pid
        wait "$!" || code=$?
        # With --keep-unit a reboot is somebody else's business, and this its code.
        [ "$code" = 133 ] || break
    done
    rm -f /run/nspawn.pid
    echo off
}

while read -r command; do
    case $command in
        boot) boot & ;;
        shutdown) kill -TERM "$(cat /run/nspawn.pid)" || true ;;
        # nspawn's death would not be that of what it started; the reverse holds.
        kill) echo 1 >"/sys/fs/cgroup/$bed/$name/payload/cgroup.kill" || true ;;
    esac
done
