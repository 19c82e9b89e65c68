"""SFEW 2.0: Static Facial Expressions in the Wild.

Dhall, Goecke, Lucey and Gedeon, "Static Facial Expression Analysis in Tough Conditions: Data, Evaluation Protocol and Benchmark",
ICCV Workshops 2011; version 2.0: Dhall, Ramana Murthy, Goecke, Joshi and Gedeon, "Video and Image based Emotion Recognition Challenges
in the Wild: EmotiW 2015", ICMI 2015. The field trains on Train and reports Val, as the labels of Test are withheld.
"""

from __future__ import annotations

from pathlib import Path

from datasets.card import Card
from datasets.errors import DatasetError
from datasets.layout import home, images_below, labelled_images, optional, require_faces, root_folder, subfolder
from datasets.listing import Face, LeftOut, Listing
from datasets.options import one_of
from datasets.sources import ImageFile

CLASSES = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
PARTS = {"train": "Train", "val": "Val"}

# Of the aligned faces, counted in public code.
EXPECTED = {
    "train": dict(zip(CLASSES, (178, 52, 78, 184, 144, 161, 94), strict=True)),
    "val": dict(zip(CLASSES, (77, 23, 46, 72, 84, 73, 56), strict=True)),
}

CARD = Card(
    name="sfew",
    title="SFEW 2.0",
    description="Single frames of films, chosen by their subtitles: seven expressions in real light and pose.",
    classes=CLASSES,
    images=1322,
    subjects=None,
    people="sfew",
    fold_rule="official",
    folds=1,
    metric="test_accuracy",
    layout=(
        "Train_Aligned_Faces/Angry/*.png (or Train/Train_Aligned_Faces/...; Train/Angry/*.png with version=original)",
        "Val_Aligned_Faces/Angry/*.png (or Val_Aligned_Faces_new/..., Val/...)",
        "Test_Aligned_Faces/*.png (unlabelled: left out)",
    ),
    terms="end-user licence agreement: research only, no redistribution",
    obtain="by e-mail from the organisers of the EmotiW challenge, after signing the agreement",
    source="Dhall et al., ICCV Workshops 2011; version 2.0: Dhall et al., ICMI 2015",
)


def scan(root: str | Path, *, version: str = "aligned") -> Listing:
    """Find the frames of the training and the validation part.

    Args:
        root: the folder that holds Train_Aligned_Faces and Val_Aligned_Faces, or Train and Val.
        version: "aligned", the faces of 143 x 181 pixels that the release holds, 891 and 431 of them [W: public code]; "original",
            the whole frames, 958 and 436 [R].

    Raises:
        DatasetError: a part or a class is missing, or lies there twice.

    """
    one_of("version", version, ("aligned", "original"))
    root = root_folder(root, CARD.title, "Train_Aligned_Faces and Val_Aligned_Faces, or Train and Val")
    base = home(root, *_spellings("Train"), "Train")
    faces: list[Face] = []
    left_out: list[LeftOut] = []
    for part, name in PARTS.items():
        images, others = labelled_images(_part_folder(base, name, version), CLASSES, root)
        left_out += others
        for label, file in images:
            own = f"{part}/{CLASSES[label]}/{file.name}"  # The same name may stand in two classes.
            faces.append(Face(ImageFile(file), label, own, own, part))
    test = optional(base, *_spellings("Test"), "Test")
    if test is not None and test.is_dir():
        unlabelled = [file.relative_to(root).as_posix() for file in images_below(test, root)]
        left_out += [LeftOut(name, "unlabelled: the labels of Test are withheld") for name in unlabelled]
    require_faces(faces, left_out, root, CARD.title, tuple(PARTS))
    return Listing(root, CLASSES, faces, [], left_out, EXPECTED if version == "aligned" else {})


def _spellings(name: str) -> tuple[str, str]:
    return f"{name}_Aligned_Faces", f"{name}_Aligned_Faces_new"


def _part_folder(base: Path, name: str, version: str) -> Path:
    """The folder with the class folders of a part, which unpacking may have put one or two levels deeper."""
    outer = optional(base, name)
    aligned = optional(base, *_spellings(name))
    if aligned is None and outer is not None and outer.is_dir():
        aligned = optional(outer, *_spellings(name))
    whole = home(outer, "Angry", "Anger") if outer is not None and outer.is_dir() else None
    if whole is not None and (optional(whole, "Angry", "Anger") is None or "aligned" in whole.name.casefold()):
        whole = None
    wanted, other, instead = (aligned, whole, "original") if version == "aligned" else (whole, aligned, "aligned")
    if wanted is None and other is not None:
        raise DatasetError(
            f"expected the {version} images of {name} in {base}, found {other} with the {instead} ones only; "
            f"set dataset.version={instead}."
        )
    if wanted is None:
        spellings = (name, *_spellings(name)) if version == "aligned" else (name,)
        wanted = subfolder(base, *spellings, holds="folders Angry, Disgust, Fear, Happy, Neutral, Sad, Surprise")
    return home(wanted, "Angry", "Anger")
