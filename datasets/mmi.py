"""MMI: films of posed expressions that rise from the neutral face to a peak in the middle and fall again, each in a folder with XML files.

Two public programs [W] agree on what the files do not tell: in films of two views side by side, on which half the frontal face is, and
that single frontal views were recorded with the camera on its side, but for those of S053 and S054. The field takes the three middle
frames of the frontal films that show one of six expressions, and judges a film by the mean of its frames' scores.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.parsers import expat

from datasets.card import Card
from datasets.layout import home, optional, require_faces, root_folder, subfolder, visible
from datasets.listing import Face, LeftOut, Listing
from datasets.options import at_least, truth
from datasets.sources import VideoFrame

# Frontal films by expression, in the order of the official ids 1 to 6 [R].
SEQUENCES = {"anger": 33, "disgust": 32, "fear": 28, "happiness": 42, "sadness": 32, "surprise": 41}
FRONTAL_HALF = {
    **dict.fromkeys(("S001", "S002", "S017"), "right"),
    **dict.fromkeys(("S003", "S005", "S006", "S015", "S016"), "left"),
}
UPRIGHT = ("S053", "S054")

CARD = Card(
    name="mmi",
    title="MMI",
    description="Posed expressions in films from neutral over a peak to neutral: 208 frontal ones of 31 people show one of six.",
    classes=tuple(SEQUENCES),
    images=624,
    subjects=31,
    people="mmi",
    fold_rule="contiguous",
    folds=10,
    metric="test_sequence_accuracy",
    layout=(
        "Sessions/1/S001-001.avi",
        "Sessions/1/S001-001.xml (its expression)",
        "Sessions/1/session.xml (its view)",
    ),
    terms="Research only; end-user licence agreement.",
    obtain="Account and agreement: https://mmifacedb.eu",
    source=(
        "M. Pantic, M. Valstar, R. Rademaker, L. Maat: Web-based database for facial expression analysis. "
        "IEEE International Conference on Multimedia and Expo 2005."
    ),
)

_FILM = re.compile(r"\.(avi|mp4|mov|mkv)$", re.IGNORECASE)
_VIDEO = re.compile(rf"S\d{{3}}-\d{{3}}{_FILM.pattern}", re.IGNORECASE)
_LIMIT = 1_000_000  # bytes of an XML file; the released ones have some thousand.


def scan(root: str | Path, *, frames: int = 3, rotate: bool = True) -> Listing:
    """Find the middle frames of every labelled frontal film.

    Args:
        root: the folder that holds `Sessions`.
        frames: how many frames around the middle.
        rotate: turn the films that were made with the camera on its side; false where your copies have been turned already.

    Raises:
        DatasetError: the folder is not there or holds no labelled film, or an option is out of its range.

    """
    at_least("frames", frames, 1)
    truth("rotate", rotate)
    root = root_folder(root, CARD.title, "Sessions")
    sessions = subfolder(home(root, "Sessions"), "Sessions", holds="a folder for each film")
    faces: list[Face] = []
    files: list[Path] = []
    left_out: list[LeftOut] = []
    taken: set[str] = set()
    for session in visible(sessions, root):
        films = [file for file in visible(session, root) if _FILM.search(file.name)] if session.is_dir() else []
        videos = [file for file in films if _VIDEO.fullmatch(file.name) and file.is_file()]
        if not videos:
            left_out.append(LeftOut(session.relative_to(root).as_posix(), "not a folder with a film S000-000.avi"))
        else:
            strange = [film.relative_to(root).as_posix() for film in films if film not in videos]
            left_out += [LeftOut(name, "not a film S000-000.avi") for name in strange]
        for video in videos:
            sequence = video.stem.upper()
            try:
                label = _label(video, files)
                half, turns = _view(video, sequence[:4], files, rotate)
                if sequence in taken:
                    raise _Unfit("two films of one name")
            except _Unfit as unfit:
                left_out.append(LeftOut(video.relative_to(root).as_posix(), str(unfit)))
                continue
            taken.add(sequence)
            for offset in range(-(frames // 2), frames - frames // 2):
                source = VideoFrame(video, offset, half=half, quarter_turns=turns)
                faces.append(Face(source, label, sequence[:4], sequence))
    require_faces(faces, left_out, root, CARD.title)
    return Listing(
        root, CARD.classes, faces, files, left_out, {"": {word: frames * count for word, count in SEQUENCES.items()}}
    )


class _Unfit(Exception):  # noqa: N818 # No error of the program: a film that is left out, with the reason.
    pass


def _label(video: Path, files: list[Path]) -> int:
    """Index into the classes, from the Metatag Emotion of the XML file of the film's name."""
    values = [
        tag.get("value", "").strip()
        for element, tag in _elements(video.parent, f"{video.stem}.xml", files)
        if element == "metatag" and tag.get("name", "").casefold() == "emotion"
    ]
    if not values:
        raise _Unfit("no expression")
    if len(set(values)) > 1:
        raise _Unfit("two expressions")
    if not re.fullmatch(r"\d{1,3}", values[0]):
        raise _Unfit("its expression is not a number")
    if int(values[0]) not in range(1, 7):
        raise _Unfit("none of the six expressions")
    return int(values[0]) - 1


def _view(video: Path, subject: str, files: list[Path], rotate: bool) -> tuple[str, int]:
    """The half of the frontal face and the quarter turns to set it upright, from the track of session.xml."""
    tracks = [
        tag for element, tag in _elements(video.parent, "session.xml", files) if element == "track" and "view" in tag
    ]
    own = [tag for tag in tracks if tag.get("filename", "").casefold() == video.name.casefold()]
    views = {tag["view"].strip() for tag in own or tracks}
    if len(views) != 1 or not views <= {"0", "1", "2"}:
        raise _Unfit("its view is not told by session.xml")
    view = views.pop()
    if view == "1":
        raise _Unfit("profile view")
    if view == "2" and subject not in FRONTAL_HALF:
        raise _Unfit("dual view of a subject whose frontal half is not known")
    if view == "2":
        return FRONTAL_HALF[subject], 0
    return "", 3 if rotate and subject not in UPRIGHT else 0


def _elements(folder: Path, name: str, files: list[Path]) -> list[tuple[str, dict[str, str]]]:
    """Name, without its namespace, and attributes of every element of an XML file, all in lower case but the values.

    A document type is refused: it is the only way to entities, which can grow without bound or name other files.
    """
    file = optional(folder, name)
    if file is None or not file.is_file():
        raise _Unfit("no session.xml" if name == "session.xml" else "no XML file of its name")
    found: list[tuple[str, dict[str, str]]] = []

    def start(element: str, attributes: dict[str, str]) -> None:
        lower = {key.casefold(): value for key, value in attributes.items()}
        found.append((element.rpartition(":")[2].casefold(), lower))

    def doctype(*_: object) -> None:
        raise ValueError("a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = doctype
    try:
        with file.open("rb") as opened:
            data = opened.read(_LIMIT + 1)
        if len(data) > _LIMIT:
            raise ValueError("too long")
        parser.Parse(data, True)
    except (OSError, ValueError, LookupError, expat.ExpatError) as error:
        raise _Unfit("its XML cannot be read" if name != "session.xml" else "its session.xml cannot be read") from error
    files.append(file)
    return found
