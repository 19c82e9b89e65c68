"""The rig of a face: where its parts are, once the action units have moved them, in every pixel's own terms.

Coordinates: x right and y down from the middle of the face, 1 is half its height. (u, v) are those of the head's
outline, (x, y) those of the features, which turn with the head. Eyes, brows and cheeks are built once, on |x|.
All arrays are float64 and (B, S, S), or broadcast to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from datasets.drawn.action_units import UNITS
from datasets.drawn.canvas import Floats, both

HALF_FRAME = 1.07  # Half the side of the picture.


@dataclass(frozen=True, eq=False)
class Head:
    """Coordinates of the pixels on the head.

    Attributes:
        u: of the outline, right.
        v: of the outline, down.
        x: of the features, right.
        y: of the features, down.
        ax: |x|.
        outline: below 1 within the face.
        depth: 1 in the middle of the face, 0 from its outline on.
        jaw: how far the jaw hangs.
        pixel: size of a pixel.

    """

    u: Floats
    v: Floats
    x: Floats
    y: Floats
    ax: Floats
    outline: Floats
    depth: Floats
    jaw: Floats
    pixel: float


@dataclass(frozen=True, eq=False)
class Mouth:
    """The curves of the lips, as y over x; t is -1 and 1 at the corners.

    Attributes:
        t: place between the corners.
        half: half the width.
        corner: y of the corners, about.
        line: where closed lips meet.
        upper: upper edge of the upper lip.
        top: lower edge of the upper lip.
        bottom: upper edge of the lower lip.
        lower: lower edge of the lower lip.
        lips: the shape of both lips and all between them.
        inside: the shape of what is between the lips.

    """

    t: Floats
    half: Floats
    corner: Floats
    line: Floats
    upper: Floats
    top: Floats
    bottom: Floats
    lower: Floats
    lips: Floats
    inside: Floats


@dataclass(frozen=True, eq=False)
class Eyes:
    """The curves of the lids, as y over the distance outward; t is -1 at the inner and 1 at the outer corner.

    Attributes:
        out: distance outward from the middle of the eye.
        y: distance down from the middle of the eye.
        t: place between the corners.
        upper: edge of the upper lid, as `y`.
        lower: edge of the lower lid, as `y`.
        opening: the shape between the lids.

    """

    out: Floats
    y: Floats
    t: Floats
    upper: Floats
    lower: Floats
    opening: Floats


@dataclass(frozen=True, eq=False)
class Rig:
    """All that the painters need: `person` and `shot` with numbers as (B, 1, 1) and colours as (B, 3)."""

    person: SimpleNamespace
    shot: SimpleNamespace
    au: dict[int, Floats]
    head: Head
    mouth: Mouth
    eyes: Eyes


def pose(person: SimpleNamespace, units: Floats, shot: SimpleNamespace, size: int) -> Rig:
    """The rig of B faces from rows of `person` and `shot`, and units (B, len(UNITS)), for pictures of `size` pixels."""
    p, s = _columns(person), _columns(shot)
    rest = dict(zip(UNITS, units.T[..., None, None], strict=True))
    head = _head(p, s, 0.06 * rest[26] + 0.16 * rest[27], size)
    # One half of a face moves a little more than the other.
    side = 1.0 + s.asymmetry * np.tanh(3.0 * head.x)
    au = {unit: np.clip(intensity * side, 0.0, 1.0) for unit, intensity in rest.items()}
    return Rig(p, s, au, head, _mouth(p, au, head), _eyes(p, au, head))


def _columns(table: SimpleNamespace) -> SimpleNamespace:
    """Numbers (B,) as (B, 1, 1), colours as they are."""
    return SimpleNamespace(**{key: row[:, None, None] if row.ndim == 1 else row for key, row in vars(table).items()})


def _head(p: SimpleNamespace, s: SimpleNamespace, jaw: Floats, size: int) -> Head:
    line = ((np.arange(size) + 0.5) / size * 2.0 - 1.0) * HALF_FRAME
    right, down = line[None, None, :] - s.dx, line[None, :, None] - s.dy
    u = (np.cos(s.roll) * right + np.sin(s.roll) * down) / s.scale
    v = (np.cos(s.roll) * down - np.sin(s.roll) * right) / s.scale + 0.03
    bottom = p.chin + jaw
    below = np.clip(v / bottom, 0.0, 1.2)
    width = p.width * (1.0 - p.taper * below**2)
    outline = (u / width) ** 2 + (v / np.where(v > 0, bottom, 1.06)) ** 2
    depth = np.sqrt(np.clip(1.0 - outline, 0.0, None))
    x = u / np.cos(s.yaw) - 0.75 * np.sin(s.yaw) * depth
    y = v / np.cos(s.pitch) - 0.6 * np.sin(s.pitch) * depth
    pixel = 2.0 * HALF_FRAME / size
    return Head(u=u, v=v, x=x, y=y, ax=np.abs(x), outline=outline, depth=depth, jaw=jaw, pixel=pixel)


def _mouth(p: SimpleNamespace, au: dict[int, Floats], head: Head) -> Mouth:
    half = p.mouth_w * (1 + 0.34 * au[12] + 0.26 * au[20] - 0.20 * au[23] - 0.14 * au[27] + 0.05 * au[15])
    t = head.x / half
    round_arch = np.sqrt(np.clip(1.0 - t * t, 0.0, 1.0))
    arch = round_arch * np.sqrt(round_arch)
    middle = p.mouth_y + 0.02 * au[12] - 0.035 * au[17] - 0.03 * au[10] - 0.02 * au[9]
    bend = p.mouth_rest - 0.155 * au[12] + 0.145 * au[15] + 0.03 * au[20] + 0.03 * au[10]
    line = middle + bend * (np.minimum(t * t, 1.3) - 0.3)
    gape = 0.06 * au[25] + 0.05 * au[25] * au[12] + 0.16 * au[26] + 0.30 * au[27]
    lift = 0.2 * gape + 0.05 * au[10] + 0.02 * au[9]
    top = line - lift * arch
    bottom = line + (gape + 0.035 * au[10] * au[25]) * round_arch
    bow = 1.0 + 0.22 * np.exp(-(((np.abs(t) - 0.28) / 0.2) ** 2)) - 0.12 * np.exp(-((t / 0.1) ** 2))
    thin = 1.0 - 0.6 * au[23] - 0.2 * au[12] - 0.2 * au[20]
    upper = top - p.lip_upper * thin * bow * arch
    lower = bottom + p.lip_lower * (thin - 0.25 * au[17]) * round_arch
    ends = (np.abs(t) - 1.0) * half
    lips, inside = both(upper - head.y, head.y - lower, ends), both(top - head.y, head.y - bottom, ends)
    return Mouth(t, half, middle + 0.7 * bend, line, upper, top, bottom, lower, lips, inside)


def _eyes(p: SimpleNamespace, au: dict[int, Floats], head: Head) -> Eyes:
    out = head.ax - p.eye_x
    y = head.y - p.eye_y + p.eye_tilt * out
    t = out / p.eye_w
    arch = np.clip(1.0 - t * t, 0.0, 1.0)
    arch = np.sqrt(arch * np.sqrt(arch))
    above = p.eye_h * np.clip(1 + 0.60 * au[5] - 0.38 * au[7] - 0.22 * au[6] - 0.30 * au[9] - 0.12 * au[12], 0.25, 2)
    below = p.eye_h * np.clip(0.62 + 0.18 * au[5] - 0.34 * au[7] - 0.42 * au[6] - 0.20 * au[9], 0.1, 1)
    # Raised inner brows pull the lid up at its inner end: the sad eye.
    upper = -above * arch * (1.0 - 0.25 * t * np.clip(au[1] - 0.7 * au[2], 0, 1) + 0.22 * t * au[4] * (1 - au[1]))
    lower = below * arch
    ends = (np.abs(t) - 1.0) * p.eye_w
    return Eyes(out, y, t, upper, lower, both(upper - y, y - lower, ends))
