"""What people really have in place of a whole data set, and the one sentence that each gets; nothing is written.

What only one data set can be told stands in its own tests too; here every set is opened as a study opens it.
"""

import importlib
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import numpy as np
import pytest

from datasets import DatasetError, open_dataset, prepare
from datasets.card import card_of

PROJECT = Path(__file__).resolve().parents[2]

# An image of each, and where its folder is; a spelling whose images are files.
IMAGES = {
    "affectnet": (0, "Manually_Annotated_Images/1/*.jpg"),
    "bu3dfe": (0, "F0001/*_AN01WH_F2D.bmp"),
    "ckplus": (0, "cohn-kanade-images/S005/001/*_00000006.png"),
    "ckplus48": (0, "anger/*_00000012.png"),
    "fer2013": (2, "test/angry/*.jpg"),
    "ferplus": (0, "data/FER2013Test/*.png"),
    "folder": (0, "happy/P0_1.png"),
    "jaffe": (0, "jaffe/KA.AN1.*.tiff"),
    "mmi": (0, "Sessions/1/*.avi"),
    "oulu_casia": (0, "OriginalImg/VL/Strong/P001/Anger/003.jpeg"),
    "rafdb": (0, "Image/aligned/test_0001_aligned.jpg"),
    "sfew": (0, "Val_Aligned_Faces_new/Fear/*.png"),
}

EMPTY = {
    "affectnet": r"training\.csv and validation\.csv in {root}, found no training\.csv and .*; unpack Manually_Annotated_file_lists",
    "bu3dfe": r"labelled images of BU-3DFE in {root}, found none \(0 left out\); check dataset\.root and that everything is unpacked",
    "ckplus": r"the folder cohn-kanade-images or extended-cohn-kanade-images \(the frames\) in {root}, found nothing; set dataset\.root",
    "ckplus48": r"a folder for each of anger, .*, surprise in {root}, found none for anger and .* but nothing; unpack the whole release",
    "fer2013": r"fer2013\.csv, .*, train\.csv or the folders train and test in {root}, found none of them; set dataset\.root",
    "ferplus": r"the folder FER2013Train \(label\.csv and the images\) in {root}, found nothing; set dataset\.root",
    "folder": r"class folders in {root}, found none; lay images out as CLASS/SUBJECT_rest\.png",
    "jaffe": r"labelled images of JAFFE in {root}, found none \(0 left out\); check dataset\.root and that everything is unpacked",
    "mmi": r"the folder Sessions \(a folder for each film\) in {root}, found nothing; set dataset\.root to the folder that holds it",
    "oulu_casia": r"the folder OriginalImg or B_OriginalImg \(version=original\) in {root}, found nothing; set dataset\.root",
    "rafdb": r"the folder train \(Kaggle's copy; the official one has EmoLabel and Image\) in {root}, found nothing; set dataset\.root",
    "sfew": r"the folder Train or .* \(folders Angry, .*, Surprise\) in {root}, found nothing; set dataset\.root",
}  # fmt: skip

# Whose folder is named by mistake, and what is said.
MISTAKEN = {
    "affectnet": ("rafdb", r"found no training\.csv and validation\.csv; unpack Manually_Annotated_file_lists"),
    "bu3dfe": ("jaffe", r"found none \(14 left out, as jaffe/KA\.AN1\.3\.tiff: not named as F0001_AN01WH_F2D\)"),
    "ckplus": ("ckplus48", r"in {root}, found anger, contempt, disgust, fear, happy \.\.\.; set dataset\.root"),
    "ckplus48": (
        "sfew",
        r"found none for anger and .* but Test_Aligned_Faces, Train_Aligned_Faces, Val_Aligned_Faces_new; unpack",
    ),
    "fer2013": ("ferplus", r"found none of them; set dataset\.root to the folder that holds them"),
    "ferplus": ("fer2013", r"expected the folder FER2013Train .* in {root}, found fer2013\.csv;"),
    "folder": ("jaffe", r"expected at least 2 class folders in {root}, found 'jaffe' only"),
    "jaffe": ("bu3dfe", r"found none \(\d+ left out, as F0001/F0001_AN01WH_F2D\.bmp: not named as KA\.AN1\.39\.tiff\)"),
    "mmi": ("oulu_casia", r"expected the folder Sessions .* in {root}, found OriginalImg, PreProcess_Img;"),
    "oulu_casia": (
        "ckplus",
        r"expected the folder OriginalImg .* in {root}, found Emotion, FACS, Landmarks, cohn-kanade-images;",
    ),
    "rafdb": ("fer2013", r"expected the folder train \(Kaggle's copy; .* in {root}, found fer2013\.csv;"),
    "sfew": (
        "affectnet",
        r"expected the folder Train or .* in {root}, found Manually_Annotated_Images, training\.csv, validation\.csv;",
    ),
}


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory):
    """Miniatures of one person, each built once and only looked at."""
    built = {}

    def build(name, spelling=0):
        if (name, spelling) not in built:
            root = built[name, spelling] = tmp_path_factory.mktemp(name)
            importlib.import_module(f"tests.datasets.miniatures.{name}").build(root, people=1, spelling=spelling)
        return built[name, spelling]

    return build


@pytest.fixture
def copied(miniatures, tmp_path):
    def copy(name, spelling=0):
        return Path(shutil.copytree(miniatures(name, spelling), tmp_path / "root"))

    return copy


@pytest.fixture
def refused(tmp_path):
    """Open a data set that must be refused; its sentence."""

    def run(name, root, image_size=16, channels=1, cache=None, **options):
        cache = cache or tmp_path / "cache"
        with pytest.raises(DatasetError) as caught:
            open_dataset(name, image_size=image_size, channels=channels, cache=cache, root=root, **options)
        sentence = str(caught.value)
        assert re.fullmatch(r"expected [^\n]+\.", sentence), sentence
        assert not cache.is_dir() or not list(cache.iterdir())
        return sentence

    return run


def said(pattern, sentence, root):
    """Whether the sentence holds the pattern, in which {root} stands for the folder."""
    assert re.search(pattern.replace("{root}", re.escape(str(root))), sentence), sentence


every = pytest.mark.parametrize("name", sorted(IMAGES))


@every
@pytest.mark.parametrize("root", [None, ""])
def test_no_root(name, root, refused):
    title = re.escape("class folders" if name == "folder" else card_of(name).title)
    said(rf"^expected the folder of {title} \(.+\), found none; set dataset\.root=PATH\.$", refused(name, root), root)


@every
def test_a_root_that_is_not_there(name, refused, tmp_path):
    root = tmp_path / "nowhere"
    said(r"^expected the folder of .* at {root}, found nothing; set dataset\.root=PATH\.$", refused(name, root), root)


@every
def test_an_archive_for_a_root(name, refused, tmp_path, miniatures):
    archive = shutil.make_archive(tmp_path / name, "zip", miniatures(name))
    words = r"^expected the folder of .* at {root}, found a file; unpack it and name the folder that holds .+\.$"
    said(words, refused(name, archive), archive)


@every
def test_an_empty_folder(name, refused, tmp_path):
    said(f"^expected {EMPTY[name]}", refused(name, tmp_path), tmp_path)


@every
def test_the_folder_of_another_data_set(name, refused, miniatures):
    root = miniatures(MISTAKEN[name][0])
    said(MISTAKEN[name][1], refused(name, root), root)


@every
def test_a_link_out_of_the_root(name, refused, copied, tmp_path):
    spelling, pattern = IMAGES[name]
    root = copied(name, spelling)
    image = next(root.glob(pattern))
    image.rename(tmp_path / image.name)
    image.symlink_to(tmp_path / image.name)
    words = rf"^expected everything within .*, found that {image} is a link to {tmp_path / image.name}; put a copy in its place, or .*\.$"
    said(words, refused(name, root), root)


@every
def test_a_damaged_image(name, refused, copied):
    spelling, pattern = IMAGES[name]
    root = copied(name, spelling)
    image = next(root.glob(pattern))
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2 if name != "mmi" else 100])
    words = (
        r"^expected at most 1 % of the \d+ images of .* to be skipped, found \d among the first \d+: "
        rf"{image.relative_to(root)}.* \(expected a whole image in {image}, found one that cannot be decoded \(.+\); replace or remove it\)"
        r".*; mend or remove them, or set dataset\.allow_skips=true \(--allow-skips\) to go on without them\.$"
    )
    said(words, refused(name, root), root)


@every
def test_a_decompression_bomb(name, refused, copied):
    spelling, pattern = IMAGES[name]
    root = copied(name, spelling)
    image = next(root.glob(pattern))
    (film_bomb if name == "mmi" else bomb)(image)
    words = rf"\(expected an image of at most \d+ pixels, found more in {image}; scale it down first\)"
    said(words, refused(name, root), root)


def bomb(file):
    """Some bytes that say they are 60,000 x 60,000 pixels, whatever the suffix."""
    chunks = ((b"IHDR", struct.pack(">iiBBBBB", 60000, 60000, 1, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 9999)))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def film_bomb(file):
    """A film of 48 x 48 pixels whose head says 11,000 x 11,000."""
    with av.open(str(file), "w", format="avi") as container:
        stream = container.add_stream("rawvideo", rate=24)
        stream.width, stream.height, stream.pix_fmt = 48, 48, "bgr24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 48, 3), np.uint8), format="bgr24")))
        container.mux(stream.encode())
    data = file.read_bytes()
    for height in (48, -48):
        data = data.replace(struct.pack("<ii", 48, height), struct.pack("<ii", 11000, 11000))
    file.write_bytes(data)


@every
def test_a_pipe_for_an_image(name, refused, copied):
    spelling, pattern = IMAGES[name]
    root = copied(name, spelling)
    image = next(root.glob(pattern))
    image.unlink()
    subprocess.run(["mkfifo", image], check=True)
    said(
        rf"^expected files and folders only below .*, found something else at {image}; move it away, or .*\.$",
        refused(name, root),
        root,
    )


@every
def test_options_that_are_none(name, refused, miniatures):
    root = miniatures(name, IMAGES[name][0])
    said(r"to be among .*, found 'alignn'; did you mean 'align'\.$", refused(name, root, alignn=True), root)
    said(
        r"expected dataset\.align to be true or false, found 'yes'; set one of them\.$",
        refused(name, root, align="yes"),
        root,
    )
    said(
        r"expected dataset\.allow_skips to be true or false, found 1; set one of them\.$",
        refused(name, root, allow_skips=1),
        root,
    )
    said(r"expected channels to be 1 \(grey\) or 3 \(RGB\), found 4\.$", refused(name, root, channels=4), root)
    said(r"expected channels to be 1 \(grey\) or 3 \(RGB\), found 3\.0\.$", refused(name, root, channels=3.0), root)
    said(r"expected image_size to be 8 to 1024 pixels, found 4\.$", refused(name, root, image_size=4), root)
    said(r"expected image_size to be 8 to 1024 pixels, found '112'\.$", refused(name, root, image_size="112"), root)


def renamed(root, old, new):
    (root / old).rename(root / new)


def packed(root, name):
    shutil.rmtree(root / name)
    (root / f"{name}.zip").write_bytes(b"PK\3\4")


def lost(root, pattern):
    for path in list(root.glob(pattern)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def twice(root, one, two):
    for name in (one, two):
        shutil.copytree(root, root.parent / name)
    shutil.rmtree(root)
    root.mkdir()
    for name in (one, two):
        (root.parent / name).rename(root / name)


def copied_to(root, old, new):
    shutil.copytree(root / old, root / new)


def as_texts(root, pattern):
    for file in list(root.rglob(pattern)):
        file.rename(file.with_suffix(".txt"))


def numbered(root):
    for number, image in enumerate(sorted(root.rglob("*.tiff"))):
        image.rename(image.with_name(f"{number}.tiff"))


# Name, spelling of the miniature, how it is spoilt, options, what is said.
CASES = [
    ("ckplus", 0, (packed, "Emotion"), {}, r"expected the folder Emotion or Emotion_labels .*, found Emotion\.zip, FACS, "),
    ("ckplus", 0, (twice, "CK+", "CK+ (1)"), {}, r"expected one folder that holds .*, found .*/CK\+ and .*/CK\+ \(1\); set"),
    ("ckplus", 0, (copied_to, "Emotion", "emotion_labels"), {}, "found Emotion and emotion_labels; keep one"),
    ("ckplus", 0, (lost, "cohn-kanade-images/*/*/*.png"), {}, r"found none \(8 left out, as .*: the frame that its label"),
    ("ckplus", 0, None, {"classes": "8"}, "expected dataset.classes to be one of 6, 7, 8, found '8'; set one of them"),
    ("ckplus", 0, None, {"frames": 3.0}, r"expected dataset\.frames to be a whole number from 1 on, found 3\.0; set one"),
    ("ckplus48", 1, (packed, "CK+48/Happy"), {}, r"found none for happiness but Anger, Contempt, Disgust, Fear, Happy\.zip"),
    ("ckplus48", 0, (twice, "CK+48", "copy"), {}, r"expected one folder that holds contempt below .*, found .*; set"),
    ("ckplus48", 0, (as_texts, "*.png"), {}, r"none \(21 left out, as anger/.*: not an image file\)"),
    ("ckplus48", 0, None, {"classes": 8}, "found 'classes'"),
    ("mmi", 0, (packed, "Sessions"), {}, r"expected the folder Sessions .*, found Sessions\.zip; set dataset\.root"),
    ("mmi", 0, (lost, "Sessions/*/session.xml"), {}, r"expected labelled images of MMI .*: no session\.xml"),
    ("mmi", 0, None, {"rotate": "no"}, "expected dataset.rotate to be true or false, found 'no'"),
    ("mmi", 0, None, {"frames": 99}, r"expected at most 1 % .*it has 7 frames, and none at"),
    ("oulu_casia", 0, None, {"camera": "NI"}, r"expected the folder Strong \(light=Strong\) in .*NI, found Dark; set"),
    ("oulu_casia", 0, None, {"light": "strong"}, "expected dataset.light to be one of Strong, Weak, Dark, found 'strong'"),
    ("oulu_casia", 0, (renamed, "OriginalImg/VL", "OriginalImg/VIS"), {}, r"expected the folder VL .*, found NI, VIS;"),
    ("oulu_casia", 0, None, {"frames": 5}, r"expected labelled images of Oulu-CASIA in .*P001/Anger: fewer frames than asked for\)"),
    ("jaffe", 0, (numbered,), {}, r"found none \(14 left out, as jaffe/0\.tiff: not named as KA\.AN1\.39\.tiff\)"),
    ("jaffe", 0, (packed, "jaffe"), {}, r"expected labelled images of JAFFE in .*, found none \(0 left out\)"),
    ("bu3dfe", 0, (lost, "*/*_F2D.bmp"), {}, r"expected labelled images of BU-3DFE in .*, found none \(0 left out\)"),
    ("bu3dfe", 0, (renamed, "F0001", "F0002"), {}, r"found none \(25 left out, as .*: in the folder of another subject\)"),
    ("bu3dfe", 0, None, {"min_level": "4"}, "expected dataset.min_level to be one of 1, 2, 3, 4, found '4'"),
    ("sfew", 0, (lost, "[TV][ra]*"), {}, r"expected the folder Train or .*, found Test_Aligned_Faces; set"),
    ("sfew", 1, (packed, "SFEW_2/Val"), {}, r"expected the folder Val or .* in .*SFEW_2, found Test, Train, Val\.zip; set"),
    ("sfew", 0, (packed, "Val_Aligned_Faces_new/Sad"), {}, r"found none for sadness but Angry, Disgust, Fear, Happy, Neutral"),
    ("rafdb", 0, (packed, "EmoLabel"), {}, r"found EmoLabel\.zip, Image; set dataset\.root"),
    ("rafdb", 1, (packed, "DATASET/test"), {}, r"expected the folder test .* in .*DATASET, found test\.zip, train; set"),
    ("rafdb", 0, None, {"version": "original"}, r"expected the folder original \(the original images\) in .*Image, found aligned; set"),
    ("rafdb", 0, (renamed, "EmoLabel/list_patition_label.txt", "EmoLabel/labels.txt"), {}, "found neither; unpack EmoLabel"),
    ("fer2013", 0, (renamed, "fer2013.csv", "fer2013.csv.zip"), {}, "found none of them; set dataset.root"),
    ("fer2013", 0, (renamed, "fer2013.csv", "test.csv"), {}, "found none of them; set dataset.root"),
    ("fer2013", 2, (packed, "test"), {}, r"expected the folder test .* in {root}, found test\.zip, train; set"),
    ("fer2013", 2, (lost, "train/sad"), {}, r"found none for sadness but angry, disgust, fear, happy, neutral \.\.\.; unpack"),
    ("ferplus", 0, (packed, "data/FER2013Test"), {}, r"expected the folder FER2013Test .*, found FER2013Test\.zip, FER2013Train, "),
    ("ferplus", 2, (lost, "*/fer2013.csv"), {}, r"expected PNG files in .*FER2013Train, or fer2013\.csv or icml_face_data"),
    ("ferplus", 0, (lost, "data/*/*.png"), {}, r"get the images of FER2013, which FER\+ may not give out"),
    ("affectnet", 0, (packed, "Manually_Annotated_Images"), {}, r"found Manually_Annotated_Images\.zip, training\.csv, "),
    ("affectnet", 1, (lost, "*/train_set/annotations"), {}, r"expected the folder annotations \(N_exp\.npy\) in .*found images"),
    ("affectnet", 0, (renamed, "Manually_Annotated_Images", "Automatically_Annotated_Images"), {}, "found Automatically_Anno"),
    ("affectnet", 0, None, {"classes": "7"}, "expected dataset.classes to be one of 7, 8, found '7'; set one of them"),
    ("affectnet", 1, None, {"release": "csv"}, "found no training.csv and validation.csv"),
    ("folder", 0, (lost, "[fn]*"), {}, "expected at least 2 class folders in {root}, found 'happy' only"),
    ("folder", 0, None, {"classes": 2}, "found 'classes'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "spelling", "spoil", "options", "words"), CASES, ids=range(len(CASES)))
def test_what_people_really_have(name, spelling, spoil, options, words, copied, refused):
    root = copied(name, spelling)
    if spoil:
        damage, *where = spoil
        damage(root, *where)
    said(words, refused(name, root, **options), root)


def test_a_cache_that_is_a_file(refused, miniatures, tmp_path):
    cache = tmp_path / "cache"
    cache.write_text("")
    said(
        r"^expected a folder that can be written to for prepared face sets, but {root} cannot be: ",
        refused("jaffe", miniatures("jaffe"), cache=cache),
        cache,
    )


COMMANDS = [
    (("jaffe", "--root", "{root}/nowhere"), "expected the folder of JAFFE at {root}/nowhere, found nothing; set dataset"),
    (("sfew", "--root", "{root}"), r"expected the folder Train or .* in {root}, found jaffe; set"),
    (("oulu_casia", "--root", "{root}", "light=Bright"), "expected dataset.light to be one of Strong, Weak, Dark, found 'Bright'"),
    (("affectnet", "--root", "{root}", "classes=6.5"), "expected classes to be a whole number, found '6.5'; write classes=8"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "sentence"), COMMANDS)
def test_the_command_line_says_the_same(words, sentence, miniatures, capsys, tmp_path):
    root = miniatures("jaffe")
    words = [word.replace("{root}", str(root)) for word in words]
    assert prepare.main([*words, "--cache", str(tmp_path / "cache")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"expected [^\n]+\.\n", err)
    said(sentence, err, root)
    assert not (tmp_path / "cache").exists()


def test_a_study_says_the_same(miniatures, capsys, tmp_path):
    from study.run import main as study  # takes a moment, and only this needs it

    root = miniatures("jaffe")
    places = [f"storage.root={tmp_path / 'tables'}", f"dataset.cache={tmp_path / 'cache'}"]
    assert study(["--ablation", "loss_form", "dataset=ckplus", f"dataset.root={root}", *places]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    said(
        r"expected the folder cohn-kanade-images or extended-cohn-kanade-images \(the frames\) in {root}, found jaffe; set",
        err,
        root,
    )
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_as_a_program_of_its_own(tmp_path):
    command = [sys.executable, "-m", "datasets.prepare", "mmi", "--root", tmp_path, "--cache", tmp_path / "cache"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    said("^expected the folder Sessions (.*) in {root}, found nothing; set .*\\.\n$", done.stderr, tmp_path)
    assert not list(tmp_path.iterdir())
