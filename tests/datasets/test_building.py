import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import DatasetError, FaceSet, alignment, write_faceset
from datasets.building import build
from datasets.folder import CARD, scan
from datasets.listing import Face, LeftOut, Listing
from datasets.scratch import Scratch
from datasets.sources import ImageFile
from datasets.summary import skipped_images

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def people(tmp_path):
    """A folder of 2 classes with 50 people each, whose grey tells the image: 0 to 99."""
    root = tmp_path / "people"
    for number in range(100):
        folder = root / ("happy" if number < 50 else "sad")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (10, 10), number).save(folder / f"P{number:03d}_x.png")
    return root


def built(root, cache, listing=None, **options):
    path = build(CARD, listing or scan(root), {}, **{"image_size": 8, "channels": 1, "cache": cache, **options})
    return FaceSet.open(path)


def spoil(root, *numbers):
    for number in numbers:
        file = next(root.glob(f"*/P{number:03d}_x.png"))
        file.write_bytes(b"not a picture")


def test_interrupted_work_goes_on_where_it_stopped(people, tmp_path, monkeypatch):
    def stop(done, total):
        assert total == 100
        if done >= 40:
            interrupted.set()
            raise KeyboardInterrupt

    def slow(self, size):
        if int(self.file.name[1:4]) >= 64:  # is not read before the user interrupts
            interrupted.wait(60)
        time.sleep(0.01)
        return load(self, size)

    interrupted, loaded, load = threading.Event(), [], ImageFile.load
    monkeypatch.setattr(ImageFile, "load", slow)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0})
    with pytest.raises(KeyboardInterrupt):
        built(people, tmp_path / "cache", progress=stop)
    left = sorted(path.suffix for path in (tmp_path / "cache").iterdir())
    assert left == [".pixels", ".state"]
    monkeypatch.setattr(ImageFile, "load", lambda self, size: loaded.append(self.file) or load(self, size))
    calls = []
    faces = built(people, tmp_path / "cache", progress=lambda *call: calls.append(call))
    assert 0 < len(loaded) <= 60
    assert calls[-1] == (100, 100)
    assert faces.images[:, 0, 0, 0].tolist() == list(range(100))
    assert not list((tmp_path / "cache").glob(".*"))


SLOW = """
import sys, time
from datasets import building, folder, sources
from pathlib import Path
building.CHECKPOINT = 0
load = sources.ImageFile.load
sources.ImageFile.load = lambda self, size: time.sleep(0.02) or load(self, size)
root, cache = map(Path, sys.argv[1:])
report = lambda done, total: print(done, flush=True)
building.build(folder.CARD, folder.scan(root), {}, image_size=8, channels=1, cache=cache, progress=report)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_build_loses_only_what_was_not_saved(people, tmp_path, monkeypatch, number):
    cache = tmp_path / "cache"
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, people, cache], stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as killed:
        while int(killed.stdout.readline()) < 48:
            pass
        killed.send_signal(number)
    assert killed.returncode == -number
    assert not list(cache.glob("*.arrow"))
    loaded, load = [], ImageFile.load
    monkeypatch.setattr(ImageFile, "load", lambda self, size: loaded.append(self.file) or load(self, size))
    faces = built(people, cache)
    assert 0 < len(loaded) < 90
    assert faces.images[:, 0, 0, 0].tolist() == list(range(100))
    assert faces.fingerprint == built(people, tmp_path / "anew").fingerprint


def test_a_second_process_waits_and_finds_the_file(people, tmp_path, caplog, monkeypatch):
    cache = tmp_path / "cache"
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, people, cache], stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as other:
        other.stdout.readline()
        monkeypatch.setattr(ImageFile, "load", None)  # All are read by the other one.
        assert len(built(people, cache)) == 100
    assert other.returncode == 0
    assert "Waiting for another process" in caplog.text
    assert len(list(cache.iterdir())) == 4


def test_a_scratch_of_another_size_is_not_believed(people, tmp_path):
    cache = tmp_path / "cache"
    path = build(CARD, scan(people), {}, image_size=8, channels=1, cache=cache)
    good = path.read_bytes()
    path.unlink()
    (cache / f".{path.stem}.state").write_bytes(b"\1" * 100)
    (cache / f".{path.stem}.pixels").write_bytes(b"\7" * 99)
    assert build(CARD, scan(people), {}, image_size=8, channels=1, cache=cache).read_bytes() == good


def test_a_scratch_whose_pixels_lie_elsewhere_is_not_believed(tmp_path):
    """As after a change of version of pyarrow; more bytes behind the pixels are what a writer that was killed may leave."""
    with Scratch(tmp_path / "x", 4, 2, 3) as scratch:
        scratch.keep([0, 2])
    with scratch.pixels.open("ab") as file:
        file.write(b"behind")
    with Scratch(tmp_path / "x", 4, 2, 3) as scratch:
        assert scratch.missing() == [1, 3]
    for rows, width, offset in ((4, 2, 2), (3, 2, 3)):
        with Scratch(tmp_path / "x", 4, 2, 3) as scratch:
            scratch.keep([0, 2])
        with Scratch(tmp_path / "x", rows, width, offset) as scratch:
            assert scratch.missing() == list(range(rows))


@pytest.mark.parametrize("lost", [(), (0, 57), (3,), (99,)])
def test_the_file_is_the_one_that_a_copy_of_its_content_gives(people, tmp_path, lost):
    spoil(people, *lost)
    faces = built(people, tmp_path / "cache", allow_skips=True)
    assert faces.images[:, 0, 0, 0].tolist() == [number for number in range(100) if number not in lost]
    copy = write_faceset(
        tmp_path / "copy.arrow",
        name=faces.name,
        images=np.array(faces.images),
        labels=faces.labels,
        subjects=faces.subjects,
        sequences=faces.sequences,
        classes=faces.classes,
        official=faces.official,
    )
    assert copy.read_bytes() == faces.path.read_bytes()


ENDING = """
import os, signal, sys
from datasets import building, folder
from pathlib import Path
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
root, cache = map(Path, sys.argv[1:])
building.build(folder.CARD, folder.scan(root), {}, image_size=8, channels=1, cache=cache)
"""


def test_a_build_killed_while_the_file_is_finished_decodes_nothing_again(people, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    killed = subprocess.run([sys.executable, "-c", ENDING, people, cache], cwd=PROJECT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not list(cache.glob("*.arrow"))
    assert next(cache.glob(".*.pixels")).read_bytes().endswith(b"ARROW1")
    monkeypatch.setattr(ImageFile, "load", None)
    resumed = built(people, cache)
    monkeypatch.undo()
    assert resumed.path.read_bytes() == built(people, tmp_path / "anew").path.read_bytes()
    assert not list(cache.glob(".*"))


def test_a_crash_while_rows_are_moved_begins_anew(tmp_path):
    with Scratch(tmp_path / "x", 4, 2, 3) as scratch:
        for row in range(4):
            scratch.write(row, np.full(2, row, np.uint8))
        scratch.keep(range(4))
        assert scratch.missing() == []
        scratch.compact([1, 3])
        assert scratch.pixels.read_bytes() == b"\0\0\0\1\1\3\3"
    with Scratch(tmp_path / "x", 4, 2, 3) as scratch:
        assert scratch.missing() == [0, 1, 2, 3]
        scratch.remove()
    assert list(tmp_path.iterdir()) == []


def test_one_image_in_a_hundred_is_skipped_and_named(people, tmp_path, caplog):
    spoil(people, 3)
    faces = built(people, tmp_path / "cache")
    assert faces.images[:, 0, 0, 0].tolist() == [number for number in range(100) if number != 3]
    assert faces.labels.tolist() == [0] * 49 + [1] * 50
    (name, reason), *others = skipped_images(faces.path)
    assert name == "happy/P003_x.png"
    assert "cannot be decoded" in reason
    assert not others
    assert "Skipped 1 of 100 images" in caplog.text
    assert faces.path.with_suffix(".csv").name in caplog.text
    text = faces.path.with_suffix(".md").read_text()
    assert "| skipped | 1 of 100 images |" in text
    assert "- `happy/P003_x.png`: expected a whole image" in text
    assert faces.fingerprint in text


def test_more_than_one_in_a_hundred_needs_leave(people, tmp_path):
    spoil(people, 3, 50, 70, 99)
    cache = tmp_path / "cache"
    with pytest.raises(DatasetError) as caught:
        built(people, cache)
    assert "happy/P003_x.png (expected a whole image" in str(caught.value)
    assert "sad/P050_x.png" in str(caught.value)
    assert "--allow-skips" in str(caught.value)
    assert list(cache.iterdir()) == []
    assert len(built(people, cache, allow_skips=True)) == 96
    # What was built with leave is not given out without.
    with pytest.raises(DatasetError, match=r"found 4 among the first 100.*allow_skips=true"):
        built(people, cache)
    assert len(built(people, cache, allow_skips=True)) == 96


def test_no_class_vanishes(people, tmp_path):
    spoil(people, *range(50))
    with pytest.raises(DatasetError, match=r"none of 'happy' can be read .*P000_x"):
        built(people, tmp_path / "cache", allow_skips=True)
    assert list((tmp_path / "cache").iterdir()) == []
    listing = scan(people)
    more = Listing(people, (*listing.classes, "fear"), [face for face in listing.faces if face.label == 1])
    text = built(people, tmp_path / "cache", more, allow_skips=True).path.with_suffix(".md").read_text()
    assert "No image of the class 'happy'" in text
    assert "No image of the class 'fear'" in text


def test_nothing_to_build_is_said(people, tmp_path):
    with pytest.raises(DatasetError, match=r"expected images of Your own folder in .*people, found none"):
        built(people, tmp_path / "cache", Listing(people, ("a", "b"), []))


def test_twins_are_named(people, tmp_path):
    for source, target in ((3, 60), (4, 5), (6, 7)):
        old, new = (next(people.glob(f"*/P{number:03d}_x.png")) for number in (source, target))
        new.write_bytes(old.read_bytes())
    (people / "happy" / "P006_y.png").write_bytes((people / "happy" / "P006_x.png").read_bytes())
    text = built(people, tmp_path).path.with_suffix(".md").read_text()
    assert "- 1 images occur more than once with different labels:\n  - `happy/P003_x.png` = `sad/P060_x.png`" in text
    assert "- 3 images occur more than once with different subjects:" in text
    assert "  - `happy/P006_x.png` = `happy/P006_y.png` = `happy/P007_x.png`" in text


def test_images_that_are_alike_in_part_are_no_twins(people, tmp_path):
    for number, shade in ((3, 0), (60, 200), (61, 0)):
        image = Image.new("L", (8, 8), 9)
        image.putpixel((7, 7), shade)
        image.save(next(people.glob(f"*/P{number:03d}_x.png")))
    text = built(people, tmp_path).path.with_suffix(".md").read_text()
    assert "- 1 images occur more than once with different labels:\n  - `happy/P003_x.png` = `sad/P061_x.png`" in text
    assert "P060_x.png" not in text


def test_the_summary_counts_against_what_is_expected(people, tmp_path):
    found = scan(people)
    faces = [face._replace(official="train" if face.label else "val") for face in found.faces]
    out = [LeftOut("a.png", "blurred"), LeftOut("b.png", "blurred"), LeftOut("c.png", "no label")]
    listing = Listing(people, found.classes, faces, [], out, {"train": {"sad": 50}, "val": {"happy": 51}})
    path = built(people, tmp_path, listing).path
    text = path.with_suffix(".md").read_text()
    assert "| train | 0 | 50 | 50 |\n| val | 50 (51) | 0 | 50 (51) |" in text
    assert "| blurred | 2 | `a.png` |\n| no label | 1 | `c.png` |" in text
    assert "| P000 | 1 | 0 | 1 | 1 |" in text
    assert "c.png,left out,no label" in path.with_suffix(".csv").read_text()
    assert skipped_images(path) == []
    with Image.open(path.with_suffix(".png")) as sheet:
        assert sheet.width > 8 * 8


def test_the_name_tells_all_inputs_apart(people, tmp_path):
    (tmp_path / "labels.csv").write_text("")
    (people / "labels.csv").write_text("1")

    def name(change=lambda listing: listing, options=None, **settings):
        listing = change(scan(people))
        settings = {"image_size": 8, "channels": 1, "cache": tmp_path / "cache", **settings}
        return build(CARD, listing, options or {}, **settings).name

    def relabelled(listing):
        faces = [listing.faces[0]._replace(label=1), *listing.faces[1:]]
        return Listing(listing.root, listing.classes, faces)

    def boxed(listing):
        face = listing.faces[0]
        return Listing(
            listing.root,
            listing.classes,
            [face._replace(source=ImageFile(face.source.file, (0, 0, 5, 5))), *listing.faces[1:]],
        )

    def labels(listing):
        return Listing(listing.root, listing.classes, listing.faces, [people / "labels.csv"])

    names = [name(), name(relabelled), name(boxed), name(labels), name(options={"frames": 3}), name(image_size=9)]
    (people / "labels.csv").write_text("12")
    names += [name(labels), name(channels=3)]
    os.utime(people / "happy" / "P000_x.png", ns=(1, 1))
    names += [name()]
    (tmp_path / "elsewhere").mkdir()
    people.rename(tmp_path / "elsewhere" / "people")
    people = tmp_path / "elsewhere" / "people"
    names += [name()]
    assert len(set(names)) == len(names)
    assert name() == names[-1]


@pytest.mark.parametrize("way", ["link", "dots", "folder"])
def test_files_outside_of_the_root_are_refused(people, tmp_path, way):
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.new("L", (10, 10)).save(outside / "secret.png")
    file = {"link": people / "link.png", "dots": people / "../outside/secret.png", "folder": people / "in/secret.png"}
    (people / "link.png").symlink_to(outside / "secret.png")
    (people / "in").symlink_to(outside)
    face = Face(ImageFile(file[way]), 0, "a", "a")
    with pytest.raises(DatasetError, match=r"expected everything within .*people, found that .*outside.secret\.png"):
        built(people, tmp_path / "cache", Listing(people, ("a", "b"), [face]))
    assert not (tmp_path / "cache").exists()


def test_a_link_within_the_root_is_followed(people, tmp_path):
    (people / "happy" / "P500_x.png").symlink_to(people / "sad" / "P099_x.png")
    assert built(people, tmp_path / "cache").images[50, 0, 0, 0] == 99


def test_a_missing_image_is_a_skipped_one(people, tmp_path):
    listing = scan(people)
    (people / "sad" / "P099_x.png").unlink()
    faces = built(people, tmp_path, listing)
    assert len(faces) == 99
    assert "found nothing" in skipped_images(faces.path)[0][1]


class Fake:
    """An aligner that finds no face in the image 7."""

    def __call__(self, image, size, points):
        assert image.mode in ("L", "RGB")
        value = image.getpixel((0, 0))
        return None if value == 7 else Image.new(image.mode, (size, size), 255 - value if points is None else 1)


def test_alignment_is_asked_and_its_failures_are_named(people, tmp_path, monkeypatch):
    monkeypatch.setattr(alignment, "Aligner", Fake)
    monkeypatch.setattr(alignment, "require_detector", lambda: None)
    listing = scan(people)
    first = listing.faces[0]
    points = ImageFile(first.source.file, points=lambda: np.zeros((68, 2)))
    listing = Listing(people, listing.classes, [first._replace(source=points), *listing.faces[1:]])
    faces = built(people, tmp_path / "cache", listing, align=True)
    assert faces.images[:, 3, 3, 0].tolist() == [1] + [255 - number for number in range(1, 100) if number != 7]
    assert skipped_images(faces.path) == [("happy/P007_x.png", "no face was found")]
    assert built(people, tmp_path / "cache", listing).path != faces.path
    assert "align=True" in faces.path.with_suffix(".md").read_text()
    monkeypatch.setattr(alignment, "CONVENTION", "another")
    assert built(people, tmp_path / "cache", listing, align=True).path != faces.path


def test_missing_packages_for_alignment_are_said_once(people, tmp_path, monkeypatch):
    monkeypatch.setattr(alignment.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetError, match=r"install.*\[align\]"):
        built(people, tmp_path / "cache", align=True)
    assert not (tmp_path / "cache").exists()


def test_nothing_is_logged_when_nothing_is_wrong(people, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    built(people, tmp_path)
    assert [record for record in caplog.records if record.name == "datasets"] == []
