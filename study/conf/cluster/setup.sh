#!/usr/bin/env bash
# Sets a machine, an AMI or a container up for studies: the project's Python packages, in the versions that were tested together.
#
#   bash study/conf/cluster/setup.sh          ~/venv with constraints.txt; does nothing where that is there already
#   bash study/conf/cluster/setup.sh head     the same, and what is run here joins the cluster of this machine
#   bash study/conf/cluster/setup.sh watch    on AWS: hands the trials of this machine over before it is reclaimed
#
# In a Dockerfile: COPY . /root/platform, then RUN bash /root/platform/study/conf/cluster/setup.sh.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
venv=$HOME/venv

if [ "${1:-}" = watch ]; then
    sudo -n shutdown -c 2>/dev/null || true # of cluster.yaml's UserData: from here on it is watched
    # The lock lets one of them live, however often Ray is started here.
    setsid nohup flock -n "$HOME/.reclaim" "$venv/bin/python" "$project/study/conf/cluster/reclaim.py" >>"$HOME/reclaim.log" 2>&1 </dev/null &
    exit
fi

umask 077
wanted=$(cat "$project/pyproject.toml" "$project/constraints.txt" | sha256sum)
if [ "$(cat "$venv/.ready" 2>/dev/null || true)" != "$wanted" ]; then
    # All machines of a cluster need the same minor version of Python: they have one image.
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "Expected python3 to be 3.11 or later, found $(python3 --version 2>&1): choose an image that has it, as Ubuntu 24.04 does." >&2
        exit 2
    }
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv" || {
        sudo -n apt-get update -qq && sudo -n apt-get install -y -qq python3-venv && python3 -m venv --clear "$venv"
    }
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$project/constraints.txt" -e "$project[cluster]"
    # `ray submit` copies one file: what it imports is found here.
    echo "$project" >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/platform.pth"
    echo "$wanted" >"$venv/.ready"
fi

# Ray logs in for every command: its programs are on the path then, and what it writes is the user's alone.
remember() { grep -qxF "$1" "$HOME/.bashrc" 2>/dev/null || echo "$1" >>"$HOME/.bashrc"; }
remember 'export PATH=$HOME/venv/bin:$PATH'
remember 'umask 077'
remember 'export RAY_AUTH_MODE=token'
if [ "${1:-}" = head ]; then remember 'export RAY_ADDRESS=auto'; fi
