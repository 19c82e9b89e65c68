"""The skin as a height field, whose slopes catch the light: bones, cheeks, nose, folds and wrinkles."""

from __future__ import annotations

import numpy as np

from datasets.drawn.canvas import Floats, blob, fade
from datasets.drawn.rig import Rig


def relief(rig: Rig) -> Floats:
    """Height of the skin towards the viewer."""
    p, au, head, mouth, eyes = rig.person, rig.au, rig.head, rig.mouth, rig.eyes
    x, ax, y = head.x, head.ax, head.y
    height = 0.78 * np.sqrt(head.depth**2 + 0.02)
    # Brow ridge, sockets, the balls of the eyes.
    height += 0.035 * blob(ax - 0.30, y - p.brow_y - 0.03, 0.28, 0.10) - 0.085 * blob(eyes.out, eyes.y, 0.23, 0.14)
    height += 0.05 * blob(eyes.out, eyes.y, 0.13, 0.10)
    # Nose: bridge, tip, wings; wrinkling pulls the wings up.
    wing = p.nose_y - 0.035 - 0.05 * au[9] - 0.02 * au[10]
    along = fade(y, p.eye_y - 0.16, p.nose_y - 0.06) * fade(y, p.nose_y + 0.05, p.nose_y - 0.04)
    height += 0.20 * p.nose_bridge * along * np.exp(-((x / (0.065 + 0.03 * along)) ** 2))
    height += 0.07 * blob(x, y - p.nose_y + 0.05, 0.09, 0.08)
    height += 0.06 * blob(ax - p.nose_w * 0.85, y - wing, 0.045, 0.055)
    # Cheeks, which smiles and raised cheeks push up and out.
    rise = 0.5 * au[6] + 0.5 * au[12]
    height += (0.05 + 0.085 * rise) * blob(ax - 0.40, y - 0.20 + 0.06 * rise, 0.17, 0.14)
    # Mouth and chin.
    height += 0.05 * blob(x, y - p.mouth_y, 0.30, 0.16)
    height += (0.05 + 0.03 * au[17]) * blob(x, y - p.mouth_y - 0.30 - head.jaw + 0.03 * au[17], 0.17, 0.10)
    height -= (0.025 + 0.035 * au[17]) * blob(x, y - mouth.lower - 0.055, 0.16, 0.035)
    return height - _folds(rig)


def _folds(rig: Rig) -> Floats:
    """Depth of wrinkles and folds; age deepens them all."""
    p, au, head, mouth, eyes = rig.person, rig.au, rig.head, rig.mouth, rig.eyes
    x, ax, y = head.x, head.ax, head.y
    deep = 0.75 + 0.5 * p.age
    # From the wings of the nose to beside the mouth.
    start, end = p.nose_y - 0.06 - 0.05 * au[9], mouth.corner + 0.05
    s = np.clip((y - start) / (end - start), 0.0, 1.0)
    fold = p.nose_w + 0.03 + (mouth.half + 0.055 - p.nose_w) * s + 0.07 * s * (1 - s) * (1 + 2 * au[12])
    pull = np.clip(0.25 * p.age + 0.9 * au[12] + 0.8 * au[10] + 0.7 * au[9] + 0.2 * au[15] + 0.2 * au[20], 0.0, 1.3)
    ends = fade(y, start - 0.05, start + 0.03) * fade(y, end + 0.08, end - 0.05)
    folds = 0.034 * pull * np.exp(-(((ax - fold) / 0.035) ** 2)) * ends
    # Forehead: lines across for raised brows, two upright ones between lowered brows.
    raised = au[1] * np.exp(-((x / 0.25) ** 2)) + au[2] * np.exp(-(((ax - 0.32) / 0.2) ** 2)) + 0.15 * p.age
    brow = y - p.brow_y
    ripple = _ripple(brow + 0.05 * np.cos(4 * x), 0.105) * np.exp(-(((brow + 0.25) / 0.13) ** 2))
    folds += 0.011 * deep * np.clip(raised, 0, 1.2) * ripple
    folds += 0.030 * deep * au[4] * blob(ax - 0.055, brow - 0.02, 0.022, 0.11)
    # Across the bridge of the nose.
    bridge = y - p.eye_y
    folds += 0.030 * deep * au[9] * _ripple(bridge - 0.5 * ax, 0.085) * blob(x, bridge - 0.05, 0.13, 0.10)
    # Under the eyes, beside them, and below the corners of the mouth.
    bags = 0.3 * p.age + au[6] + 0.5 * au[7]
    folds += 0.012 * deep * bags * blob(eyes.t, eyes.y - eyes.lower - 0.06, 0.8, 0.025)
    folds += 0.012 * deep * au[6] * _ripple(eyes.y, 0.09) * blob(eyes.out - 0.23, eyes.y, 0.06, 0.11)
    beside = ax - mouth.half - 0.018
    folds += 0.022 * deep * (au[15] + 0.15 * p.age) * blob(beside, y - mouth.corner - 0.09, 0.03, 0.08)
    return folds + 0.02 * (0.4 + au[12]) * blob(beside, y - mouth.corner, 0.035, 0.045)


def _ripple(distance: Floats, period: float) -> Floats:
    """Parallel furrows, 0..1, narrower than the ridges between them."""
    return (0.5 + 0.5 * np.cos(distance * (2 * np.pi / period))) ** 2
