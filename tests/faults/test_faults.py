"""Whatever fails, and whenever: no row is lost, none is doubled, and the tables are those of a run in which nothing failed."""

import random

import pytest

from tests.faults.harness import KINDS, Played


@pytest.fixture(scope="module", params=["table", "search"])
def study(request, tmp_path_factory):
    return Played(request.param, tmp_path_factory.mktemp(request.param))


def test_the_undisturbed_study_is_whole(study):
    """What the others are compared with; the search stops some early, and proposes others by what it saw."""
    rows = study.expected
    assert len(rows["members"]) == len(rows["trials"]) == (5 if study.config["kind"] == "search" else 4)
    assert len(rows["audits"]) == (0 if study.config["kind"] == "search" else 4)
    assert sum("stopped" in row for row in rows["trials"]) == (4 if study.config["kind"] == "search" else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_a_few_moments(study, kind):
    outcomes = [study.strike(kind, int(study.moments * share), 3) for share in (0.3, 0.7)]
    assert any(struck for struck, *_ in outcomes)
    assert [harm for _, *harm in outcomes] == [[0, 0, 0]] * len(outcomes)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "step"), [("kill", 1), ("full", 5)])
def test_a_fault_at_every_moment(study, kind, step):
    """Killed at each, the disk full at every fifth. All kinds at each: python -m tests.faults.sweep."""
    for moment in range(0, study.moments, step):
        assert study.strike(kind, moment)[1:] == (0, 0, 0), (moment, study.names[moment])


@pytest.mark.slow
def test_faults_at_random_moments(study):
    rng = random.Random(7)
    for _ in range(100):
        asked = rng.choice(list(KINDS)), rng.randrange(study.moments), rng.choice([1, 2, 5, 20, 60])
        assert study.strike(*asked)[1:] == (0, 0, 0), asked
