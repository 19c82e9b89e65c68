"""The same store in S3: the same answers, and no more fetched than they take."""

import random
import re

import pytest

from results import Store, compaction, remote
from results.asking import query
from results.query import main
from results.remote import Remote
from results.schema import TABLES
from tests.results.fakes import content, fake_ablation, fake_search
from tests.results.s3_server import KEY, SECRET

pytestmark = pytest.mark.slow


@pytest.fixture
def there(s3):
    """Sends a store to S3; gives its address there."""

    def send(store, name):
        far = Remote(f"s3://bucket/{name}")
        for path in store.root.rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                far.upload(path, str(path.relative_to(store.root)))
        return far.address

    return send


@pytest.mark.parametrize("compacted", [False, True, "both"])
def test_the_same_answers(store, there, capsys, compacted):
    fake_ablation(store, folds=2, seeds=1, whole=True)
    if compacted:
        store.compact()
    if compacted == "both":
        fake_search(store, trials=4)
    far = Store(there(store, f"same-{compacted}"))
    assert not far.is_empty()
    assert content(far) == content(store)
    assert far.statuses() == store.statuses()
    for table in TABLES:
        assert sorted(map(repr, far.read(table, study="demo").to_pylist())) == sorted(
            map(repr, store.read(table, study="demo").to_pylist())
        )
        assert len(query(far, f"FROM {table}").rows) == store.read(table).num_rows
    for question in (["--table", "demo"], ["--saved", "curves"], ["--tables"], []):
        answers = []
        for root in (far.root, store.root):
            assert main([f"storage.root={root}", *question, *(["--format", "csv"] if question else [])]) == 0
            answers.append(_rounded(capsys.readouterr().out))
        assert answers[0] == answers[1]


def _rounded(text):
    """With 12 digits of every number: SQL's sums come in any order, so their last digits are anyone's."""
    return re.sub(r"\d+\.\d{12,}(e-?\d+)?", lambda number: f"{float(number[0]):.12g}", text)


def test_no_more_is_fetched_than_is_asked_for(store, there, s3, monkeypatch):
    """Of 60 studies one is read: its row groups; of the curves one column: its chunks."""
    monkeypatch.setattr(compaction, "GROUP", {"trials": 60, "members": 60})
    monkeypatch.setattr(compaction, "ROWS", 512)
    rng = random.Random(0)
    for index in range(60):
        fake_ablation(store, f"study-{index:02}", epochs=40, config="".join(rng.choices("abcdefgh", k=200_000)))
    store.compact()
    root, seen = there(store, "pruned"), s3.seen
    sizes = {path.name.split("-")[0]: path.stat().st_size for path in (store.root / "compact").iterdir()}

    def fetched(ask):
        seen.clear()
        ask(Store(root))
        found = dict.fromkeys(sizes, 0)
        for method, path, size in seen:
            if method == "GET" and "/compact/" in path:
                found[path.rsplit("/", 1)[1].split("-")[0]] += size
        return found

    one = fetched(lambda s: s.read("trials", study="study-30"))
    assert one["trials"] < sizes["trials"] / 6  # 1 of 12 row groups, the footer, and the keys there
    assert one["epochs"] == one["slices"] == one["predictions"] == 0
    narrow = fetched(lambda s: s.read("trials", ["arm", "test_accuracy"], study="study-30"))
    assert narrow["trials"] < one["trials"] / 2
    curves = fetched(lambda s: s.read("epochs", study="study-30"))
    assert 0 < curves["epochs"] < sizes["epochs"] / 4
    mean = fetched(lambda s: query(s, "SELECT avg(test_accuracy) FROM trials"))
    assert mean["trials"] < sizes["trials"] / 8
    some = fetched(lambda s: query(s, "SELECT config FROM trials WHERE study = 'study-30'"))
    assert some["trials"] < sizes["trials"] / 5
    print(
        {
            "trials": sizes["trials"],
            "one": one["trials"],
            "narrow": narrow["trials"],
            "mean": mean["trials"],
            "some": some["trials"],
        }
    )
    assert fetched(lambda s: query(s, "SELECT sum(length(config)) FROM trials"))["trials"] > sizes["trials"] / 2


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AWS_SECRET_ACCESS_KEY", "a-wrong-secret"),
        ("AWS_ACCESS_KEY_ID", "nobody"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
    ],
)
def test_what_is_wrong_is_one_sentence_without_secrets(store, there, capsys, monkeypatch, variable, value):
    fake_ablation(store, folds=1, seeds=1)
    root = there(store, "refused")
    monkeypatch.setattr(remote, "FIRST_PATIENCE", 1.0)
    monkeypatch.setenv(variable, value)
    assert main([f"storage.root={root}", "SELECT count(*) FROM trials"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("Expected to read s3://bucket/refused")
    assert not [word for word in (SECRET, KEY, value) if word in err]


def test_nothing_there(there, capsys):
    for root in ("s3://bucket/nothing", "s3://no-such-bucket/x"):
        assert main([f"storage.root={root}", "SELECT 1"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
