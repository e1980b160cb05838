# shellcheck shell=sh
# Lets the tools be those of another environment, from one moment to the next; the one before stays.
#
# Arguments: the link that is used, directory of the environments, name of the environment.
set -eu
link=$1 places=$2 name=$3

point() {
    rm -f "$1.new"
    ln -s "$2" "$1.new"
    mv -T "$1.new" "$1"
}

old=
if [ -L "$link" ]; then
    old=$(basename "$(readlink "$link")")
elif [ -e "$link" ]; then
    # As an earlier version of this role made it.
    old=before
    rm -rf "${places:?}/$old"
    mv "$link" "$places/$old"
fi
# What was made anew because it was damaged is nothing to go back to.
if [ "${old%.again}" != "${name%.again}" ] && [ -n "$old" ] && [ -e "$places/$old" ]; then
    point "$places/previous" "$old"
fi
point "$link" "$(basename "$places")/$name"

kept=$(readlink "$places/previous" || true)
for each in "$places"/*; do
    case ${each##*/} in
        previous | "$name" | "$kept") ;;
        *) rm -rf "$each" ;;
    esac
done
