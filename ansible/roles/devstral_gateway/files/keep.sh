# shellcheck shell=sh
# Keeps the files of a gateway, or puts them back and starts it again as it was.
#
# Arguments: where they are kept, then the files. The name of this says which (keep or back).
set -eu
before=$1
shift

if [ "$0" = keep ]; then
    umask 077
    rm -rf "$before"
    mkdir -p "$before"
    for path do
        if [ -e "$path" ]; then cp -a "$path" "$before/"; fi
    done
    if systemctl is-active --quiet devstral-gateway.service; then touch "$before/ran"; fi
    exit 0
fi
for path do
    kept=$before/${path##*/}
    if [ -e "$kept" ]; then
        cp -a "$kept" "$path.back"
        mv -T "$path.back" "$path"
    else
        rm -f "$path"
    fi
done
systemctl daemon-reload
systemctl reset-failed devstral-gateway.service 2>/dev/null || true
if [ -e "$before/ran" ]; then
    systemctl restart devstral-gateway.service
    echo "went back to the gateway that it had"
else
    systemctl stop devstral-gateway.service 2>/dev/null || true
    echo "has no gateway that runs, as before"
fi
rm -rf "$before"
