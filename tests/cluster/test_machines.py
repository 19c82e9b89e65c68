"""The machines that other tests make of namespaces: they reach one another and nothing else, and leave nothing behind."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.machines import ROOT, Lab, lacking

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(lacking() is not None, reason=str(lacking()))]

MAKER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
signal.signal(signal.SIGINT, signal.default_int_handler)
from tests.cluster.machines import Lab
with Lab(Path(sys.argv[2]), {"one": 11, "other": 12}):
    os.kill(os.getpid(), int(sys.argv[3]))
"""


def reaches(machine, address, port=22):
    return machine.run("timeout", 2, "bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}").returncode == 0


def remains(folder):
    """Processes and mounts that have to do with a folder."""
    listed = subprocess.run(["ps", "-wweo", "stat=,args="], capture_output=True, text=True, check=True).stdout
    processes = [line for line in listed.splitlines() if str(folder) in line and not line.startswith("Z")]
    return processes + [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line]


def test_machines_reach_one_another_and_nothing_else(tmp_path):
    with Lab(tmp_path / "lab", {"one": 11, "other": 12}) as lab:
        one, other = lab["one"], lab["other"]
        assert reaches(one, other.address)
        other.cut()
        assert not reaches(one, other.address)
        other.mend()
        assert reaches(one, other.address)
        assert not reaches(one, "192.0.2.1")
        assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
        other.run("touch", "a-file", "/tmp/a-file")
        assert one.run("ls", ".", "/tmp/a-file").stdout.split() == [".:", "venv"]
        other.kill()
        other.start()
        assert other.run("ls", ".", "/tmp/a-file").stdout.split() == [".:", "venv"]
        assert one.run("pgrep", "-c", "sshd").stdout.strip() == "1", "it sees processes of others"
        assert remains(tmp_path)
    assert not remains(tmp_path)


@pytest.mark.parametrize("number", [2, 9, 15])
def test_they_end_with_who_made_them(tmp_path, number):
    """Interrupted, killed, terminated."""
    made = subprocess.run(
        [sys.executable, "-c", MAKER, str(ROOT), str(tmp_path / "lab"), str(number)], capture_output=True, text=True
    )
    assert made.returncode == -number, made.stderr
    deadline = time.monotonic() + 20
    while left := remains(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
