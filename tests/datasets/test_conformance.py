"""What every data set must keep to; a new one needs a module of its own in `miniatures`."""

import importlib
import inspect
from collections import Counter, defaultdict
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image

from datasets import DatasetError, dataset_names, open_dataset
from datasets.card import card_of
from datasets.expressions import CANONICAL
from datasets.faceset import content_fingerprint
from datasets.sources import Pixels
from datasets.splits import RULES, fold_count, split_fold
from tests.datasets.miniatures import SPELLINGS

LISTED = [name for name in dataset_names() if hasattr(importlib.import_module(f"datasets.{name}"), "scan")]
CASES = [(name, spelling) for name in LISTED for spelling in range(SPELLINGS.get(name, 2))]


def module(name):
    return importlib.import_module(f"datasets.{name}")


class Miniature:
    """A miniature root and what must come out of it."""

    def __init__(self, folder, name, spelling):
        self.name, self.folder = name, folder
        (folder / "root").mkdir(parents=True)
        builder = importlib.import_module(f"tests.datasets.miniatures.{name}")
        self.expected = builder.build(folder / "root", people=3, spelling=spelling)
        self.root = folder / "root" / self.expected.root

    def scan(self, root=None):
        return module(self.name).scan(root or self.root, **self.expected.options)

    def open(self, cache, root=None, channels=1, **options):
        options = {"root": root or self.root, **self.expected.options, **options}
        return open_dataset(self.name, image_size=16, channels=channels, cache=cache, **options)

    def copy(self, folder):
        """A copy whose files are made in another order and at another time."""
        source = self.folder / "root"
        for file in sorted(source.rglob("*"), key=lambda file: file.name[::-1], reverse=True):
            target = folder / file.relative_to(source)
            if file.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
        return folder / self.expected.root


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory):
    return {}, tmp_path_factory.mktemp("miniatures")


@pytest.fixture
def miniature(miniatures, name, spelling):
    """Built once; whoever changes its files works on a copy."""
    built, folder = miniatures
    if (name, spelling) not in built:
        built[name, spelling] = Miniature(folder / f"{name}-{spelling}", name, spelling)
    return built[name, spelling]


def relative(listing):
    """The faces of a listing, with files relative to the root."""
    return [
        (face.source.file.relative_to(listing.root).as_posix(), face.source.part, *face[1:]) for face in listing.faces
    ]


@pytest.mark.parametrize(("name", "spelling"), CASES)
class TestEveryLayout:
    def test_is_found_with_the_counts_that_it_has(self, miniature):
        listing, expected = miniature.scan(), miniature.expected
        assert listing.classes == expected.classes
        found = defaultdict(Counter)
        for face in listing.faces:
            found[face.official][listing.classes[face.label]] += 1
        wanted = {part: {word: count for word, count in of.items() if count} for part, of in expected.counts.items()}
        assert {part: dict(of) for part, of in found.items()} == {part: of for part, of in wanted.items() if of}
        assert len({face.subject for face in listing.faces}) == expected.subjects
        assert len({face.sequence for face in listing.faces}) == expected.sequences
        assert Counter(item.reason for item in listing.left_out) == expected.left_out
        assert set(listing.expected) <= {"", "train", "val", "test"}
        assert all(set(of) <= set(listing.classes) for of in listing.expected.values())

    def test_is_found_in_one_order_wherever_it_lies(self, miniature, tmp_path):
        first, second = miniature.scan(), miniature.scan(miniature.copy(tmp_path / "elsewhere"))
        assert relative(first) == relative(second)
        assert first.left_out == second.left_out
        assert all(file.is_file() for file in first.files)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_becomes_a_face_set(self, miniature, tmp_path, channels):
        faces = miniature.open(tmp_path / "cache", channels=channels)
        listing, count = miniature.scan(), len(miniature.scan().faces)
        assert (faces.name, faces.classes) == (miniature.name, miniature.expected.classes)
        assert faces.images.shape == (count, 16, 16, channels)
        assert faces.images.dtype == np.uint8
        assert not faces.images.flags.writeable
        assert faces.images.reshape(count, -1).std(1).min() > 0
        assert faces.labels.tolist() == [face.label for face in listing.faces]
        assert faces.subjects.tolist() == [face.subject for face in listing.faces]
        assert faces.sequences.tolist() == [face.sequence for face in listing.faces]
        assert faces.official.tolist() == [face.official for face in listing.faces]
        content = (faces.images, faces.labels, faces.subjects, faces.sequences, faces.official, faces.classes)
        assert faces.fingerprint == content_fingerprint(*content)
        again = miniature.open(tmp_path / "cache", channels=channels)
        elsewhere = miniature.open(tmp_path / "other", miniature.copy(tmp_path / "elsewhere"), channels)
        assert faces.fingerprint == again.fingerprint == elsewhere.fingerprint
        beside = {path.suffix for path in (tmp_path / "cache").iterdir()}
        assert beside == {".arrow", ".csv", ".md", ".png"}
        assert len(list((tmp_path / "cache").iterdir())) == 4

    def test_keeps_subjects_and_sequences_whole(self, miniature, tmp_path):
        faces, card = miniature.open(tmp_path), card_of(miniature.name)
        of_sequence = defaultdict(set)
        for sequence, subject in zip(faces.sequences.tolist(), faces.subjects.tolist(), strict=True):
            of_sequence[sequence].add(subject)
        assert {len(subjects) for subjects in of_sequence.values()} == {1}
        asked = 3 if card.fold_rule in ("contiguous", "balanced") else None
        folds, tested = fold_count(faces, card.fold_rule, asked), []
        for fold in range(folds):
            split = split_fold(faces, fold=fold, folds=asked, rule=card.fold_rule, validation_fraction=0)
            parts = (split.train, split.validation, split.test)
            for values in (faces.subjects, faces.sequences):
                sets = [set(values[part].tolist()) for part in parts]
                assert len(set.union(*sets)) == sum(map(len, sets))
            tested += split.test.tolist()
        assert len(set(tested)) == len(tested)
        assert card.fold_rule == "official" or len(tested) == len(faces)

    def test_names_an_image_that_cannot_be_read(self, miniature, tmp_path):
        root = miniature.copy(tmp_path / "root")
        sources = [face.source for face in miniature.scan(root).faces]
        if isinstance(sources[0], Pixels):
            pytest.skip("its images have no files")
        file = sources[-1].file
        file.write_bytes(file.read_bytes()[:100])
        lost = sum(source.file == file for source in sources)
        cache = tmp_path / "cache"
        with pytest.raises(DatasetError) as caught:
            miniature.open(cache, root)
        check_sentence(caught.value, file.name)
        assert list(cache.iterdir()) == []
        assert len(miniature.open(cache, root, allow_skips=True)) == len(sources) - lost
        assert file.name in next(cache.glob("*.csv")).read_text()
        with pytest.raises(DatasetError, match="allow_skips"):
            miniature.open(cache, root)


def check_sentence(error, *words):
    message = str(error)
    assert message.startswith("expected ")
    assert message.endswith(".")
    assert "\n" not in message
    assert "Traceback" not in message
    for word in words:
        assert word in message, message


def archive(root):
    root.write_bytes(b"PK\x03\x04")


def foreign(root):
    """A folder of something else."""
    for folder in ("holidays", "holidays/2019"):
        (root / folder).mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(root / "holidays" / "2019" / "IMG_0001.jpg")
    (root / "letter.txt").write_text("Dear all,\n")


ROOTS = {"missing": lambda root: None, "empty": lambda root: root.mkdir(), "archive": archive, "foreign": foreign}


@pytest.mark.parametrize("name", LISTED)
class TestEveryDataSet:
    @pytest.mark.parametrize("root", ROOTS)
    def test_says_what_is_wrong_with_a_root(self, name, root, tmp_path):
        place = tmp_path / "somewhere"
        ROOTS[root](place)
        with pytest.raises(DatasetError) as caught:
            open_dataset(name, image_size=16, channels=1, cache=tmp_path / "cache", root=place)
        check_sentence(caught.value, str(place))
        assert not (tmp_path / "cache").exists()

    @pytest.mark.parametrize("root", [None, ""])
    def test_asks_for_a_root(self, name, root, tmp_path):
        with pytest.raises(DatasetError) as caught:
            open_dataset(name, image_size=16, channels=1, cache=tmp_path / "cache", root=root)
        check_sentence(caught.value, "set dataset.root=PATH")

    @pytest.mark.parametrize("option", ["align", "allow_skips"])
    def test_takes_the_common_options(self, name, option, tmp_path):
        with pytest.raises(DatasetError) as caught:
            open_dataset(name, image_size=16, channels=1, cache=tmp_path / "cache", root=tmp_path, **{option: "yes"})
        check_sentence(caught.value, option, "true or false", "'yes'")

    def test_has_a_card_that_fits_its_scan(self, name):
        card = module(name).CARD
        assert card.name == name
        for entry in fields(card):
            value = getattr(card, entry.name)
            if entry.type == "str" and entry.name != "people":
                assert value, entry.name
                assert value == value.strip()
        assert set(card.classes) <= set(CANONICAL)
        assert card.fold_rule in RULES
        assert card.metric.startswith("test_")
        assert card.layout
        parameters = list(inspect.signature(module(name).scan).parameters.values())
        assert parameters[0].name == "root"
        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters[1:])
        assert all(parameter.default is not parameter.empty for parameter in parameters[1:])


# Ids in the order of FER+ of the classes in their official order.
IDS = {
    "affectnet": [0, 1, 3, 2, 6, 5, 4, 7],
    "bu3dfe": [0, 4, 5, 6, 1, 3, 2],
    "ckplus": [4, 7, 5, 6, 1, 3, 2],
    "ckplus48": [4, 7, 5, 6, 1, 3, 2],
    "fer2013": [4, 5, 6, 1, 3, 2, 0],
    "ferplus": [0, 1, 2, 3, 4, 5, 6, 7],
    "folder": [],
    "jaffe": [0, 4, 5, 6, 1, 3, 2],
    "mmi": [4, 5, 6, 1, 3, 2],
    "oulu_casia": [4, 5, 6, 1, 3, 2],
    "rafdb": [2, 6, 5, 1, 3, 4, 0],
    "sfew": [4, 5, 6, 1, 0, 3, 2],
}


@pytest.mark.parametrize("name", LISTED)
def test_official_orders_map_to_the_canonical_ids(name):
    assert [CANONICAL.index(word) for word in card_of(name).classes] == IDS[name]


def test_eight_classes_of_ckplus_map_to_the_canonical_ids():
    assert [CANONICAL.index(word) for word in module("ckplus").EXPRESSIONS] == [0, 4, 7, 5, 6, 1, 3, 2]


# What the literature counts, by official part and in the order of the labels.
COUNTS = {
    "affectnet": {"train": [74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750], "val": [500] * 8},
    "bu3dfe": {"": [100, *[400] * 6]},
    "ckplus": {"": [135, 54, 177, 75, 207, 84, 249]},
    "ckplus48": {"": [135, 54, 177, 75, 207, 84, 249]},
    "fer2013": {
        "train": [3995, 436, 4097, 7215, 4830, 3171, 4965],
        "val": [467, 56, 496, 895, 653, 415, 607],
        "test": [491, 55, 528, 879, 594, 416, 626],
    },
    "jaffe": {"": [30, 30, 29, 32, 31, 31, 30]},
    "mmi": {"": [99, 96, 84, 126, 96, 123]},
    "oulu_casia": {"": [240] * 6},
    "rafdb": {"train": [1290, 281, 717, 4772, 1982, 705, 2524], "test": [329, 74, 160, 1185, 478, 162, 680]},
    "sfew": {"train": [178, 52, 78, 184, 144, 161, 94], "val": [77, 23, 46, 72, 84, 73, 56]},
}


@pytest.mark.parametrize(("name", "spelling"), [(name, 0) for name in COUNTS])
def test_expects_what_the_literature_counts(miniature, name):
    listing = miniature.scan()
    assert {part: [of[word] for word in listing.classes] for part, of in listing.expected.items()} == COUNTS[name]
    assert sum(map(sum, COUNTS[name].values())) == card_of(name).images


@pytest.mark.parametrize(("name", "spelling"), [("ferplus", 0)])
def test_expects_of_ferplus_what_label_csv_counts(miniature):
    expected = {part: list(of.values()) for part, of in miniature.scan().expected.items()}
    assert expected == {
        "train": [8733, 7284, 3136, 3022, 2098, 116, 536, 120],
        "test": [1083, 892, 394, 382, 269, 16, 86, 15],
    }
    assert sum(map(sum, expected.values())) + 3191 == card_of("ferplus").images


def test_drawn_faces_keep_the_contract_too(tmp_path):
    options = {"image_size": 16, "channels": 1, "subjects": 3, "per_class": 1}
    faces = open_dataset("synthetic", cache=tmp_path / "cache", **options)
    assert faces.fingerprint == open_dataset("synthetic", cache=tmp_path / "anew", **options).fingerprint
    assert len(split_fold(faces, fold=0, folds=3).test) == len(faces) // 3
    assert card_of("synthetic").classes == faces.classes
