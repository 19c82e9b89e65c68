import datetime
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from results.schema import TABLES, TRIAL_TABLES, markdown, table_of
from tests.results.fakes import fake_trial

ROOT = Path(__file__).resolve().parents[2]


def test_every_column_has_a_type_and_a_meaning_and_a_name_of_its_own():
    for table in TABLES.values():
        names = [column.name for column in table.columns]
        assert len(set(names)) == len(names)
        assert all(column.meaning and isinstance(column.type, pa.DataType) for column in table.columns)
    assert TRIAL_TABLES[0] == "trials"


def test_columns_that_outside_checks_rely_on_are_there():
    columns = set(TABLES["trials"].schema.names)
    assert columns >= {"trial_key", "study", "arm", "method", "form", "slices", "thresholds", "dataset", "fold", "seed"}
    assert columns >= {"protocol", "status", "error", "epochs", "seconds"}
    assert columns >= {"val_accuracy", "test_accuracy", "val_balanced_accuracy", "test_balanced_accuracy"}


def test_missing_columns_become_null_and_unknown_ones_are_an_error():
    table = table_of("trials", [{"trial_key": "a", "fold": 1}])
    assert table.schema == TABLES["trials"].schema
    assert table["fold"].to_pylist() == [1]
    assert table["seconds"].to_pylist() == [None]
    with pytest.raises(KeyError, match="no column acuracy"):
        table_of("trials", [{"trial_key": "a", "acuracy": 1.0}])
    with pytest.raises(KeyError):
        table_of("trails", [])


@pytest.mark.parametrize(
    ("column", "value"), [("fold", "one"), ("fold", 1.5), ("fold", float("nan")), ("fold", 2**40), ("thresholds", 0.5)]
)
def test_a_value_of_another_type_names_its_column(column, value):
    with pytest.raises(TypeError, match=f"trials.{column}"):
        table_of("trials", [{"trial_key": "a", column: value}])


def test_numpy_scalars_and_other_time_zones_are_taken():
    zone = datetime.timezone(datetime.timedelta(hours=2))
    row = {"fold": np.int64(3), "seconds": np.float32(0.5), "ended_at": datetime.datetime(2026, 1, 1, 2, tzinfo=zone)}
    found = table_of("trials", [row]).to_pylist()[0]
    assert (found["fold"], found["seconds"]) == (3, 0.5)
    assert found["ended_at"] == datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def test_the_fakes_fit_the_schema():
    for name, rows in fake_trial("k", whole=True).items():
        assert table_of(name, rows).num_rows == len(rows)


def test_the_documentation_comes_from_the_same_list():
    printed = subprocess.run(
        [sys.executable, "-W", "error", "-m", "results.schema"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert printed.stdout == markdown() + "\n"
    assert "| test_recall_at_32 | double | fraction |" in printed.stdout
