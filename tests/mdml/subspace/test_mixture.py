import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from mdml import MethodError
from mdml.subspace import fit_mixture, merge_small, split_classes
from mdml.subspace.mixture import ranked


def blobs(centres, each, spread=0.1, seed=0):
    """Vectors (K x each, D) around K centres, shuffled, and the blob of each."""
    generator = np.random.default_rng(seed)
    blob = generator.permutation(np.repeat(np.arange(len(centres)), each))
    centres = np.asarray(centres, float)
    return centres[blob] + spread * generator.standard_normal((len(blob), centres.shape[1])), blob


def same_partition(ours, theirs):
    """Whether two groupings put the same pairs together, by looking at every pair."""
    return all(
        (ours[i] == ours[j]) == (theirs[i] == theirs[j]) for i in range(len(ours)) for j in range(i + 1, len(ours))
    )


SQUARE = [(0, 0), (10, 0), (0, 10), (10, 10)]


@pytest.mark.parametrize(("each", "covariance"), [(20, "full"), (3, "full"), (2, "diag")])
def test_blobs_are_found(each, covariance):
    vectors, blob = blobs(SQUARE, each)
    found = fit_mixture(vectors, 4, 0)
    assert same_partition(found.members, blob)
    assert found.covariance == covariance, "3 vectors are D + 1, just enough for a full covariance"


def test_one_small_component_makes_all_diagonal():
    vectors, blob = blobs(SQUARE[:2], 20)
    few = np.flatnonzero(blob == 0)[2:]
    vectors, blob = np.delete(vectors, few, 0), np.delete(blob, few)
    found = fit_mixture(vectors, 2, 0)
    assert found.covariance == "diag"
    assert same_partition(found.members, blob)
    assert np.bincount(found.members).tolist() == [20, 2]


def test_a_full_covariance_parts_what_crosses_along_the_diagonals():
    """Two long thin blobs in the shape of an X have one mean and equal variances: only their covariances tell them apart."""
    generator = np.random.default_rng(0)
    along, across = generator.standard_normal((2, 400)) * [[3], [0.05]]
    blob = np.arange(400) % 2
    sign = np.where(blob == 1, 1, -1)
    vectors = np.stack([along + across, sign * (along - across)], 1) + np.stack([0 * sign, 4 * sign], 1)
    found = fit_mixture(vectors, 2, 0)
    assert found.covariance == "full"
    assert max((found.members == blob).mean(), (found.members != blob).mean()) > 0.98


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_where_the_origin_lies_does_not_matter(dtype, offset):
    vectors, blob = blobs(SQUARE, 10)
    kept = vectors.copy()
    assert same_partition(fit_mixture((vectors + offset).astype(dtype), 4, 0).members, blob)
    assert np.array_equal(vectors, kept)


@pytest.mark.parametrize("components", [1, 2, 40])
def test_equal_vectors_are_one_component(components):
    found = fit_mixture(np.full((7, 3), 0.1), components, 0)
    assert found.members.tolist() == [0] * 7
    assert found.covariance == "none"


def test_one_vector_is_one_component():
    assert fit_mixture(np.ones((1, 5)), 5, 0).members.tolist() == [0]


def test_fewer_vectors_than_components_are_each_their_own():
    found = fit_mixture(np.arange(12.0).reshape(4, 3), 40, 0)
    assert found.members.tolist() == [0, 1, 2, 3]
    assert found.covariance == "diag"


def test_fewer_distinct_vectors_than_components():
    vectors = np.repeat([[0.0, 0], [1, 0], [5, 5]], [2, 4, 3], 0)
    assert fit_mixture(vectors, 5, 0).members.tolist() == [2, 2, 0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(("failing", "covariance"), [(("full",), "diag"), (("full", "diag"), "none")])
def test_a_covariance_that_cannot_be_estimated_falls_back(failing, covariance, monkeypatch):
    fit_predict = GaussianMixture.fit_predict

    def failed(mixture, vectors):
        if mixture.covariance_type in failing:
            raise ValueError(
                "Fitting the mixture model failed because some components have ill-defined empirical covariance"
            )
        return fit_predict(mixture, vectors)

    monkeypatch.setattr(GaussianMixture, "fit_predict", failed)
    vectors, blob = blobs(SQUARE, 20)
    found = fit_mixture(vectors, 4, 0)
    assert found.covariance == covariance
    assert same_partition(found.members, blob if covariance == "diag" else np.zeros(80))


@pytest.mark.parametrize("scale", [1e6, 1e9, 1e12])
def test_scales_at_which_variances_are_lost_to_rounding_do_not_fail(scale):
    vectors = np.concatenate([np.zeros((40, 1)), scale + np.random.default_rng(0).standard_normal((40, 1))])
    members = fit_mixture(vectors, 3, 0).members
    assert set(members.tolist()) == set(range(members.max() + 1))


def test_the_seed_alone_decides():
    vectors = np.random.default_rng(1).standard_normal((200, 3))
    first = fit_mixture(vectors, 8, 5).members
    np.random.default_rng(2).random()
    assert np.array_equal(first, fit_mixture(vectors, 8, 5).members)
    assert any(not np.array_equal(first, fit_mixture(vectors, 8, seed).members) for seed in (6, 7, 8))


def test_components_are_numbered_by_size_and_then_by_first_member():
    assert ranked(np.array([7, 3, 3, 9, 9, 7, 9])).tolist() == [1, 2, 2, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("vectors", "components", "words"),
    [
        (np.zeros((0, 2)), 2, r"\(0, 2\)"),
        (np.zeros(3), 2, r"\(3,\)"),
        (np.zeros((3, 2)), 0, "found 0"),
        (np.array([[1.0], [np.nan]]), 2, "finite"),
    ],
)
def test_bad_input(vectors, components, words):
    with pytest.raises(MethodError, match=words):
        fit_mixture(vectors, components, 0)


def test_a_lone_vector_joins_the_group_of_the_nearest_mean():
    """The means are .5 and 10.5: 4 lies nearer to the first, 6 to the second, which is then the larger and so the 0th."""
    for lone, merged in ((4.0, [0, 0, 1, 1, 0]), (6.0, [1, 1, 0, 0, 0])):
        assert merge_small(np.array([[0], [1], [10], [11], [lone]]), np.array([0, 0, 1, 1, 2])).tolist() == merged


def test_lone_vectors_alone_are_merged_until_each_group_has_two():
    """0, 1, 5, 6.5: of four lone groups the last (6.5) joins 5; then 1, now the last lone one, joins 0."""
    assert merge_small(np.array([[0.0], [1], [5], [6.5]]), np.arange(4)).tolist() == [0, 0, 1, 1]


def test_a_last_group_stays_however_small():
    assert merge_small(np.array([[3.0]]), np.array([4])).tolist() == [0]
    assert merge_small(np.array([[3.0], [4]]), np.array([4, 2])).tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(20))
def test_merging_leaves_no_small_group_and_tears_none_apart(seed):
    generator = np.random.default_rng(seed)
    members = generator.integers(0, 8, 15)
    merged = merge_small(generator.standard_normal((15, 2)), members, least=3)
    assert np.bincount(merged).min() >= 3
    assert all(len(set(merged[members == group])) == 1 for group in set(members))


def test_subclasses_are_the_blobs_inside_each_class():
    """Class 0 holds the blobs at x = 0, class 2 those at x = 10, class 1 nothing; no sub-class spans two classes."""
    vectors, blob = blobs(SQUARE, 20)
    labels = np.where(np.isin(blob, (0, 2)), 0, 2)
    found = split_classes(vectors, labels, 3, 2, 0)
    assert same_partition(found.labels, blob)
    assert np.array_equal(found.labels % 3, labels)
    assert set(found.labels.tolist()) == {0, 3, 2, 5}
    assert found.diagonal == ()


def test_one_component_each_are_the_classes_themselves():
    vectors, _ = blobs(SQUARE, 20)
    labels = np.arange(80) % 3
    assert np.array_equal(split_classes(vectors, labels, 3, 1, 0).labels, labels)


def test_a_class_of_n_images_has_at_most_a_tenth_as_many_components():
    """Classes of 1, 19, 20, 49 and 50 images of 5 asked components get 1, 1, 2, 4 and 5; 64 units leave all diagonal."""
    labels = np.repeat(np.arange(5), [1, 19, 20, 49, 50])
    vectors = np.random.default_rng(0).standard_normal((len(labels), 64))
    found = split_classes(vectors, labels, 5, 5, 0)
    sizes = [[n for n in np.bincount(found.labels[labels == c] // 5) if n] for c in range(5)]
    counts = list(map(len, sizes))
    assert counts[:2] == [1, 1]
    assert all(count <= most for count, most in zip(counts, (1, 1, 2, 4, 5), strict=True))
    assert min(counts[2:]) > 1
    assert np.array_equal(found.labels % 5, labels)
    assert all(min(of_class) >= 2 and of_class == sorted(of_class, reverse=True) for of_class in sizes[1:])
    assert found.diagonal == (2, 3, 4)


def test_a_collapsed_embedding_leaves_the_classes_whole():
    labels = np.arange(60) % 2
    found = split_classes(np.ones((60, 4), np.float32), labels, 2, 3, 0)
    assert np.array_equal(found.labels, labels)


def test_classes_do_not_disturb_each_other():
    """The sub-classes of class 0 are the same whatever the vectors of class 1 are."""
    vectors = np.random.default_rng(0).standard_normal((120, 3))
    labels = np.arange(120) % 2
    other = np.where((labels == 1)[:, None], 100 * vectors[::-1], vectors)
    first, second = (split_classes(kind, labels, 2, 4, 0).labels for kind in (vectors, other))
    assert np.array_equal(first[labels == 0], second[labels == 0])


@pytest.mark.parametrize(("labels", "words"), [([0, 1], "each of the 3"), ([0, 1, 2], "0 to 1"), ([-1, 0, 0], "-1")])
def test_labels_that_do_not_fit(labels, words):
    with pytest.raises(MethodError, match=words):
        split_classes(np.ones((3, 2)), np.array(labels), 2, 2, 0)
