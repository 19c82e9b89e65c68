"""Whatever fails, and whenever: no row is lost, none is doubled, and the tables are those of a run in which nothing failed."""

import random

import pytest

from tests.faults.harness import Played
from tests.faults.played import KINDS


@pytest.fixture(scope="module", params=["table", "search", "race"])
def study(request, tmp_path_factory):
    return Played(request.param, tmp_path_factory.mktemp(request.param))


def test_the_undisturbed_study_is_whole(study):
    """What the others are compared with; searches stop some early, and propose others by what they saw."""
    rows = study.expected
    expected = {"table": (4, 0, "", 4), "search": (5, 4, "asha", 0), "race": (10, 2, "racing", 0)}
    trials, stopped, by, audits = expected[study.name]
    assert len(rows["members"]) == len(rows["trials"]) == trials
    assert len(rows["audits"]) == audits
    assert sum("stopped" in row and by in row for row in rows["trials"]) == stopped


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_a_few_moments(study, kind):
    outcomes = [study.strike(kind, int(study.moments * share), 3) for share in (0.3, 0.7)]
    assert any(struck for struck, *_ in outcomes)
    assert [harm for _, *harm in outcomes] == [[0, 0, 0]] * len(outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("study", ["table", "search"], indirect=True)
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
