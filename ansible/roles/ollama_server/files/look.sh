# shellcheck shell=sh
# Prints as JSON what a host has for the server; changes nothing. What may hold anything is in
# base64. One command, since each task costs a host a third of a second.
#
# Arguments: the release, the list of what it was installed as, what lists it, the account, the
# command, our drop-in.
set -eu
release=$1 proof=$2 list=$3 user=$4 command=$5 ours=$6

packed() { printf '"%s": "%s", ' "$1" "$(base64 -w 0)"; }
plain() { printf '"%s": "%s", ' "$1" "$2"; }
show() { TZ=UTC systemctl show ollama.service --property="$1" --value; }

printf '{'
eval "$list"
# Whoever changed a file of it by hand has left the name of its archive as it was.
if [ -e "$proof" ]; then
    plain installed yes
    (list "$release") | LC_ALL=C comm -3 - "$proof" | sed 's/.* \.\///; s/^$/./' | LC_ALL=C sort -u | packed altered
fi

unit=$(show FragmentPath) pid=$(show MainPID)
plain state "$(show LoadState)"
plain path "$unit"
plain pid "$pid"
if [ -n "$unit" ]; then packed unit <"$unit"; fi

# A type's own drop-ins of the distribution are none of anybody's hand.
{
    show DropInPaths | tr ' ' '\n'
    for place in /etc /run /usr/local/lib; do
        ls -1 $place/systemd/system/ollama.service.d/*.conf $place/systemd/system/service.d/*.conf || true
    done 2>/dev/null
} | sort -u | while read -r file; do
    case $file in "$ours" | /usr/lib/systemd/system/service.d/*) continue ;; esac
    [ -f "$file" ] || continue
    printf '%s %s\n' "$file" "$(sed '/^[[:space:]]*\([#;[]\|$\)/d' "$file" | tr '\n' ' ')"
done | packed drop_ins

if [ "$pid" != 0 ]; then
    # What the running server has not seen.
    start=$(date --date="$(show ExecMainStartTimestamp)" +%s)
    for file in "${ours%/*}" $unit $(show DropInPaths); do
        if [ -e "$file" ] && [ "$(stat -c %Y "$file")" -gt "$start" ]; then echo "$file"; fi
    done | packed newer
    # By device and inode, because a release that was replaced has the same path. It may have ended
    # in the meantime.
    if [ "/proc/$pid/exe" -ef "$release/bin/ollama" ]; then plain runs yes; fi
    { cat "/proc/$pid/environ" 2>/dev/null || true; } | packed environ
fi

# Without what may not be an account's name in a file of JSON.
home=$(getent passwd "$user" | cut -d: -f6) && [ -z "$home" ] || plain home "$home"
plain groups "$(getent group render video | cut -d: -f1 | tr '\n' ' ')"
if [ -L "$command" ]; then
    plain command "$(readlink "$command")"
elif [ -e "$command" ]; then
    plain command "a file"
fi
printf '"whole": true}'
