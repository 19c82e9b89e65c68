"""Miniature of CK+: names, depth and label files as released; the frames are 64 x 49 instead of 640 x 490."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.datasets.miniatures import Expected, face

EXPRESSIONS = ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
SUBJECTS = ("S005", "S010", "S011", "S014", "S022", "S026", "S028", "S029", "S032", "S034", "S035", "S037", "S042")


def build(root: Path, *, people: int = 3, spelling: int = 0) -> Expected:
    """Every person with seven labelled sequences and one without label; spelling 1 as each archive unpacked into its own folder."""
    top = root / "CK+" if spelling else root
    images = top / ("extended-cohn-kanade-images/cohn-kanade-images" if spelling else "cohn-kanade-images")
    labels = top / ("Emotion_labels/Emotion" if spelling else "Emotion")
    landmarks = top / ("Landmarks/Landmarks" if spelling else "Landmarks")
    end = "\r\n" if spelling else "\n"
    for person in range(people):
        subject = SUBJECTS[person % len(SUBJECTS)] if person < len(SUBJECTS) else f"S{500 + person:03d}"
        for take in range(1, 9):
            # Some sequences of the release have gaps in their numbers.
            numbers = (1, 2, 4, 5, 6) if take % 2 else (1, 2, 3, 4)
            expression = EXPRESSIONS[take - 1] if take < 8 else "neutral"
            place, stem = f"{subject}/{take:03d}", f"{subject}_{take:03d}"
            for folder in (images, labels, landmarks, top / "FACS"):
                (folder / place).mkdir(parents=True)
            for order, number in enumerate(numbers):
                name = f"{stem}_{number:08d}"
                shown = face(person, "neutral" if order == 0 else expression, take * 8 + order)
                frame = Image.new("L", (64, 49), 90)
                frame.paste(shown.convert("L"), (8, 1))
                frame.save(images / place / f"{name}.png")
                lines = [f"{x:16.7e}{y:16.7e}{end}" for x, y in points()]
                (landmarks / place / f"{name}_landmarks.txt").write_bytes("".join(lines).encode())
            if take < 8:
                (labels / place / f"{name}_emotion.txt").write_bytes(f"{float(take):16.7e}{end}".encode())
            (top / "FACS" / place / f"{name}_facs.txt").write_bytes(f"{9.0:16.7e}{4.0:16.7e}{end}".encode())
        (images / subject / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    return Expected(
        classes=EXPRESSIONS,
        counts={"": dict.fromkeys(EXPRESSIONS, 3 * people)},
        subjects=people,
        sequences=7 * people,
        left_out={"unlabelled sequence": people},
    )


def points() -> np.ndarray:
    """68 points of a level face in the frame: an outline, and eyes whose outer corners are 36 and 45."""
    turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    found = np.stack([32 + 14 * np.cos(turn), 26 + 18 * np.sin(turn)], 1)
    found[36:42] = [[24, 21], [25, 20], [27, 20], [28, 21], [27, 22], [25, 22]]
    found[42:48] = [[36, 21], [37, 20], [39, 20], [40, 21], [39, 22], [37, 22]]
    return found
