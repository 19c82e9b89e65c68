import csv
import datetime
import io
import json
from statistics import fmean

import pytest
from pyarrow import parquet

from results import StoreError
from results.published import select
from results.render import FORMATS, encode
from results.signflips import wilcoxon
from results.stats import effect_size, mean_interval, paired_test, worse_than_best
from results.tables import comparison_table, find_study, ranking_table, render, study_table
from tests.results.fakes import START, fake_ablation, fake_search, fake_trial


def records(table):
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def values(store, arm, metric="test_accuracy"):
    """The metric of each fold, mean over its seeds."""
    rows = [row for row in store.read("trials").to_pylist() if row["arm"] == arm]
    return [fmean(row[metric] for row in rows if row["fold"] == fold) for fold in sorted({row["fold"] for row in rows})]


def test_every_cell_is_what_the_statistics_say(store):
    fake_ablation(store, arms={"softmax": 0.7, "dual": 0.8, "wide": 0.75}, folds=5, seeds=2)
    store.compact()
    rows = records(comparison_table(store, "demo"))
    assert [row["arm"] for row in rows] == ["softmax", "dual", "wide"]
    assert [(row["n"], row["planned"], row["failed"]) for row in rows] == [(10, 10, 0)] * 3
    ratio = 50 / 160
    found = store.read("trials").to_pylist()
    places = {(row["arm"], row["fold"], row["seed"]): row["test_accuracy"] for row in found}
    for row in rows:
        expected = mean_interval(values(store, row["arm"]), ratio)
        assert (row["mean"], row["low"], row["high"]) == pytest.approx(expected)
    assert rows[0]["p"] is rows[0]["difference"] is None
    ps = []
    for row in rows[1:]:
        ours, theirs = values(store, row["arm"]), values(store, "softmax")
        difference, p = paired_test(ours, theirs, ratio)
        assert (row["difference"], row["p"], row["pairs"]) == (pytest.approx(difference), pytest.approx(p), 10)
        assert row["difference_low"] < row["difference"] < row["difference_high"]
        assert (row["replicates"], row["replicated"]) == (5, "fold")
        effect = (row["effect_size"], row["effect_low"], row["effect_high"])
        assert effect == pytest.approx(effect_size(ours, theirs, ratio))
        assert row["p_wilcoxon"] == wilcoxon(ours, theirs)[1]
        assert row["improvement"] == 1.0
        runs = [[[value for (a, f, _), value in sorted(places.items()) if (a, f) == (arm, fold)] for fold in range(5)]
                for arm in (row["arm"], "softmax")]  # fmt: skip
        wins = fmean(fmean(float(x > y) for x in ours for y in theirs) for ours, theirs in zip(*runs, strict=True))
        assert row["run_improvement"] == pytest.approx(wins)
        assert "p_wilcoxon, improvement_low and improvement_high take folds as independent" in row["notes"]
        assert "new seeds on the same folds" in row["notes"]
        ps.append(p)
    for name in ("csv", "json", "parquet"):  # what the values alone would hide goes with them
        assert b"folds as independent" in encode(comparison_table(store, "demo"), name)
    assert min(row["p_holm"] for row in rows[1:]) == pytest.approx(2 * min(ps))


def test_seeds_of_one_fold_are_no_replicates_of_people(store):
    """Nine seeds make no interval narrower than the nine numbers that they are the mean of allow."""
    fake_ablation(store, folds=3, seeds=9)
    [row, _] = records(comparison_table(store, "demo"))
    assert (row["n"], row["replicates"]) == (27, 3)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx(mean_interval(values(store, "softmax"), 50 / 160))


def test_with_a_single_fold_the_seeds_replicate_and_nothing_is_corrected(store):
    fake_ablation(store, folds=1, seeds=4)
    rows = records(comparison_table(store, "demo"))
    found = [row["test_accuracy"] for row in store.read("trials").to_pylist() if row["arm"] == "softmax"]
    assert (rows[0]["replicates"], rows[0]["replicated"]) == (4, "seed")
    assert "of seeds, not of people" in rows[0]["notes"]
    assert "folds as independent" not in rows[1]["notes"]
    assert (rows[0]["mean"], rows[0]["low"], rows[0]["high"]) == pytest.approx(mean_interval(found, 0.0))


def test_the_ratio_is_the_mean_over_folds_whatever_is_missing(store):
    fake_ablation(store, folds=2, seeds=2, skip=[("dual", 1, 0), ("dual", 1, 1), ("softmax", 1, 1)])
    row = next(row for row in store.read("trials").to_pylist() if row["fold"] == 1)
    store.commit(row["trial_key"], {"trials": [row | {"test_images": 100, "retrained": 1}]})
    assert "test/train = 0.469, mean over the folds" in comparison_table(store, "demo").caption  # (50 + 100) / 2 / 160


def test_the_best_and_those_not_significantly_worse_are_marked(store):
    fake_ablation(store, arms={"softmax": 0.5, "dual": 0.8, "wide": 0.805}, folds=8, seeds=2)
    table = comparison_table(store, "demo")
    by_place = {arm: {} for arm in ("softmax", "dual", "wide")}
    for row in store.read("trials").to_pylist():
        by_place[row["arm"]][row["fold"], row["seed"]] = row["test_accuracy"]
    expected = worse_than_best(by_place, 50 / 160)
    rows = records(table)
    assert {row["arm"]: row["p_worse"] for row in rows} == pytest.approx(expected)
    assert [row["among_best"] for row in rows] == [False, True, True]
    shown = [f"{row['mean']:.3f}" for row in rows]
    for name, marked in {
        "md": "**{}**",
        "latex": r"\textbf{{{}}}",
        "html": "<strong>{}</strong>",
        "table": "{}*",
    }.items():
        text = render(table, name)
        assert [marked.format(one) in text for one in shown] == [False, True, True], name
    assert "those not significantly worse" in table.caption


def test_less_is_better_for_a_cost(store):
    fake_ablation(store, arms={"slow": 0.7, "quick": 0.8}, folds=4, seeds=1)
    for row in store.read("trials").to_pylist():
        seconds = 90.25 + row["fold"] if row["arm"] == "slow" else 30.5 + row["fold"] / 4
        store.commit(row["trial_key"], {"trials": [row | {"seconds": seconds, "retrained": 1}]})
    [study] = store.read("studies").to_pylist()
    store.write("studies", "demo", [study | {"metric": "seconds"}])
    rows = records(comparison_table(store, "demo"))
    assert [row["among_best"] for row in rows] == [False, True]
    assert rows[1]["improvement"] == 1.0
    assert "| **30.8750** |" in render(comparison_table(store, "demo"), "md")


def laid_out(store, layout, **changes):
    [study] = store.read("studies").to_pylist()
    store.write("studies", "demo", [study | {"layout": json.dumps(layout)} | changes])
    return comparison_table(store, "demo")


def test_rows_and_columns_by_factor(store):
    arms = {"4-each": 0.7, "7-each": 0.75, "4-all": 0.5, "7-all": 0.52}
    fake_ablation(
        store,
        arms=arms,
        folds=4,
        seeds=2,
        skip=[("7-all", 0, 1), *(("4-all", f, s) for f in range(4) for s in range(2))],
    )
    places = {arm: arm.split("-") for arm in arms}
    table = laid_out(store, {"rows": "slices", "columns": "width", "arms": places})
    lines = render(table, "md").splitlines()
    assert lines[0] == "| slices | each | all |"
    found = {row["arm"]: row for row in records(table)}
    mean = f"**{found['7-each']['mean']:.3f} [{found['7-each']['low']:.3f}, {found['7-each']['high']:.3f}]**"
    assert lines[3].startswith(f"| 7 | {mean} | {found['7-all']['mean']:.3f} [")
    assert lines[3].endswith("(7/8) |")
    assert lines[2].endswith("| 0/8 |")
    assert "Rows: slices; columns: width." in table.caption
    assert (found["7-all"]["row"], found["7-all"]["column"]) == ("7", "all")


def test_every_cell_knows_its_trials(store):
    fake_ablation(store, folds=2, seeds=1)
    table = comparison_table(store, "demo")
    assert records(table)[1]["trial_keys"] == ["demo-1-0-0", "demo-1-1-0"]
    assert json.loads(render(table, "json"))[1]["trial_keys"] == ["demo-1-0-0", "demo-1-1-0"]
    found = parquet.read_table(io.BytesIO(encode(table, "parquet")))
    assert found["trial_keys"].to_pylist()[1] == ["demo-1-0-0", "demo-1-1-0"]
    assert found["mean"].to_pylist() == [row["mean"] for row in records(table)]
    html = render(table, "html")
    assert f'data-trials="demo-1-0-0 demo-1-1-0"><strong>{records(table)[1]["mean"]:.3f}' in html
    assert 'data-trials="demo-1-0-0 demo-1-1-0 demo-0-0-0 demo-0-1-0">+' in html  # a difference has two arms


def test_published_numbers_stand_in_a_column_of_their_own(store):
    fake_ablation(store, arms={"softmax": 0.7, "mul_dml": 0.8}, folds=3, seeds=1, dataset="ckplus")
    ids = [one.id for one in select({"dataset": "ckplus", "metric": "test_accuracy"})]
    plain = comparison_table(store, "demo")
    [study] = store.read("studies").to_pylist()
    config = json.dumps({"dataset": {"name": "ckplus", "classes": 7}})
    store.write("studies", "demo", [study | {"published": ids, "config": config}])
    table = comparison_table(store, "demo")
    rows = records(table)
    assert rows[1]["published"] == [0.9849]
    assert "| 0.9849 |" in render(table, "md")
    dropped = ("published", "published_ids")
    ours = [{name: row[name] for name in row if name not in dropped} for row in rows[:2]]
    assert ours == [{name: row[name] for name in row if name not in dropped} for row in records(plain)]
    others = {row["arm"]: row for row in rows[2:]}
    assert others["IACNN (Liu et al. 2019)"]["published"] == [0.9537]
    assert others["IACNN (Liu et al. 2019)"]["mean"] is None
    assert "AUDB (Liu et al. 2019)" not in others  # of eight classes
    assert "nothing is computed from them" in table.caption


def test_published_numbers_of_no_arm_of_ours_stand_under_a_layout(store):
    """IDFERM needs neutral faces, which CK+ of seven classes and MMI do not have: there the ablation pretraining has no such arm."""
    arms = {
        "softmax-scratch": 0.7,
        "softmax-pretrained": 0.8,
        "tuplet_clusters-scratch": 0.7,
        "tuplet_clusters-pretrained": 0.8,
    }
    fake_ablation(store, arms=arms, folds=2, seeds=1, dataset="ckplus")
    layout = {"rows": "method", "columns": "start", "arms": {arm: arm.split("-") for arm in arms}}
    ids = [one.id for one in select({"source": "Liu et al. 2019", "table": 5})]
    config = json.dumps({"dataset": {"name": "ckplus", "classes": 7}})
    table = laid_out(store, layout, published=ids, config=config)
    lines = render(table, "md").splitlines()
    assert lines[0] == "| method | scratch | pretrained | scratch, published | pretrained, published |"
    assert lines[3].endswith("| 0.9703 | 0.9710 |")
    assert lines[4] == "| IDFERM (Liu et al. 2019) |  |  | 0.9832 | 0.9835 |"
    assert {one for row in records(table) for one in row["published_ids"]} == {one for one in ids if "ckplus7" in one}
    ids += [one.id for one in select({"id": "yang2024-ckplus7-mul_dml"})]
    lines = render(laid_out(store, layout, published=ids, config=config), "md").splitlines()
    assert lines[4] == "| Mul-DML (Yang et al. 2024) |  |  |  |  | 0.9849 |"


def test_neighbours_and_data_sets_as_columns(store):
    fake_ablation(store, arms={"softmax": 0.7, "sgm": 0.8}, folds=3, seeds=1)
    for row in store.read("trials").to_pylist():
        key, better = row["trial_key"], row["fold"] / 100
        neighbours = [
            {"trial_key": key, "split": "test", "k": k, "knn_accuracy": k / 20 + better * k} for k in (1, 4, 11)
        ]
        transfers = [{"trial_key": key, "dataset": "jaffe", "nmi": 0.25 + better}]
        changed = row | {"retrained": 1, "test_nmi": 0.5 + better, "test_knn_accuracy": 0.55 + better * 11}
        store.commit(key, {"trials": [changed], "neighbours": neighbours, "transfers": transfers})
    arms = {"softmax": ["softmax", None], "sgm": ["sgm", None]}
    table = laid_out(store, {"rows": "arm", "columns": "k", "arms": arms}, metric="test_knn_accuracy")
    assert render(table, "md").splitlines()[0] == "| arm | 1 | 4 | 11 |"
    row = next(row for row in records(table) if row["arm"] == "sgm, K = 4")
    assert row["mean"] == pytest.approx(0.2 + 0.04)
    assert row["difference"] == pytest.approx(0.24 - 0.66)  # from its own K = 11
    assert "the best of its row" in table.caption
    table = laid_out(store, {"rows": "arm", "columns": "dataset", "arms": arms}, metric="test_nmi")
    assert render(table, "md").splitlines()[0] == "| arm | synthetic | jaffe |"
    row = next(row for row in records(table) if row["arm"] == "sgm, jaffe")
    assert (row["mean"], row["difference"]) == (pytest.approx(0.26), 0.0)


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
    a, b = ([by_place[arm, 0, 1], (by_place[arm, 1, 0] + by_place[arm, 1, 1]) / 2] for arm in ("dual", "softmax"))
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


def test_replicates_that_are_all_the_same_make_no_interval_of_no_width(store):
    fake_ablation(store, folds=3, seeds=1)
    for row in store.read("trials").to_pylist():
        store.commit(row["trial_key"], {"trials": [row | {"test_accuracy": 0.25, "retrained": 1}]})
    rows = records(comparison_table(store, "demo"))
    assert [(row["mean"], row["low"], row["high"]) for row in rows] == [(0.25, None, None)] * 2
    assert (rows[1]["difference"], rows[1]["difference_low"], rows[1]["p"]) == (0.0, None, 1.0)


def test_arms_that_differ_by_the_same_in_every_fold_are_judged_by_their_signs(store):
    fake_ablation(store, folds=6, seeds=1)
    for row in store.read("trials").to_pylist():
        value = 0.25 + (row["arm"] == "dual") / 2
        store.commit(row["trial_key"], {"trials": [row | {"test_accuracy": value, "retrained": 1}]})
    table = comparison_table(store, "demo")
    rows = records(table)
    assert (rows[1]["difference"], rows[1]["difference_low"], rows[1]["p"]) == (0.5, None, 2 / 2**6)
    assert [row["among_best"] for row in rows] == [False, True]
    assert "that of their signs alone" in table.caption
    assert "their signs alone" in rows[1]["notes"]


def test_a_study_with_nothing_done_yet(store):
    fake_ablation(store, skip=[(arm, f, s) for arm in ("softmax", "dual") for f in range(3) for s in range(2)])
    rows = records(comparison_table(store, "demo"))
    assert [(row["n"], row["planned"], row["mean"]) for row in rows] == [(0, 6, None)] * 2
    for name in FORMATS:
        assert b"softmax" in encode(comparison_table(store, "demo"), name)


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
    assert "Nadeau and Bengio 2003, test/train = 0.312, mean over the folds" in caption
    assert "J = 5 folds, each the mean of its 2 seeds; n counts trainings" in caption
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
