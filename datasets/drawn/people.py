"""Who is drawn, and how they were photographed: the nuisances that an expression has to be told from."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Average and spread of each trait over people; lengths in half face heights, y down from the middle of the face.
TRAITS: dict[str, tuple[float, float]] = {
    "width": (0.79, 0.05),
    "taper": (0.25, 0.08),  # How much narrower the face is at the chin.
    "chin": (1.02, 0.05),
    "eye_x": (0.345, 0.022),
    "eye_y": (-0.13, 0.03),
    "eye_w": (0.172, 0.012),
    "eye_h": (0.082, 0.010),
    "eye_tilt": (0.06, 0.06),
    "brow_y": (-0.365, 0.030),
    "brow_tilt": (0.0, 0.020),  # Resting height of the inner end over the outer end.
    "brow_arch": (0.055, 0.018),
    "brow_thick": (0.036, 0.010),
    "nose_y": (0.24, 0.030),
    "nose_w": (0.125, 0.018),
    "nose_bridge": (1.0, 0.25),
    "mouth_y": (0.52, 0.028),
    "mouth_w": (0.25, 0.024),
    "mouth_rest": (0.0, 0.012),  # Resting height of the lips' middle over their corners.
    "lip_upper": (0.046, 0.011),
    "lip_lower": (0.066, 0.013),
    "age": (0.35, 0.25),
    "hairline": (-0.75, 0.05),
    "hair_part": (0.0, 0.28),
}

# Colours are sRGB in 0..1. Each list runs along one axis on which a person has a place.
SKIN = np.array(
    [
        [0.97, 0.82, 0.73],
        [0.92, 0.73, 0.61],
        [0.83, 0.62, 0.48],
        [0.68, 0.47, 0.34],
        [0.55, 0.37, 0.27],
        [0.44, 0.29, 0.21],
    ]
)
HAIR = np.array(
    [
        [0.08, 0.07, 0.07],
        [0.20, 0.12, 0.08],
        [0.36, 0.22, 0.13],
        [0.55, 0.27, 0.13],
        [0.80, 0.64, 0.38],
        [0.68, 0.67, 0.66],
    ]
)
IRIS = np.array([[0.20, 0.11, 0.06], [0.36, 0.22, 0.10], [0.40, 0.42, 0.22], [0.30, 0.50, 0.40], [0.33, 0.52, 0.70]])
CLOTH = np.array([[0.18, 0.23, 0.34], [0.55, 0.20, 0.20], [0.86, 0.85, 0.82], [0.22, 0.38, 0.33], [0.75, 0.60, 0.32]])
WALL = np.array([[0.62, 0.70, 0.76], [0.80, 0.77, 0.70], [0.55, 0.60, 0.56], [0.72, 0.66, 0.72], [0.42, 0.46, 0.54]])


def sample_people(random: np.random.Generator, count: int, identity: float) -> SimpleNamespace:
    """Traits of `count` people as arrays (count,), and their colours as arrays (count, 3).

    Args:
        random: source of chance.
        count: number of people.
        identity: 0 gives everybody the average face; 1 people as they differ in the street; more exaggerates.

    """
    person = SimpleNamespace()
    known = min(identity, 1.0)
    for trait, (mean, spread) in TRAITS.items():
        setattr(person, trait, mean + identity * spread * np.clip(random.standard_normal(count), -2.2, 2.2))
    person.age = np.clip(person.age, 0.0, 1.2)
    tone = random.uniform(0.0, 1.0, count)
    person.skin = _along(SKIN, 0.3 + known * (tone - 0.3))
    # Fair hair and light eyes go with fair skin, dark ones with any.
    person.hair = _along(HAIR, random.uniform(0.0, 1.0, count) * np.where(tone < 0.45, 1.0, 0.3) * known)
    person.iris = _along(IRIS, random.uniform(0.0, 1.0, count) * np.where(tone < 0.45, 1.0, 0.3) * known)
    person.cloth = _along(CLOTH, random.uniform(0.0, 1.0, count) * known)
    style = random.uniform(0.0, 1.0, count)
    person.long_hair = (style < 0.42 * known).astype(float)
    person.bald = (style > 1 - 0.10 * known).astype(float)
    person.fringe = random.uniform(0.0, 1.0, count) ** 3 * known * (1 - person.bald)
    beard = random.uniform(0.0, 1.0, count)
    person.beard = np.where((beard < 0.35 * known) & (person.long_hair == 0), 0.15 + 2 * beard, 0.0)
    person.glasses = (random.uniform(0.0, 1.0, count) < 0.14 * known).astype(float)
    return person


def sample_shots(random: np.random.Generator, count: int) -> SimpleNamespace:
    """Pose, light and camera of `count` photographs as arrays (count,), angles in radians; `wall` is (count, 3)."""
    shot = SimpleNamespace()
    normal = {"yaw": 0.11, "pitch": 0.07, "roll": 0.05, "dx": 0.03, "dy": 0.03, "gaze": 0.25, "asymmetry": 0.08}
    for name, spread in normal.items():
        setattr(shot, name, spread * np.clip(random.standard_normal(count), -2.0, 2.0))
    shot.scale = np.exp(0.04 * np.clip(random.standard_normal(count), -2.0, 2.0))
    azimuth = random.uniform(-0.8, 0.8, count)
    height = random.uniform(0.15, 0.8, count)
    length = np.sqrt(azimuth**2 + height**2 + 1.0)
    shot.light = np.stack([azimuth, -height, np.ones(count)], 1) / length[:, None]
    shot.ambient = random.uniform(0.35, 0.6, count)
    shot.gain = random.uniform(0.9, 1.12, count)
    shot.noise = random.uniform(0.003, 0.016, count)
    shot.wall = _along(WALL, random.uniform(0.0, 1.0, count))
    return shot


def standard_shot(count: int) -> SimpleNamespace:
    """The photograph to compare others with: upright, frontal and centred, mid light, mid wall, no noise; as `sample_shots`."""
    shot = SimpleNamespace()
    for name in ("yaw", "pitch", "roll", "dx", "dy", "gaze", "asymmetry", "noise"):
        setattr(shot, name, np.zeros(count))
    for name, value in (("scale", 1.0), ("ambient", 0.475), ("gain", 1.0)):
        setattr(shot, name, np.full(count, value))
    height = 0.475  # The middle of what is drawn by chance, as are the shares of light above.
    shot.light = np.tile(np.array([0.0, -height, 1.0]) / np.sqrt(height**2 + 1.0), (count, 1))
    shot.wall = _along(WALL, np.full(count, 0.5))
    return shot


def _along(palette: Floats, place: Floats) -> Floats:
    """Colours (N, 3) at `place` (N,), 0..1, along a palette (P, 3)."""
    stops = np.linspace(0.0, 1.0, len(palette))
    return np.stack([np.interp(np.clip(place, 0.0, 1.0), stops, palette[:, channel]) for channel in range(3)], 1)
