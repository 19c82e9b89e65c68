import csv
import io
import json

import pytest
from pyarrow import parquet

from results import Store
from results.comparison import comparison_table
from results.render import FORMATS, encode, number, render
from tests.results.fakes import fake_ablation


def test_raw_numbers_for_machines_and_rounded_ones_for_people(store):
    fake_ablation(store)
    table = comparison_table(store, "demo")
    mean = table.rows[0][table.columns.index("mean")]
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


def test_parquet_has_the_same_columns_and_types_whatever_is_missing(store):
    fake_ablation(store, "full", folds=3, seeds=2)
    fake_ablation(store, "empty", folds=1, seeds=1, skip=[("softmax", 0, 0), ("dual", 0, 0)])
    full, empty = (
        parquet.read_table(io.BytesIO(encode(comparison_table(store, name), "parquet"))).schema
        for name in ("full", "empty")
    )
    assert full.equals(empty)
    assert not [field.name for field in full if "null" in str(field.type)]


def test_the_same_rows_give_the_same_bytes_wherever_they_lie(store):
    fake_ablation(store, folds=2, seeds=2)
    before = {name: encode(comparison_table(store, "demo"), name) for name in FORMATS}
    store.compact()
    again = Store(store.root)
    assert {name: encode(comparison_table(again, "demo"), name) for name in FORMATS} == before


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
