from itertools import pairwise

import pytest

from results import Store, StoreError
from results.errors import StoreUnavailable
from results.schema import TABLES
from study.spool import FIRST_WAIT, LONGEST_WAIT, Spool
from tests.results.fakes import fake_trial


class Faulty(Store):
    """A store that is away when it is told so, before or after it has taken the rows."""

    away, forgetful, closed = False, False, False

    def _meet(self):
        if self.closed:
            raise StoreError("It is read only.")
        if self.away:
            raise StoreUnavailable("The store is away.")

    def commit(self, key, rows):
        self._meet()
        taken = super().commit(key, rows)
        if self.forgetful:
            raise StoreUnavailable("The answer was lost.")
        return taken

    def write(self, table, name, rows):
        self._meet()
        super().write(table, name, rows)


@pytest.fixture
def clock():
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    return Clock()


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Faulty(tmp_path / "tables")


def content(store):
    return {table: sorted(map(repr, store.read(table).to_pylist())) for table in TABLES}


def commit_all(spool):
    for key in "abc":
        spool.commit(key, fake_trial(key, whole=True))
    spool.write("members", "demo", [{"study": "demo", "arm": "dual", "index": 0, "trial_key": "a"}])


@pytest.fixture
def expected(tmp_path):
    store = Store(tmp_path / "undisturbed")
    for key in "abc":
        store.commit(key, fake_trial(key, whole=True))
    store.write("members", "demo", [{"study": "demo", "arm": "dual", "index": 0, "trial_key": "a"}])
    return content(store)


def test_rows_that_the_store_cannot_take_are_kept_and_caught_up(store, clock, expected):
    spool = Spool(store, "demo", clock)
    spool.commit("a", fake_trial("a", whole=True))
    store.away = True
    commit_all(spool)
    assert store.statuses() == {"a": "done"}
    assert not spool.full
    assert spool.reason == "The store is away."
    assert not spool.catch_up()
    store.away = False
    assert not spool.catch_up()  # it waits before it asks again
    clock.now += FIRST_WAIT
    assert spool.catch_up()
    assert content(store) == expected
    assert not spool.folder.exists()


def test_an_answer_that_was_lost_doubles_nothing(store, clock, expected):
    spool = Spool(store, "demo", clock)
    store.forgetful = True
    commit_all(spool)
    store.forgetful = False
    assert spool.catch_up(now=True)
    assert content(store) == expected


def test_what_an_earlier_process_kept_is_caught_up_by_the_next(store, clock, expected):
    store.away = True
    commit_all(Spool(store, "demo", clock))
    assert Spool(store, "other", clock).reason is None
    store.away = False
    assert Spool(store, "demo", clock).catch_up()
    assert content(store) == expected


@pytest.mark.parametrize("refusal", [StoreUnavailable, StoreError])
def test_a_disk_that_takes_nothing_holds_rows_in_memory_and_says_so(store, clock, expected, monkeypatch, refusal):
    """It is full, or nothing may be written there."""

    def refuse(*given):
        raise refusal("No.")

    spool = Spool(store, "demo", clock)
    store.away = True
    for name in ("commit", "write"):
        monkeypatch.setattr(spool._near, name, refuse)
    commit_all(spool)
    assert spool.full
    assert not spool.catch_up(now=True)
    store.away = False
    assert spool.catch_up(now=True)
    assert not spool.full
    assert content(store) == expected


def test_a_catching_up_that_is_cut_off_goes_on_where_it_was(store, clock, expected, monkeypatch):
    spool = Spool(store, "demo", clock)
    store.away = True
    commit_all(spool)
    store.away = False
    commits = iter([None, StoreUnavailable("Again."), None, None])
    commit = store.commit

    def sometimes(key, rows):
        if error := next(commits):
            raise error
        return commit(key, rows)

    monkeypatch.setattr(store, "commit", sometimes)
    assert not spool.catch_up(now=True)
    assert spool.catch_up(now=True)
    assert content(store) == expected


def test_a_store_that_refuses_for_good_is_an_error_and_the_next_run_has_the_rows(store, clock, expected):
    store.closed, spool = True, Spool(store, "demo", clock)
    for key in "abc":
        with pytest.raises(StoreError, match="read only"):
            spool.commit(key, fake_trial(key, whole=True))
    store.closed = False
    spool = Spool(store, "demo", clock)
    spool.write("members", "demo", [{"study": "demo", "arm": "dual", "index": 0, "trial_key": "a"}])
    assert spool.catch_up(now=True)
    assert content(store) == expected


def test_attempts_become_rarer_up_to_a_bound(store, clock):
    spool = Spool(store, "demo", clock)
    store.away = True
    spool.commit("a", fake_trial("a"))
    attempts = []
    for second in range(200):
        clock.now = float(second)
        before = spool._next
        spool.catch_up()
        if spool._next != before:
            attempts.append(second)
    gaps = [later - earlier for earlier, later in pairwise(attempts)]
    assert gaps == sorted(gaps)
    assert max(gaps) == LONGEST_WAIT
