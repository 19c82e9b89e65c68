"""A study on a cluster of several nodes, one of which is lost."""

import pytest

from tests.study import working
from tests.study.test_study import numbers, wait_for


@pytest.mark.slow
def test_a_raylet_is_killed_and_the_tables_are_those_of_an_undisturbed_run(project, ray_cluster, tiny_config, tmp_path):
    cluster = ray_cluster({"num_cpus": 1}, {"num_cpus": 1})
    study = ["method=triplet", "seeds=2", *project.tiny, "cluster.workers=2", "epochs=12"]
    process = project.start(*study, "checkpoint.every=1", "study=mine", ray_address=cluster.address)
    wait_for(lambda: len(list(project.tables.glob("checkpoints/*.checkpoint"))) == 2)
    cluster.nodes[0].kill_raylet()
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, out + err
    assert "which is tried again: The actor" in err
    rows = project.read("trials")
    assert [row["status"] for row in rows] == ["done"] * 4
    assert any(row["resumed_epochs"] for row in rows)
    alone = type(project)(tmp_path / "alone")
    working.undisturbed(tiny_config(*study, "study=mine"), alone.tables)
    own = {"resumed_epochs", "gpu_share"}
    assert numbers(project, own) == numbers(alone, own)
