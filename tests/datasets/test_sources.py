import re

import av
import numpy as np
import pytest
from PIL import Image

from datasets import DatasetError
from datasets.sources import ImageFile, Pixels, VideoFrame


@pytest.fixture
def picture(tmp_path):
    """60 x 40 pixels, whose red tells the column and green the row."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(60), np.arange(40)[:, None]
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def film(file, frames, codec="mjpeg", size=(64, 32)):
    """A film whose left half has the grey 10 * frame, and the right half 255 less that; its top row of blocks is black."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(frames):
            pixels = np.zeros((size[1], size[0], 3), np.uint8)
            pixels[8:, : size[0] // 2] = 10 * number
            pixels[8:, size[0] // 2 :] = 255 - 10 * number
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file


def test_an_image_is_whole_or_cut(picture):
    assert ImageFile(picture).load(0).size == (60, 40)
    cut = np.asarray(ImageFile(picture, (10, 5, 30, 20)).load(8))
    assert cut.shape == (15, 20, 3)
    assert cut[0, 0].tolist() == [10, 5, 0]
    assert cut[-1, -1].tolist() == [29, 19, 0]


def test_a_box_beyond_the_edge_is_filled_with_black(picture):
    cut = np.asarray(ImageFile(picture, (-10, -10, 70, 50)).load(0))
    assert cut.shape == (60, 80, 3)
    assert cut[:10].max() == cut[:, :10].max() == cut[50:].max() == cut[:, 70:].max() == 0
    assert cut[10:50, 10:70, 0].max() == 59


def test_a_large_jpeg_is_halved_while_it_is_decoded_but_not_when_a_box_is_cut(tmp_path):
    file = tmp_path / "large.jpg"
    Image.new("RGB", (800, 400), "red").save(file)
    assert ImageFile(file).load(100).size == (200, 100)
    assert ImageFile(file).load(0).size == (800, 400)
    assert ImageFile(file, (0, 0, 400, 400)).load(100).size == (400, 400)


def test_a_box_is_of_the_turned_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    pixels = np.zeros((40, 60), np.uint8)
    pixels[30:, :10] = 200  # bottom left, which turns to the top left
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    source = ImageFile(tmp_path / "turned.png", (0, 0, 10, 10))
    assert np.asarray(source.load(0)).min() == 200


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((5, 5, 5, 9), "box .* is empty"),
        ((9, 0, 5, 9), "empty"),
        ((0, 0, 10**6, 10**6), "at most .* pixels, found more"),
    ],
)
def test_a_box_that_makes_no_sense_is_named(picture, box, words):
    with pytest.raises(DatasetError, match=words) as caught:
        ImageFile(picture, box).load(0)
    assert str(picture) in str(caught.value)


def test_an_image_has_the_landmarks_that_it_is_given(picture):
    points = np.zeros((68, 2))
    assert ImageFile(picture).landmarks() is None
    assert ImageFile(picture, points=lambda: points).landmarks() is points
    assert ImageFile(picture, points=lambda: points) == ImageFile(picture)


def test_sources_tell_their_part(picture):
    sources = [ImageFile(picture), VideoFrame(picture, -1), VideoFrame(picture, 0), Pixels(picture, 7, 2, b"1234")]
    assert [source.part for source in sources] == ["", "frame -1", "frame +0", "row 7"]
    assert [source.landmarks() for source in sources] == [None] * 4


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4"])
@pytest.mark.parametrize("frames", [7, 8])
def test_frames_count_from_the_middle(tmp_path, codec, frames):
    file = film(tmp_path / "film.avi", frames, codec)
    middle = frames // 2
    for offset in (-middle, -1, 0, 1, frames - 1 - middle):
        for half, grey in (("left", 10 * (middle + offset)), ("right", 255 - 10 * (middle + offset))):
            image = VideoFrame(file, offset, half).load(0)
            assert image.size == (32, 32)
            assert abs(np.asarray(image)[16:28, 4:28].mean() - grey) < 4
    assert VideoFrame(file, 0).load(0).size == (64, 32)
    for offset in (-middle - 1, frames - middle):
        with pytest.raises(DatasetError, match=re.escape(f"it has {frames} frames, and none at {offset:+d}")):
            VideoFrame(file, offset).load(0)


@pytest.mark.parametrize(("turns", "dark"), [(0, "top"), (1, "left"), (2, "bottom"), (3, "right"), (4, "top")])
def test_quarter_turns_are_counter_clockwise(tmp_path, turns, dark):
    file = film(tmp_path / "film.avi", 3)
    pixels = np.asarray(VideoFrame(file, 0, "right", turns).load(0)).mean(2)
    edges = {"top": pixels[:6], "bottom": pixels[-6:], "left": pixels[:, :6], "right": pixels[:, -6:]}
    assert min(edges, key=lambda side: edges[side].mean()) == dark


def test_a_film_is_read_again_when_it_has_changed(tmp_path):
    file = film(tmp_path / "film.avi", 5)
    VideoFrame(file, 2).load(0)
    film(file, 3)
    with pytest.raises(DatasetError, match="it has 3 frames"):
        VideoFrame(file, 2).load(0)


@pytest.mark.parametrize("content", ["", "no film", "cut", "sound", "playlist", "missing"])
def test_a_film_that_is_none_is_named(tmp_path, content):
    file = tmp_path / "film.avi"
    if content == "cut":
        film(file, 9)
        file.write_bytes(file.read_bytes()[:300])
    elif content == "sound":
        with av.open(str(file), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
            frame.rate = 8000
            container.mux(stream.encode(frame))
    elif content == "playlist":
        file.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    elif content != "missing":
        file.write_text(content)
    with pytest.raises(DatasetError, match=r"expected .*film\.avi.*\.$") as caught:
        VideoFrame(file, 0).load(0)
    assert "\n" not in str(caught.value)


def test_pixels_of_a_row_are_a_square(tmp_path):
    image = Pixels(tmp_path / "x.csv", 3, 2, bytes([1, 2, 3, 4])).load(96)
    assert (image.mode, np.asarray(image).tolist()) == ("L", [[1, 2], [3, 4]])
    with pytest.raises(DatasetError, match=r"expected 2 x 2 pixels in row 3 of .*x\.csv, found 3"):
        Pixels(tmp_path / "x.csv", 3, 2, bytes([1, 2, 3])).load(96)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"expected an image at .*gone\.png, found nothing"):
        ImageFile(tmp_path / "gone.png").load(0)
