"""Miniature of BU-3DFE: names as released, with the scans beside the textures; 48 x 48 instead of 512 x 512."""

from pathlib import Path

from tests.datasets.miniatures import Expected, face
from tests.datasets.miniatures.jaffe import CODES

ETHNICITIES = ("WH", "AE", "BL", "AM", "IN", "LA")


def build(root: Path, *, people: int = 3, spelling: int = 0) -> Expected:
    """Women and men by turns, each with all 25 scans; spelling 1 all in one folder, with the suffix in capitals."""
    for person in range(people):
        subject = f"{'FM'[person % 2]}{person // 2 + 1:04d}"
        folder = root / "BU_3DFE" if spelling else root / subject
        folder.mkdir(parents=True, exist_ok=True)
        for code, word in CODES.items():
            for level in (0,) if code == "NE" else (1, 2, 3, 4):
                stem = f"{subject}_{code}{level:02d}{ETHNICITIES[person % 6]}"
                image = face(person, word, level)
                image.save(folder / f"{stem}_F2D.{'BMP' if spelling else 'bmp'}", format="BMP")
                (folder / f"{stem}_F3D.wrl").write_bytes(b"#VRML V2.0 utf8\n")
                (folder / f"{stem}_F3D.bnd").write_bytes(b"1\t-38.1\t40.2\t50.3\n")
            image.save(folder / f"{stem}_RAW.bmp")
    levels = {word: people if word == "neutral" else 4 * people for word in CODES.values()}
    return Expected(classes=tuple(CODES.values()), counts={"": levels}, subjects=people, sequences=25 * people)
