"""Miniature of JAFFE: names as released; 48 x 48 instead of 256 x 256."""

from pathlib import Path

from tests.datasets.miniatures import Expected, face

SUBJECTS = ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM")
CODES = {
    "NE": "neutral", "AN": "anger", "DI": "disgust", "FE": "fear", "HA": "happiness", "SA": "sadness", "SU": "surprise",
}  # fmt: skip


def build(root: Path, *, people: int = 3, spelling: int = 0) -> Expected:
    """Every person with two takes of each expression; spelling 1 sorted into folders of another archive, with other suffixes."""
    serial = 0
    folder = root / ("jaffedbase/jaffe" if spelling else "jaffe")
    for person in range(people):
        for code, word in CODES.items():
            for take in (1, 2):
                serial += 1
                inner = folder / word.upper() if spelling else folder
                inner.mkdir(parents=True, exist_ok=True)
                name = f"{SUBJECTS[person]}.{code}{take}.{serial}.tiff"
                if spelling:
                    name = (f"{name}.bmp", name.replace(".tiff", ".TIF"), f"{SUBJECTS[person]}.{code}{take}.tiff")[
                        serial % 3
                    ]
                face(person, word, take).convert("L").save(inner / name)
    (folder / "README_FIRST.txt").write_bytes(b"Please read.\r\n")
    return Expected(
        classes=tuple(CODES.values()),
        counts={"": dict.fromkeys(CODES.values(), 2 * people)},
        subjects=people,
        sequences=14 * people,
    )
