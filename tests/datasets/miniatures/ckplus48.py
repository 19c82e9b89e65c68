"""Miniature of CK+48: folders and names as in the public copy; three frames a sequence."""

from pathlib import Path

from tests.datasets.miniatures import Expected, face

FOLDERS = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")


def build(root: Path, *, people: int = 3, spelling: int = 0) -> Expected:
    """Every person with one sequence of each class; spelling 1 in the folder that the archive unpacks to, in capitals."""
    for label, word in enumerate(FOLDERS):
        folder = root / "CK+48" / word.capitalize() if spelling else root / word
        folder.mkdir(parents=True)
        for person in range(people):
            for frame in range(3):
                name = f"S{5 + 5 * person:03d}_{label + 1:03d}_{12 + frame:08d}.{'PNG' if spelling else 'png'}"
                face(person, word, label * 4 + frame).convert("L").save(folder / name)
    classes = tuple("happiness" if word == "happy" else word for word in FOLDERS)
    return Expected(
        classes=classes,
        counts={"": dict.fromkeys(classes, 3 * people)},
        subjects=people,
        sequences=7 * people,
    )
