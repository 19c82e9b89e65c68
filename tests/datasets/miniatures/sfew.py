"""Miniature of SFEW 2.0: folders and names as released; the faces are stretched to 143 x 181 as the aligned ones are."""

from pathlib import Path

from tests.datasets.miniatures import Expected, face

FOLDERS = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
CLASSES = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
FILMS = ("Airheads", "AlexEmma", "BridesMaids", "CrazyStupidLove", "Hangover", "Juno", "Unfaithful")


def build(root: Path, *, people: int = 3, spelling: int = 0) -> Expected:
    """A frame of every person and class in each part, and two of the test part.

    Spelling 1 has the folder in a folder, parts with the aligned faces beside the whole frames, suffixes in capitals, and litter.
    """
    base = root / "SFEW_2" if spelling else root
    for number, part in enumerate(("Train", "Val")):
        aligned = base / (f"{part}/{part}_Aligned_Faces" if spelling else f"{part}_Aligned_Faces{'_new' * number}")
        for label, folder in enumerate(FOLDERS):
            (aligned / folder).mkdir(parents=True)
            for person in range(people):
                picture = face(person, CLASSES[label], number)
                name = (
                    f"{FILMS[person % 7]}_{1000 * person + 519240:09d}_{5 + number:08d}.{'PNG' if spelling else 'png'}"
                )
                picture.resize((143, 181)).save(aligned / folder / name)
                if spelling:
                    (base / part / folder).mkdir(exist_ok=True)
                    picture.resize((180, 144)).save(base / part / folder / name)
    test = base / ("Test/Test_Aligned_Faces" if spelling else "Test_Aligned_Faces")
    test.mkdir(parents=True)
    for person in range(2):
        face(person, "fear", 2).resize((143, 181)).save(test / f"{FILMS[person]}_000100000_00000009.png")
    if spelling:
        (base / "Train" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (root / "__MACOSX").mkdir()
    counts = dict.fromkeys(CLASSES, people)
    return Expected(
        classes=CLASSES,
        counts={"train": counts, "val": counts},
        subjects=14 * people,
        sequences=14 * people,
        left_out={"unlabelled: the labels of Test are withheld": 2},
    )
