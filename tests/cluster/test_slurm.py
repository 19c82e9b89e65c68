"""slurm.sh on two machines of a lab, with srun and scontrol of the lab's in the place of Slurm's."""

import json
import os
import subprocess

import pytest

from results import Store
from tests.cluster.machines import ROOT, Lab, lacking

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(lacking() is not None, reason=str(lacking())),
    pytest.mark.timeout(900),
]
SCRIPT = ROOT / "study/conf/cluster/slurm.sh"
MACHINES = {"one": 11, "two": 12}
# As Slurm's does, in the folder and with the environment that it was called with; its status is the worst of all.
SRUN = """#!/usr/bin/env bash
declare -px > {folder}/environment
for host in {hosts}; do
    ssh -n -i {folder}/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "$host" \\
        "source {folder}/environment; cd $PWD; exec $(printf '%q ' "$@")" & started+=($!)
done
for one in "${{started[@]}}"; do wait "$one" || worst=$?; done
exit "${{worst:-0}}"
"""


def test_the_script_is_valid_bash_and_says_what_it_lacks():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    done = subprocess.run(["bash", str(SCRIPT)], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "send this script with it" in done.stderr


def test_a_study_on_two_machines_and_nothing_left_of_ray(tmp_path):
    tiny = ["folds=2", "seeds=4", "epochs=12", "dataset.subjects=4", "dataset.per_class=1", "image_size=16"]
    with Lab(tmp_path / "lab", MACHINES) as lab:
        one, folder = lab["one"], lab.folder
        stubs, home = folder / "stubs", folder / "shared"
        for made in (stubs, home):
            made.mkdir()
        hosts = " ".join(machine.address for machine in lab.machines.values())
        for name, text in {
            "srun": SRUN.format(folder=folder, hosts=hosts),
            "scontrol": f"#!/bin/sh\nprintf '%s\\n' {hosts}\n",
        }.items():
            (stubs / name).write_text(text)
            (stubs / name).chmod(0o755)
        places = [f"storage.root={folder / 'results'}", f"dataset.cache={folder / 'faces'}"]
        job = {"SLURM_SUBMIT_DIR": ROOT, "SLURM_JOB_NODELIST": "all", "SLURM_JOB_NUM_NODES": 2, "SLURM_JOB_ID": 4711}
        done = one.run(
            "bash", SCRIPT, "method=softmax", "study=lent", *tiny, *places, timeout=600,
            **job, SLURM_CPUS_PER_TASK=1, HOME=home, PATH=f"{stubs}:/usr/bin:/bin:/usr/sbin:/sbin",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "study lent: 8 trials, 8 new" in done.stdout
        assert 'SRUN_CPUS_PER_TASK="1"' in (folder / "environment").read_text()
        rows = Store(folder / "results").read("trials").to_pylist()
        assert {row["host"] for row in rows} == set(MACHINES)
        token = (home / ".ray" / "auth_token").read_text().strip()
        assert token
        assert token not in done.stdout + done.stderr + json.dumps(rows, default=str)
        assert not [
            line
            for machine in lab.machines.values()
            for line in machine.processes()
            if "raylet" in line or token in line
        ]
