"""A study goes from store to store in one file; what is not exactly that file is refused, and nothing is written."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results import Store, StoreError, archive
from results.archive import MANIFEST, export_study, import_study, main
from results.schema import TABLES
from tests.results.fakes import START, content, fake_ablation, fake_search, fake_trial

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def exported(store, tmp_path):
    fake_ablation(store, folds=2, seeds=1, whole=True)
    fake_search(store, trials=4)
    store.write("audits", "a", [{"trial_key": "demo-0-0-0", "opened_at": START, "protocol": "sealed"}])
    export_study(store, "demo", tmp_path / "demo.zip")
    return tmp_path / "demo.zip"


def of_study(store, study="demo"):
    return {name: sorted(map(repr, store.read(name, study=study).to_pylist())) for name in TABLES}


def files(store):
    return {p: p.read_bytes() for p in sorted(store.root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("study", ["demo", "hunt"])
def test_the_rows_are_equal_afterwards_and_a_second_import_changes_no_byte(store, exported, tmp_path, compacted, study):
    if compacted:
        store.compact()
    export_study(store, study, tmp_path / "file.zip")
    other = Store(tmp_path / "other")
    fake_ablation(other, "already", folds=1, seeds=1)
    if compacted:
        other.compact()
    trials = store.read("members", study=study).num_rows
    assert import_study(other, tmp_path / "file.zip") == (study, trials, trials)
    assert of_study(other, study) == of_study(store, study)
    assert other.read("members", study="already").num_rows == 2
    before = files(other)
    assert import_study(other, tmp_path / "file.zip") == (study, trials, 0)
    assert files(other) == before
    other.compact()
    assert import_study(other, tmp_path / "file.zip") == (study, trials, 0)
    assert of_study(other, study) == of_study(store, study)


def test_equal_studies_give_equal_files(store, exported, tmp_path):
    store.compact()
    export_study(store, "demo", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == exported.read_bytes()


def test_what_stands_in_the_store_is_not_touched(store, exported, tmp_path):
    other = Store(tmp_path / "other")
    other.commit("demo-0-0-0", fake_trial("demo-0-0-0", accuracy=0.123))
    other.commit("demo-1-0-0", fake_trial("demo-1-0-0", status="failed"))
    import_study(other, exported)
    assert 0.123 in other.read("trials")["test_accuracy"].to_pylist()
    assert set(other.statuses().values()) == {"done"}


def test_another_study_of_that_name_is_refused_and_nothing_is_written(exported, tmp_path):
    other = Store(tmp_path / "other")
    fake_ablation(other, "demo", arms={"x": 0.5}, folds=1, seeds=1)
    before = files(other)
    with pytest.raises(StoreError, match="or the same one, found one whose members differ"):
        import_study(other, exported)
    assert files(other) == before


def rewrite(path, change):
    """Rewrite the archive with its members changed; `change` gets {name: bytes} and the manifest."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    about = json.loads(members.pop(MANIFEST))
    change(members, about)
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            new.writestr(name, data) if isinstance(name, str) else new.writestr(*name, data)
        new.writestr(MANIFEST, about if isinstance(about, bytes) else json.dumps(about))


def parquet(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def put(table, rows):
    """A change that puts other rows under a table, with all checksums right."""

    def change(members, about):
        data = parquet(rows)
        members[f"{table}.parquet"] = data
        about["files"] = [file for file in about["files"] if file["table"] != table]
        about["files"].append(
            {"table": table, "rows": rows.num_rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        )

    return change


def flip(members, about):
    data = bytearray(members["trials.parquet"])
    data[len(data) // 2] ^= 1
    members["trials.parquet"] = bytes(data)


def traversal(members, about):
    members["../../evil.parquet"] = members.pop("epochs.parquet")
    next(file for file in about["files"] if file["table"] == "epochs")["table"] = "../../evil"


def link(members, about):
    info = zipfile.ZipInfo("epochs.parquet")
    info.external_attr = 0o120777 << 16
    members[info,] = members.pop("epochs.parquet")


def deflated(members, about):
    info = zipfile.ZipInfo("epochs.parquet")
    info.compress_type = zipfile.ZIP_DEFLATED
    members.pop("epochs.parquet")
    members[info,] = b"\0" * 10_000_000


HOSTILE = {
    "flipped bit": (flip, "other bytes in trials"),
    "traversal": (traversal, "table '../../evil'"),
    "link": (link, "no plain stored file"),
    "zip bomb": (deflated, "no plain stored file"),
    "extra file": (lambda m, a: m.update({"run.py": b"print(1)"}), "'run.py'"),
    "missing file": (lambda m, a: m.pop("epochs.parquet"), "'epochs.parquet'"),
    "later schema": (lambda m, a: a.update(schema_version=99), "schema version 99"),
    "no version": (lambda m, a: a.update(schema_version=None), "schema version None"),
    "other format": (lambda m, a: a.update(format="tar"), "the format 'tar'"),
    "a path for a study": (lambda m, a: a.update(study="../x"), "the study name '../x'"),
    "manifest of another kind": (lambda m, a: a.update(files=3), "a manifest that cannot be read"),
    "fewer rows": (lambda m, a: a["files"][0].update(rows=1), "rows in"),
    "larger": (lambda m, a: a["files"][0].update(bytes=1), "in place of 1"),
    "huge claim": (lambda m, a: a["files"][0].update(bytes=1 << 60), "in place of"),
    "not a number": (lambda m, a: a["files"][0].update(bytes="x"), "cannot be read"),
    "strange column": (put("epochs", pa.table({"trial_key": ["demo-0-0-0"], "evil": [1]})), "column epochs.evil"),
    "wrong type": (put("epochs", pa.table({"trial_key": ["demo-0-0-0"], "epoch": ["1"]})), "epochs.epoch of type string"),
    "rows of others": (put("epochs", pa.table({"trial_key": ["other"]})), "not the study's"),
    "no key": (put("epochs", pa.table({"trial_key": pa.array([None], pa.string())})), "not the study's"),
    "other study": (put("studies", pa.table({"study": ["other"]})), "rows of other studies"),
    "two studies": (put("studies", pa.table({"study": ["demo"] * 2})), "not one row"),
    "a path for a key": (put("members", pa.table({"study": ["demo"], "trial_key": ["../../x"]})), "'../../x'"),
    "not Parquet": (
        lambda m, a: (
            m.update({"epochs.parquet": b"PAR1"}),
            next(f for f in a["files"] if f["table"] == "epochs").update(
                bytes=4, sha256=hashlib.sha256(b"PAR1").hexdigest()
            ),
        ),
        "found in",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_one_sentence_and_writes_nothing(exported, tmp_path, name, capsys):
    change, words = HOSTILE[name]
    rewrite(exported, change)
    before = sorted(tmp_path.rglob("*"))
    assert main(["import", str(exported), f"storage.root={tmp_path / 'other'}"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err
    assert err.endswith(".\n")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["runs", "dictionary"])
def test_a_small_file_with_many_rows_is_not_unpacked(exported, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archive, "MAX_BYTES", 1 << 20)
    rows = 1_000_000 if kind == "runs" else 1000
    text = pa.array(["demo-0-0-0"] * rows)
    data = {"trial_key": text} | ({} if kind == "runs" else {"split": pa.array(["x" * 100_000] * rows)})
    rewrite(exported, put("confusion", pa.table(data)))
    assert exported.stat().st_size < 1 << 20
    with pytest.raises(StoreError, match="GiB of rows"):
        import_study(Store(tmp_path / "other"), exported)


def test_a_negative_size_pays_for_nothing(exported, tmp_path):
    def varint(value, width):
        return bytes((value >> 7 * i) & 127 | (128 if i < width - 1 else 0) for i in range(width))

    def change(members, about):
        put("confusion", pa.table({"trial_key": ["demo-0-0-0"] * 1000, "split": [f"{i:0500}" for i in range(1000)]}))(
            members, about
        )
        data = members["confusion.parquet"]
        size = pq.read_metadata(pa.BufferReader(data)).row_group(0).total_byte_size
        # Sizes stand in the footer as zigzag numbers, of which the odd ones are negative.
        width = max(1, -(-(2 * size).bit_length() // 7))
        place = data.rindex(varint(2 * size, width))
        data = data[:place] + varint(2 * size + 1, width) + data[place + width :]
        assert pq.read_metadata(pa.BufferReader(data)).row_group(0).total_byte_size < 0
        members["confusion.parquet"] = data
        about["files"][-1]["sha256"] = hashlib.sha256(data).hexdigest()

    rewrite(exported, change)
    with pytest.raises(StoreError, match="negative size"):
        import_study(Store(tmp_path / "other"), exported)


@pytest.mark.parametrize("cut", [0, 10, 0.3, 0.9, 0.999])
def test_a_cut_archive_is_refused(exported, tmp_path, cut):
    data = exported.read_bytes()
    exported.write_bytes(data[: int(cut * len(data)) if cut < 1 else cut])
    with pytest.raises(StoreError, match=r"^Expected an archive"):
        import_study(Store(tmp_path / "other"), exported)
    assert not (tmp_path / "other").exists()


def test_no_flipped_byte_goes_unseen(exported, tmp_path):
    """Each of 150 places in the file, changed: the archive is refused, or nothing that counts was changed."""
    data = exported.read_bytes()
    expected = archive.read_archive(exported)
    for place in range(0, len(data), max(1, len(data) // 150)):
        exported.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            found = archive.read_archive(exported)
        except StoreError:
            continue
        assert found[0] == expected[0], place
        assert all(found[1][name].equals(rows) for name, rows in expected[1].items()), place


def test_the_command(store, exported, tmp_path):
    def run(*arguments):
        command = [sys.executable, "-W", "error", str(ROOT / "results" / "archive.py"), *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    assert run("export", "demo", "x.zip", f"storage.root={store.root}")[0] == 0
    status, out = run("import", "x.zip", f"storage.root={tmp_path / 'other'}")
    assert (status, "4 trials, 4 of them new" in out) == (0, True)
    status, out = run("export", "dmo", "y.zip", f"storage.root={store.root}")
    assert (status, out) == (2, f"There is no study dmo in {store.root}.\n")
    assert run("import")[0] == 2
    assert run("import", "no.zip")[0] == 2
    assert run("export", "demo", "no/such/y.zip", f"storage.root={store.root}")[0] == 2
    assert list((tmp_path / "other").iterdir())


def test_content_of_a_whole_store_goes_through(tmp_path):
    first, second = Store(tmp_path / "first"), Store(tmp_path / "second")
    fake_ablation(first, folds=2, seeds=1, whole=True)
    export_study(first, "demo", tmp_path / "x.zip")
    import_study(second, tmp_path / "x.zip")
    assert content(first) == content(second)
