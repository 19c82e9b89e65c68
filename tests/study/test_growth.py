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


def test_all_machines_that_a_search_will_use_are_asked_for_at_once(there, head, waiting):
    head(ASKED)
    demand = growth.Demand(1, None)
    demand.look()
    assert not waiting.made, "no trial has begun"
    demand.note(0.5, left=100)
    demand.look()
    # Three GPUs of two trials each; the first trial asks for itself.
    assert list(waiting.made.values()) == [[{"CPU": 1, "GPU": 0.5}]] * 5
    demand.look()
    assert list(waiting.made) == ["pg0", "pg1", "pg2", "pg3", "pg4"]


def test_what_gets_room_stands_aside_with_all_others_until_a_trial_has_taken_it(there, head, waiting):
    """Else the next of them would take it, since they wait before the trial does."""
    head(ASKED)
    demand = growth.Demand(1, None)
    demand.note(0.5, left=100)
    demand.look()
    waiting.states["pg3"]["state"] = "CREATED"
    there.update(CPU=4.0, GPU=1.0)
    demand.look()
    assert not waiting.made
    demand.look()
    assert len(waiting.made) == 6 - 2 - 1, "as many as lack room now, but for the trial that waits itself"


def test_as_fewer_trials_are_left_fewer_machines_are_asked_for(there, head, waiting):
    head(ASKED)
    demand = growth.Demand(1, None)
    for left, asked in ((100, 5), (3, 2), (1, 0), (0, 0)):
        demand.note(0.5, left)
        demand.look()
        assert len(waiting.made) == asked
    demand.note(0.5, 100)
    demand.look()
    demand.end()
    assert not waiting.made


def test_a_great_many_are_asked_for_a_part_at_a_time(there, head, waiting, monkeypatch):
    monkeypatch.setattr(growth, "AT_ONCE", 2)
    head(ASKED)
    demand = growth.Demand(1, None)
    demand.note(0.5, left=100)
    demand.look()
    assert len(waiting.made) == 2


@pytest.mark.parametrize(
    ("workers", "left", "share", "has", "more"),
    [
        (2, 100, 1.0, {}, 1),
        (None, 2, 1.0, {}, 1),
        (None, 1, 1.0, {}, 0),
        (None, 100, 1.0, {"CPU": 4.0, "GPU": 1.0}, 1),
        (None, 100, 1.0, {"CPU": 8.0, "GPU": 2.0}, 0),
        (1, 100, 1.0, {"CPU": 8.0, "GPU": 2.0}, 0),
        (None, 100, 0.0, {"CPU": 8.0}, 11),
    ],
)
def test_no_more_machines_are_asked_for_than_there_is_use_for(there, head, waiting, workers, left, share, has, more):
    head(ASKED)
    there.update(has)
    demand = growth.Demand(1, workers)
    demand.note(share, left)
    demand.look()
    assert len(waiting.made) == more


def test_where_nothing_grows_nothing_is_asked_for(there, head, waiting, monkeypatch):
    head(ASKED)
    monkeypatch.delenv("RAY_ADDRESS")
    demand = growth.Demand(1, None)
    demand.note(1.0, 100)
    demand.look()
    demand.end()
    assert not waiting.made


def test_rented_machines_keep_results_in_s3(head, tiny_config):
    head(ASKED | {"provider": {"type": "aws"}})
    with pytest.raises(StudyError, match=r"Expected storage.root to be s3://BUCKET/PREFIX, since .* found /"):
        growth.check_storage(tiny_config())
    growth.check_storage({"storage": {"root": "s3://bucket/results"}})
    head(ASKED | {"provider": {"type": "local"}})
    growth.check_storage(tiny_config())
