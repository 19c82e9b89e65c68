import time
from dataclasses import replace

import numpy as np
import pytest

from datasets import DatasetError
from datasets.splits import Split, check_disjoint, fold_count, judged, names_in_both, split_fold


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


def test_leave_one_out_tests_each_subject_once_in_the_order_of_the_ids(make_faces):
    faces = make_faces([0, 1] * 12, [str(person) for person in range(1, 13) for _ in range(2)])
    assert fold_count(faces, "leave_one_out") == fold_count(faces, "leave_one_out", 12) == 12
    tested = []
    for fold in range(12):
        split = split_fold(faces, fold=fold, rule="leave_one_out")
        (person,) = set(faces.subjects[split.test])
        assert len(set(faces.subjects[split.validation])) == 1
        tested.append(person)
    assert tested == ["1", "10", "11", "12", *map(str, range(2, 10))]


@pytest.fixture
def released(make_faces):
    """A set without identities, 40 images in 2 classes, with official parts of the given sizes."""

    def make(**sizes):
        official = [part for part, count in sizes.items() for _ in range(count)]
        names = [f"{part}_{index}.jpg" for index, part in enumerate(official)]
        faces = make_faces(np.arange(len(official)) % 2, names, names)
        return replace(faces, official=np.array(official)[np.random.default_rng(0).permutation(len(official))])

    return make


def test_the_official_parts_are_used_as_released(released):
    faces = released(train=20, val=8, test=12)
    assert fold_count(faces, "official") == fold_count(faces, "official", 1) == 1
    for fraction in (0.0, 0.5):
        split = split_fold(faces, fold=0, rule="official", validation_fraction=fraction)
        for part, name in ((split.train, "train"), (split.validation, "val"), (split.test, "test")):
            assert part.dtype == np.int64
            assert np.array_equal(part, np.flatnonzero(faces.official == name))


@pytest.mark.parametrize("tested", ["val", "test"])
def test_without_a_part_to_validate_on_a_share_of_the_training_images_is_held_out(released, tested):
    faces = released(train=20, **{tested: 12})
    split = split_fold(faces, fold=0, folds=1, rule="official", validation_fraction=0.2)
    assert set(faces.official[split.test]) == {tested}
    assert (len(split.train), len(split.validation), len(split.test)) == (16, 4, 12)
    assert set(faces.official[split.validation]) == {"train"}
    assert len(split_fold(faces, fold=0, rule="official", validation_fraction=0).validation) == 0
    again = split_fold(faces, fold=0, rule="official", validation_fraction=0.2)
    assert np.array_equal(again.validation, split.validation)


def test_official_parts_that_share_a_person_or_lack_something_are_refused(released):
    faces = released(train=20, val=8, test=12)
    here, there = (int(np.flatnonzero(faces.official == part)[0]) for part in ("train", "test"))

    def refused(**changes):
        with pytest.raises(DatasetError) as caught:
            split_fold(replace(faces, **changes), fold=0, rule="official")
        return str(caught.value)

    for column in ("subjects", "sequences"):
        values = getattr(faces, column).copy()
        values[there] = values[here]
        assert f"found {column[:-1]} {values[here].item()!r} in both train and test" in refused(**{column: values})
    assert "found 12 images in test and 28 images in val" in refused(
        official=np.where(faces.official == "train", "val", faces.official)
    )
    assert "found 40 images in test" in refused(official=np.full(40, "test"))
    assert "found 8 images in no part and 12 images in test" in refused(
        official=np.where(faces.official == "val", "", faces.official)
    )
    labels = np.where(faces.official == "train", 0, faces.labels)
    sentence = refused(labels=labels)
    assert "in the official part train, found nobody with 'class1'; take another rule" in sentence


def test_folds_do_not_depend_on_the_order_of_the_faces(make_faces):
    labels, subjects = np.arange(60) % 3, np.array([f"p{index // 3 % 13}" for index in range(60)])
    order = np.random.default_rng(1).permutation(60)
    first, second = make_faces(labels, subjects), make_faces(labels[order], subjects[order])
    for rule, folds in (("contiguous", 3), ("balanced", 3), ("leave_one_out", None)):
        here = split_fold(first, fold=1, folds=folds, rule=rule)
        there = split_fold(second, fold=1, folds=folds, rule=rule)
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
        ([0, 1] * 4, PEOPLE, {"fold": 0, "folds": 4, "rule": "random"}, "leave_one_out or official, found 'random'"),
        ([0, 1] * 4, PEOPLE, {"fold": 0}, "at least 2 folds, found None"),
        (
            [0, 1] * 4,
            PEOPLE,
            {"fold": 0, "folds": 3, "rule": "leave_one_out"},
            "expected 4 folds, one for each subject",
        ),
        ([0, 1] * 4, PEOPLE, {"fold": 4, "rule": "leave_one_out"}, "within 0..3, found 4"),
        ([0, 1], ["p0", "p0"], {"fold": 0, "rule": "leave_one_out"}, "found 1 subjects for 2 folds"),
        (
            [0, 1] * 4,
            PEOPLE,
            {"fold": 0, "folds": 5, "rule": "official"},
            "expected 1 fold for the rule official, found 5",
        ),
        ([0, 1] * 4, PEOPLE, {"fold": 0, "rule": "official"}, "found 8 images in no part"),
        ([0, 1] * 4, PEOPLE, {"fold": 0, "folds": 4, "validation_fraction": 1.0}, "below 1, found 1.0"),
        ([0, 1] * 4, PEOPLE, {"fold": 0, "folds": 4, "validation_fraction": -0.1}, "at least 0"),
        ([1, 1, 0, 0, 0, 0, 0, 0], PEOPLE, {"fold": 0, "folds": 4}, "found nobody with 'class1'"),
        ([0, 1, 0, 1], PEOPLE[:4], {"fold": 0, "folds": 2}, "set protocol.validation_fraction=0"),
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


def test_a_third_of_a_million_people_are_checked_in_a_moment(make_faces):
    """As many as AffectNet has images, each of which is a subject of its own there; half a second when nothing else runs."""
    count = 300_000
    names = np.char.add("train_", np.random.default_rng(0).permutation(count).astype(str))
    faces = replace(make_faces([0, 1], ["a", "b"]), labels=np.arange(count) % 8, subjects=names, sequences=names)
    split = Split(*np.array_split(np.arange(count), 3))
    start = time.perf_counter()
    check_disjoint(split, faces)
    assert time.perf_counter() - start < 5
    names[-1] = names[0]
    with pytest.raises(DatasetError, match=f"subject '{names[0]}' in both train and test"):
        check_disjoint(split, faces)


def test_another_data_set_is_judged_whole_or_by_an_official_part(released):
    other = released(train=20, val=8)
    assert np.array_equal(judged(other), np.arange(28))
    assert np.array_equal(judged(other, "val"), np.flatnonzero(other.official == "val"))
    assert judged(other).dtype == judged(other, "val").dtype == np.int64
    with pytest.raises(
        DatasetError, match="part 'test' in made, found 20 images in train and 8 images in val; leave out"
    ):
        judged(other, "test")
    with pytest.raises(DatasetError, match="expected part to be train or val or test, found 'all'"):
        judged(other, "all")


def test_names_in_both_sets_are_found(make_faces):
    here, there = (
        make_faces([0, 1, 0], ["anna", "ben", "cleo"]),
        make_faces([0, 1, 0, 1], ["dan", "cleo", "ben", "ben"]),
    )
    assert names_in_both(here, there) == ["ben", "cleo"]
    assert names_in_both(here, make_faces([0], ["eva"])) == []
