"""Random histories of commits, writes, compactions and crashes against a model that is a dict."""

import random
from functools import partial

import pytest

from results import Store
from results.compaction import _write
from results.layout import Generation
from results.query import query
from results.schema import TABLES, table_of
from results.standing import STATUSES
from tests.results.crashing import Fuse
from tests.results.fakes import fake_trial


def order(attempt):
    return STATUSES.index(attempt["status"]), attempt["ended"] if attempt["status"] == "failed" else 0


def assert_equals(store, trials, parts):
    """The store holds these attempts with all their rows and no others, and these parts of members."""
    assert store.statuses() == {key: attempt["status"] for key, attempt in trials.items()}
    expected = {name: [] for name in TABLES}
    for key, attempt in trials.items():
        for table, rows in fake_trial(key, **attempt).items():
            expected[table] += table_of(table, rows).to_pylist()
    expected["members"] = [row for rows in parts.values() for row in table_of("members", rows).to_pylist()]
    for table, rows in expected.items():
        assert sorted(map(repr, store.read(table).to_pylist())) == sorted(map(repr, rows)), table


@pytest.mark.parametrize("seed", range(12))
def test_no_history_loses_or_doubles_a_row(tmp_path, monkeypatch, seed):
    rng = random.Random(seed)
    fuse = Fuse(monkeypatch)
    trials, stood, parts = {}, {}, {}
    store = Store(tmp_path / "tables")
    for step in range(40):
        left = rng.choice([None, None, rng.randrange(12), rng.randrange(60)])
        if rng.random() < 0.3:
            store = Store(store.root)
        action = rng.choice(["commit", "commit", "commit", "write", "compact"])
        if action == "commit":
            key = f"k{rng.randrange(6)}"
            attempt = {"status": rng.choice(STATUSES), "ended": float(step), "epochs": rng.randrange(1, 4)}
            ended = fuse.run(left, partial(store.commit, key, fake_trial(key, **attempt)))
            if key not in trials or order(attempt) > order(trials[key]):
                rows = store.read("trials", ["trial_key", "epochs", "ended_at"]).to_pylist()
                [now] = [old for old in (attempt, *stood.get(key, [])) if _row(key, old) in rows] or [None]
                assert now == attempt or not ended
                # A crash may come between giving up a lesser row and writing its successor; a row that is done stays.
                assert now in (attempt, trials.get(key)) or trials[key]["status"] != "done"
                if now is None:
                    trials.pop(key, None)
                else:
                    trials[key] = now
                stood.setdefault(key, []).append(attempt)
        elif action == "write":
            name = f"p{rng.randrange(3)}"
            rows = [{"study": name, "index": step, "trial_key": "k"}] * rng.randrange(1, 3)
            ended = fuse.run(left, partial(store.write, "members", name, rows))
            is_new = any(row["index"] == step for row in store.read("members").to_pylist())
            assert is_new or not ended
            if is_new:
                parts[name] = rows
        else:
            fuse.run(left, store.compact)
        assert_equals(store, trials, parts)
    store.compact()
    assert_equals(Store(store.root), trials, parts)


def _row(key, attempt):
    [row] = table_of("trials", fake_trial(key, **attempt)["trials"]).to_pylist()
    return {name: row[name] for name in ("trial_key", "epochs", "ended_at")}


def test_a_store_of_2000_trials_answers_a_query(tmp_path):
    store = Store(tmp_path / "tables")
    keys = [f"k{index:04}" for index in range(1990)]
    rows = {"trials": [], "epochs": []}
    for index, key in enumerate(keys):
        for table, found in rows.items():
            found += fake_trial(key, arm=f"arm{index % 10}", seed=index // 10)[table]
    layout = store._layout
    files = {name: _write(layout, name, TABLES[name].schema, iter([table_of(name, r)])) for name, r in rows.items()}
    layout.write_manifest([Generation(len(keys), files)])
    for index in range(1990, 2000):
        store.commit(f"k{index}", fake_trial(f"k{index}", arm=f"arm{index % 10}"))
    sql = (
        "SELECT arm, count(DISTINCT trial_key) AS trials, count(*) AS epochs FROM trials JOIN epochs USING (trial_key) "
        "GROUP BY arm ORDER BY arm"
    )
    assert query(store, sql).rows == [(f"arm{index}", 200, 600) for index in range(10)]
