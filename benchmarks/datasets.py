"""Preparing images against a bare loop of Pillow, and opening and sharing a million faces.

    python benchmarks/datasets.py

Preparing: 20,000 generated JPEG files of 200 x 200 pixels to 112 x 112 RGB, all cores. Ours is `build_dataset` from the folder to the
Arrow file, synced to disk, with fingerprint, summary and contact sheet. The peer is a pool of as many processes that decodes each file
with Pillow, scales it with the same filter and throws it away. In turn, on files that the system has cached; median of the repeats.
Opening: a set of 1,000,000 grey 48 x 48 faces is written and opened, each in a process of its own; memory is what the process holds for
itself (RssAnon), and in all, before and after. Sharing: eight processes read every pixel, and then their proportional set sizes (PSS),
where a page that n processes share counts 1/n in each, are added up.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from datasets import FaceSet, build_dataset, write_faceset
from datasets.synthetic import CLASSES, draw_people

SOURCE, SIZE, FACE = 200, 112, 48
READERS = 8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        _preparing(Path(folder), arguments.images, arguments.repeats)
        _million(Path(folder), arguments.faces)


def _preparing(folder: Path, count: int, repeats: int) -> None:
    cores = len(os.sched_getaffinity(0))
    files = _draw(folder / "images", count, cores)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(repeats):
        shutil.rmtree(folder / "cache", ignore_errors=True)
        for times, run in ((theirs, partial(_bare, files, cores)), (ours, partial(_prepared, folder))):
            start = time.perf_counter()
            run()
            times.append(count / (time.perf_counter() - start))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"{count} JPEG files of {SOURCE} x {SOURCE} to {SIZE} x {SIZE} RGB, {cores} cores, median of {repeats}\n")
    print("| | images a second |\n|---|---:|")
    print(f"| prepared | {statistics.median(ours):.0f} |\n| bare loop of Pillow | {statistics.median(theirs):.0f} |")
    print(f"| ratio | {ratio:.2f} |\n")


def _draw(root: Path, count: int, cores: int) -> list[Path]:
    """Class folders of faces that are drawn once and moved about, so that no two files are alike."""
    faces, labels, people = draw_people(SOURCE, 3, 2, 1.0, 0)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
    names = [
        root / CLASSES[labels[index % len(faces)]] / f"P{people[index % len(faces)]}_{index:06d}.jpg"
        for index in range(count)
    ]
    with get_context("fork").Pool(cores) as pool:
        pool.starmap(partial(_save, faces), enumerate(names), chunksize=100)
    return names


def _save(faces: Any, index: int, file: Path) -> None:
    shift = divmod(index // len(faces), SOURCE)
    Image.fromarray(np.roll(faces[index % len(faces)], shift, (0, 1))).save(file, quality=90)


def _bare(files: list[Path], cores: int) -> None:
    with get_context("fork").Pool(cores) as pool:
        for _ in pool.imap_unordered(_decode, files, chunksize=64):
            pass


def _decode(file: Path) -> None:
    with Image.open(file) as image:
        np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def _prepared(folder: Path) -> None:
    build_dataset("folder", {"root": folder / "images"}, image_size=SIZE, channels=3, cache=folder / "cache")


def _million(folder: Path, count: int) -> None:
    path = folder / "million.arrow"
    wrote = _alone(partial(_write, path, count))
    opened = _alone(partial(_open, path))
    size = path.stat().st_size / 2**20
    print(f"{count} grey faces of {FACE} x {FACE}: a file of {size:.0f} MiB\n")
    print("| | seconds | own memory, MiB | with mapped pages, MiB |\n|---|---:|---:|---:|")
    for what, (seconds, own, resident) in (("write", wrote), ("open", opened)):
        print(f"| {what} | {seconds:.3f} | {own:+.1f} | {resident:+.1f} |")
    context = get_context("spawn")
    ready, leave = context.Barrier(READERS + 1), context.Barrier(READERS + 1)
    readers = [context.Process(target=_read, args=(path, ready, leave)) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    ready.wait()
    keys = ("Pss:", "Pss_Anon:", "Rss:")
    shares, private, all_pages = (
        sum(_mebibytes(f"/proc/{reader.pid}/smaps_rollup", key) for reader in readers) for key in keys
    )
    leave.wait()
    for reader in readers:
        reader.join()
    print(f"\n{READERS} processes that have read every pixel\n\n| | MiB |\n|---|---:|")
    print(f"| sum of resident sizes | {all_pages:.0f} |\n| sum of proportional sizes | {shares:.0f} |")
    print(f"| of that, memory of their own (Python, numpy, pyarrow) | {private:.0f} |")
    print(f"| of that, mapped: pixels and libraries | {shares - private:.0f} |\n| the file | {size:.0f} |")


def _alone(work: Callable[[], tuple[float, float, float]]) -> tuple[float, float, float]:
    """What `work` gives in a fresh process."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(work)


def _write(path: Path, count: int) -> tuple[float, float, float]:
    """Write a set whose pixels lie in a file; seconds and the growth of memory at its highest."""
    pixels = path.with_suffix(".pixels")
    random = np.random.default_rng(0)
    with pixels.open("wb") as file:
        for first in range(0, count, 10_000):
            file.write(random.integers(0, 256, (min(10_000, count - first), FACE, FACE, 1), np.uint8).data)
    images = np.memmap(pixels, np.uint8, "r", shape=(count, FACE, FACE, 1))
    labels = np.arange(count) % len(CLASSES)
    names = [f"P{number // 7:06d}" for number in range(count)]
    takes = [f"train/P{number // 7:06d}_{number % 7}.png" for number in range(count)]
    before = _memory()
    peak = [0.0]
    stop, watcher = _watch(peak)
    start = time.perf_counter()
    write_faceset(path, name="million", images=images, labels=labels, subjects=names, sequences=takes, classes=CLASSES)
    seconds = time.perf_counter() - start
    stop.set()
    watcher.join()
    pixels.unlink()
    return seconds, peak[0] - before[0], _memory()[1] - before[1]


def _watch(peak: list[float]) -> tuple[threading.Event, threading.Thread]:
    """A thread that keeps the greatest own memory in `peak`."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], _memory()[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    return stop, watcher


def _open(path: Path) -> tuple[float, float, float]:
    before = _memory()
    start = time.perf_counter()
    faces = FaceSet.open(path)
    seconds = time.perf_counter() - start
    own, resident = _memory()
    if len(faces) == 0:
        raise ValueError("an empty set")
    return seconds, own - before[0], resident - before[1]


def _read(path: Path, ready: Any, leave: Any) -> None:
    faces = FaceSet.open(path)
    for start in range(0, len(faces), 10_000):
        faces.images[start : start + 10_000].max()
    ready.wait()
    leave.wait()


def _memory() -> tuple[float, float]:
    """MiB that this process holds for itself, and in all."""
    return _mebibytes("/proc/self/status", "RssAnon:"), _mebibytes("/proc/self/status", "VmRSS:")


def _mebibytes(file: str, key: str) -> float:
    line = next(line for line in Path(file).read_text().splitlines() if line.startswith(key))
    return float(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
