# shellcheck shell=sh
# Makes an environment and tries it; nothing stays of one that does not work.
#
# Arguments: the environment, the Python that makes it (empty: out of the archive), the archive of a
# Python, that of the wheels (empty: from an index), an index (empty: the host's own), what is
# installed, the check, the extra that they have (empty: none).
set -eu
place=$1 python=$2 archive=$3 wheels=$4 index=$5 package=$6 check=$7 extra=$8

umask 022
# One that was interrupted on the controller goes on here, and would take this one's files away.
exec 9>/var/cache/devstral-tools.lock
flock 9
# What an earlier try has left.
rm -rf "$place"
trap 'rm -rf "$place"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$place"

if [ -n "$archive" ]; then
    mkdir "$place/python"
    tar --extract --file="$archive" --directory="$place/python" --strip-components=1 --no-same-owner
    python=$place/python/bin/python3
    if ! "$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))'; then
        echo "its bin/python3 is no Python 3.11 or newer for this host" >&2
        exit 1
    fi
fi

pip() {
    "$place/bin/python" -m pip "$@"
}
if [ -n "$wheels" ]; then
    mkdir "$place/wheels"
    tar --extract --file="$wheels" --directory="$place/wheels" --no-same-owner
    own=$(find "$place/wheels" -name 'pip-*.whl' | sort | tail -n 1)
    if [ -n "$own" ]; then
        pip() {
            "$place/bin/python" "$own/pip" "$@"
        }
    fi
    set -- --isolated --no-index --find-links "$place/wheels"
else
    own=
    set -- ${index:+--index-url "$index"}
fi
# Debian has the module in its Python, and pip in a package of its own.
"$python" -m venv ${own:+--without-pip} "$place"
# Compiled is what the trials below import: all would take as long again as to install it.
pip install --quiet --no-compile --no-input --disable-pip-version-check "$@" "$package"
rm -rf "$place/wheels"

"$place/bin/devstral-ollama" --help >/dev/null
"$place/bin/devstral-ollama" --version
"$place/bin/python" -I -c "$check" "$extra"
trap - EXIT
