"""Miniature of Oulu-CASIA: names and depth as public code reads them; 64 x 48 instead of 320 x 240."""

from pathlib import Path

from PIL import Image

from tests.datasets.miniatures import Expected, face

FOLDERS = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")
TAKEN = ("OriginalImg", "VL", "Strong")


def build(root: Path, *, people: int = 3, spelling: int = 0) -> Expected:
    """Every person with six sequences of four frames; other lights and the cropped version of the first person only.

    Spelling 1 in the folder that the archive unpacks to, with folders in lower case and suffixes in capitals.
    """
    others = [("OriginalImg", "VL", "Weak"), ("OriginalImg", "NI", "Dark"), ("PreProcess_Img", "VL_Acropped", "Strong")]
    for version, camera, light in (TAKEN, *others):
        folder = root / version / camera / light
        if spelling and version == "OriginalImg":
            folder = root / "B_OriginalImg" / version / camera.lower() / light.lower()
        for person in range(people if (version, camera, light) == TAKEN else 1):
            for word in FOLDERS:
                inner = folder / f"P{person + 1:03d}" / (word.lower() if spelling else word)
                inner.mkdir(parents=True)
                for frame in range(4):
                    image = Image.new("RGB", (64, 48))
                    image.paste(face(person, word if frame else "neutral", frame), (8, 0))
                    name = f"{frame:03d}.{('JPG' if frame % 2 else 'JPEG') if spelling else 'jpeg'}"
                    image.save(inner / name, format="JPEG", quality=90)
    classes = tuple(word.lower() for word in FOLDERS)
    return Expected(
        classes=classes,
        counts={"": dict.fromkeys(classes, 3 * people)},
        subjects=people,
        sequences=6 * people,
    )
