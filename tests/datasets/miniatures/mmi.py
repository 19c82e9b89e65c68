"""Miniature of MMI: folders, names and the Metatag Emotion as public code reads them, films of 7 frames.

Nobody shows a whole session.xml in public: its element `track` and the attribute `view` are known, the rest here is made up.
"""

from pathlib import Path

import av
import numpy as np
from PIL import Image

from tests.datasets.miniatures import Expected, face

EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
# A frontal face on the right half, one on its side, one upright, one on the left half, and others on their sides.
SUBJECTS = ("S001", "S028", "S053", "S003", *(f"S{number:03d}" for number in range(30, 51)))
FRAMES = 7


def build(root: Path, *, people: int = 3, spelling: int = 0) -> Expected:
    """Every person with six films, and four sessions that are not taken; spelling 1 in other cases, with BOM and CRLF."""
    sessions = root / ("mmi/sessions" if spelling else "Sessions")
    number = 0
    for person, subject in enumerate(SUBJECTS[:people]):
        for label, word in enumerate(EXPRESSIONS):
            number += 1
            shown = [frame(subject, face(person, word, label * 8 + index)) for index in range(FRAMES)]
            view = "2" if subject in ("S001", "S003") else "0"
            session(sessions / str(number), f"{subject}-{label + 1:03d}", shown, view, str(label + 1), spelling)
    shown = [frame("S028", face(1, "anger"))] * 3
    session(sessions / "900", "S028-100", shown, "0", None, spelling)
    session(sessions / "901", "S028-101", shown, "0", "9", spelling)
    session(sessions / "902", "S021-001", shown, "1", "4", spelling)
    (sessions / "903").mkdir()
    face(0, "anger").save(sessions / "903" / "S001-200.jpg")
    return Expected(
        classes=EXPRESSIONS,
        counts={"": dict.fromkeys(EXPRESSIONS, 3 * people)},
        subjects=people,
        sequences=6 * people,
        left_out={
            "no expression": 1,
            "none of the six expressions": 1,
            "profile view": 1,
            "not a folder with a film S000-000.avi": 1,
        },
    )


def frame(subject: str, shown: Image.Image) -> Image.Image:
    """A frame as the camera of a subject saw a face: beside a mirror's view in black, on its side, or upright."""
    if subject in ("S001", "S003"):
        double = Image.new("RGB", (2 * shown.width, shown.height))
        double.paste(shown, (shown.width if subject == "S001" else 0, 0))
        return double
    return shown if subject == "S053" else shown.transpose(Image.Transpose.ROTATE_90)


def session(
    folder: Path, name: str, frames: list[Image.Image], view: str, emotion: str | None, spelling: int = 0
) -> None:
    """A folder with a film and its XML files."""
    folder.mkdir(parents=True)
    video = folder / f"{name}.{'AVI' if spelling else 'avi'}"
    film(video, frames)
    tags = '<Metatag Name="Coder" Value="1"/>\n' + (f'<Metatag Name="Emotion" Value="{emotion}"/>\n' if emotion else "")
    own = f'<?xml version="1.0" encoding="UTF-8"?>\n<ActionUnits>\n{tags}</ActionUnits>\n'
    track = f'<track type="Video" view="{view}" filename="{name}.avi"/>'
    about = f'<?xml version="1.0" encoding="UTF-8"?>\n<session sessionId="{folder.name}">\n{track}\n</session>\n'
    for file, text in ((f"{name}.xml", own), ("session.xml", about), (f"{name}-oao_aucs.xml", own)):
        data = text.replace("\n", "\r\n").encode("utf-8-sig") if spelling else text.encode()
        (folder / file).write_bytes(data)


def film(file: Path, frames: list[Image.Image]) -> None:
    """An AVI file in MPEG-4, 24 frames a second."""
    with av.open(str(file), "w", format="avi") as container:
        stream = container.add_stream(
            "mpeg4", rate=24, options={"qscale": "2", "flags": "+qscale", "global_quality": "236"}
        )
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = *frames[0].size, "yuv420p", 1
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")))
        container.mux(stream.encode())
