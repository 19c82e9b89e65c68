"""Two studies at a time on one cluster, into one store."""

import pytest

from tests.study import working
from tests.study.test_study import numbers


@pytest.mark.slow
def test_two_studies_share_a_cluster_and_what_both_train_is_there_once(project, ray_cluster, tiny_config, tmp_path):
    """Each asks for all CPUs, and all trials of the one are among those of the other: neither fails, and no row is there twice."""
    cluster = ray_cluster({"num_cpus": 2})
    studies = {"one": ["seeds=2"], "other": ["seeds=3"]}
    running = [
        project.start(
            "method=triplet",
            *project.tiny,
            "cluster.workers=null",
            f"study={name}",
            *words,
            ray_address=cluster.address,
        )
        for name, words in studies.items()
    ]
    for process in running:
        out, err = process.communicate(timeout=250)
        assert process.returncode == 0, out + err
    trials, members = project.read("trials"), project.read("members")
    assert [row["status"] for row in trials] == ["done"] * 6
    assert len({row["trial_key"] for row in trials}) == 6
    assert sorted(row["study"] for row in members) == ["one"] * 4 + ["other"] * 6
    alone = type(project)(tmp_path / "alone")
    working.undisturbed(tiny_config("method=triplet", *project.tiny, "study=other", "seeds=3"), alone.tables)
    own = {"resumed_epochs", "gpu_share", "study", "config"}  # the latter two name the study that was first
    assert numbers(project, own) == numbers(alone, own)
