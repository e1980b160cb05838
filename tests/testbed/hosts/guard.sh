# Waits until the test run is gone, however it went, and removes what the kernel does not remove by
# itself. Runs in a mount namespace of its own.
#
# Arguments: directory of the bed, name of its control group, beginning of its interfaces' names.
place=$1 bed=$2 links=$3
read -r _

# The kernel keeps a network namespace, and with it our end of its cable, for minutes while a closed
# connection in there waits for an answer; that of a host that is cut off does.
for link in "/sys/class/net/$links"*; do
    [ ! -e "$link" ] || ip link delete "${link##*/}" 2>/dev/null
done

# Ansible's connections stay open for a while after their last use.
for socket in "$place"/ssh-*; do
    [ ! -S "$socket" ] || ssh -F /dev/null -o ControlPath="$socket" -O exit nobody 2>/dev/null
done

umount -R /sys/fs/cgroup 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup
groups=/sys/fs/cgroup/$bed
tries=0
while [ -d "$groups" ] && [ "$tries" -lt 300 ]; do
    # The hosts' own shells end when the run does; this is for one that hangs.
    [ "$tries" -lt 50 ] || echo 1 >"$groups/cgroup.kill"
    find "$groups" -depth -type d -exec rmdir {} + 2>/dev/null
    tries=$((tries + 1))
    [ ! -d "$groups" ] || sleep 0.1
done
rm -rf --one-file-system "$place"
