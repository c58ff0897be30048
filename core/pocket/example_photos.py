"""The eight example photos: a toy that exists nowhere else, modelled and lit by this program.

    python -m core.pocket.example_photos [FOLDER]

The subject is a solid of signed distances (Hart 1996, sphere tracing): a pear-shaped body in teal and cream stripes,
one large eye, a bent orange horn, mustard arms and plum feet. It stands on eight grounds under eight lights and is seen
from eight sides, as somebody with a phone would take it.

Shapes   R rays   3 = x right, y up, z towards the viewer
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from core.pocket import backgrounds as paint
from core.pocket.assets import EXAMPLE_CLASS_WORD, EXAMPLE_TRIGGER, EXAMPLES
from core.pocket.backgrounds import float32

SIDE = 512
Colour = tuple[float, float, float]
TEAL, CREAM, ORANGE = (0.04, 0.46, 0.47), (0.95, 0.88, 0.70), (0.93, 0.38, 0.07)
MUSTARD, PLUM = (0.88, 0.65, 0.1), (0.36, 0.12, 0.34)
WHITE, INK = (0.95, 0.95, 0.93), (0.03, 0.03, 0.05)
GROUND, BODY, EYE, HORN, ARM, FOOT = range(6)


@dataclass(frozen=True)
class Shot:
    """One photo: where it is taken, from where, in which light."""

    words: str
    ground: Callable[[np.random.Generator, int], np.ndarray]
    behind: Callable[[np.random.Generator, int], np.ndarray]
    turn: float  # degrees; 0 shows the face
    height: float  # degrees above the ground
    distance: float
    roll: float
    light: float  # degrees from the left
    warmth: Colour
    ground_scale: float = 0.22


SHOTS = (
    Shot("on a wooden table", paint.wood, paint.room, 8, 18, 5.6, 0, -50, (1.05, 0.98, 0.88)),
    Shot("on the grass", paint.grass, paint.forest, -28, 22, 6.4, 3, 40, (1.08, 1.04, 0.9), 0.5),
    Shot("on the sand", paint.desert, paint.water, 30, 14, 6.0, -3, -35, (1.15, 1.05, 0.88), 0.2),
    Shot("in front of a brick wall", paint.street, paint.brick, -12, 10, 5.2, 0, 55, (1.0, 1.0, 1.0), 0.1),
    Shot("on a carpet", paint.carpet, paint.room, 48, 30, 5.4, 4, -65, (1.0, 0.9, 0.76)),
    Shot("close up", paint.wood, paint.jungle, -6, 12, 4.0, -5, 35, (0.96, 1.0, 1.05)),
    Shot("in the snow", paint.carpet, paint.snow, 20, 16, 6.8, 0, -40, (0.95, 1.0, 1.12)),
    Shot("on autumn leaves", paint.leaves, paint.forest, -45, 28, 6.0, -4, 30, (1.1, 0.98, 0.84), 0.3),
)  # fmt: skip


def _join(a: np.ndarray, b: np.ndarray, soft: float) -> np.ndarray:
    mixing = np.clip(0.5 + 0.5 * (b - a) / soft, 0, 1)
    joined: np.ndarray = b * (1 - mixing) + a * mixing - soft * mixing * (1 - mixing)
    return joined


def _ball(p: np.ndarray, centre: Colour, radius: float) -> np.ndarray:
    distance: np.ndarray = np.linalg.norm(p - float32(centre), axis=-1) - radius
    return distance


def _rod(p: np.ndarray, start: Colour, end: Colour, thick: float, thin: float) -> np.ndarray:
    a, along = float32(start), float32(end) - float32(start)
    share = np.clip((p - a) @ along / (along @ along), 0, 1)
    distance: np.ndarray = np.linalg.norm(p - a - share[..., None] * along, axis=-1) - (thick + (thin - thick) * share)
    return distance


def distances(p: np.ndarray) -> np.ndarray:
    """Signed distances (R, 6) of points (R, 3) to ground, body, eye, horn, arms and feet."""
    body = _join(_ball(p, (0, 0.95, 0), 0.78), _ball(p, (0.06, 1.85, 0), 0.46), 0.55)
    eye = _ball(p, (0.08, 1.82, 0.40), 0.30)
    root, bend, tip = (0.02, 2.2, 0.0), (-0.12, 2.6, -0.02), (0.2, 2.95, 0.0)
    horn = _join(_rod(p, root, bend, 0.17, 0.11), _rod(p, bend, tip, 0.11, 0.05), 0.06)
    arms = np.minimum(
        _rod(p, (-0.62, 1.2, 0.1), (-1.05, 1.45, 0.28), 0.15, 0.19),
        _rod(p, (0.66, 1.15, 0.1), (1.08, 0.85, 0.35), 0.15, 0.19),
    )
    feet = np.minimum(_ball(p * float32([1, 1.35, 0.8]), (-0.42, 0.24, 0.26), 0.34),
                      _ball(p * float32([1, 1.35, 0.8]), (0.44, 0.24, 0.26), 0.34)) * 0.72  # fmt: skip
    return np.stack([p[..., 1], body, eye, horn, arms, feet], -1)


def _march(start: np.ndarray, way: np.ndarray, far: float) -> np.ndarray:
    """How far each ray goes until it touches something; `far` where nothing is met."""
    gone = np.full(len(start), 0.02, np.float32)
    active = np.arange(len(start))
    for _ in range(90):
        near = distances(start[active] + gone[active, None] * way[active]).min(-1)
        gone[active] += near * 0.9
        active = active[(near > 0.0015) & (gone[active] < far)]
        if not len(active):
            break
    return np.minimum(gone, far)


def _shadow(points: np.ndarray, to_light: np.ndarray) -> np.ndarray:
    """Light that arrives, 0..1, with a soft edge."""
    arriving = np.ones(len(points), np.float32)
    gone = np.full(len(points), 0.06, np.float32)
    for _ in range(36):
        near = distances(points + gone[:, None] * to_light)[:, 1:].min(-1)
        arriving = np.minimum(arriving, np.clip(7 * near / gone, 0, 1))
        gone += np.clip(near, 0.03, 0.25)
    return arriving


def _surface(shot: Shot, rng: np.random.Generator, p: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Colours (R, 3) of surface points."""
    colour = np.zeros_like(p)
    texture = shot.ground(rng, 512)
    if shot.ground is paint.carpet and shot.behind is paint.snow:
        texture = 0.9 + 0.1 * texture.mean(-1, keepdims=True).repeat(3, -1)
    elif shot.ground in (paint.desert, paint.street, paint.grass):
        texture = np.concatenate([texture[400:], texture[400:][::-1]] * 3)[:512]
    u, v = (((p[:, i] * shot.ground_scale * 0.5 + 0.5) * 511).astype(int) % 1022 for i in (0, 2))
    u, v = np.where(u > 511, 1021 - u, u), np.where(v > 511, 1021 - v, v)  # mirrored, so that no seam shows
    colour[part == GROUND] = texture[v, u][part == GROUND]
    wave = p[:, 1] + 0.05 * np.sin(3 * np.arctan2(p[:, 0], p[:, 2]))
    stripe = np.clip(np.sin(wave * 2 * np.pi / 0.42) * 9 + 0.5, 0, 1)[:, None]
    colour[part == BODY] = (float32(TEAL) * stripe + float32(CREAM) * (1 - stripe))[part == BODY]
    pupil = np.linalg.norm(p - float32((0.12, 1.84, 0.70)), axis=-1) < 0.155
    colour[part == EYE] = np.where(pupil[:, None], float32(INK), float32(WHITE))[part == EYE]
    for which, paint_of in ((HORN, ORANGE), (ARM, MUSTARD), (FOOT, PLUM)):
        colour[part == which] = paint_of
    return colour


def photograph(shot: Shot, seed: int) -> Image.Image:
    """Trace one photo of SIDE px."""
    rng = np.random.default_rng(seed)
    turn, rise, roll = np.radians([shot.turn, shot.height, shot.roll])
    side_of = float32([np.sin(turn) * np.cos(rise), np.sin(rise), np.cos(turn) * np.cos(rise)])
    eye_at = side_of * shot.distance + float32([0, 1.25, 0])
    forward = float32([rng.uniform(-0.25, 0.25), 1.32 + rng.uniform(-0.1, 0.1), 0]) - eye_at
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, float32([np.sin(roll), np.cos(roll), 0]))
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    y, x = np.mgrid[SIDE:0:-1, 0:SIDE].astype(np.float32) / SIDE - 0.5
    way = (forward + 0.78 * (x.reshape(-1, 1) * right + y.reshape(-1, 1) * up)).astype(np.float32)
    way /= np.linalg.norm(way, axis=-1, keepdims=True)
    start = np.broadcast_to(eye_at, way.shape).astype(np.float32)
    gone = _march(start, way, 22.0)
    hit = gone < 21.9
    p = start + gone[:, None] * way
    part = distances(p).argmin(-1)
    steps = np.eye(3, dtype=np.float32) * 0.002
    normal = np.stack([distances(p + step).min(-1) - distances(p - step).min(-1) for step in steps], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9

    slant = np.radians(shot.light + shot.turn)
    to_light = float32([np.sin(slant), 1.25, np.cos(slant)])
    to_light /= np.linalg.norm(to_light)
    lit = np.clip(normal @ to_light, 0, 1) * _shadow(p + 0.01 * normal, to_light)
    open_sky = np.clip(distances(p + 0.25 * normal).min(-1) / 0.25, 0, 1) ** 0.7
    mirrored = 2 * (normal @ to_light)[:, None] * normal - to_light
    gloss = np.clip(-(mirrored * way).sum(-1), 0, 1)
    shine = np.where(part == GROUND, 0.0, np.where(part == EYE, 0.9, 0.32)) * gloss**36 * (lit > 0.05)
    colour = _surface(shot, rng, p, part) * (
        0.82 * lit[:, None] * float32(shot.warmth) + (0.30 + 0.12 * normal[:, 1:2]) * open_sky[:, None]
    ) + shine[:, None]  # fmt: skip
    behind = Image.fromarray((np.clip(shot.behind(rng, SIDE), 0, 1) * 255).astype(np.uint8))
    far = (
        np.asarray(behind.filter(ImageFilter.GaussianBlur(5)), np.float32).reshape(-1, 3)
        / 255
        * float32(shot.warmth)
        * 0.95
    )
    mist = np.clip((gone - 7.5) / 5, 0, 1)[:, None] * (part == GROUND)[:, None]
    colour = np.where(hit[:, None], colour * (1 - mist) + far * mist, far)
    edge = 1 - 0.35 * (x**2 + y**2).reshape(-1, 1)
    colour = np.clip(colour * edge + rng.normal(0, 0.008, colour.shape), 0, 1)
    return Image.fromarray((colour.reshape(SIDE, SIDE, 3) * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.5))


def main(folder: Path) -> None:
    """Write the photos and a caption beside each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, shot in enumerate(SHOTS, 1):
        photograph(shot, number).save(folder / f"{number:02}.jpg", quality=88)
        words = f"a {'close up ' if shot.words == 'close up' else ''}photo of {EXAMPLE_TRIGGER} {EXAMPLE_CLASS_WORD}"
        caption = words if shot.words == "close up" else f"{words} {shot.words}"
        (folder / f"{number:02}.txt").write_text(caption + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLES)
