"""The live view: written while a study runs, and of no harm to it."""

import contextlib
import os
import time

import pytest

from results import Store
from results.report import write_report
from study.live import LivePage
from tests.results.fakes import fake_ablation


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    return Store(tmp_path / "tables")


@pytest.mark.timeout(120)
def test_the_page_is_written_while_the_study_runs(store):
    fake_ablation(store, folds=2, seeds=1, skip=[("dual", 0, 0)])
    path = store.root / "reports" / "demo" / "report.html"
    with LivePage(store, "demo") as live:
        assert live.writer.wait(timeout=100) == 0
        text = path.read_text(encoding="utf-8")
        assert "3 of 4 trials are done" in text
        assert '<meta http-equiv="refresh" content="30">' in text


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, RuntimeError, None])
def test_a_page_that_nobody_writes_any_more_says_so(store, end):
    """An interruption is a KeyboardInterrupt, and so is SIGTERM (`study.run`)."""
    fake_ablation(store, folds=2, seeds=1, skip=[("dual", 0, 0)])
    path = write_report(store, "demo", live=True)
    assert 'http-equiv="refresh"' in path.read_text(encoding="utf-8")
    live = LivePage(store, "demo", every=3600)
    live.command = ["true"]
    with contextlib.suppress(BaseException), live:
        if end:
            raise end
    text = path.read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' not in text
    assert "looks again" not in text
    assert f"go on with python study/run.py --resume demo storage.root={store.root}" in text
    assert "1 not begun or not ended; nobody works on it any more" in text


def test_where_there_is_no_page_none_is_made_at_the_end(store):
    live = LivePage(store, "demo", every=3600)
    live.command = ["true"]
    with live:
        pass
    assert not live.page.exists()


def test_it_is_not_written_more_often_than_that(store):
    live = LivePage(store, "demo", every=3600)
    live.command = ["true"]
    live.look()
    first = live.writer
    for _ in range(1000):
        live.look()
    assert live.writer is first
    first.wait()
    live.begun -= 3600
    live.look()
    assert live.writer is not first
    live.writer.wait()


def test_one_page_is_written_at_a_time_and_given_up_at_the_end(store):
    live = LivePage(store, "demo", every=0)
    live.command = ["sleep", "60"]
    begun = time.monotonic()
    with live:
        first = live.writer
        live.look()
        assert live.writer is first
    assert first.returncode == -9
    assert time.monotonic() - begun < 30


def test_a_page_that_cannot_be_written_harms_nothing(store):
    live = LivePage(store, "demo", every=0)
    live.command = ["/no/such/program"]
    with live:
        live.look()
    live.command = ["false"]
    with live:
        live.writer.wait()
        live.look()
