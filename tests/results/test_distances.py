import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from results import Store, StoreError
from results.distances import (
    BINS,
    density,
    distances_table,
    distributions,
    summary,
    wasserstein,
    wasserstein_matrix,
    wasserstein_table,
)
from tests.results.fakes import fake_ablation, fake_distances

MIDDLES = np.arange(BINS) * 0.02 + 0.01


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "tables")
    fake_ablation(store, arms={"softmax": 0.7, "dual": 0.8}, folds=2, seeds=1, whole=True)
    return store


def drawn(seed, mean, spread=0.2, count=5000):
    values = np.random.default_rng(seed).normal(mean, spread, count).clip(0, 1.999)
    return values, np.histogram(values, BINS, (0, 2))[0].tolist()


def test_wasserstein_equals_scipys():
    (_, one), (_, other) = drawn(0, 0.8), drawn(1, 1.1, 0.3)
    expected = wasserstein_distance(MIDDLES, MIDDLES, one, other)
    assert wasserstein(one, other) == pytest.approx(expected)
    assert wasserstein(other, one) == pytest.approx(expected)
    assert wasserstein(one, [2 * count for count in one]) == pytest.approx(0)


def test_wasserstein_of_two_points_is_their_distance():
    one, other = [0] * BINS, [0] * BINS
    one[10], other[35] = 3, 7
    assert wasserstein(one, other) == pytest.approx(0.5)


def test_the_density_has_the_area_one():
    assert sum(density(drawn(0, 0.8)[1])) * 0.02 == pytest.approx(1)


def test_the_summary_comes_near_that_of_the_values():
    values, counts = drawn(0, 0.8)
    found = summary(counts)
    assert found["mean"] == pytest.approx(values.mean(), abs=1e-3)
    assert found["std"] == pytest.approx(values.std(), abs=1e-3)
    assert (found["p5"], found["p95"]) == pytest.approx(np.percentile(values, (5, 95)), abs=5e-3)
    alone = [0] * BINS
    alone[99] = 1
    assert 1.98 <= summary(alone)["p5"] <= summary(alone)["p95"] <= 2


def test_the_distributions_of_an_arm_are_pooled_over_its_trials(store):
    found = distributions(store, "demo")
    assert [one.name for one in found] == ["softmax, slice 1", "softmax, slice 2", "dual, slice 1", "dual, slice 2"]
    assert [one.threshold for one in found] == [0.15, 0.45] * 2
    for one in found:
        for kind in ("inter", "intra"):
            of_one = fake_distances("k", "test", one.slice, one.threshold, kind)["counts"]
            assert one.counts[kind] == [2 * count for count in of_one]
    assert len(distributions(store, "demo", "train")) == 4


def test_the_tables_of_distances(store):
    found = distributions(store, "demo")
    table = distances_table(found)
    assert len(table.rows) == 8
    first = dict(zip(table.columns, table.rows[0], strict=True))
    assert (first["arm"], first["threshold"], first["kind"]) == ("softmax, slice 1", 0.15, "inter")
    assert first["mean"] == pytest.approx(1.075, abs=0.01)
    matrix = wasserstein_table(found)
    assert matrix.columns[1:] == tuple(row[0] for row in matrix.rows)
    assert [list(row[1:]) for row in matrix.rows] == wasserstein_matrix(found)
    assert matrix.rows[0][2] == pytest.approx(0.15, abs=0.01)
    assert matrix.rows[0][1] == matrix.rows[0][3] == 0


def test_a_study_without_distances_is_one_sentence(store):
    with pytest.raises(StoreError, match="has no distances of validation images"):
        distributions(store, "demo", "validation")
    with pytest.raises(StoreError, match="There is no study lost"):
        distributions(store, "lost")
