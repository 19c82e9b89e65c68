"""Alignment: turn a face level by the outer corners of its eyes, and cut it out.

Follows the published code of Mul-DML: 68 points of dlib, rotation about the mid-point of the outer eye corners (points 36 and 45) by
atan2(dy, dx), scale 1. How that code's faces had been cut out is not known; the square here hangs on the same points, so that official
and found ones give like crops:

Convention: with d the distance between the outer eye corners, the square has sides of 2.2 d, the eyes level and centred in it, 0.3 of
the way down: it reaches 0.66 d above the eyes (raised brows) and 1.54 d below (the chin of nearly everybody; 1.35 d is usual). The
eyes of a face turned aside lie closer together: d counts as no less than 1.5 times the way from their middle to the base of the nose
(point 33), which on faces seen from the front it exceeds. What lies outside the image is black.

Points are x, y in pixels; (0, 0) is the middle of the top left pixel.

The models come in the packages of the extra `align`: dlib's detector, and its 68 points in face_recognition_models. The latter learned
from the images of 300-W, whose licence excludes commercial use. `benchmarks/alignment.py` compares them with others.
"""

from __future__ import annotations

import importlib.util
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from datasets.errors import DatasetError
from datasets.sources import Points

CONVENTION = "outer-eyes-1"  # raised whenever aligned pixels change, so that what was prepared before is prepared again

_RIGHT_EYE, _LEFT_EYE, _NOSE_BASE = 36, 45, 33  # the outer corners; right and left are the person's own
_SIDE, _EYE_LINE, _EYES_TO_NOSE = 2.2, 0.3, 1.5

# Canvases by their longer side, and the least score that counts there; the detector knows no face below 80 pixels. A face in bad light
# or half hidden scores below zero: that is believed last, and only of a face that fills the image.
_PASSES = ((256, 0.0), (512, 0.0), (1024, 0.3), (256, -0.3))
_SMALLEST = 20  # pixels of the image: no smaller face is looked for
_LANDMARK_SIDE = 1024  # found points are whole pixels of the canvas: 512 costs a tenth of a degree, 256 three tenths
_BORDER = 0.3  # of the canvas's inside: images already cut to the face lack the surroundings that the detector was trained with

_mine = threading.local()
_loading = threading.Lock()
_shared: dict[str, Any] = {}


class Aligner:
    """Finds the largest face of an image, turns it level and cuts it out.

    It holds nothing itself: it can be pickled, and one may serve many threads. The detector is made once a thread, as it must not be
    shared; the model of the landmarks, 100 MB, is only read, and loaded once a process when first needed. Neither starts threads or
    uses the network, and the same image gives the same pixels.
    """

    def __call__(self, image: Image.Image, size: int, points: Points | None = None) -> Image.Image | None:
        """The aligned face, size x size pixels, in the image's mode; None where no face is found.

        Args:
            image: mode L or RGB.
            size: pixels a side of what is returned.
            points: official landmarks (68, 2) in pixels of `image`; with them nothing is detected, and dlib need not be installed.

        Raises:
            DatasetError: the points are not those of a face in this image, or packages of the extra `align` are missing.

        """
        if points is None:
            points = self.landmarks(image)
        return None if points is None else _cut(image, np.asarray(points, np.float64), size)

    def landmarks(self, image: Image.Image) -> Points | None:
        """Landmarks (68, 2) of the largest face of an image, in its pixels; None where no face is found."""
        model = require_detector()
        import dlib

        with _loading:
            predictor = _shared.get("predictor") or _shared.setdefault("predictor", dlib.shape_predictor(str(model)))
        if not hasattr(_mine, "detector"):
            _mine.detector = dlib.get_frontal_face_detector()
        for side, least in _PASSES:
            if side <= max(_PASSES[0][0], 80 / _SMALLEST * max(image.size)):
                boxes, _, _ = _mine.detector.run(_canvas(image, side)[0], 0, least)
                if boxes:
                    break
        else:
            return None
        box = max(boxes, key=lambda box: box.area())
        edges = np.array([box.left(), box.top(), box.right(), box.bottom()]) * _LANDMARK_SIDE / side
        canvas, border, scale = _canvas(image, _LANDMARK_SIDE)
        parts = predictor(canvas, dlib.rectangle(*edges.round().astype(int).tolist())).parts()
        return (np.array([(part.x, part.y) for part in parts]) + 0.5 - border) / scale - 0.5


def require_detector() -> Path:
    """The file of the landmarks' model.

    Raises:
        DatasetError: packages of the extra `align` are missing.

    """
    missing = [name for name in ("dlib", "face_recognition_models") if importlib.util.find_spec(name) is None]
    models = importlib.util.find_spec("face_recognition_models")
    if missing or models is None or models.origin is None:
        raise DatasetError(
            f"expected the packages for alignment, found none ({', '.join(missing)}); install them with pip install -e '.[align]'"
        )
    # Only its files are used: the package itself needs pkg_resources, which setuptools no longer has.
    return Path(models.origin).parent / "models" / "shape_predictor_68_face_landmarks.dat"


def _canvas(image: Image.Image, side: int) -> tuple[npt.NDArray[np.uint8], int, npt.NDArray[np.float64]]:
    """The image with a border of its own edge pixels, `side` pixels long; the border's width; the scale in x and y."""
    inside = side / (1 + 2 * _BORDER)
    width, height = (max(1, round(length * inside / max(image.size))) for length in image.size)
    border = (side - max(width, height)) // 2
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    padded = np.pad(pixels, ((border, border), (border, border), (0, 0))[: pixels.ndim], mode="edge")
    return padded, border, np.array([width / image.width, height / image.height])


def _cut(image: Image.Image, points: Points, size: int) -> Image.Image:
    """The square of the module's convention, turned in one resampling at scale 1 and then brought to `size`."""
    if points.shape != (68, 2) or not np.isfinite(points).all():
        what = "some that are not finite" if points.shape == (68, 2) else f"an array {points.shape}"
        raise DatasetError(f"expected 68 landmarks, x and y, found {what}; repair the file of landmarks.")
    right, left, nose = points[[_RIGHT_EYE, _LEFT_EYE, _NOSE_BASE]]
    middle = (right + left) / 2
    distance = max(math.dist(right, left), _EYES_TO_NOSE * math.dist(middle, nose))
    inside = (middle >= 0).all() and (middle < image.size).all()
    if not inside or math.dist(right, left) < 1 or distance > max(image.size):
        raise DatasetError(
            f"expected the eyes and nose of a face in an image of {image.width} x {image.height} pixels, found the eyes at "
            f"{right.round(1).tolist()} and {left.round(1).tolist()} and the nose at {nose.round(1).tolist()}; "
            "check that the landmarks are this image's, in its pixels."
        )
    side = round(_SIDE * distance)
    across = (left - right) / math.dist(right, left)
    down = np.array([-across[1], across[0]])
    corner = middle + 0.5 - side * (0.5 * across + _EYE_LINE * down)  # Pillow counts from the corner of a pixel
    matrix = (across[0], down[0], corner[0], across[1], down[1], corner[1])
    level = image.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=0)
    return level.resize((size, size), Image.Resampling.LANCZOS)
