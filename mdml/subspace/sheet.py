"""A contact sheet: rows of images side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdml.errors import MethodError
from mdml.subspace.representatives import SHOWN

GAP, PAPER = 2, 255  # pixels between images, and their grey


def contact_sheet(images: Tensor, rows: Sequence[npt.NDArray[Any]], columns: int = SHOWN) -> npt.NDArray[np.uint8]:
    """Lay out images in rows, as of the representatives of groups.

    Args:
        images: (A, C, S, S) uint8 on any device, C being 1 (grey) or 3 (RGB).
        rows: positions among the images of each row, at most `columns`; shorter rows end in white.
        columns: of the sheet.

    Returns:
        (R (S + 2) + 2, columns (S + 2) + 2, 3) uint8: R rows of images, 2 white pixels around each.

    Raises:
        MethodError: for images of another kind, or more images in a row than columns.

    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.uint8:
        raise MethodError(f"Expected images (A, 1 or 3, S, S) uint8, found {tuple(images.shape)} {images.dtype}.")
    if (longest := max(map(len, rows), default=0)) > columns:
        raise MethodError(f"Expected at most {columns} images in a row of the sheet, found {longest}.")
    height, width = (side + GAP for side in images.shape[2:])
    sheet = np.full((len(rows) * height + GAP, columns * width + GAP, 3), PAPER, np.uint8)
    places = [(i, j) for i, row in enumerate(rows) for j in range(len(row))]
    if places:
        chosen = torch.from_numpy(np.concatenate([np.asarray(row, np.int64) for row in rows]))
        faces = images[chosen.to(images.device)].cpu().permute(0, 2, 3, 1).numpy()
        for (i, j), face in zip(places, faces, strict=True):
            top, left = i * height + GAP, j * width + GAP
            sheet[top : top + height - GAP, left : left + width - GAP] = face
    return sheet
