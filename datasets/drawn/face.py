"""A face from a person, action units and a shot: a lit relief for the skin, and flat soft-edged shapes upon it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from datasets.drawn.canvas import Floats, blob, both, cover, ellipse, fade, paint, relight, tint
from datasets.drawn.relief import relief
from datasets.drawn.rig import Rig, pose


def draw(person: SimpleNamespace, units: Floats, shot: SimpleNamespace, size: int) -> Floats:
    """Pictures (B, size, size, 3), sRGB about 0..1, before noise.

    Args:
        person: traits as `sample_people` gives them, one row per picture.
        units: intensities (B, len(UNITS)) of the action units.
        shot: pose and light as `sample_shots` gives them, one row per picture.
        size: height and width in pixels.

    """
    rig = pose(person, units, shot, size)
    canvas = tint(rig.shot.wall, 1.0 - 0.16 * rig.head.v - 0.10 * rig.head.u**2)
    for layer in (_behind, _skin, _eyes, _mouth, _brows, _hair, _glasses):
        layer(canvas, rig)
    return np.moveaxis(canvas * rig.shot.gain, 0, -1)


def _behind(canvas: Floats, rig: Rig) -> None:
    """Long hair, neck, shoulders and ears."""
    p, s, head = rig.person, rig.shot, rig.head
    u, v = head.u, head.v
    fall = ellipse(u, v - 0.15, p.width + 0.20, 1.36)
    paint(canvas, cover(fall) * p.long_hair, p.hair * 0.62)
    neck = both(np.abs(u) - 0.40 * (1 + 0.25 * fade(v, 0.9, 1.3)) * p.width / 0.79, 0.4 - v)
    paint(canvas, cover(neck), tint(p.skin * 0.66, 1 + 0.25 * u * s.light[:, 0, None, None]))
    shoulders = 1.13 + 0.26 * u**2 - v
    collar = 0.17 - 0.5 * np.sqrt(u**2 + (v - 1.02) ** 2)
    paint(canvas, cover(both(shoulders, collar)), p.cloth)
    paint(canvas, cover(fall) * p.long_hair * cover(0.45 - np.abs(u)) * fade(v, 0.2, 0.8), p.hair * 0.70)
    ears = ellipse(np.abs(u + 0.2 * np.sin(s.yaw)) - p.width - 0.015, v - 0.02, 0.085, 0.19)
    paint(canvas, cover(ears) * (1 - p.long_hair), p.skin * np.array([0.84, 0.74, 0.72]))


def _skin(canvas: Floats, rig: Rig) -> None:
    """Colour of the skin, its shadows and beard, lit; and the nostrils."""
    p, s, au, head, mouth, eyes = rig.person, rig.shot, rig.au, rig.head, rig.mouth, rig.eyes
    x, ax, y = head.x, head.ax, head.y
    skin = tint(p.skin, np.ones_like(x))
    blush = 0.30 * blob(ax - 0.42, y - 0.22, 0.20, 0.16) + 0.25 * blob(x, y - p.nose_y + 0.04, 0.12, 0.10)
    paint(skin, blush, p.skin * np.array([0.98, 0.72, 0.68]))
    tired = 0.20 * blob(eyes.out, eyes.y, 0.20, 0.13) + 0.10 * p.age * blob(eyes.out, eyes.y - 0.10, 0.14, 0.05)
    paint(skin, tired, p.skin * np.array([0.66, 0.52, 0.52]))
    shadow = 0.55 * blob(x, y - p.nose_y - 0.035, 0.13, 0.035) + 0.30 * blob(x, y - mouth.lower - 0.03, 0.15, 0.03)
    paint(skin, shadow, p.skin * np.array([0.60, 0.45, 0.42]))
    if p.beard.any():
        bare = 0.35 * np.exp(-((ax / 0.32) ** 2))
        jaw = fade(y - bare, 0.22, 0.42) + fade(head.outline, 0.28, 0.55) * fade(y, 0.10, 0.40)
        moustache = blob(x, y - mouth.upper + 0.045, 0.24, 0.05)
        paint(skin, p.beard * np.clip(jaw + moustache, 0, 1) * 0.9, p.hair * 0.8)

    shade, gloss = relight(relief(rig), head.pixel, s.light, s.ambient)
    # Light that has travelled under the skin comes out red: shadows lose blue and green first.
    red = np.stack([1.0 + 0.15 * (1.0 - shade), np.ones_like(shade), 1.0 - 0.08 * (1.0 - shade)])
    lit = skin * shade * red + 0.14 * gloss * (1 - 0.8 * p.beard)
    nostrils = ellipse(ax - 0.062 - 0.015 * au[9], y - p.nose_y + 0.012 + 0.03 * au[9], 0.036 + 0.01 * au[9], 0.020)
    paint(lit, 0.85 * cover(nostrils), p.skin * 0.22)
    face = head.outline - 1.0
    paint(canvas, cover(face), lit)


def _eyes(canvas: Floats, rig: Rig) -> None:
    """Whites, irises, pupils, glints, lashes and the creases of the lids."""
    p, s, au, head, eyes = rig.person, rig.shot, rig.au, rig.head, rig.eyes
    sign = np.sign(head.x)
    opening = cover(eyes.opening)
    roof = np.exp(-(((eyes.y - eyes.upper) / 0.045) ** 2))
    white = 1.0 - 0.38 * roof - 0.22 * np.clip(np.abs(eyes.t), 0, 1) ** 3
    paint(canvas, opening, tint((0.95, 0.94, 0.92), white))
    across = eyes.out - 0.035 * sign * s.gaze
    down = eyes.y + 0.012
    radius = 0.076
    far = np.sqrt(across**2 + down**2)
    iris = cover(far - radius) * opening
    glow = 0.75 + 0.6 * np.clip(down / radius, -0.6, 1.0) * np.clip(far / radius, 0, 1) - 0.35 * roof
    paint(canvas, iris, tint(p.iris, glow))
    paint(canvas, 0.6 * iris * fade(far, 0.75 * radius, radius), p.iris * 0.3)
    paint(canvas, cover(far - 0.42 * radius) * opening, (0.03, 0.02, 0.02))
    glint = np.sqrt((across * sign + 0.024) ** 2 + (down + 0.028) ** 2) - 0.020
    paint(canvas, 0.95 * cover(glint) * iris, (1.0, 1.0, 1.0))
    within = (np.abs(eyes.t) - 1.06) * 0.15
    lash = both(np.abs(eyes.y - eyes.upper + 0.006) - 0.017 * (1.1 - 0.4 * eyes.t**2 + 0.25 * eyes.t), within)
    paint(canvas, 0.9 * cover(lash), p.hair * 0.25)
    rim = both(np.abs(eyes.y - eyes.lower) - 0.008, within)
    paint(canvas, 0.45 * cover(rim), p.skin * np.array([0.5, 0.36, 0.34]))
    crease = np.exp(-(((eyes.y - eyes.upper * 1.15 + 0.05 - 0.015 * au[5]) / 0.017) ** 2))
    paint(canvas, 0.55 * crease * fade(np.abs(eyes.t), 1.25, 0.7), p.skin * np.array([0.52, 0.38, 0.35]))


def _mouth(canvas: Floats, rig: Rig) -> None:
    """Lips, and between them teeth, tongue and darkness."""
    p, mouth, au = rig.person, rig.mouth, rig.au
    y = rig.head.y
    lips = cover(mouth.lips)
    rosy = p.skin * np.array([0.86, 0.56, 0.56]) + np.array([0.02, 0.0, 0.01])
    paint(canvas, 0.85 * lips, rosy)
    paint(canvas, 0.30 * lips * fade(y, mouth.line + 0.01, mouth.line - 0.03), rosy * 0.6)
    thick = np.maximum(mouth.lower - mouth.bottom, 1e-3)
    shine = np.exp(-(((y - mouth.bottom - 0.42 * thick) / (0.3 * thick)) ** 2)) * np.exp(-((mouth.t / 0.5) ** 2))
    paint(canvas, 0.28 * lips * shine, np.array([1.0, 0.92, 0.90]))
    inside = cover(mouth.inside)
    gap = mouth.bottom - mouth.top
    paint(canvas, inside, (0.20, 0.05, 0.05))
    tongue = ellipse(mouth.t, y - mouth.bottom - 0.02, 0.62, 0.4 * gap + 1e-3)
    paint(canvas, 0.8 * inside * cover(tongue) * fade(gap, 0.10, 0.18), (0.68, 0.30, 0.30))
    bared = 0.085 + 0.03 * au[12] - 0.035 * au[27]
    dim = 1.0 - 0.35 * np.clip(np.abs(mouth.t), 0, 1) ** 2 - 0.06 * np.cos(mouth.t * 26)
    paint(canvas, inside * cover(y - mouth.top - bared), tint((0.95, 0.93, 0.88), dim))
    paint(canvas, 0.8 * inside * cover(mouth.bottom - 0.04 - y) * au[20], tint((0.88, 0.85, 0.79), dim))
    seam = both(np.abs(y - mouth.line) - 0.012, (np.abs(mouth.t) - 1.04) * mouth.half)
    paint(canvas, 0.75 * cover(seam) * fade(gap, 0.05, 0.015), p.skin * np.array([0.35, 0.18, 0.18]))


def _brows(canvas: Floats, rig: Rig) -> None:
    """Brows, from their inner to their outer ends."""
    p, au, head = rig.person, rig.au, rig.head
    inner_x, outer_x = 0.135 - 0.045 * au[4], 0.565
    s = (head.ax - inner_x) / (outer_x - inner_x)
    c = np.clip(s, 0.0, 1.0)
    lower = au[4] * (1.0 - 0.75 * au[1])
    inner = p.brow_y - p.brow_tilt - 0.15 * au[1] + 0.17 * lower + 0.06 * au[9] + 0.01 * au[6]
    outer = p.brow_y + 0.02 + p.brow_tilt - 0.12 * au[2] + 0.015 * lower + 0.03 * au[1] * (1 - au[2]) + 0.02 * au[9]
    arch = np.clip(p.brow_arch + 0.01 * au[2] - 0.03 * au[4] - 0.02 * au[1] * (1 - au[2]), 0.0, 1.0)
    middle = inner + (outer - inner) * c - arch * 4 * c * (1 - c) * (0.7 + 0.6 * c)
    thick = p.brow_thick * (0.25 + 0.75 * np.sqrt(1 - c)) * (0.3 + 0.7 * fade(c, -0.05, 0.18))
    brow = both(np.abs(head.y - middle) - thick, -s * 0.43, (s - 1) * 0.43)
    paint(canvas, 0.88 * cover(brow), p.hair * 0.72)


def _hair(canvas: Floats, rig: Rig) -> None:
    """Hair over the forehead and beside the face."""
    p, s, head = rig.person, rig.shot, rig.head
    u, v = head.u, head.v
    x = u - 0.5 * np.sin(s.yaw) * head.depth
    cap = ellipse(u, v + 0.04, p.width + 0.10, 1.16)
    line = p.hairline + 0.22 * p.fringe + 0.85 * (x - 0.5 * p.hair_part) ** 2 * (1 - 0.7 * p.fringe)
    sides = both(0.80 - 0.14 * p.long_hair - head.outline, v + 0.10 - 1.1 * p.long_hair)
    top = both(cap, np.minimum(v - line, sides))
    strands = np.sin(34 * np.arctan2(x - 0.4 * p.hair_part, 1.5 + v)) * 0.07
    band = 0.40 * np.exp(-(((v + 0.80 - 0.35 * u * u) / 0.13) ** 2)) * s.light[:, 2, None, None]
    gloss = 0.78 + strands + band + 0.25 * u * s.light[:, 0, None, None]
    paint(canvas, cover(top) * (1 - p.bald), tint(p.hair, gloss) + 0.04 * band)
    shadow = np.exp(-(((v - line) / 0.05) ** 2)) * fade(v - line, -0.02, 0.02) * fade(head.outline, 1.0, 0.85)
    paint(canvas, 0.28 * shadow * (1 - p.bald), p.skin * 0.45)


def _glasses(canvas: Floats, rig: Rig) -> None:
    """Frames and a trace of glass."""
    p, head = rig.person, rig.head
    if not p.glasses.any():
        return
    out, y = head.ax - p.eye_x - 0.005, head.y - p.eye_y - 0.03
    lens = np.sqrt(np.sqrt(np.square((out / 0.235) ** 2) + np.square((y / 0.165) ** 2))) - 1.0
    rims = np.abs(lens) * 0.2 - 0.016
    bridge = both(np.abs(head.y - p.eye_y + 0.02) - 0.014, head.ax - p.eye_x + 0.22)
    temples = both(np.abs(head.y - p.eye_y + 0.03) - 0.013, p.eye_x + 0.22 - head.ax, head.outline - 1.0)
    frame = np.maximum(np.maximum(cover(rims), cover(bridge)), cover(temples))
    paint(canvas, 0.10 * cover(lens) * p.glasses, (1.0, 1.0, 1.0))
    paint(canvas, 0.9 * frame * p.glasses, (0.10, 0.09, 0.10))
