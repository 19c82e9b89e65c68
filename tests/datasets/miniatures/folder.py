"""Miniature of one's own folder, with what lies about in such folders."""

from pathlib import Path

from tests.datasets.miniatures import Expected, face

CLASSES = ("fear", "happy", "neutral")


def build(root: Path, *, people: int = 3, spelling: int = 0) -> Expected:
    """Two images of every person and class, hidden files and notes."""
    for word in CLASSES:
        (root / word).mkdir(parents=True)
        for person in range(people):
            face(person, word).save(root / word / f"P{person}_1.png")
            face(person, word, 1).save(root / word / f"P{person}_2.JPG")
    (root / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (root / "readme.txt").write_text("Mine.")
    (root / "fear" / "Thumbs.db").write_bytes(b"\xd0\xcf")
    (root / "fear" / "notes.txt").write_text("Mine.")
    return Expected(
        classes=CLASSES,
        counts={"": dict.fromkeys(CLASSES, 2 * people)},
        subjects=people,
        sequences=2 * people * len(CLASSES),
        left_out={"not a class folder": 1, "not an image file": 1},
    )
