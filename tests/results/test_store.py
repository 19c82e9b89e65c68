import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results import Store, StoreError, bulk, compaction
from results.asking import query
from results.schema import TABLES, TRIAL_TABLES
from tests.results.fakes import START, content, fake_ablation, fake_search, fake_trial

FIXTURES = Path(__file__).parent / "fixtures"


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_what_is_committed_is_read(store):
    rows = fake_trial("k1", whole=True)
    assert store.commit("k1", rows)
    assert store.committed_keys() == {"k1"}
    assert store.statuses() == {"k1": "done"}
    for table, expected in rows.items():
        found = store.read(table).to_pylist()
        assert [{name: row[name] for name in expected[0]} for row in found] == expected, table


def test_an_empty_store_has_empty_tables_and_makes_no_folder(store):
    assert store.is_empty()
    assert store.committed_keys() == set()
    for table, spec in TABLES.items():
        assert store.read(table).schema == spec.schema
    store.compact()
    assert not store.root.exists()


def test_the_rows_survive_compaction_and_the_parts_go(store):
    fake_ablation(store)
    fake_search(store)
    before = content(store)
    store.compact()
    assert content(store) == before
    assert content(Store(store.root)) == before
    assert not list(store.root.rglob("parts/*/*"))
    compacted = files(store.root)
    store.compact()
    assert files(store.root) == compacted


def test_columns_come_in_the_order_asked_for(store):
    store.commit("k", fake_trial("k"))
    assert store.read("trials", ["seconds", "arm"]).column_names == ["seconds", "arm"]
    store.compact()
    assert store.read("epochs", ["epoch"]).to_pylist() == [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]
    with pytest.raises(KeyError):
        store.read("trials", ["acuracy"])
    with pytest.raises(KeyError):
        store.read("trails")


@pytest.mark.parametrize("compacted", [False, True])
def test_a_study_reads_the_trials_of_its_members_whoever_made_them(store, compacted):
    fake_ablation(store, "first", folds=2, seeds=1, whole=True)
    store.write("members", "second", [{"study": "second", "arm": "again", "index": 0, "trial_key": "first-1-0-0"}])
    store.write("audits", "first-1-0-0", [{"trial_key": "first-1-0-0", "opened_at": START}])
    store.write("audits", "first-0-0-0", [{"trial_key": "first-0-0-0", "opened_at": START}])
    if compacted:
        store.compact()
    for table in (*TRIAL_TABLES, "audits"):
        assert set(store.read(table, ["trial_key"], "second")["trial_key"].to_pylist()) == {"first-1-0-0"}
    assert store.read("members", study="second").num_rows == 1
    assert store.read("trials", study="first").num_rows == 4
    assert store.read("studies", study="second").num_rows == 0


def test_committing_again_changes_no_byte(store):
    store.commit("k", fake_trial("k"))
    before = files(store.root)
    assert not store.commit("k", fake_trial("k"))
    assert not store.commit("k", fake_trial("k", accuracy=0.1))
    assert files(store.root) == before
    elsewhere = Store(store.root.parent / "elsewhere")
    elsewhere.commit("k", fake_trial("k"))
    assert files(elsewhere.root) == before


ATTEMPTS = {
    "failed early": {"status": "failed", "ended": 10.0, "epochs": 1},
    "failed late": {"status": "failed", "ended": 20.0, "epochs": 2},
    "stopped": {"status": "stopped", "epochs": 2},
    "stopped again": {"status": "stopped", "epochs": 1},
    "done": {"accuracy": 0.9},
    "done again": {"accuracy": 0.1},
}


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize(
    ("first", "second", "stands"),
    [
        ("failed early", "failed late", "failed late"),
        ("failed late", "failed early", "failed late"),
        ("failed late", "stopped", "stopped"),
        ("stopped", "failed late", "stopped"),
        ("stopped", "stopped again", "stopped"),
        ("stopped", "done", "done"),
        ("done", "stopped", "done"),
        ("done", "failed late", "done"),
        ("failed late", "done", "done"),
        ("done", "done again", "done"),
    ],
)
def test_which_of_two_attempts_stands_with_all_its_rows(store, tmp_path, first, second, stands, compacted):
    store.commit("k", fake_trial("k", **ATTEMPTS[first]))
    if compacted:
        store.compact()
    assert store.commit("k", fake_trial("k", **ATTEMPTS[second])) == (second == stands)
    expected = Store(tmp_path / "expected")
    expected.commit("k", fake_trial("k", **ATTEMPTS[stands]))
    assert content(store) == content(expected)
    store.compact()
    assert content(store) == content(expected)


def test_a_part_written_by_name_is_replaced_by_its_name(store):
    for index in range(3):
        store.write("members", "s", [{"study": "s", "index": i, "trial_key": "k"} for i in range(index + 1)])
        store.write("members", f"other{index}", [{"study": "t", "index": index, "trial_key": "k"}])
        assert store.read("members", study="s").num_rows == index + 1
        store.compact()
        assert store.read("members", study="s").num_rows == index + 1
    assert store.read("members", study="t").num_rows == 3


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ({"epochs": [{"trial_key": "k", "epoch": 1}]}, "exactly one row"),
        ({"trials": [{"trial_key": "other", "status": "done"}]}, "must bear it"),
        ({"trials": [{"trial_key": "k", "status": "finished"}]}, "one of failed, stopped, done"),
        ({"trials": [{"trial_key": "k", "status": "done"}], "members": [{"study": "s"}]}, "by name"),
    ],
)
def test_a_caller_that_is_wrong_is_told_and_nothing_is_written(store, rows, error):
    with pytest.raises((ValueError, KeyError), match=error):
        store.commit("k", rows)
    assert not store.root.exists()


def test_names_that_are_no_file_names_are_refused(store):
    for name in ("../k", "", ".hidden", "a/b", "k\n", "x" * 201):
        with pytest.raises(StoreError, match="Expected a name"):
            store.write("members", name, [{"study": "s"}])
    with pytest.raises(ValueError, match="stands for itself"):
        store.write("trials", "k", [{"trial_key": "k"}])
    with pytest.raises(ValueError, match="stands for itself"):
        store.write("members", "s", [])


@pytest.mark.parametrize(
    "root", ["gs://bucket/tables", "s3://", "s3://bucket/../other", "s3://key:secret@bucket/tables"]
)
def test_another_scheme_is_refused_in_one_sentence(root):
    with pytest.raises(StoreError, match=r"^Expected a folder or s3://BUCKET/PREFIX .*: correct it\.$") as refused:
        Store(root)
    assert "secret" not in str(refused.value)


def test_check_writable_leaves_nothing(tmp_path):
    Store(tmp_path / "a" / "b").check_writable()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "c").mkdir()
    Store(tmp_path / "c").check_writable()
    assert list((tmp_path / "c").iterdir()) == []


@pytest.mark.parametrize("where", ["file", "file/below/it", "/proc/tables", "loop/x"])
def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, where):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "loop").symlink_to("loop")
    store = Store(tmp_path / where)
    for attempt in (store.check_writable, lambda: store.commit("k", fake_trial("k"))):
        with pytest.raises(StoreError, match=r"^Expected a folder that results can be written to.*\.$"):
            attempt()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


def test_a_failed_write_is_one_sentence_and_leaves_no_temporary_file(store, monkeypatch):
    store.commit("a", fake_trial("a"))
    before = files(store.root)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space left on device; set storage\.root"):
        store.commit("b", fake_trial("b"))
    monkeypatch.undo()
    assert files(store.root) == before
    assert store.commit("b", fake_trial("b"))


@pytest.mark.parametrize("damage", [b"", b"PAR1", None])
def test_a_damaged_part_is_named(store, damage):
    store.commit("k", fake_trial("k"))
    path = store.root / "parts" / "trials" / "k.parquet"
    path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    for attempt in (lambda: Store(store.root).read("trials"), lambda: Store(store.root).compact()):
        with pytest.raises(StoreError, match=r"parts/trials/k\.parquet, which is damaged"):
            attempt()
    assert path.exists()


def test_a_damaged_compact_file_and_manifest_are_named(store):
    store.commit("k", fake_trial("k"))
    store.compact()
    [path] = store.root.glob("compact/epochs-*")
    path.write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="epochs-"):
        store.read("epochs")
    path.unlink()
    with pytest.raises(StoreError, match="lack a file"):
        store.read("epochs")
    (store.root / "MANIFEST.json").write_text("{")
    with pytest.raises(StoreError, match=r"MANIFEST\.json"):
        store.read("trials")
    (store.root / "MANIFEST.json").write_text('{"layout": 99}')
    with pytest.raises(StoreError, match="later version"):
        store.read("trials")


def test_temporary_files_and_half_commits_are_not_seen_and_are_swept(store):
    store.commit("k", fake_trial("k"))
    before = content(store)
    parts = store.root / "parts"
    (parts / "trials" / ".x.parquet.123.tmp").write_bytes(b"half")
    shutil.copy(parts / "epochs" / "k.parquet", parts / "epochs" / "half.parquet")
    (store.root / "compact").mkdir()
    (store.root / "compact" / ".trials.9.tmp").write_bytes(b"half")
    assert content(store) == before
    store.compact()
    assert content(store) == before
    assert not [path for path in store.root.rglob("*") if path.name.endswith(".tmp") or "half" in path.name]


def test_files_of_earlier_versions_have_nulls_for_what_came_later(store):
    rows = pa.table({"trial_key": ["old"], "status": ["done"], "ended_at": pa.array([0], pa.timestamp("us", "UTC"))})
    path = store.root / "parts" / "trials" / "old.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(rows.drop_columns("ended_at"), path)
    store.commit("new", fake_trial("new"))
    for _ in range(2):
        found = {row["trial_key"]: row["arm"] for row in store.read("trials").to_pylist()}
        assert found == {"old": None, "new": "dual"}
        store.compact()


def test_files_of_later_versions_are_read_but_never_rewritten(store):
    store.commit("k", fake_trial("k"))
    path = store.root / "parts" / "trials" / "k.parquet"
    pq.write_table(pq.read_table(path).append_column("invented_later", pa.array([1])), path)
    assert store.read("trials")["arm"].to_pylist() == ["dual"]
    with pytest.raises(StoreError, match="invented_later"):
        store.compact()
    assert "invented_later" in pq.read_table(path).column_names


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v4", "v5"])
def test_the_store_that_an_earlier_version_wrote_is_read(version):
    root = FIXTURES / version
    before = sorted(root.rglob("*"))
    store = Store(root)
    expected = json.loads((FIXTURES / f"{version}.json").read_text())
    assert store.statuses() == {"kept-000": "done", "kept-001": "stopped", "kept-002": "done", "kept-003": "failed"}
    for table, rows in expected.items():
        found = sorted(store.read(table).to_pylist(), key=repr)
        seen = [json.loads(json.dumps({name: row[name] for name in rows[0]}, default=str)) for row in found]
        assert sorted(seen, key=repr) == sorted(rows, key=repr), table
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("name", ["tables", "a [b] *"])
def test_many_parts_are_read_at_once_as_they_are_one_by_one(tmp_path, monkeypatch, name):
    store = Store(tmp_path / name)
    fake_ablation(store, folds=4, seeds=2, whole=True)
    expected = content(store)
    old = store.root / "parts" / "trials" / "demo-0-0-0.parquet"
    monkeypatch.setattr(bulk, "MANY", 2)
    monkeypatch.setattr(bulk, "AT_ONCE", 7)
    assert content(Store(store.root)) == expected
    pq.write_table(pq.read_table(old).drop_columns("notes"), old)  # as an earlier version wrote it
    assert content(Store(store.root)) == expected
    store.compact()
    assert content(store) == expected
    assert content(Store(store.root)) == expected


def test_a_damaged_part_among_many_is_named(store, monkeypatch):
    monkeypatch.setattr(bulk, "MANY", 2)
    fake_ablation(store)
    path = store.root / "parts" / "epochs" / "demo-0-1-0.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"parts/epochs/demo-0-1-0\.parquet, which is damaged"):
        store.read("epochs")


def test_a_study_of_a_compacted_store_reads_its_own_row_groups(store, monkeypatch):
    monkeypatch.setattr(compaction, "GROUP", {"trials": 4, "members": 4})
    monkeypatch.setattr(compaction, "ROWS", 10)
    for name in ("a", "b", "c", "d"):
        fake_ablation(store, name, whole=True)
    store.write("members", "e", [{"study": "e", "arm": "x", "index": 0, "trial_key": "c-0-0-1"}])  # of another study
    expected = {name: {t: sorted(map(repr, store.read(t, study=name).to_pylist())) for t in TABLES} for name in "abcde"}
    store.compact()
    asked = []
    read = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda f, i, *a, **k: asked.append(i) or read(f, i, *a, **k))
    for name, tables in expected.items():
        for table, rows in tables.items():
            assert sorted(map(repr, store.read(table, study=name).to_pylist())) == rows, (name, table)
    asked.clear()
    store.read("epochs", study="c")
    some = len(asked)
    asked.clear()
    store.read("epochs")
    assert len(asked) == 15
    assert some < 15


def test_rows_that_a_later_generation_replaced_do_not_count(store):
    """Failed trials are compacted away, then done again and compacted into a generation of their own."""
    fake_ablation(store, "a", folds=5)
    store.commit("f1", fake_trial("f1", study="a", status="failed", epochs=1))
    store.commit("f2", fake_trial("f2", study="z", status="failed", epochs=1))
    store.write(
        "members", "z", [{"study": "z", "index": 0, "trial_key": "f1"}, {"study": "z", "index": 1, "trial_key": "f2"}]
    )
    store.compact()
    store.commit("f1", fake_trial("f1", study="z"))
    store.commit("f2", fake_trial("f2", study="z"))
    store.write("members", "z", [{"study": "z", "index": i, "trial_key": f"f{i + 1}"} for i in range(2)])
    for _ in range(3):
        assert sorted(store.read("trials", ["status"], "z")["status"].to_pylist()) == ["done", "done"]
        assert store.read("epochs", study="z").num_rows == 6
        assert store.read("members", study="z").num_rows == 2
        assert query(store, "SELECT count(*), count(DISTINCT trial_key), max(status) FROM trials").rows == [
            (22, 22, "done")
        ]
        assert query(store, "SELECT count(*) FROM epochs").rows == [(66,)]
        assert query(store, "SELECT count(*) FROM members WHERE study = 'z'").rows == [(2,)]
        assert store.statuses(["f1", "no"]) == {"f1": "done"}
        store.compact()
        assert len(json.loads((store.root / "MANIFEST.json").read_text())["generations"]) == 2
