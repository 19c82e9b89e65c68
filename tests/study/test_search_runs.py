"""Searches on Ray: killed with several workers, and raced over folds and seeds."""

import re
import signal
import time

import pytest

from results import Store
from results.tables import study_table


def wait_for(condition, seconds=200):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def committed(project):
    return project.read("trials") if project.tables.exists() else []


def rows(project):
    """What a search left, without what depends on time."""
    trials = {row["trial_key"]: row for row in project.read("trials")}
    columns = ("status", "epochs", "val_accuracy", "stopped_by")
    return sorted(
        (
            row["index"],
            row["seed"],
            row["fold"],
            row["parameters"],
            *(trials[row["trial_key"]][name] for name in columns),
        )
        for row in project.read("members")
    )


@pytest.mark.slow
def test_killed_with_two_workers_the_same_rows_are_there_as_undisturbed_with_one(project, tmp_path):
    search = [
        "--search",
        *project.tiny[:-2],
        "search.sampler=random",
        "search.trials=6",
        "epochs=20",
        "search.grace=20",
        "study=mine",
    ]
    process = project.start(*search, *project.places, "cluster.workers=2", start_new_session=True)
    wait_for(lambda: len(committed(project)) >= 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(committed(project)) < 6, "the search was over before it was killed"
    project.run("--resume", "mine", *project.places, "cluster.workers=2")
    alone = type(project)(tmp_path / "alone")
    alone.folder.mkdir()
    alone.run(*search, *alone.places, "cluster.workers=1")
    assert rows(project) == rows(alone)
    assert len(project.read("trials")) == 6
    assert not {row["status"] for row in project.read("trials")} - {"done"}


@pytest.mark.slow
def test_a_search_over_folds_and_seeds_ranks_means_and_looks_at_validation_people_alone(project):
    search = [
        "search.folds=2",
        "search.seeds=2",
        "search.trials=3",
        "search.alpha=0.4",
        "search.cost=null",
        "study=raced",
    ]
    out = project.run("--search", *project.tiny, *search, "search.grace=2").out
    assert "study raced: 3 trials" in out
    members, trials = project.read("members"), {row["trial_key"]: row for row in project.read("trials")}
    assert {row["trial_key"] for row in members} == set(trials)
    for index in range(3):
        blocks = sorted((row["seed"], row["fold"]) for row in members if row["index"] == index)
        assert blocks == [(0, 0), (0, 1), (1, 0), (1, 1)][: len(blocks)]
        mine = [trials[row["trial_key"]] for row in members if row["index"] == index]
        left = [row for row in mine if row["stopped_by"] == "racing"]
        assert len(blocks) == 4 or [row["epochs"] for row in left] == [0]
    table = study_table(Store(project.tables), "raced")
    assert re.search(r"the best \d of 3 trials by val_accuracy, the mean of 4 trainings", table.caption)
    complete = [row for row in table.rows if row[3] == "done"]
    for row in complete:
        index = next(member["index"] for member in members if member["trial_key"] == row[1])
        values = [trials[member["trial_key"]]["val_accuracy"] for member in members if member["index"] == index]
        assert row[2] == pytest.approx(sum(values) / 4)
    assert all(row["test_accuracy"] is None for row in trials.values())
    assert project.read("audits") == []
