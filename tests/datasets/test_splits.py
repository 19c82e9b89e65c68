import numpy as np
import pytest

from datasets import DatasetError
from datasets.splits import Split, check_disjoint, split_fold


@pytest.fixture
def like_ckplus(make_faces):
    """118 people and 327 sequences in 7 classes with CK+'s counts, three frames each; the rarest class is bunched."""
    counts = {"anger": 45, "contempt": 18, "disgust": 59, "fear": 25, "happy": 69, "sadness": 28, "surprise": 83}
    random = np.random.default_rng(0)
    labels, subjects, sequences = [], [], []
    for label, (name, count) in enumerate(counts.items()):
        people = np.arange(95, 118)[:count] if name == "contempt" else random.permutation(118)[:count]
        for person in people:
            labels += [label] * 3
            subjects += [f"S{person:03d}"] * 3
            sequences += [f"S{person:03d}/{name}"] * 3
    # Whoever the draw left out has one more happy face, as every one of the 118 has some.
    for person in sorted(set(range(118)) - {int(name[1:]) for name in subjects}):
        labels, subjects, sequences = [*labels, 4], [*subjects, f"S{person:03d}"], [*sequences, f"S{person:03d}/happy"]
    return make_faces(labels, subjects, sequences, list(counts))


@pytest.mark.parametrize("rule", ["contiguous", "balanced"])
def test_the_parts_are_disjoint_and_whole_and_each_face_is_tested_once(like_ckplus, rule):
    tested = []
    for fold in range(10):
        split = split_fold(like_ckplus, fold=fold, folds=10, rule=rule, validation_fraction=0.2)
        everything = np.concatenate([split.train, split.validation, split.test])
        assert np.array_equal(np.sort(everything), np.arange(len(like_ckplus)))
        groups = [set(like_ckplus.subjects[part]) for part in (split.train, split.validation, split.test)]
        assert sum(map(len, groups)) == len(set().union(*groups)) == 118
        assert set(like_ckplus.labels[split.train]) == set(range(7))
        assert len(groups[1]) == round(0.2 * (len(groups[0]) + len(groups[1])))
        for part in (split.train, split.validation, split.test):
            assert part.dtype == np.int64
            assert np.array_equal(part, np.sort(part))
        tested.append(split.test)
    assert np.array_equal(np.sort(np.concatenate(tested)), np.arange(len(like_ckplus)))


def test_the_official_rule_cuts_the_sorted_subjects_into_runs(like_ckplus):
    tests = [split_fold(like_ckplus, fold=fold, folds=10).test for fold in range(10)]
    people = [sorted(set(like_ckplus.subjects[test])) for test in tests]
    assert [len(group) for group in people] == [12] * 8 + [11] * 2
    assert [person for group in people for person in group] == [f"S{person:03d}" for person in range(118)]


def test_ids_are_sorted_as_strings(make_faces):
    faces = make_faces([0, 1] * 12, [str(person) for person in range(1, 13) for _ in range(2)])
    split = split_fold(faces, fold=0, folds=4, validation_fraction=0)
    assert sorted(set(faces.subjects[split.test])) == ["1", "10", "11"]


def test_balanced_folds_are_more_alike_than_contiguous_ones(like_ckplus):
    def unevenness(rule):
        tests = [split_fold(like_ckplus, fold=fold, folds=10, rule=rule).test for fold in range(10)]
        counts = np.array([np.bincount(like_ckplus.labels[test], minlength=7) for test in tests])
        return np.abs(counts / counts.sum(0) - 0.1).max()

    assert unevenness("balanced") < 0.08 < 0.3 < unevenness("contiguous")


def test_folds_do_not_depend_on_the_order_of_the_faces(make_faces):
    labels, subjects = np.arange(60) % 3, np.array([f"p{index // 3 % 13}" for index in range(60)])
    order = np.random.default_rng(1).permutation(60)
    first, second = make_faces(labels, subjects), make_faces(labels[order], subjects[order])
    for rule in ("contiguous", "balanced"):
        here = split_fold(first, fold=1, folds=3, rule=rule)
        there = split_fold(second, fold=1, folds=3, rule=rule)
        for part in ("train", "validation", "test"):
            assert set(first.subjects[getattr(here, part)]) == set(second.subjects[getattr(there, part)])


def test_validation_is_at_least_one_person_or_nobody(make_faces):
    faces = make_faces([0, 1] * 6, [f"p{index // 2}" for index in range(12)])
    assert len(split_fold(faces, fold=0, folds=3, validation_fraction=0).validation) == 0
    assert len(split_fold(faces, fold=0, folds=3, validation_fraction=1e-9).validation) == 2


def test_validation_leaves_each_class_somebody_to_train_on(make_faces):
    # Only p1 and p2 have class 2: with p0 tested, never both may be held out.
    faces = make_faces([0, 1, 0, 1, 2, 0, 1, 2, 0, 1], ["p0", "p0", *["p1"] * 3, *["p2"] * 3, "p3", "p3"])
    split = split_fold(faces, fold=0, folds=4, validation_fraction=0.9)
    assert set(faces.labels[split.train]) == {0, 1, 2}
    assert len(split.validation) > 0


PEOPLE = [f"p{index // 2}" for index in range(8)]


@pytest.mark.parametrize(
    ("labels", "subjects", "options", "words"),
    [
        ([0, 1] * 4, PEOPLE, {"fold": 0, "folds": 5}, "4 subjects for 5 folds"),
        ([0, 1] * 4, PEOPLE, {"fold": 0, "folds": 1}, "at least 2 folds, found 1"),
        ([0, 1] * 4, PEOPLE, {"fold": 4, "folds": 4}, "within 0..3, found 4"),
        ([0, 1] * 4, PEOPLE, {"fold": -1, "folds": 4}, "within 0..3, found -1"),
        ([0, 1] * 4, PEOPLE, {"fold": 0, "folds": 4, "rule": "random"}, "contiguous or balanced, found 'random'"),
        ([0, 1] * 4, PEOPLE, {"fold": 0, "folds": 4, "validation_fraction": 1.0}, "below 1, found 1.0"),
        ([0, 1] * 4, PEOPLE, {"fold": 0, "folds": 4, "validation_fraction": -0.1}, "at least 0"),
        ([1, 1, 0, 0, 0, 0, 0, 0], PEOPLE, {"fold": 0, "folds": 4}, "found nobody with 'class1'"),
        ([0, 1, 0, 1], PEOPLE[:4], {"fold": 0, "folds": 2}, "set validation_fraction=0"),
    ],
)
def test_what_cannot_be_split_is_said(make_faces, labels, subjects, options, words):
    with pytest.raises(DatasetError) as caught:
        split_fold(make_faces(labels, subjects), **options)
    assert words in str(caught.value)


def test_a_crossing_is_found(make_faces):
    faces = make_faces([0, 1, 0, 1], ["p0", "p0", "p1", "p2"], ["a", "b", "b", "c"])

    def crossing(*parts):
        return check_disjoint(Split(*(np.array(part, np.int64) for part in parts)), faces)

    crossing([0, 1, 2], [], [3])
    with pytest.raises(DatasetError, match="image 3 in both validation and test"):
        crossing([0, 1, 2], [3], [3])
    with pytest.raises(DatasetError, match="subject 'p0' in both train and test"):
        crossing([0], [2], [1])
    with pytest.raises(DatasetError, match="sequence 'b' in both train and validation"):
        crossing([0, 1], [2], [3])
