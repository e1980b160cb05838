# shellcheck shell=sh
# Puts back what keep.sh has kept, and says as JSON in which environment the server runs again: an
# empty one where none ran. Says nothing where nothing had been changed.
#
# Arguments: where it is kept, directory of the releases, whether what is there serves (yes or empty).
set -eu
before=$1 prefix=$2 serves=$3
if [ ! -e "$before/whole" ]; then exit 0; fi
# A first server that serves does no harm without its model, and its archive has gigabytes.
if [ -n "$serves" ] && [ ! -e "$before/ran" ]; then
    rm -rf "$before"
    exit 0
fi
# Half of it would be worse than either.
trap '' HUP INT TERM

is_same() {
    if [ -L "$1" ] || [ -L "$2" ]; then
        [ "$(readlink "$1")" = "$(readlink "$2")" ]
    elif [ -e "$1" ]; then
        cmp -s "$1" "$2"
    else
        [ ! -e "$2" ]
    fi
}

changed=''
while read -r path; do
    kept=$before/files$path
    if is_same "$kept" "$path"; then continue; fi
    changed=yes
    if [ -e "$kept" ] || [ -L "$kept" ]; then
        mkdir -p "${path%/*}"
        cp -a "$kept" "$path.back"
        mv -T "$path.back" "$path"
    else
        rm -f "$path"
    fi
done <"$before/paths"

for each in "$prefix"/*.replaced; do
    if [ -e "$each" ]; then
        changed=yes
        rm -rf "${each%.replaced}"
        mv -T "$each" "${each%.replaced}"
    fi
done
gone=''
for each in "$prefix"/[0-9]*; do
    if [ -d "$each" ] && [ ! -L "$each" ] && ! grep -qxF "$(basename "$each")" "$before/releases"; then
        gone=yes
        rm -rf "$each"
    fi
done

if [ -e "$before/ran" ]; then
    if [ -n "$changed" ] || ! systemctl is-active --quiet ollama.service; then
        changed=yes
        systemctl daemon-reload
        systemctl reset-failed ollama.service || true
        systemctl restart ollama.service || true
    fi
elif [ -n "$changed" ]; then
    systemctl stop ollama.service || true
    systemctl daemon-reload
    systemctl reset-failed ollama.service || true
fi 2>/dev/null
while read -r path; do
    if [ -d "$path" ]; then rmdir --ignore-fail-on-non-empty "$path"; fi
done <"$before/absent"

if [ -n "$changed$gone" ]; then
    if [ -e "$before/ran" ]; then
        host=$(systemctl show ollama.service --property=Environment --value | tr ' ' '\n' | sed -n 's/^OLLAMA_HOST=//p' | tail -n 1)
        printf '{"OLLAMA_HOST": "%s"}' "${host:-127.0.0.1:11434}"
    else
        printf '{}'
    fi
fi
rm -rf "$before"
