"""What reclaim.py does on a machine: nothing, drains it, or ends it."""

import importlib.util

import pytest

from study.config import ROOT


@pytest.fixture
def watch(monkeypatch):
    """reclaim.py with a clock of its own, on a machine on which each second is as `notice` and `ray` say; what it did."""
    spec = importlib.util.spec_from_file_location("reclaim", ROOT / "study/conf/cluster/reclaim.py")
    reclaim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reclaim)
    monkeypatch.setenv("RAY_AUTH_MODE", "")

    def run(notice, ray):
        now, done = [0.0], []
        monkeypatch.setattr(reclaim.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(reclaim.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
        monkeypatch.setattr(reclaim, "noticed", lambda: notice(now[0]))
        monkeypatch.setattr(reclaim, "joined", lambda: ray(now[0]))
        monkeypatch.setattr(reclaim, "drain", lambda seconds: done.append(("drained", now[0])))

        class Done:
            returncode = 0

        monkeypatch.setattr(
            reclaim.subprocess, "run", lambda command, **options: done.append((command, now[0])) or Done()
        )
        reclaim.main()
        return done

    return run


def test_a_machine_that_is_to_be_reclaimed_is_drained(watch):
    assert watch(notice=lambda now: now >= 5000, ray=lambda now: True) == [("drained", 5000)]


def test_one_that_lost_its_head_is_shut_down_after_a_quarter_of_an_hour(watch):
    (command, when), (again, then), _ = watch(notice=lambda now: now >= 3000, ray=lambda now: now < 600)
    assert command == again == ["sudo", "-n", "shutdown", "-h", "now"]
    assert 600 + 900 <= when < 600 + 920
    assert when + 900 <= then < when + 920, "it was refused"


def test_one_whose_ray_is_only_started_anew_lives_on(watch):
    assert watch(notice=lambda now: now >= 9000, ray=lambda now: now % 1000 > 800) == [("drained", 9000)]


def test_no_ray_runs_where_no_process_has_its_name(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("reclaim", ROOT / "study/conf/cluster/reclaim.py")
    reclaim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reclaim)
    monkeypatch.setattr(reclaim, "Path", lambda place: tmp_path)
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "comm").write_text("bash\n")
    assert not reclaim.joined()
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "comm").write_text("raylet\n")
    assert reclaim.joined()
