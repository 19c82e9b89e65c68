from types import SimpleNamespace

import pytest
import yaml

from study import growth
from study.errors import StudyError

GPU = {"CPU": 4, "GPU": 1}
ASKED = {
    "max_workers": 4,
    "available_node_types": {
        "head": {"resources": {"CPU": 0, "GPU": 0}, "max_workers": 0},
        "cpu": {"resources": {"CPU": 8}, "max_workers": 4},
        "gpu": {"resources": GPU, "max_workers": 3},
    },
}


@pytest.fixture
def there(monkeypatch):
    """What the Ray that is running says it has; nobody waits for more."""
    has = {}
    monkeypatch.setattr(growth.ray, "cluster_resources", lambda: has)
    monkeypatch.setattr(growth, "PATIENCE", 0.0)
    return has


@pytest.fixture
def head(monkeypatch, tmp_path):
    """Writes the file that `ray up` leaves on a head, which this machine then is."""
    monkeypatch.setattr(growth, "ASKED", tmp_path / "asked.yaml")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    return lambda asked: growth.ASKED.write_text(yaml.safe_dump(asked))


def test_as_many_workers_as_the_cap_allows_those_with_gpus_first():
    assert growth.promised(ASKED) == {"CPU": 3 * 4 + 8, "GPU": 3}
    assert growth.promised(ASKED | {"max_workers": 2}) == {"CPU": 8, "GPU": 2}
    assert growth.promised({"available_node_types": {"machines": {"resources": {}, "max_workers": 2}}}) == {
        "CPU": 0,
        "GPU": 0,
    }


def test_a_cluster_that_begins_with_nothing_has_what_it_may_grow_to(there, head):
    head(ASKED)
    assert growth.resources(None) == {"CPU": 20, "GPU": 3}
    there.update(CPU=32.0, GPU=2.0)
    assert growth.resources(None) == {"CPU": 32, "GPU": 3}


@pytest.mark.parametrize("address", [None, "auto"])
def test_elsewhere_it_is_what_is_there(there, head, monkeypatch, address):
    """Without a cluster, and on one whose file promises nothing."""
    head(ASKED if address is None else {"max_workers": 2, "available_node_types": {"machines": {"max_workers": 2}}})
    if address is None:
        monkeypatch.delenv("RAY_ADDRESS")
    there.update(CPU=2.0)
    assert growth.resources(None) == {"CPU": 2, "GPU": 0}


def test_where_no_machine_comes_it_is_said_how_to_ask_for_one(there, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(StudyError, match=r"as in cluster.gpus_per_trial=1, or 0 for CPUs alone\.$"):
        growth.resources(None)
    assert growth.resources(1.0) == {"CPU": 0, "GPU": 0}


@pytest.fixture
def waiting(monkeypatch):
    """What waits for room in the Ray that is running: bundles by id, and their states; once a second passes between two looks."""
    made, states, now = {}, {}, [0.0]

    def make(bundles):
        name = f"pg{len(states)}"
        made[name], states[name] = bundles, {"state": "PENDING"}
        return SimpleNamespace(id=SimpleNamespace(hex=lambda: name))

    def leave(one):
        del made[one.id.hex()]

    def passes():
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(growth, "placement_group", make)
    monkeypatch.setattr(growth, "remove_placement_group", leave)
    monkeypatch.setattr(growth, "placement_group_table", lambda: states)
    monkeypatch.setattr(growth, "time", SimpleNamespace(monotonic=passes))
    return SimpleNamespace(made=made, states=states)


def test_a_great_many_are_asked_for_a_part_at_a_time(there, head, waiting, monkeypatch):
    monkeypatch.setattr(growth, "AT_ONCE", 2)
    head(ASKED)
    demand = growth.Demand(1, None)
    demand.begin(0.5, left=100)
    assert list(waiting.made) == ["pg0", "pg1"]
    waiting.states["pg0"]["state"] = "CREATED"
    demand.look()
    assert list(waiting.made) == ["pg1", "pg2"]
    for _ in range(9):
        for state in waiting.states.values():
            state["state"] = "CREATED"
        demand.look()
    assert not waiting.made
    assert len(waiting.states) == 5


def test_all_machines_that_a_search_will_use_are_asked_for_at_once(there, head, waiting):
    head(ASKED)
    demand = growth.Demand(1, None)
    demand.begin(0.5, left=100)
    # Three GPUs of two trials each; the first trial asks for itself.
    assert list(waiting.made.values()) == [[{"CPU": 1, "GPU": 0.5}]] * 5
    demand.begin(0.5, left=99)
    demand.look()
    assert len(waiting.made) == 5, "asked for once, and in nobody's way yet"
    waiting.states["pg0"]["state"] = waiting.states["pg3"]["state"] = "CREATED"
    demand.look()
    assert list(waiting.made) == ["pg1", "pg2", "pg4"], "what has room gives it to a trial"
    demand.end()
    assert not waiting.made


@pytest.mark.parametrize(
    ("workers", "left", "share", "has", "more"),
    [
        (2, 100, 1.0, {}, 1),
        (None, 1, 1.0, {}, 1),
        (None, 0, 1.0, {}, 0),
        (None, 100, 1.0, {"CPU": 8.0, "GPU": 2.0}, 1),
        (None, 100, 1.0, {"CPU": 8.0, "GPU": 3.0}, 0),
        (None, 100, 0.0, {"CPU": 8.0}, 12),
    ],
)
def test_no_more_machines_are_asked_for_than_there_is_use_for(there, head, waiting, workers, left, share, has, more):
    head(ASKED)
    there.update(has)
    growth.Demand(1, workers).begin(share, left)
    assert len(waiting.made) == more


def test_where_nothing_grows_nothing_is_asked_for(there, head, waiting, monkeypatch):
    head(ASKED)
    monkeypatch.delenv("RAY_ADDRESS")
    demand = growth.Demand(1, None)
    demand.begin(1.0, 100)
    demand.look()
    demand.end()
    assert not waiting.made
