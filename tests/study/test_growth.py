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
