# shellcheck shell=sh
# Prints what a host has for the tools, a line of key=value each; changes nothing. Beside them lies
# what was seen to serve well since the server was started.
#
# Arguments: the link that is used, directory of the environments, what they are to be made of (a
# digest), the Python that makes them (empty: they bring their own), the check, the extra that they
# have (empty: none).
link=$1 places=$2 digest=$3 python=$4 check=$5 extra=$6

version=
if [ -n "$python" ]; then
    # shellcheck disable=SC2016 # no shell's business
    answer=$("$python" -c '
import sys
from importlib.util import find_spec
print("%d.%d" % sys.version_info[:2], *[each for each in ("venv", "ensurepip") if find_spec(each)])
' 2>/dev/null) || answer=
    version=${answer%% *}
    echo "python=$version"
    case $answer in *venv*) echo venv=yes ;; esac
    case $answer in *ensurepip*) echo ensurepip=yes ;; esac
fi

if [ -L "$link" ]; then
    # By its own name, since what it leads to may be gone.
    current=$(basename "$(readlink "$link")")
elif [ -e "$link/pyvenv.cfg" ]; then
    # As an earlier version of this role made it.
    current=$link
elif [ -e "$link" ]; then
    echo foreign=yes
    current=
else
    current=
fi
echo "current=$current"

# Two names for the same: one that is damaged stays as it is until the other one is whole.
first=$digest${version:+-$version}
second=$first.again
[ "$current" != "$second" ] || { second=$first first=$current; }
state=missing next=$first
for name in "$first" "$second"; do
    [ -e "$places/$name" ] || continue
    if ! why=$("$places/$name/bin/devstral-ollama" --version 2>&1 &&
        "$places/$name/bin/python" -I -c "$check" "$extra" 2>&1); then
        [ "$name" != "$current" ] || { next=$second; echo "damage=$(echo "$why" | tail -n 1)"; }
        continue
    fi
    state=whole next=$name
    break
done
echo "state=$state"
echo "next=$next"

# A gateway of an earlier run, which may be asked for no longer.
[ ! -e /etc/systemd/system/devstral-gateway.service ] || echo gateway=yes

if systemctl is-active --quiet ollama.service 2>/dev/null && [ -e "$places/passed" ]; then
    start=$(systemctl show ollama.service --property=InvocationID --value)
    echo "passed=$(sed -n "s/ $start\$//p" "$places/passed" | tr '\n' ' ')"
fi
