"""What only MMI has: films, XML files, views."""

import shutil
from collections import Counter

import numpy as np
import pytest

from datasets import DatasetError
from datasets.mmi import scan
from tests.datasets.miniatures import face, mmi

EXTRA = {
    "no expression": 1,
    "none of the six expressions": 1,
    "profile view": 1,
    "not a folder with a film S000-000.avi": 1,
}


@pytest.fixture(scope="module", params=[0, 1])
def built(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    mmi.build(folder, people=2, spelling=request.param)
    return folder


@pytest.fixture
def root(built, tmp_path):
    return shutil.copytree(built, tmp_path / "root")


@pytest.fixture
def folder(root):
    """The session of S001-001, a dual view with the face on the right."""
    return next(root.rglob("1"))


def reasons(root):
    return Counter(item.reason for item in scan(root).left_out) - Counter(EXTRA)


def test_the_middle_frames_of_each_film_are_taken(root):
    faces = scan(root).faces
    assert [face.source.offset for face in faces[:3]] == [-1, 0, 1]
    assert faces[0][1:4] == (0, "S001", "S001-001")
    assert [face.source.offset for face in scan(root, frames=1).faces[:2]] == [0, 0]
    assert [face.source.offset for face in scan(root, frames=4).faces[:4]] == [-2, -1, 0, 1]


def test_views_are_cut_and_turned_as_public_code_does(tmp_path):
    mmi.build(tmp_path, people=4)
    ways = {face.subject: (face.source.half, face.source.quarter_turns) for face in scan(tmp_path).faces}
    assert ways == {"S001": ("right", 0), "S003": ("left", 0), "S028": ("", 3), "S053": ("", 0)}
    assert {face.source.quarter_turns for face in scan(tmp_path, rotate=False).faces} == {0}


def test_every_face_comes_out_upright_and_in_order(tmp_path):
    mmi.build(tmp_path, people=4)
    for found in scan(tmp_path).faces:
        person, label = mmi.SUBJECTS.index(found.subject), found.label
        # The middle of 7 frames is the one with index 3.
        truth = face(person, mmi.EXPRESSIONS[label], label * 8 + 3 + found.source.offset)
        difference = np.abs(np.asarray(found.source.load(0), float) - np.asarray(truth, float))
        assert difference.mean() < 6, found


@pytest.mark.parametrize("count", [1, 2])
def test_a_film_of_fewer_than_three_frames_is_told_when_it_is_read(count, tmp_path):
    mmi.session(tmp_path / "Sessions" / "1", "S053-001", [face(0, "anger")] * count, "0", "1")
    last = scan(tmp_path).faces[-1]
    with pytest.raises(DatasetError, match=rf"S053-001\.avi, .*it has {count} frames, and none at \+1 from its middle"):
        last.source.load(0)


def test_a_damaged_film_is_told_when_it_is_read(root, folder):
    next(folder.glob("*.[aA]*")).write_bytes(b"RIFF" + bytes(500))
    with pytest.raises(
        DatasetError, match=r"^expected a whole image in .*, found one that cannot be decoded .*; replace or remove it"
    ):
        scan(root).faces[0].source.load(0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "its XML cannot be read"),
        ("<a><Metatag Name='Emotion' Value='1'/>", "its XML cannot be read"),
        ("<?xml version='1.0' encoding='none'?><a/>", "its XML cannot be read"),
        (
            "<!DOCTYPE a [<!ENTITY e 'eeeeeeeeee'>]><a><Metatag Name='Emotion' Value='1'/>&e;</a>",
            "its XML cannot be read",
        ),
        (
            "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a><Metatag Name='Emotion' Value='1'/></a>",
            "its XML cannot be read",
        ),
        ("<a>" + " " * 1_000_000 + "</a>", "its XML cannot be read"),
        ("<a/>", "no expression"),
        ("<a><Metatag Name='Emotion'/></a>", "its expression is not a number"),
        ("<a><Metatag Name='Emotion' Value='joy'/></a>", "its expression is not a number"),
        ("<a><Metatag Name='Emotion' Value='-1'/></a>", "its expression is not a number"),
        ("<a><Metatag Name='Emotion' Value='0'/></a>", "none of the six expressions"),
        ("<a><Metatag Name='Emotion' Value='7'/></a>", "none of the six expressions"),
        ("<a><Metatag Name='Emotion' Value='1'/><Metatag Name='Emotion' Value='2'/></a>", "two expressions"),
    ],
)
def test_a_film_without_clear_expression_is_left_out(text, reason, root, folder):
    (folder / "S001-001.xml").write_text(text)
    assert reasons(root) == {reason: 1}
    assert len(scan(root).faces) == (12 - 1) * 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<session/>", "its view is not told by session.xml"),
        ("<session><track/></session>", "its view is not told by session.xml"),
        ("<session><track view='3'/></session>", "its view is not told by session.xml"),
        ("<session><track view='0'/><track view='1'/></session>", "its view is not told by session.xml"),
        ("<session><track view='1'/></session>", "profile view"),
        ("<session", "its session.xml cannot be read"),
    ],
)
def test_a_film_without_clear_view_is_left_out(text, reason, root, folder):
    (folder / "session.xml").write_text(text)
    assert reasons(root) == {reason: 1}


def test_of_several_tracks_the_one_of_the_film_tells_the_view(root, folder):
    (folder / "session.xml").write_text(
        "<s xmlns='u'><track filename='S001-001.AVI' view='2'/><track filename='x' view='1'/></s>"
    )
    assert not reasons(root)


def test_a_dual_view_of_an_unknown_subject_is_left_out(root):
    # The second person's first session.
    (next(root.rglob("7")) / "session.xml").write_text("<session><track view='2'/></session>")
    assert reasons(root) == {"dual view of a subject whose frontal half is not known": 1}


def test_missing_files_are_told(root, folder):
    (folder / "S001-001.xml").unlink()
    (next(root.rglob("2")) / "session.xml").unlink()
    next(next(root.rglob("3")).glob("*.[aA]*")).unlink()
    assert reasons(root) == {
        "no XML file of its name": 1,
        "no session.xml": 1,
        "not a folder with a film S000-000.avi": 1,
    }


def test_a_folder_named_as_a_film_is_none(root, folder):
    film = next(folder.glob("*.[aA]*"))
    film.unlink()
    film.mkdir()
    assert reasons(root) == {"not a folder with a film S000-000.avi": 1}


def test_of_two_films_of_one_name_one_is_taken(root, folder):
    shutil.copytree(folder, folder.with_name("1-copy"))
    assert reasons(root) == {"two films of one name": 1}
    assert len(scan(root).faces) == 12 * 3


def test_a_missing_folder_is_told(tmp_path):
    (tmp_path / "Videos").mkdir()
    with pytest.raises(
        DatasetError,
        match=r"^expected the folder Sessions \(a folder for each film\) in .*, found Videos; set dataset.root to the folder that holds it",
    ):
        scan(tmp_path)


def test_no_labelled_film_is_told(root):
    for file in root.rglob("S*.xml"):
        file.unlink()
    with pytest.raises(
        DatasetError, match=r"^expected labelled images of MMI in .*, found none \(16 left out, as .*: no XML file"
    ):
        scan(root)


@pytest.mark.parametrize("frames", [0, "3", 1.5, None])
def test_frames_out_of_range_are_told(frames, root):
    with pytest.raises(DatasetError) as caught:
        scan(root, frames=frames)
    assert str(caught.value) == f"expected dataset.frames to be a whole number from 1 on, found {frames!r}; set one."
