# shellcheck shell=sh
# Keeps what a server is made of, so that there is a way back. What a run has kept that was
# interrupted stays, since that is what was last seen to serve.
#
# Arguments: where it is kept, directory of the releases, the files and links.
set -eu
before=$1 prefix=$2
shift 2
if [ -e "$before/whole" ]; then exit 0; fi

umask 077
rm -rf "$before" "$prefix"/*.replaced
mkdir -p "$before"
absent() {
    if [ ! -e "$1" ]; then printf '%s\n' "$1" >>"$before/absent"; fi
}
: >"$before/absent"
absent "$prefix"
for path do
    printf '%s\n' "$path" >>"$before/paths"
    absent "${path%/*}"
    if [ -e "$path" ] || [ -L "$path" ]; then
        mkdir -p "$before/files${path%/*}"
        cp -a "$path" "$before/files$path"
    fi
done
for each in "$prefix"/*/; do
    if [ -d "$each" ] && [ ! -L "${each%/}" ]; then basename "$each"; fi
done >"$before/releases"
# One that starts again and again was meant to run, too.
case $(systemctl is-active ollama.service || true) in
    inactive | failed | unknown) ;;
    *) touch "$before/ran" ;;
esac
sync --file-system "$before"
touch "$before/whole"
