"""Drawing many pictures at once: shapes are functions of the plane that are negative inside, painted with soft edges.

Every array is float64 (B, S, S), or broadcasts to it: double precision keeps the rounding to 8 bits the same on all
machines, so that they agree on a data set's fingerprint.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def cover(shape: Floats) -> Floats:
    """Share of each pixel, 0..1, that lies inside a shape: its value over its slope is the distance in pixels."""
    down, right = np.gradient(shape, axis=(-2, -1))
    return np.clip(0.5 - shape / np.sqrt(down * down + right * right + 1e-12), 0.0, 1.0)


def both(*shapes: Floats) -> Floats:
    """The intersection of shapes."""
    result = shapes[0]
    for shape in shapes[1:]:
        result = np.maximum(result, shape)
    return result


def ellipse(x: Floats, y: Floats, width: Floats | float, height: Floats | float) -> Floats:
    """An ellipse about the origin with these half axes."""
    return np.sqrt((x / width) ** 2 + (y / height) ** 2) - 1.0


def blob(x: Floats, y: Floats, width: Floats | float, height: Floats | float) -> Floats:
    """A soft hill of height 1 about the origin."""
    return np.exp(-((x / width) ** 2) - (y / height) ** 2)


def fade(value: Floats, start: Floats | float, end: Floats | float) -> Floats:
    """0 up to `start`, 1 from `end` on, smooth between; falls where `end` is below `start`."""
    part = np.clip((value - start) / (end - start), 0.0, 1.0)
    return part * part * (3.0 - 2.0 * part)


def paint(canvas: Floats, alpha: Floats, color: Floats | tuple[float, float, float]) -> None:
    """Lay a colour over canvas (3, B, S, S) with opacity alpha (B, S, S); color (3,), (B, 3) or (3, B, S, S)."""
    color = np.asarray(color, np.float64)
    planes = color if color.ndim == 4 else color.T.reshape(3, -1, 1, 1)
    for channel, plane in zip(canvas, planes, strict=True):
        channel += alpha * (plane - channel)


def tint(color: Floats | tuple[float, float, float], shade: Floats) -> Floats:
    """A colour, (3,) or (B, 3), made lighter or darker by shade (B, S, S), as (3, B, S, S)."""
    return np.asarray(color, np.float64).T.reshape(3, -1, 1, 1) * shade


def relight(height: Floats, pixel: float, light: Floats, ambient: Floats) -> tuple[Floats, Floats]:
    """Lambert shading and gloss, both (B, S, S), of a relief under one far lamp.

    Args:
        height: the relief, in the unit of the plane.
        pixel: size of a pixel in the unit of the plane.
        light: direction to the lamp (B, 3), of length 1, y down, z to the viewer.
        ambient: share of the light that comes from everywhere (B, 1, 1).

    """
    down, right = np.gradient(height, pixel, axis=(-2, -1))
    length = np.sqrt(down * down + right * right + 1.0)
    toward = [light[:, axis, None, None] for axis in range(3)]
    lit = np.maximum((toward[2] - right * toward[0] - down * toward[1]) / length, 0.0)
    # Half way between lamp and viewer, who is at (0, 0, 1).
    halfway = np.sqrt(2.0 + 2.0 * toward[2])
    gloss = np.maximum((toward[2] + 1.0 - right * toward[0] - down * toward[1]) / (length * halfway), 0.0) ** 24
    return ambient + (1.0 - ambient) * lit, gloss
