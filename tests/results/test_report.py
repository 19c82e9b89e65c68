import base64
import hashlib
import json
import re

import pytest

from results import report
from results.page import SECTIONS, page
from tests.results.fakes import START, fake_ablation, fake_search, fake_trial
from tests.results.outline import Outline, section

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&\u202e\x07 ]]>--></style></svg>"


def test_the_page_of_an_ablation_has_everything(store):
    fake_ablation(store, whole=True)
    text = page(store, "demo")
    outline = Outline(text)
    assert [attributes["id"] for attributes in outline.of("section")] == [
        "question",
        *(name for name, _, _ in SECTIONS),
    ]
    for name, _, _ in SECTIONS:
        if name not in ("ranks", "threshold", "slices", "diagnostics", "search", "failures"):
            assert 'class="missing"' not in re.search(f'<section id="{name}".*?</section>', text, re.DOTALL)[0], name
    assert "12 of 12 trials are done, 0 failed" in outline.text
    assert "Active: share of anchors" in section(text, "diagnostics")
    assert "No slice has its share of anchors that are judged incompletely." in section(text, "diagnostics")
    assert "demo-0-0-0" in section(text, "table")
    assert "The arms of demo" in section(text, "table")
    assert "no search" in section(text, "search")
    assert "No trial has failed." in section(text, "failures")
    # 12 trials of a minute each.
    assert "0.200 hours on other devices in 12 trials" in section(text, "cost")


def test_the_page_of_a_search_has_everything(store):
    fake_search(store, trials=30)
    text = page(store, "hunt")
    assert "Parallel coordinates" in text
    assert "mul" in section(text, "search")
    assert "Importances need a parameter that differs" not in text
    assert "RuntimeError: the loss is NaN" in section(text, "failures")
    assert "the best trial that is done is shown" in section(text, "confusion")
    assert Outline(text).of("polyline") == []


def test_the_same_store_gives_the_same_bytes(store, tmp_path):
    fake_ablation(store, whole=True)
    fake_search(store, trials=24)
    before = [page(store, study) for study in ("demo", "hunt")]
    assert [page(store, study) for study in ("demo", "hunt")] == before
    store.compact()
    assert [page(type(store)(store.root), study) for study in ("demo", "hunt")] == before


def test_data_stays_data(store):
    """Names, errors, classes and versions may hold anything: none of it becomes an element, an attribute or a script."""
    arms = {"softmax": 0.7, EVIL: 0.8}
    fake_ablation(
        store, arms=arms, whole=True, dataset=EVIL, device=EVIL, versions=EVIL, git_commit=EVIL, notes=EVIL, host=EVIL
    )
    for table, column in (("confusion", "truth_class"), ("confusion", "predicted_class"), ("embedding", "class_name")):
        assert column in store.read(table).column_names
    key = "evil-trial"
    rows = fake_trial(key, arm=EVIL, fold=7, status="failed")
    rows["trials"][0]["error"] = EVIL
    store.commit(key, rows)
    good = fake_trial("evil-classes", arm=EVIL, fold=8, whole=True)
    for row in good["confusion"]:
        row["truth_class"] = row["predicted_class"] = EVIL
    for row in good["embedding"]:
        row["class_name"] = EVIL
    store.commit("evil-classes", good)
    members = [
        {"study": "demo", "arm": EVIL, "index": 90 + i, "fold": 7 + i, "seed": 0, "trial_key": k}
        for i, k in enumerate((key, "evil-classes"))
    ]
    store.write("members", "demo-more", members)
    study = {
        "study": "demo",
        "kind": "ablation",
        "ablation": EVIL,
        "baseline": EVIL,
        "metric": "test_accuracy",
        "created_at": START,
    }
    config = json.dumps({"ablation": {"question": EVIL}})
    store.write("studies", "demo", [study | {"config": config, "overrides": [EVIL], "git_commit": EVIL}])
    outline = Outline(page(store, "demo"))
    assert len(outline.of("script")) == 1
    assert not outline.of("img")
    for tag, attributes in outline.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src")], (tag, attributes)
        assert attributes.get("href", "#").startswith(("#", "data:,"))
    shown = EVIL.replace("\u202e", "\ufffd").replace("\x07", "\ufffd")
    assert outline.text.count(shown) > 8


def test_a_hostile_search_and_a_hostile_name_stay_data(store, tmp_path):
    fake_search(store, trials=12)
    for index, member in enumerate(sorted(store.read("members").to_pylist(), key=lambda row: row["index"])):
        parameters = json.dumps({EVIL: EVIL[index % 3 :], "n": index})
        store.write("members", f"hunt-{index}", [member | {"study": EVIL, "parameters": parameters}])
    store.write("studies", "hunt", [{"study": EVIL, "kind": "search", "metric": "val_accuracy", "created_at": START}])
    outline = Outline(page(store, EVIL))
    assert len(outline.of("script")) == 1
    assert not outline.of("img")
    with pytest.raises(report.StoreError, match="makes no folder"):
        report.write_report(store, EVIL)
    assert report.write_report(store, EVIL, tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_nothing_may_be_loaded_and_the_hashes_fit(store):
    fake_ablation(store, folds=1, seeds=1)
    text = page(store, "demo")
    policy = Outline(text).of("meta")[1]["content"]
    assert "default-src 'none'" in policy
    for kind in ("style", "script"):
        content = re.search(f"<{kind}>(.*?)</{kind}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert "url(" not in text


def test_what_is_missing_is_said(store):
    fake_ablation(store, skip=[("dual", 0, 0), ("dual", 1, 0), ("softmax", 2, 1)])
    text = page(store, "demo")
    assert "9 of 12 trials are done, 0 failed; 3 not begun or not ended" in Outline(text).text
    assert "train with evaluation.tsne=true" in section(text, "map")
    assert "No trial has distances" in section(text, "distances")
    assert "no arms that differ in a single threshold" in section(text, "threshold")
    assert "no arms that differ in their number of slices" in section(text, "slices")
    assert "No question is noted" in section(text, "question")


def test_a_study_without_any_trial_has_a_page(store):
    everything = [(arm, fold, seed) for arm in ("softmax", "dual") for fold in range(3) for seed in range(2)]
    fake_ablation(store, skip=everything)
    text = page(store, "demo", live=True)
    Outline(text)
    assert "0 of 12 trials are done" in text
    for name in ("threshold", "slices", "curves", "confusion", "distances", "map", "diagnostics", "provenance", "cost"):
        assert 'class="missing"' in re.search(f'<section id="{name}".*?</section>', text, re.DOTALL)[0], name
    store.write(
        "studies", "empty", [{"study": "empty", "kind": "search", "metric": "val_accuracy", "created_at": START}]
    )
    assert "No trial is planned yet." in page(store, "empty")


def test_a_study_whose_trials_all_failed_has_a_page(store):
    for key in ("a", "b"):
        store.commit(key, fake_trial(key, arm="softmax", status="failed", epochs=0))
    members = [
        {"study": "demo", "arm": "softmax", "index": i, "fold": i, "seed": 0, "trial_key": key}
        for i, key in enumerate("ab")
    ]
    store.write("members", "demo", members)
    store.write(
        "studies",
        "demo",
        [{"study": "demo", "kind": "method", "metric": "test_accuracy", "config": "{}", "created_at": START}],
    )
    text = page(store, "demo", live=True)
    assert "0 of 2 trials are done, 2 failed" in text
    assert "refresh" not in text
    assert re.search(r"RuntimeError: the loss is NaN 2 softmax", section(text, "failures"))


def test_only_a_live_page_that_is_unfinished_looks_again(store):
    fake_ablation(store, skip=[("dual", 0, 0)])
    assert '<meta http-equiv="refresh" content="30">' in page(store, "demo", live=True)
    assert "refresh" not in page(store, "demo")
    store.commit("demo-1-0-0", fake_trial("demo-1-0-0", arm="dual"))
    assert page(store, "demo", live=True) == page(store, "demo")
    assert "refresh" not in page(store, "demo")


def test_a_search_is_unfinished_until_it_has_as_many_trials_as_asked_for(store):
    fake_search(store, trials=5)
    row = {"study": "hunt", "kind": "search", "metric": "val_accuracy", "created_at": START}
    store.write("studies", "hunt", [row | {"config": json.dumps({"search": {"trials": 8}})}])
    text = page(store, "hunt", live=True)
    assert "3 not begun or not ended" in text
    assert "refresh" in text


def test_the_question_the_best_and_the_layout_are_those_of_the_study(store):
    fake_ablation(store, whole=True, test_knn_accuracy=0.5)
    study = store.read("studies").to_pylist()[0]
    layout = {"rows": "loss", "columns": "width", "arms": {"softmax": ["none", "64"], "dual": ["dual", "64"]}}
    store.write("studies", "demo", [study | {"question": "Does it help?", "layout": json.dumps(layout)}])
    text = page(store, "demo")
    assert "Does it help?" in section(text, "question")
    assert "Rows: loss; columns: width." in section(text, "table")
    assert len(re.findall("<summary[^>]*><strong>0.8", text)) == 1
    # Along K, which every trial measures, there is a mean for each K.
    layout = {"rows": "arm", "columns": "k", "arms": {}}
    store.write("studies", "demo", [study | {"layout": json.dumps(layout), "metric": "test_knn_accuracy"}])
    assert "dual, K = 11 (n = 6)" in section(page(store, "demo"), "table")


def test_paper_is_marked(store):
    fake_ablation(store, protocol="paper")
    text = section(page(store, "demo"), "table")
    assert "softmax †" in text
    assert "the epoch was picked on the test fold" in text


def test_every_cell_of_its_tables_names_its_trials(store):
    fake_ablation(store, folds=2, seeds=1)
    text = re.search('<section id="table".*?</section>', page(store, "demo"), re.DOTALL)[0]
    first, second = re.findall("<tr><th scope=.row.*?</tr>", text)[:2]
    # The trials of the arm unfold at its n, those of both arms at the difference; the other cells name them in their title.
    assert re.findall('<div class="keys">(.*?)</div>', first) == ["demo-0-0-0<br>demo-0-1-0"]
    both = "demo-1-0-0<br>demo-1-1-0<br>demo-0-0-0<br>demo-0-1-0"
    assert re.findall('<div class="keys">(.*?)</div>', second) == ["demo-1-0-0<br>demo-1-1-0", both]
    titles = re.findall('title="(.*?)"', second)
    assert titles == 3 * ["2 trials: demo-1-0-0 demo-1-1-0"] + 4 * [
        "4 trials: demo-1-0-0 demo-1-1-0 demo-0-0-0 demo-0-1-0"
    ]
    assert "<strong>" in first + second


def test_the_command_writes_and_says_where(store, tmp_path, capsys):
    fake_ablation(store, folds=2, seeds=1)
    root = f"storage.root={store.root}"
    assert report.main(["loss_form", root]) == 0
    path = store.root / "reports" / "demo" / "report.html"
    assert capsys.readouterr().out == f"{path}\n"
    assert path.read_text(encoding="utf-8") == page(store, "demo")
    assert report.main(["demo", root, "--output", str(tmp_path / "x" / "page.html")]) == 0
    assert (tmp_path / "x" / "page.html").read_bytes() == path.read_bytes()
    assert not list(path.parent.glob("*.tmp"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Expected one study, found none."),
        (["a", "b"], "Expected one study, found a and b."),
        (["demi"], "There is no ablation or study demi"),
        (["demo", "storag.root=x"], "There is no setting storag.root; there is storage.root."),
        (["demo", "--outptu", "x"], "Unrecognized arguments: --outptu x"),
        (["demo", "--output", "file/x.html"], "Expected a file that can be written, found file/x.html"),
    ],
)
def test_bad_input_is_one_sentence(store, tmp_path, monkeypatch, capsys, arguments, message):
    fake_ablation(store, folds=1, seeds=1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    given = arguments if "storag.root=x" in arguments else [*arguments, f"storage.root={store.root}"]
    assert report.main(given) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_an_empty_store_is_told(tmp_path, capsys):
    assert report.main(["demo", f"storage.root={tmp_path / 'none'}"]) == 2
    assert "There are no results in" in capsys.readouterr().err
