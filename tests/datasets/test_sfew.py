"""What only SFEW has: aligned faces and whole frames in folders of many spellings, and a test part without labels."""

import shutil
from collections import Counter

import pytest

from datasets import DatasetError
from datasets.sfew import CARD, EXPECTED, scan
from tests.datasets.miniatures import sfew


@pytest.fixture
def root(tmp_path):
    sfew.build(tmp_path, people=2)
    return tmp_path


def reasons(listing):
    return Counter(item.reason for item in listing.left_out)


def test_official_ids_are_alphabetical_and_counts_are_those_of_public_code():
    assert CARD.classes == ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    assert [sum(counts.values()) for counts in EXPECTED.values()] == [891, 431]
    assert sum(sum(counts.values()) for counts in EXPECTED.values()) == CARD.images


def test_both_spellings_give_the_same_names(tmp_path):
    names = []
    for spelling in (0, 1):
        (tmp_path / str(spelling)).mkdir()
        sfew.build(tmp_path / str(spelling), spelling=spelling)
        names.append([face.subject.lower() for face in scan(tmp_path / str(spelling)).faces])
    assert names[0] == names[1]


def test_whole_frames_are_another_version(tmp_path):
    sfew.build(tmp_path, spelling=1)
    aligned, original = (scan(tmp_path, version=version) for version in ("aligned", "original"))
    assert len(aligned.faces) == len(original.faces) == 42
    assert {face.source.file.parts[-3] for face in aligned.faces} == {"Train_Aligned_Faces", "Val_Aligned_Faces"}
    assert {face.source.file.parts[-3] for face in original.faces} == {"Train", "Val"}
    assert aligned.expected == EXPECTED
    assert original.expected == {}


def test_folders_in_folders_and_words_in_other_case_are_read(root):
    inner = root / "Val_Aligned_Faces_new" / "Val_Aligned_Faces"
    (root / "Val_Aligned_Faces_new").rename(root / "val")
    (root / "Val_Aligned_Faces_new").mkdir()
    (root / "val").rename(inner)
    (inner / "Happy").rename(inner / "inner")
    (inner / "happiness").mkdir()
    (inner / "inner").rename(inner / "happiness" / "Happy")
    assert len(scan(root).faces) == 28


def test_one_name_in_two_classes_stays_two_images(root):
    train = root / "Train_Aligned_Faces"
    name = next((train / "Angry").iterdir()).name
    shutil.copy(train / "Angry" / name, train / "Fear" / f"x{name}")
    shutil.copy(train / "Angry" / name, train / "Sad" / f"x{name}")
    faces = scan(root).faces
    assert len({face.sequence for face in faces}) == len(faces) == 30


def test_what_is_no_image_is_left_out_with_its_reason(root):
    (root / "Train_Aligned_Faces" / "Angry" / "list.txt").write_text("notes")
    (root / "Train_Aligned_Faces" / "Contempt").mkdir()
    (root / "Train_Aligned_Faces" / "Angry.zip").write_bytes(b"PK")
    found = reasons(scan(root))
    assert found["not an image file"] == 1
    assert found["not a folder of one of the classes"] == 2


def no_val(root):
    shutil.rmtree(root / "Val_Aligned_Faces_new")


def no_class(root):
    shutil.rmtree(root / "Val_Aligned_Faces_new" / "Fear")


def class_packed(root):
    shutil.rmtree(root / "Train_Aligned_Faces" / "Angry")
    (root / "Train_Aligned_Faces" / "Angry.zip").write_bytes(b"PK")


def class_twice(root):
    shutil.copytree(root / "Train_Aligned_Faces" / "Angry", root / "Train_Aligned_Faces" / "Anger")


def part_twice(root):
    shutil.copytree(root / "Val_Aligned_Faces_new", root / "Val_Aligned_Faces")


def frames_only(root):
    for part, folder in (("Train", "Train_Aligned_Faces"), ("Val", "Val_Aligned_Faces_new")):
        (root / folder).rename(root / part)


def no_images(root):
    for file in list((root / "Val_Aligned_Faces_new").rglob("*.png")):
        file.unlink()


def link_out(root):
    (root / "Train_Aligned_Faces" / "Angry" / "link.png").symlink_to("/etc/passwd")


def everything_else(root):
    for entry in list(root.iterdir()):
        shutil.rmtree(entry)
    (root / "photos").mkdir()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (no_val, "expected the folder Val or Val_Aligned_Faces or Val_Aligned_Faces_new"),
        (no_class, "found none for fear but Angry, Disgust, Happy"),
        (class_packed, "found none for anger but Angry.zip"),
        (class_twice, "expected one folder for anger"),
        (part_twice, "found Val_Aligned_Faces and Val_Aligned_Faces_new; keep one"),
        (frames_only, "set dataset.version=original"),
        (no_images, "expected labelled images of SFEW 2.0, part val,"),
        (link_out, "is a link to /etc/passwd; put a copy in its place"),
        (everything_else, "found photos; set dataset.root to the folder that holds it"),
    ],
)
def test_bad_input_is_told_in_one_sentence(damage, text, root):
    damage(root)
    with pytest.raises(DatasetError) as error:
        scan(root)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_other_versions_are_refused(root):
    with pytest.raises(
        DatasetError, match=r"expected dataset\.version to be one of aligned, original, found 'cropped'"
    ):
        scan(root, version="cropped")
    with pytest.raises(DatasetError, match=r"with the aligned ones only; set dataset\.version=aligned"):
        scan(root, version="original")
