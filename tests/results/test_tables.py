import csv
import datetime
import io
import json

import pytest

from results import Store, StoreError
from results.render import FORMATS, number
from results.stats import mean_interval, paired_test
from results.tables import comparison_table, find_study, ranking_table, render, study_table
from tests.results.fakes import START, fake_ablation, fake_search, fake_trial


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "tables")


def records(table):
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def values(store, arm, metric="test_accuracy"):
    rows = store.read("trials").to_pylist()
    return [row[metric] for row in sorted(rows, key=lambda r: (r["fold"], r["seed"])) if row["arm"] == arm]


def test_every_cell_is_what_the_statistics_say(store):
    fake_ablation(store, arms={"softmax": 0.7, "dual": 0.8, "wide": 0.75}, folds=5, seeds=2)
    store.compact()
    rows = records(comparison_table(store, "demo"))
    assert [row["arm"] for row in rows] == ["softmax", "dual", "wide"]
    assert [(row["n"], row["planned"], row["failed"]) for row in rows] == [(10, 10, 0)] * 3
    ratio = 50 / 160
    for row in rows:
        expected = mean_interval(values(store, row["arm"]), ratio)
        assert (row["mean"], row["low"], row["high"]) == pytest.approx(expected)
    assert rows[0]["p"] is rows[0]["difference"] is None
    ps = []
    for row in rows[1:]:
        difference, p = paired_test(values(store, row["arm"]), values(store, "softmax"), ratio)
        assert (row["difference"], row["p"], row["pairs"]) == (pytest.approx(difference), pytest.approx(p), 10)
        assert row["difference_low"] < row["difference"] < row["difference_high"]
        ps.append(p)
    assert min(row["p_holm"] for row in rows[1:]) == pytest.approx(2 * min(ps))


def test_missing_and_failed_trials_are_counted_and_pairs_are_by_fold_and_seed(store):
    fake_ablation(store, skip=[("softmax", 0, 0), ("dual", 2, 1), ("dual", 2, 0)])
    store.commit("demo-1-2-0", fake_trial("demo-1-2-0", arm="dual", fold=2, status="failed"))
    table = comparison_table(store, "demo")
    softmax, dual = records(table)
    assert (softmax["n"], softmax["planned"], softmax["failed"]) == (5, 6, 0)
    assert (dual["n"], dual["failed"], dual["pairs"]) == (4, 1, 3)
    by_place = {
        (row["arm"], row["fold"], row["seed"]): row["test_accuracy"] for row in store.read("trials").to_pylist()
    }
    pairs = [(0, 1), (1, 0), (1, 1)]
    a, b = ([by_place[(arm, *pair)] for pair in pairs] for arm in ("dual", "softmax"))
    assert dual["p"] == pytest.approx(paired_test(a, b, 50 / 160)[1])
    shown = render(table, "md")
    assert "| 4/6 (1 failed) |" in shown
    assert "(3 pairs)" in shown
    assert "3 of 12 planned trials are not done (1 failed)." in shown


def test_one_trial_per_arm_has_no_interval_and_no_p(store):
    fake_ablation(store, folds=1, seeds=1)
    rows = records(comparison_table(store, "demo"))
    assert all(row["low"] is row["high"] is row["p"] is row["p_holm"] is None for row in rows)
    assert rows[1]["difference"] is not None
    assert "| 1/1 |" in render(comparison_table(store, "demo"), "md")


def test_a_study_with_nothing_done_yet(store):
    fake_ablation(store, skip=[(arm, f, s) for arm in ("softmax", "dual") for f in range(3) for s in range(2)])
    rows = records(comparison_table(store, "demo"))
    assert [(row["n"], row["planned"], row["mean"]) for row in rows] == [(0, 6, None)] * 2
    for name in FORMATS:
        assert "softmax" in render(comparison_table(store, "demo"), name)


def test_trials_of_another_study_count_where_they_are_members(store):
    fake_ablation(store, "first", folds=2, seeds=2)
    members = store.read("members", study="first").to_pylist()
    again = [{**row, "study": "second", "arm": f"again {row['arm']}"} for row in members]
    store.write("members", "second", again)
    store.write("studies", "second", [{"study": "second", "kind": "ablation", "baseline": "again softmax"}])
    first, second = (records(comparison_table(store, study)) for study in ("first", "second"))
    assert [row["arm"] for row in second] == ["again softmax", "again dual"]
    assert [row["mean"] for row in first] == [row["mean"] for row in second]


def test_the_paper_protocol_is_marked_everywhere(store):
    fake_ablation(store, protocol="paper")
    table = comparison_table(store, "demo")
    assert {row["protocol"] for row in records(table)} == {"paper"}
    assert "| softmax † |" in render(table, "md")
    assert r"softmax \dag{} &" in render(table, "latex")
    assert "picked on the test fold" in table.caption
    fake_ablation(store, "honest")
    assert "†" not in render(comparison_table(store, "honest"), "md")


def test_the_caption_says_what_the_numbers_are(store):
    fake_ablation(store, folds=5, seeds=2)
    caption = comparison_table(store, "demo").caption
    for part in ("demo", "synthetic", "5 folds × 2 seeds", "protocol sealed", "3 epochs", "test accuracy", "95 %"):
        assert part in caption
    assert "Nadeau and Bengio 2003, test/train = 0.312" in caption
    fake_ablation(store, "single", folds=1, seeds=3)
    assert "1 fold × 3 seeds" in comparison_table(store, "single").caption
    assert "spread seen is that of seeds" in comparison_table(store, "single").caption


def test_the_metric_of_the_study_decides(store):
    fake_ablation(store)
    [row] = store.read("studies").to_pylist()
    store.write("studies", "demo", [{**row, "metric": "val_accuracy"}])
    table = comparison_table(store, "demo")
    assert records(table)[0]["mean"] == pytest.approx(mean_interval(values(store, "softmax", "val_accuracy"), 1)[0])
    assert "test/train = 0.250" in table.caption
    store.write("studies", "demo", [{**row, "metric": "acuracy"}])
    with pytest.raises(StoreError, match="acuracy, which is no column of trials"):
        comparison_table(store, "demo")


def test_names(store):
    fake_ablation(store, "old", folds=1, seeds=1)
    fake_ablation(store, "new", folds=1, seeds=1)
    fake_search(store, trials=2)
    [row] = store.read("studies", study="new").to_pylist()
    store.write("studies", "new", [{**row, "created_at": START + datetime.timedelta(days=1)}])
    assert find_study(store, "loss_form") == "new"
    assert find_study(store, "loss_form", "old") == "old"
    assert find_study(store, "hunt") == "hunt"
    for wrong in (("loss_forms", ""), ("loss_form", "hunt"), ("hnt", "")):
        with pytest.raises(StoreError, match="; there is "):
            find_study(store, *wrong)
    with pytest.raises(StoreError, match="There is no study lost"):
        comparison_table(store, "lost")


def test_a_search_is_ranked_with_its_parameters(store):
    fake_search(store, trials=30)
    table = study_table(store, "hunt")
    assert table == ranking_table(store, "hunt")
    found = [row["val_accuracy"] for row in records(table)]
    assert len(found) == 20
    assert found == sorted(found, reverse=True)
    every = [row["val_accuracy"] for row in store.read("trials").to_pylist() if row["val_accuracy"] is not None]
    assert found[0] == max(every)
    assert records(table)[0]["parameters"]["method"] == "mul_dml"
    header = render(table, "md").splitlines()[0]
    assert header == "| rank | trial | val accuracy | status | epochs | seconds | method | method.slices |"
    assert json.loads(next(csv.DictReader(io.StringIO(render(table, "csv"))))["parameters"])["method"] == "mul_dml"


def test_raw_numbers_for_machines_and_rounded_ones_for_people(store):
    fake_ablation(store)
    table = comparison_table(store, "demo")
    mean = records(table)[0]["mean"]
    assert json.loads(render(table, "json"))[0]["mean"] == mean
    assert float(next(csv.DictReader(io.StringIO(render(table, "csv"))))["mean"]) == mean
    assert f"| {mean:.3f} |" in render(table, "md")
    assert str(mean) not in render(table, "md")


def test_latex_is_escaped_and_has_its_rules(store):
    fake_ablation(store, arms={r"100% of_a & {b} \c": 0.7, "~^#$": 0.8})
    latex = render(comparison_table(store, "demo"), "latex")
    assert r"100\% of\_a \& \{b\} \textbackslash{}c &" in latex
    assert r"\textasciitilde{}\textasciicircum{}\#\$ &" in latex
    assert [latex.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption")] == [1, 1, 1, 1]
    assert latex.isascii()


def test_markdown_keeps_its_columns(store):
    fake_ablation(store, arms={"a|b": 0.7, "c\nd": 0.8})
    lines = [line for line in render(comparison_table(store, "demo"), "md").splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert {line.replace(r"\|", "").count("|") for line in lines} == {9}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.86127, "0.8613"), (0.0, "0"), (1.0, "1"), (123456.78, "123456.8"), (1.5e-7, "1.5e-07"), (float("nan"), "nan")],
)
def test_numbers_for_people(value, shown):
    assert number(value) == shown
