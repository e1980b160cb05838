# shellcheck shell=sh
# Prints a line for each thing for which clients, or the gateway, would not take a certificate and
# its key; changes nothing, and shows nothing of them.
#
# Arguments: the link to the tools, what tries the two with their Python, the certificate, the key,
# the days that it has to last.
set -eu
python=$1/bin/python check=$2 certificate=$3 key=$4 days=$5

there=yes
for file in "$certificate" "$key"; do
    if [ ! -e "$file" ]; then
        there=no
        echo "there is no $file"
    fi
done
if [ $there = no ]; then exit; fi

has() { [ "$(find -L "$1" -maxdepth 0 -perm "$2")" ]; }
for file in "$certificate" "$key"; do
    if has "$file" /022; then echo "others than its owner can write $file: chmod go-w $file"; fi
    owner=$(stat -L -c %U "$file")
    if [ "$owner" != root ]; then echo "$file belongs to $owner: chown root $file"; fi
done
if has "$key" /004; then echo "everybody can read $key: chmod 600 $key"; fi

# Check mode may find no tools yet.
if [ -x "$python" ]; then "$python" -c "$check" "$certificate" "$key" "$days"; fi
