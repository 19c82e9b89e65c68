"""Expressions as facial action units (FACS): which muscles move, and how strongly.

Numbers are Ekman and Friesen's: 1 inner brow raiser, 2 outer brow raiser, 4 brow lowerer, 5 upper lid raiser,
6 cheek raiser, 7 lid tightener, 9 nose wrinkler, 10 upper lip raiser, 12 lip corner puller, 15 lip corner depressor,
17 chin raiser, 20 lip stretcher, 23 lip tightener, 25 lips part, 26 jaw drop, 27 mouth stretch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 17, 20, 23, 25, 26, 27)

# Full intensity of each unit, 0..1, in the usual prototypes; what is not named is at rest.
PROTOTYPES: dict[str, dict[int, float]] = {
    "anger": {4: 1.0, 5: 0.5, 7: 0.7, 10: 0.2, 17: 0.4, 23: 0.9},
    "disgust": {4: 0.4, 7: 0.4, 9: 1.0, 10: 0.9, 15: 0.3, 17: 0.4, 25: 0.3},
    "fear": {1: 1.0, 2: 0.5, 4: 0.6, 5: 1.0, 20: 1.0, 25: 0.7, 26: 0.4},
    "happy": {6: 0.8, 12: 1.0, 25: 0.8},
    "neutral": {},
    "sad": {1: 1.0, 4: 0.5, 7: 0.2, 15: 1.0, 17: 0.5},
    "surprise": {1: 0.9, 2: 1.0, 5: 0.9, 26: 0.7, 27: 0.6},
}

CLASSES = tuple(PROTOTYPES)


def sample(
    random: np.random.Generator, classes: npt.NDArray[np.int64], weakest: float, stray: float
) -> npt.NDArray[np.float64]:
    """Intensities (N, len(UNITS)), 0..1, of N faces that show `classes` (N,).

    Args:
        random: source of chance.
        classes: indices into `CLASSES`.
        weakest: the overall intensity of an expression is uniform from here to 1.
        stray: greatest intensity of units that have no part in the expression.

    """
    full = np.array([[PROTOTYPES[name].get(unit, 0.0) for unit in UNITS] for name in CLASSES])[classes]
    overall = random.uniform(weakest, 1.0, (len(classes), 1))
    each = random.uniform(0.7, 1.15, full.shape)
    strays = random.uniform(0.0, 1.0, full.shape) ** 4 * stray
    # A stray jaw drop is a yawn and reads as surprise: the mouth stays within what speech does.
    strays[:, UNITS.index(27)] = 0.0
    return np.clip(full * overall * each + strays, 0.0, 1.0)
