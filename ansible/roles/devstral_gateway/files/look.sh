# shellcheck shell=sh
# Prints as JSON what a host has for the gateway; changes nothing. What may hold anything is in
# base64. One command, since each task costs a host a third of a second.
#
# Arguments: the unit's file, the keys', the link to the tools, a certificate and its key, if any.
set -eu
unit=$1 keys=$2 tools=$3 certificate=${4-} key=${5-}

packed() { printf '"%s": "%s", ' "$1" "$(base64 -w 0)"; }
plain() { printf '"%s": "%s", ' "$1" "$2"; }
show() { TZ=UTC systemctl show devstral-gateway.service --property="$1" --value; }
digest() { sha256sum <"$1"; }
differs() {
    if [ -e "$2" ] && [ -e "$handed/$1" ] && [ "$(digest "$2")" != "$(digest "$handed/$1")" ]; then
        echo "$2"
    fi
}

printf '{'
if [ -e "$unit" ] || [ -e "$keys" ]; then plain there yes; fi
if [ -e "$keys" ]; then plain keys "$(sha256sum <"$keys" | cut -c 1-64) $(stat -c '%U %a' "$keys")"; fi
plain state "$(show LoadState)"
plain tools "$(readlink -f "$tools")"

pid=$(show MainPID)
plain pid "$pid"
if [ "$pid" != 0 ]; then
    # What the running gateway has not seen.
    start=$(date --date="$(show ExecMainStartTimestamp)" +%s)
    for file in "$unit" $(show DropInPaths); do
        if [ -e "$file" ] && [ "$(stat -L -c %Y "$file")" -gt "$start" ]; then echo "$file"; fi
    done | packed newer
    # systemd has handed it copies, whatever the time that a renewed file has.
    handed=/proc/$pid/root/run/credentials/devstral-gateway.service
    {
        differs keys "$keys"
        differs tls_certificate "$certificate"
        differs tls_key "$key"
    } | packed others
    # It may have ended in the meantime.
    { cat "/proc/$pid/cmdline" 2>/dev/null || true; } | packed command
fi
printf '"whole": true}'
