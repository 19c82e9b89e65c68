"""Miniature of FER+: a checkout of the labels with PNG files, and fer2013new.csv with fer2013.csv."""

from pathlib import Path

from datasets.expressions import CANONICAL
from tests.datasets.miniatures import Expected, face
from tests.datasets.miniatures.fer2013 import spelt

FOLDERS = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
PARTS = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}

# Votes that give no label, each once in every part.
DROPPED = {
    (5, 0, 0, 5, 0, 0, 0, 0, 0, 0): "no majority",
    (1, 1, 1, 1, 1, 1, 1, 1, 1, 1): "no majority",
    (1, 0, 0, 2, 0, 0, 0, 0, 7, 0): "majority for unknown",
    (0, 0, 1, 0, 0, 0, 0, 0, 0, 9): "majority for no face",
}


def table(people: int) -> list[tuple[str, str, tuple[int, ...], str, int]]:
    """Usage, name ("" where removed), ten votes, expression of the drawn face and its person, in the order of the rows."""
    rows: list[tuple[str, str, tuple[int, ...], str, int]] = []
    for usage in FOLDERS:
        for person in range(people):
            for label, word in enumerate(CANONICAL):
                # Seven for the class; two and a single one for others, of which the single one counts as none.
                votes = [0] * 10
                votes[label], votes[(label + 1) % 8], votes[8] = 7, 2, 1
                rows.append((usage, f"fer{len(rows):07d}.png", tuple(votes), word, person))
        for votes in DROPPED:
            rows.append((usage, f"fer{len(rows):07d}.png", votes, "neutral", people))
        rows.append((usage, "", (0,) * 9 + (10,), "neutral", people))
    return rows


def build(root: Path, *, people: int = 3, spelling: int = 0) -> Expected:
    """An image of every person and class in each part, and those that get no label.

    Spelling 1 is fer2013new.csv and, with BOM and CRLF, fer2013.csv, in the folder that the archive unpacks to. Spelling 2 adds to it the
    label files without images: their names are found in fer2013new.csv.
    """
    rows = table(people)
    base = root / "FERPlus-master" if spelling else root
    for usage, folder in FOLDERS.items():
        (base / "data" / folder).mkdir(parents=True)
        named = [row for row in rows if row[0] == usage and row[1]]
        if spelling != 1:
            lines = [f'{name},"(0, 0, 48, 48)",{",".join(map(str, votes))}\n' for _, name, votes, _, _ in named]
            (base / "data" / folder / "label.csv").write_bytes("".join(lines).encode())
        if not spelling:
            for _, name, _, word, person in named:
                face(person, word, list(FOLDERS).index(usage)).convert("L").save(base / "data" / folder / name)
    if spelling:
        new = ["Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"]
        new += [f"{usage},{name},{','.join(map(str, votes))}" for usage, name, votes, _, _ in rows]
        (base / "fer2013new.csv").write_bytes("".join(f"{line}\r\n" for line in new).encode())
        old = ["emotion,pixels,Usage"]
        for usage, _, _, word, person in rows:
            old.append(f"6,{spelt(face(person, word, list(FOLDERS).index(usage)).convert('L'))},{usage}")
        (base / "fer2013.csv").write_bytes(b"\xef\xbb\xbf" + "".join(f"{line}\r\n" for line in old).encode())
    left_out = {"no majority": 6, "majority for unknown": 3, "majority for no face": 3}
    return Expected(
        classes=CANONICAL,
        counts={part: dict.fromkeys(CANONICAL, people) for part in PARTS.values()},
        subjects=24 * people,
        sequences=24 * people,
        left_out={**left_out, "removed by FER+: no image name": 3} if spelling == 1 else left_out,
        options={"labels": "fer2013new.csv"} if spelling == 1 else {},
    )
