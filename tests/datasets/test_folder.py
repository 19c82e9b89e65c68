import os
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import DatasetError, dataset_names, open_dataset
from datasets.sources import ImageFile

LONDON = Path(__file__).parents[3] / "shared/data/london"


def opened(root, cache, **options):
    return open_dataset("folder", **{"image_size": 16, "channels": 1, "cache": cache, "root": root, **options})


def test_a_folder_becomes_a_face_set(photographs, tmp_path):
    (photographs / "happy" / "notes.txt").write_text("not an image")
    (photographs / "happy" / ".P9_hidden.png").write_text("not an image")
    (photographs / ".git").mkdir()
    (photographs / "README.md").write_text("not a class")
    faces = opened(photographs, tmp_path / "cache", channels=3)
    assert faces.images.shape == (6, 16, 16, 3)
    assert faces.classes == ("happy", "sad")
    assert faces.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert faces.subjects.tolist() == ["P0", "P1", "P2"] * 2
    assert faces.sequences[0] == "happy/P0_happy.png"
    assert len(set(faces.sequences)) == 6
    assert set(faces.official) == {""}


def test_a_second_open_decodes_nothing(photographs, tmp_path, monkeypatch):
    first = opened(photographs, tmp_path / "cache")
    monkeypatch.setattr(ImageFile, "load", None)
    assert opened(photographs, tmp_path / "cache").fingerprint == first.fingerprint


def test_what_changes_the_pixels_builds_anew(photographs, tmp_path):
    cache = tmp_path / "cache"
    first = opened(photographs, cache)
    shutil.copytree(photographs, tmp_path / "copy")
    assert opened(tmp_path / "copy", cache).fingerprint == first.fingerprint
    assert opened(photographs, cache, image_size=24).images.shape == (6, 24, 24, 1)
    image = photographs / "sad" / "P1_sad.png"
    pixels = np.asarray(Image.open(image)).copy()
    pixels[:15] = 255 - pixels[:15]
    Image.fromarray(pixels).save(image)
    os.utime(image, ns=(1, 1))
    assert opened(photographs, cache).fingerprint != first.fingerprint


def save_as(root, name, array, **options):
    Image.fromarray(array).save(root / name, **options)


def test_the_centre_is_cut_and_orientation_respected(photographs, tmp_path):
    tall = np.zeros((90, 30), np.uint8)
    tall[20:70] = 200
    save_as(photographs, "happy/P0_tall.png", tall)
    turned = np.zeros((32, 32), np.uint8)
    turned[:16] = 200  # Stored with the bright half on top; orientation 3 turns it by 180 degrees.
    exif = Image.Exif()
    exif[0x0112] = 3
    save_as(photographs, "happy/P1_turned.png", turned, exif=exif)
    faces = opened(photographs, tmp_path / "cache")
    of = {name.split("/")[1]: image[..., 0] for name, image in zip(faces.sequences, faces.images, strict=True)}
    assert np.all(of["P0_tall.png"] == 200)
    assert of["P1_turned.png"][0].max() == 0
    assert of["P1_turned.png"][-1].min() == 200


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "tif", "tiff", "bmp", "webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_and_mode_gives_eight_bits(photographs, tmp_path, suffix, channels):
    save_as(photographs, f"sad/P5_x.{suffix}", np.full((20, 20), 120, np.uint8))
    faces = opened(photographs, tmp_path / "cache", channels=channels)
    assert np.abs(faces.images[-1].astype(int) - 120).max() <= 2


def test_deep_and_transparent_images_keep_their_brightness(photographs, tmp_path):
    save_as(photographs, "sad/P6_deep.png", np.full((20, 20), 120 * 257, np.uint16))
    clear = np.full((20, 20, 4), 200, np.uint8)
    clear[..., 3] = 0
    save_as(photographs, "sad/P7_clear.png", clear)
    faces = opened(photographs, tmp_path / "cache")
    assert set(faces.images[-2].ravel()) == {120}
    assert set(faces.images[-1].ravel()) == {0}


def empty(root):
    for file in (root / "sad").iterdir():
        file.unlink()


def truncate(root):
    file = root / "sad" / "P1_sad.png"
    file.write_bytes(file.read_bytes()[:900])


def one_class(root):
    shutil.rmtree(root / "sad")


def no_class(root):
    shutil.rmtree(root)
    root.mkdir()
    (root / "P1_sad.png").write_text("")


def as_file(root):
    shutil.rmtree(root)
    root.write_text("")


def link_out(root):
    outside = root.parent / "outside.png"
    shutil.copy(root / "sad" / "P1_sad.png", outside)
    (root / "sad" / "P8_link.png").symlink_to(outside)


def link_nowhere(root):
    (root / "sad" / "P8_link.png").symlink_to(root / "sad" / "gone.png")


def link_class_out(root):
    shutil.move(root / "sad", root.parent / "outside")
    (root / "sad").symlink_to(root.parent / "outside")


def bomb(root):
    Image.new("1", (20000, 20000)).save(root / "sad" / "P8_bomb.png")


def large(root):
    Image.new("1", (10000, 10000)).save(root / "sad" / "P8_large.png")


def other_name(root):
    (root / "sad" / "P1_sad.png").rename(root / "sad" / "portrait.png")


def nested(root):
    (root / "sad" / "P4").mkdir()


def foreign(root):
    (root / "sad" / "P4_page.png").write_text("%!PS-Adobe-3.0")


def floating(root):
    save_as(root, "sad/P4_float.tif", np.zeros((8, 8), np.float32))


def bad_bytes(root):
    (root / "sad" / os.fsdecode(b"P4_\xff.png")).write_text("")


ERRORS = [
    (shutil.rmtree, {}, "expected the folder of class folders at .*photographs, found nothing"),
    (as_file, {}, "found a file"),
    (None, {"root": None}, r"set dataset\.root=PATH"),
    (None, {"root": ""}, r"set dataset\.root=PATH"),
    (no_class, {}, "expected class folders in .*photographs, found none"),
    (one_class, {}, "at least 2 class folders in .*photographs, found 'happy' only"),
    (empty, {}, r"expected images in the class folder .*sad, found none that ends in \.png"),
    (nested, {}, "class folder .*sad, found the folder 'P4'"),
    (truncate, {}, r"whole image in .*P1_sad\.png"),
    (foreign, {}, r"whole image in .*P4_page\.png"),
    (floating, {}, r"P4_float\.tif.*8 bits a channel"),
    (bomb, {}, r"at most \d+ pixels, found more in .*P8_bomb\.png"),
    (large, {}, r"at most \d+ pixels, found more in .*P8_large\.png"),
    (other_name, {}, r"sad/portrait\.png, found nothing that matches '\^.*set dataset\.subject_pattern"),
    (None, {"subject_pattern": "(unclosed"}, r"regular expression, found '\(unclosed'.*missing \)"),
    (None, {"subject_pattern": "^P"}, "put it in parentheses"),
    (None, {"subject_pattern": None}, "found None"),
    (None, {"subject_pattern": "^(x?)"}, "found nothing that matches"),
    (link_out, {}, r"P8_link\.png is a link to .*outside\.png"),
    (link_nowhere, {}, r"P8_link\.png is a link to .*gone\.png"),
    (link_class_out, {}, r"sad is a link to .*outside"),
    (bad_bytes, {}, "file names in UTF-8"),
    (None, {"channels": 4}, r"channels to be 1 \(grey\) or 3 \(RGB\), found 4"),
    (None, {"image_size": 0}, "image_size to be 8 to 1024 pixels, found 0"),
    (None, {"rooot": "x"}, "found 'rooot'; did you mean 'root'"),
    (None, {"align": "yes"}, "align to be true or false, found 'yes'"),
]


@pytest.mark.parametrize(("spoil", "options", "words"), ERRORS, ids=range(len(ERRORS)))
def test_bad_input_is_one_sentence_and_writes_nothing(photographs, tmp_path, spoil, options, words):
    if spoil:
        spoil(photographs)
    cache = tmp_path / "cache"
    with pytest.raises(DatasetError) as caught:
        opened(cache=cache, **{"root": photographs, **options})
    message = str(caught.value)
    assert re.search(words, message), message
    assert "\n" not in message
    assert message.startswith("expected ")
    assert message.endswith(".")
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(photographs, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(DatasetError, match=r"expected a folder that can be written to .*cache"):
        opened(photographs, tmp_path / "cache")


def test_an_unknown_data_set_is_named_with_the_nearest(tmp_path):
    assert "folder" in dataset_names()
    assert not {"splits", "errors", "faceset", "building", "alignment", "prepare"} & set(dataset_names())
    with pytest.raises(DatasetError, match="found 'foldr'; did you mean 'folder'"):
        open_dataset("foldr", image_size=16, channels=1, cache=tmp_path)
    with pytest.raises(DatasetError, match="expected the option 'root'"):
        open_dataset("folder", image_size=16, channels=1, cache=tmp_path)


def test_a_full_disk_is_said_and_nothing_is_left(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr("os.pwrite", lambda *_: 0)
    with pytest.raises(DatasetError, match="No space left on device"):
        opened(photographs, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_twin_files_in_another_folder_are_not_mistaken_for_these(photographs, tmp_path):
    other = tmp_path / "other"
    for root, value in ((photographs, 10), (other, 200)):
        for name in ("happy/P0_x.bmp", "sad/P0_x.bmp"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            save_as(root, name, np.full((20, 20), value, np.uint8))
            os.utime(root / name, (0, 0))
    for file in photographs.glob("*/*.png"):
        file.unlink()
    assert opened(photographs, tmp_path / "cache").images.max() == 10
    assert opened(other, tmp_path / "cache").images.min() == 200


def fingerprint(arguments):
    return opened(*arguments).fingerprint


def test_builders_at_once_leave_one_good_file(photographs, tmp_path):
    cache = tmp_path / "cache"
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = set(pool.map(fingerprint, [(photographs, cache)] * 4))
    assert found == {opened(photographs, cache).fingerprint}
    assert sorted(path.suffix for path in cache.iterdir()) == [".arrow", ".csv", ".md", ".png"]


def test_the_same_images_have_the_fingerprint_that_they_always_had(photographs, tmp_path):
    """The keys of trials hold it: that of version 1 of the decoder, which this test has kept."""
    save_as(photographs, "sad/P5_deep.png", np.linspace(0, 65535, 2500).reshape(50, 50).astype(np.uint16))
    Image.fromarray(np.arange(2400, dtype=np.uint16).astype(np.uint8).reshape(40, 60)).convert("P").save(
        photographs / "happy" / "P5_palette.png"
    )
    clear = np.full((20, 20, 4), 200, np.uint8)
    clear[..., 3] = np.arange(20) * 12
    save_as(photographs, "sad/P7_clear.png", clear)
    exif = Image.Exif()
    exif[0x0112] = 6
    save_as(
        photographs, "happy/P7_turned.png", np.arange(1200, dtype=np.uint16).astype(np.uint8).reshape(30, 40), exif=exif
    )
    grey, colour = (opened(photographs, tmp_path / "cache", channels=channels).fingerprint for channels in (1, 3))
    assert (grey, colour) == (
        "9f185c201df6674d5abec7fd0422f9569621af234b7d81b1bacefd7e850a01a7",
        "338b34bbeacbea7b8c7fdd822e9006390f268ff6848a521c324fc099b88a74c0",
    )


@pytest.mark.skipif(not LONDON.is_dir(), reason="the London photographs are not beside the checkout")
def test_the_london_photographs(tmp_path):
    faces = opened(LONDON, tmp_path, image_size=64)
    assert faces.images.shape == (204, 64, 64, 1)
    assert len(set(faces.subjects)) == 102
    assert faces.classes == ("neutral", "smiling")
    assert np.bincount(faces.labels).tolist() == [102, 102]
