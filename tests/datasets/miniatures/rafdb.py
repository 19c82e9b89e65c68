"""Miniature of RAF-DB (basic): the release, and the copy on Kaggle; the faces have 100 x 100 pixels as the aligned ones have."""

from pathlib import Path

from tests.datasets.miniatures import Expected, face

CLASSES = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")


def build(root: Path, *, people: int = 3, spelling: int = 0) -> Expected:
    """An image of every person and class in each part.

    Spelling 1 is Kaggle's, its tables with BOM and CRLF. Spelling 2 is the release with the other name of the label file, CRLF in it, the
    whole photographs too, and folders in folders.
    """
    rows = []
    for part, digits in (("train", 5), ("test", 4)):
        numbered = [(number, person) for number in range(1, 8) for person in range(people)]
        for index, (number, person) in enumerate(numbered, 1):
            name = f"{part}_{index:0{digits}d}"
            rows.append((part, name, number))
            picture = face(person, CLASSES[number - 1], part == "test").resize((100, 100))
            folder = {
                0: root / "Image" / "aligned",
                1: root / "DATASET" / part / str(number),
                2: root / "basic" / "Image" / "aligned" / "aligned",
            }[spelling]
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{name}_aligned.jpg")
            if spelling == 2:
                (root / "basic" / "Image" / "original").mkdir(exist_ok=True)
                picture.resize((160, 120)).save(root / "basic" / "Image" / "original" / f"{name}.jpg")
    if spelling == 1:
        for part in ("train", "test"):
            lines = ["image,label", *(f"{name}_aligned.jpg,{number}" for row, name, number in rows if row == part)]
            text = "".join(f"{line}\r\n" for line in lines)
            (root / f"{part}_labels.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    else:
        folder = root / "basic" / "EmoLabel" if spelling else root / "EmoLabel"
        folder.mkdir(parents=True)
        name, end = ("list_partition_label.txt", "\r\n") if spelling else ("list_patition_label.txt", "\n")
        (folder / name).write_bytes("".join(f"{row[1]}.jpg {row[2]}{end}" for row in rows).encode())
    counts = dict.fromkeys(CLASSES, people)
    return Expected(
        classes=CLASSES, counts={"train": counts, "test": counts}, subjects=14 * people, sequences=14 * people
    )
