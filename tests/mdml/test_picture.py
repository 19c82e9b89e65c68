"""A picture has the pixels that the data set of the same file has."""

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import open_dataset
from mdml import MethodError
from mdml.picture import read_picture


def noise(*shape, dtype=np.uint8, most=256):
    return np.random.default_rng(0).integers(0, most, shape).astype(dtype)


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return {"exif": exif}


TURNED = orientation(6)
PICTURES = {
    "wide.png": (Image.fromarray(noise(30, 50, 3)), {}),
    "high.png": (Image.fromarray(noise(51, 30, 3)), {}),
    "small.png": (Image.fromarray(noise(5, 7, 3)), {}),
    "grey.png": (Image.fromarray(noise(40, 40)), {}),
    "deep.png": (Image.fromarray(noise(40, 44, dtype=np.uint16, most=65536)), {}),
    "glass.png": (Image.fromarray(noise(40, 44, 4)), {}),
    "greyglass.png": (Image.fromarray(noise(40, 44, 4)).convert("LA"), {}),
    "palette.png": (Image.fromarray(noise(40, 44, 3)).quantize(16), {"transparency": 3}),
    "bits.png": (Image.fromarray(noise(40, 44) > 99), {}),
    "turned.jpg": (Image.fromarray(noise(40, 64, 3)), TURNED),
    "turned.png": (Image.fromarray(noise(40, 64, 3)), TURNED),
    "large.jpg": (Image.fromarray(noise(40, 37, 3)).resize((600, 505)), {}),
    "print.jpg": (Image.fromarray(noise(40, 44, 3)).convert("CMYK"), {}),
    "scan.tif": (Image.fromarray(noise(40, 44, 3)), {}),
    "old.bmp": (Image.fromarray(noise(40, 44, 3)), {}),
    "web.webp": (Image.fromarray(noise(40, 44, 3)), {}),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [16, 48])
def test_every_kind_of_file_has_the_pixels_of_the_data_set(tmp_path, side, channels):
    for label in ("happy", "sad"):
        (tmp_path / "faces" / label).mkdir(parents=True)
    for name, (image, options) in PICTURES.items():
        image.save(tmp_path / "faces" / "happy" / f"p_{name}", **options)
    Image.fromarray(noise(20, 20)).save(tmp_path / "faces" / "sad" / "p_other.png")
    faces = open_dataset(
        "folder", image_size=side, channels=channels, cache=tmp_path / "cache", root=tmp_path / "faces"
    )
    assert len(faces) == len(PICTURES) + 1
    for pixels, name in zip(faces.images, faces.sequences.tolist(), strict=True):
        found = read_picture(tmp_path / "faces" / name, side, channels)
        assert (found.shape, found.dtype) == ((channels, side, side), torch.uint8)
        assert np.array_equal(found.permute(1, 2, 0), pixels), name


def test_what_is_no_picture_is_named(tmp_path, monkeypatch):
    good = tmp_path / "good.png"
    Image.fromarray(noise(40, 44, 3)).save(good)
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:500])
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(noise(40, 44)).convert("F").save(tmp_path / "float.tif")
    Image.fromarray(noise(40, 44)).save(tmp_path / "moving.gif")
    for name in ("text.png", "cut.png", "empty.png", "float.tif", "moving.gif"):
        with pytest.raises(MethodError, match=f"Expected a whole image .*{name}"):
            read_picture(tmp_path / name, 16, 1)
    for name, found in (("nowhere.png", "nothing"), ("", "a folder")):
        with pytest.raises(MethodError, match=f"found {found} at"):
            read_picture(tmp_path / name, 16, 1)
    for most in (1000, 500):  # Pillow warns of the first and raises at the second.
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(MethodError, match=f"at most {most} pixels"):
            read_picture(good, 16, 1)
