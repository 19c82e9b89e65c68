"""Tables across studies, from the command's --table."""

import json
import re
from statistics import fmean
from xml.etree import ElementTree

import pytest

from results import Store, StoreError
from results.page.ranked import AXIS, chart
from results.page.svg import at
from results.query import main as query
from results.ranks import Ranked, cliques, critical_difference
from results.render import FORMATS, encode, render
from results.stats import holm, mean_interval
from results.tables import named_table
from results.winners_curse import expected_maximum
from tests.results.fakes import START, fake_ablation, fake_trial


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "tables")


def records(table):
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def commit(store, key, accuracy, *, seed=0, search=None, protocol="sealed", **changes):
    spec = {
        "seed": seed,
        "search": search,
        "protocol": protocol,
        "fold": changes.get("fold", 0),
        "study": "s",
        "arm": key,
    }
    spec["validation_fraction"] = 0.0 if protocol == "paper" else 0.1
    spec["options"] = changes.pop("options", {})
    store.commit(
        key, fake_trial(key, accuracy=accuracy, seed=seed, protocol=protocol, config=json.dumps(spec), **changes)
    )


def test_optimism_pairs_the_same_trials_under_both_protocols(store):
    gains = {(0, 0): 0.03, (0, 1): 0.05, (1, 0): 0.01, (1, 1): 0.03}
    for (fold, seed), gain in gains.items():
        commit(store, f"sealed{fold}{seed}", 0.7, fold=fold, seed=seed)
        commit(store, f"paper{fold}{seed}", 0.7 + gain, fold=fold, seed=seed, protocol="paper")
    commit(store, "alone", 0.9, fold=0, options={"weight": 2})
    [row] = records(named_table(store, "optimism"))
    assert (row["n"], row["sealed"], row["paper"]) == (4, pytest.approx(0.7), pytest.approx(0.73))
    expected = mean_interval([0.04, 0.02], 50 / 160)
    assert (row["optimism"], row["low"], row["high"]) == pytest.approx(expected)
    assert len(row["trial_keys"]) == 8
    assert "picked on the test" in named_table(store, "optimism").caption
    assert "of a single fold: over its seeds" in named_table(store, "optimism").caption
    for name in FORMATS:
        assert encode(named_table(store, "optimism"), name)


def test_only_trials_that_could_be_a_pair_have_their_configurations_read(store):
    """Of a million trials that takes longer than all else: what columns tell apart is not parsed, or this would be an error."""
    for fold in (0, 1):
        commit(store, f"sealed{fold}", 0.7, fold=fold)
        commit(store, f"paper{fold}", 0.75 + fold / 50, fold=fold, protocol="paper")
    fake_ablation(store, "other", dataset="mmi", config="no JSON")
    assert [row["n"] for row in records(named_table(store, "optimism"))] == [2]


def test_the_best_of_a_search_against_fresh_seeds(store):
    for index, accuracy in enumerate((0.6, 0.9, 0.7)):
        commit(store, f"hunt{index}", accuracy, search="hunt", options={"weight": index}, study="hunt")
        member = {
            "study": "hunt",
            "arm": f"hunt{index}",
            "index": index,
            "fold": 0,
            "seed": 0,
            "trial_key": f"hunt{index}",
        }
        store.write("members", f"hunt-{index}", [member])
    store.write("studies", "hunt", [{"study": "hunt", "kind": "search", "metric": "val_accuracy", "created_at": START}])
    with pytest.raises(StoreError, match="fresh seeds"):
        named_table(store, "winners_curse")
    for seed, accuracy in ((1, 0.8), (2, 0.82), (3, 0.84)):
        commit(store, f"fresh{seed}", accuracy, seed=seed, options={"weight": 1})
    commit(store, "other", 0.1, seed=4, options={"weight": 0})
    commit(store, "same", 0.1, seed=0, options={"weight": 1})  # the seed that the search chose by
    [row] = records(named_table(store, "winners_curse"))
    assert (row["best"], row["fresh"], row["fresh_runs"]) == (pytest.approx(0.91), pytest.approx(0.83), 3)
    assert row["optimism"] == pytest.approx(0.08)
    assert row["trial_keys"] == ["hunt1", "fresh1", "fresh2", "fresh3"]
    assert render(named_table(store, "winners_curse", "hunt"), "md").startswith("| search |")


def test_ranks_over_data_sets(store):
    arms = {"softmax": 0.5, "dual": 0.7, "mul": 0.9}
    for name in ("ckplus", "mmi", "jaffe"):
        fake_ablation(store, name, arms=arms, folds=2, seeds=1, dataset=name)
    fake_ablation(store, "first", arms={"softmax": 0.9, "dual": 0.7, "mul": 0.5}, folds=2, seeds=1, dataset="ckplus")
    [row] = store.read("studies", study="first").to_pylist()
    store.write("studies", "first", [row | {"created_at": START.replace(year=2020)}])  # an earlier study of ckplus
    table = named_table(store, "ranks")
    rows = records(table)
    assert [(row["arm"], row["rank"]) for row in rows] == [("mul", 1.0), ("dual", 2.0), ("softmax", 3.0)]
    values = [row["test_accuracy"] for row in store.read("trials", study="mmi").to_pylist() if row["arm"] == "mul"]
    assert rows[0]["mmi"] == pytest.approx(fmean(values))
    assert [row["in_best_group"] for row in rows] == [True, True, False]  # the critical difference is 1.91
    assert "**1.00**" in render(table, "md")
    assert "is 1.91 ranks" in table.caption
    assert named_table(store, "ranks", "loss_form") == table
    assert "not done" not in table.caption
    fake_ablation(store, "oulu", arms=arms, folds=2, seeds=1, dataset="oulu_casia", skip=[("mul", 1, 0)])
    assert "1 of 24 planned trials are not done" in named_table(store, "ranks").caption


def test_optimism_is_corrected_for_the_number_of_arms(store):
    for arm, gain in (("one", 0.01), ("two", 0.02), ("three", 0.004)):
        for fold, more in enumerate((0.0, 0.002, 0.005)):
            commit(store, f"sealed-{arm}{fold}", 0.7, fold=fold, options={"arm": arm})
            commit(store, f"paper-{arm}{fold}", 0.7 + gain + more, fold=fold, options={"arm": arm}, protocol="paper")
    rows = records(named_table(store, "optimism"))
    assert [row["p_holm"] for row in rows] == pytest.approx(holm([row["p"] for row in rows]))
    assert min(row["p_holm"] for row in rows) == pytest.approx(3 * min(row["p"] for row in rows))


def test_trials_that_a_search_stopped_are_trials_that_it_tried(store):
    statuses = ("done", "stopped", "stopped", "done", "failed")
    for index, status in enumerate(statuses):
        key = f"hunt{index}"
        commit(store, key, 0.5 + index / 10, search="hunt", options={"weight": index}, study="hunt", status=status)
        member = {"study": "hunt", "arm": key, "index": index, "fold": 0, "seed": 0, "trial_key": key}
        store.write("members", f"hunt-{index}", [member])
    store.write("studies", "hunt", [{"study": "hunt", "kind": "search", "metric": "val_accuracy", "created_at": START}])
    for seed in (1, 2):
        commit(store, f"fresh{seed}", 0.7 + seed / 100, seed=seed, options={"weight": 3})
    [row] = records(named_table(store, "winners_curse"))
    assert (row["best_key"], row["trials"], row["stopped"]) == ("hunt3", 4, 2)
    assert row["luck"] == pytest.approx(0.01 / 2**0.5 * expected_maximum(4))
    assert row["sentence"].startswith("The best of 4 trials (2 stopped early)")


def test_a_proposal_of_several_folds_is_compared_with_seeds_on_all_of_them(store):
    for index in (0, 1):
        for fold in (0, 1):
            key = f"hunt{index}{fold}"
            accuracy = 0.5 + index / 10 + fold / 50
            commit(store, key, accuracy, search="hunt", options={"weight": index}, study="hunt", fold=fold)
            member = {"study": "hunt", "arm": key, "index": index, "fold": fold, "seed": 0, "trial_key": key}
            store.write("members", f"hunt-{key}", [member])
    config = json.dumps({"search": {"folds": 2, "seeds": 1}})
    study = {"study": "hunt", "kind": "search", "metric": "val_accuracy", "created_at": START, "config": config}
    store.write("studies", "hunt", [study])
    for seed, folds in ((1, (0, 1)), (2, (0, 1)), (3, (0,))):
        for fold in folds:
            commit(store, f"fresh{seed}{fold}", 0.55 + seed / 100, seed=seed, fold=fold, options={"weight": 1})
    [row] = records(named_table(store, "winners_curse"))
    assert (row["trials"], row["fresh_runs"]) == (2, 2)
    assert (row["best"], row["fresh"]) == (pytest.approx(0.62), pytest.approx(0.575))  # val is test + 0.01
    assert row["trial_keys"] == ["hunt10", "hunt11", "fresh10", "fresh11", "fresh20", "fresh21"]


def rename(store, study, **changes):
    [row] = store.read("studies", study=study).to_pylist()
    store.write("studies", study, [row | changes])


def test_data_sets_of_one_name_are_told_apart_by_what_they_hold(store):
    for classes, better in ((7, 0.0), (8, 0.05)):
        name = f"ck{classes}"
        fake_ablation(
            store,
            name,
            arms={"softmax": 0.6, "dual": 0.8 + better},
            folds=2,
            seeds=1,
            dataset="ckplus",
            data_fingerprint=name,
        )
        rename(
            store,
            name,
            config=json.dumps({"dataset": {"name": "ckplus", "classes": classes, "root": f"/faces/{classes}"}}),
        )
    table = named_table(store, "ranks")
    assert table.columns[3:5] == ("ckplus (classes 7)", "ckplus (classes 8)")
    assert records(table)[0]["data_sets"] == 2
    assert "share faces" in table.caption


def test_an_ablation_without_a_name_is_ranked_with_no_other(store):
    for name in ("ckplus", "mmi"):
        fake_ablation(store, name, folds=2, seeds=1, dataset=name)
        rename(store, name, ablation=None)
    with pytest.raises(StoreError, match="found none"):
        named_table(store, "ranks")
    fake_ablation(store, "named", folds=2, seeds=1, dataset="jaffe")
    with pytest.raises(StoreError, match="found loss_form on one"):
        named_table(store, "ranks")


def test_wilcoxon_over_data_sets_stands_beside_the_ranks(store):
    arms = {"softmax": 0.5, "dual": 0.7, "mul": 0.9}
    for name in ("ckplus", "mmi", "jaffe", "sfew", "rafdb", "fer2013"):
        fake_ablation(store, name, arms=arms, folds=2, seeds=1, dataset=name)
    rows = {row["arm"]: row for row in records(named_table(store, "ranks"))}
    assert rows["softmax"]["p_wilcoxon"] is None
    assert rows["dual"]["p_wilcoxon"] == 2 / 2**6
    assert rows["mul"]["p_wilcoxon_holm"] == 4 / 2**6
    assert rows["mul"]["wilcoxon_against"] == "softmax"


def test_the_diagram_has_every_arm_at_its_rank():
    """Demsar 2006, section 3.2.2: at 0.10 CD = 1.12, and C4.5 is worse than both that tune m; for C4.5+cf the data do not suffice."""
    ranks = {"C4.5": 3.143, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}
    difference = critical_difference(4, 14, 0.10)
    groups = cliques(ranks, difference)
    assert groups == [["C4.5+m+cf", "C4.5+m", "C4.5+cf"], ["C4.5+cf", "C4.5"]]
    drawn = chart(Ranked("trees", 14, ranks, difference, groups))
    svg = drawn.svg()
    for name, rank in ranks.items():
        assert f">{name}  {rank:.2f}</text>" in svg
        assert f'd="M{at(drawn.x(rank))} {at(AXIS)}L{at(drawn.x(rank))} ' in svg
    assert drawn.x(1) > drawn.x(4)  # the best is on the right
    [bar] = re.findall(r'class="interval s1" d="M([\d.]+) 26L([\d.]+) 26"', svg)
    assert float(bar[1]) - float(bar[0]) == pytest.approx(difference * (drawn.x(1) - drawn.x(2)), abs=0.2)
    assert len(re.findall("clique", svg)) == 2


def test_the_diagram_is_a_file_of_its_own(store, tmp_path, capsys):
    for name in ("ckplus", "mmi"):
        fake_ablation(store, name, folds=2, seeds=1, dataset=name)
    file = tmp_path / "ranks.svg"
    assert query(["--table", "ranks", "--format", "svg", "--output", str(file), f"storage.root={store.root}"]) == 0
    root = ElementTree.parse(file).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "dual  1.00" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert query(["--table", "ckplus", "--format", "svg", f"storage.root={store.root}"]) == 2
    assert "has no picture" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "word"), [("optimism", "protocol=paper"), ("ranks", "two data sets"), ("winners_curse", "seeds=5")]
)
def test_what_is_not_there_is_one_sentence(store, name, word):
    fake_ablation(store)
    with pytest.raises(StoreError, match=word):
        named_table(store, name)
