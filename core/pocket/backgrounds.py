"""Backgrounds drawn by a program: the places of Pocket's vocabulary, plain and patterned ones, and dead leaves.

Every painter takes a NumPy generator and a side in pixels and returns float32 (side, side, 3) in [0, 1]. No files are
read. Dead leaves (discs over discs, sizes by a power law) have the statistics of photos: edges, textures and blur at
every scale, which the autoencoder cannot learn from drawings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from core.pocket.vocabulary import COLOURS

Painter = Callable[[np.random.Generator, int], np.ndarray]


def float32(values: Sequence[float]) -> np.ndarray:
    """A colour, a point or a direction as a float32 array."""
    return np.array(values, np.float32)


def noise(rng: np.random.Generator, side: int, cells: int, octaves: int = 4, stretch: float = 1.0) -> np.ndarray:
    """Smooth noise in about [0, 1], float32 (side, side): random grids of `cells`, 2 `cells`, ... laid over each other.

    `stretch` above 1 makes the cells wider than high.
    """
    total: np.ndarray = np.zeros((side, side), np.float32)
    weight = 0.0
    for octave in range(octaves):
        high = max(2, cells * 2**octave)
        if octave and high > side:
            break
        wide = max(2, round(high / stretch))
        grid = Image.fromarray(rng.random((high, wide), dtype=np.float32))
        total += np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC)) * 0.55**octave
        weight += 0.55**octave
    return total / weight


def mix(low: Sequence[float], high: Sequence[float], amount: np.ndarray) -> np.ndarray:
    """Colours (0..255) from `low` to `high` by `amount` (H, W): float32 (H, W, 3) in [0, 1]."""
    a = np.clip(amount, 0, 1)[..., None].astype(np.float32)
    colours: np.ndarray = (float32(low) * (1 - a) + float32(high) * a) / 255
    return colours


def vary(rng: np.random.Generator, colour: Sequence[float], by: float = 18) -> tuple[float, ...]:
    """The colour, a little different each time."""
    return tuple(float(np.clip(c + rng.normal(0, by), 0, 255)) for c in colour)


def down(side: int) -> np.ndarray:
    """Rows from 0 (top) to 1 (bottom), (side, side)."""
    return np.repeat(np.linspace(0, 1, side, dtype=np.float32)[:, None], side, 1)


def above(upper: np.ndarray, lower: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """`upper` above `lower`, with the boundary at height `edge` (0 top, 1 bottom) for each column."""
    side = upper.shape[0]
    mask = np.clip((down(side) - edge[None, :]) * side / 2 + 0.5, 0, 1)[..., None]
    scene: np.ndarray = upper * (1 - mask) + lower * mask
    return scene


def skyline(rng: np.random.Generator, side: int, middle: float, wobble: float, cells: int = 3) -> np.ndarray:
    """A wavy edge: `side` heights around `middle`."""
    heights = middle + wobble * (noise(rng, side, cells, 4)[0] - 0.5)
    return np.asarray(heights, np.float32)


def blue_sky(rng: np.random.Generator, side: int, clouds: float = 0.5) -> np.ndarray:
    blue = mix(vary(rng, (86, 150, 222)), vary(rng, (190, 222, 245)), down(side))
    cover = np.clip((noise(rng, side, 3, 5, 1.8) - 0.5) * 5 * clouds + 0.15 * clouds, 0, 1)[..., None]
    scene: np.ndarray = blue * (1 - cover) + float32([0.97, 0.97, 0.98]) * cover
    return scene


def sky(rng: np.random.Generator, side: int) -> np.ndarray:
    return blue_sky(rng, side, rng.uniform(0.7, 1.2))


def water(rng: np.random.Generator, side: int) -> np.ndarray:
    waves = noise(rng, side, 12, 3, 4.0)
    return mix(vary(rng, (20, 90, 150)), vary(rng, (90, 190, 215)), (waves - 0.3) * 2.2)


def beach(rng: np.random.Generator, side: int) -> np.ndarray:
    horizon = rng.uniform(0.18, 0.4)
    depth = noise(rng, side, 16, 3, 6.0) * 0.7 + down(side) * 0.5
    sea = mix(vary(rng, (35, 120, 175)), vary(rng, (120, 205, 215)), depth)
    sand = mix(vary(rng, (205, 175, 125)), vary(rng, (240, 218, 172)), noise(rng, side, 6, 6))
    shore = skyline(rng, side, horizon + rng.uniform(0.08, 0.2), 0.08, 2)
    scene = above(sea, sand, shore)
    foam = np.clip(1 - np.abs(down(side) - shore[None, :]) * 60, 0, 1)[..., None]
    scene = scene * (1 - 0.8 * foam) + 0.8 * foam
    return above(blue_sky(rng, side, rng.uniform(0, 0.8)), scene, np.full(side, horizon, np.float32))


def snow(rng: np.random.Generator, side: int) -> np.ndarray:
    ground = mix(vary(rng, (205, 218, 236), 8), vary(rng, (250, 252, 255), 3), noise(rng, side, 4, 5, 2.0) * 1.4)
    far = mix(vary(rng, (165, 190, 215)), vary(rng, (225, 232, 240)), down(side) * 2)
    if rng.random() < 0.5:
        far = above(far, mix(vary(rng, (70, 95, 95)), (215, 228, 236), noise(rng, side, 24, 2)),
                    skyline(rng, side, 0.2, 0.2, 12))  # fmt: skip
    scene = above(far, ground, skyline(rng, side, rng.uniform(0.2, 0.5), 0.12))
    flakes = rng.random((side, side)) < rng.choice([0.0, 0.004, 0.01])
    scene[flakes] = 1.0
    return scene


def _leafy(
    rng: np.random.Generator, side: int, colours: Sequence[Sequence[float]], count: int, size: float
) -> np.ndarray:
    image = Image.fromarray((mix(colours[0], colours[1], noise(rng, side, 5)) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(count):
        x, y = rng.uniform(-0.1, 1.1, 2) * side
        long, thin, turn = rng.uniform(0.5, 1.5) * size * side, rng.uniform(0.15, 0.35), rng.uniform(0, 2 * np.pi)
        c, s = np.cos(turn), np.sin(turn)
        leaf = [(0, 0), (0.3, thin), (0.7, thin * 0.8), (1, 0), (0.7, -thin * 0.8), (0.3, -thin)]
        colour = vary(rng, colours[int(rng.integers(1, len(colours)))], 14)
        draw.polygon([(x + long * (u * c - v * s), y + long * (u * s + v * c)) for u, v in leaf],
                     fill=tuple(int(v) for v in colour))  # fmt: skip
    return np.asarray(image, np.float32) / 255


def jungle(rng: np.random.Generator, side: int) -> np.ndarray:
    greens = [(14, 45, 22), (28, 82, 34), (48, 118, 44), (84, 150, 52), (24, 100, 66)]
    return _leafy(rng, side, greens, 110, 0.2)


def leaves(rng: np.random.Generator, side: int) -> np.ndarray:
    return _leafy(rng, side, [(92, 58, 28), (196, 110, 40), (212, 152, 48), (160, 66, 36), (140, 92, 44)], 160, 0.13)


def forest(rng: np.random.Generator, side: int) -> np.ndarray:
    light = noise(rng, side, 6, 5) * 0.8 + 0.3 * (1 - down(side))
    scene = mix(vary(rng, (46, 84, 52)), vary(rng, (150, 184, 132)), light)
    columns = np.arange(side) / side
    for _ in range(rng.integers(5, 12)):
        centre, wide = rng.random(), rng.uniform(0.012, 0.05)
        trunk = np.clip((wide - np.abs(columns - centre)) * side, 0, 1)[None, :, None]
        bark = mix(vary(rng, (62, 45, 33), 10), vary(rng, (112, 86, 62), 10), noise(rng, side, 6, 4, 0.25))
        scene = scene * (1 - trunk) + bark * trunk
    floor = mix(vary(rng, (66, 72, 34)), vary(rng, (120, 112, 62)), noise(rng, side, 12, 4))
    return above(scene, floor, skyline(rng, side, rng.uniform(0.6, 0.8), 0.08))


def grass(rng: np.random.Generator, side: int) -> np.ndarray:
    lawn = mix(vary(rng, (48, 110, 40)), vary(rng, (140, 190, 78)), noise(rng, side, 24, 4, 0.4))
    if rng.random() < 0.4:
        return lawn
    return above(blue_sky(rng, side), lawn, skyline(rng, side, rng.uniform(0.15, 0.45), 0.1))


def mountains(rng: np.random.Generator, side: int) -> np.ndarray:
    scene = blue_sky(rng, side, 0.5)
    for depth in range(3):
        rock = mix(vary(rng, (96 - 14 * depth, 108 - 8 * depth, 130 - 30 * depth)),
                   vary(rng, (150, 158, 168 - 20 * depth)), noise(rng, side, 8, 5))  # fmt: skip
        edge = skyline(rng, side, 0.32 + 0.16 * depth, 0.55 - 0.12 * depth, 4)
        if depth == 0:
            rock = above(np.full_like(rock, 0.95), rock, edge + 0.09 + 0.06 * noise(rng, side, 20, 2)[0])
        scene = above(scene, rock, edge)
    return above(scene, mix((70, 112, 52), (130, 165, 82), noise(rng, side, 12)), skyline(rng, side, 0.8, 0.1))


def desert(rng: np.random.Generator, side: int) -> np.ndarray:
    scene = mix(vary(rng, (120, 180, 225)), vary(rng, (245, 222, 178)), down(side) * 1.8)
    for depth in range(3):
        dune = mix(vary(rng, (188, 128, 68), 12), vary(rng, (232, 180, 108), 12), noise(rng, side, 5, 5, 3.0))
        scene = above(scene, dune, skyline(rng, side, 0.38 + 0.2 * depth, 0.2, 2))
    return scene


def night(rng: np.random.Generator, side: int) -> np.ndarray:
    scene = mix(vary(rng, (6, 8, 26), 5), vary(rng, (30, 36, 88), 10), down(side) * 0.8 + 0.3 * noise(rng, side, 3))
    stars = rng.random((side, side)) < 0.004
    scene[stars] = rng.uniform(0.6, 1.0, (int(stars.sum()), 1))
    if rng.random() < 0.6:
        y, x = np.mgrid[:side, :side] / side
        moon = np.clip((rng.uniform(0.05, 0.11) - np.hypot(x - rng.random(), y - rng.uniform(0.05, 0.4))) * side, 0, 1)
        scene = scene * (1 - moon[..., None]) + float32([0.96, 0.94, 0.82]) * moon[..., None]
    if rng.random() < 0.5:
        scene = above(scene, mix((8, 10, 16), (24, 28, 34), noise(rng, side, 8)), skyline(rng, side, 0.8, 0.15))
    return scene.astype(np.float32)


def city(rng: np.random.Generator, side: int) -> np.ndarray:
    image = Image.fromarray((blue_sky(rng, side, rng.uniform(0, 0.8)) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    ground = rng.uniform(0.72, 0.95)
    for depth in range(2):
        x = -0.05
        while x < 1:
            wide, high = rng.uniform(0.08, 0.2), rng.uniform(0.2, 0.62) * (1 - 0.25 * depth)
            base = [(150, 160, 172), (176, 158, 140), (120, 128, 142), (190, 186, 178), (148, 104, 88)]
            wall = vary(rng, base[rng.integers(5)], 10)
            box = [x * side, (ground - high) * side, (x + wide) * side, ground * side]
            draw.rectangle(box, fill=tuple(int(v) for v in wall))
            glass = (70, 90, 115) if rng.random() < 0.7 else (250, 225, 140)
            pane = tuple(int(v) for v in vary(rng, glass))
            across, rows = max(2, int(wide * 26)), max(3, int(high * 24))
            for i in range(across):
                for j in range(rows):
                    u = (x + wide * (i + 0.25) / across) * side
                    v = (ground - high + high * (j + 0.25) / rows) * side
                    draw.rectangle([u, v, u + wide * side / across * 0.5, v + high * side / rows * 0.5], fill=pane)
            x += wide * rng.uniform(0.9, 1.25)
    scene = np.asarray(image, np.float32) / 255
    return above(scene, mix((104, 106, 110), (142, 142, 144), noise(rng, side, 8)), np.full(side, ground, np.float32))


def street(rng: np.random.Generator, side: int) -> np.ndarray:
    horizon = rng.uniform(0.2, 0.42)
    scene = city(rng, side) if rng.random() < 0.5 else grass(rng, side)
    road = mix(vary(rng, (72, 74, 78), 8), vary(rng, (108, 110, 114), 8), noise(rng, side, 32, 3))
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    deep = np.clip((y - horizon) / (1 - horizon), 0, 1)
    middle = rng.uniform(0.4, 0.6)
    on_line = (np.abs(x - middle) < 0.025 * deep) & (np.sin(18 / (deep + 0.15)) > 0) & (y > horizon)
    road[on_line] = float32([0.93, 0.9, 0.75])
    pavement = mix((150, 148, 142), (184, 180, 174), noise(rng, side, 16, 3))
    on_road = np.clip((0.12 + 0.6 * deep - np.abs(x - middle)) * side / 2, 0, 1)[..., None]
    return above(scene, pavement * (1 - on_road) + road * on_road, np.full(side, horizon, np.float32))


def _planks(rng: np.random.Generator, side: int, across: bool) -> np.ndarray:
    dark = vary(rng, (122, 80, 46), 14)
    light = tuple(min(255.0, c + 62) for c in dark)
    grain = noise(rng, side, 40, 3, 12.0)
    planks = rng.integers(3, 8)
    row = (np.arange(side) * planks / side).astype(int)
    tone = rng.uniform(-0.15, 0.15, planks + 1).astype(np.float32)[row][:, None]
    scene = mix(dark, light, grain + tone)
    scene[np.flatnonzero(np.diff(row, prepend=0))] *= 0.55
    return scene if across else scene.transpose(1, 0, 2)


def wood(rng: np.random.Generator, side: int) -> np.ndarray:
    return _planks(rng, side, bool(rng.random() < 0.5))


def table(rng: np.random.Generator, side: int) -> np.ndarray:
    wall = mix(vary(rng, (176, 168, 158), 30), vary(rng, (214, 208, 200), 20), down(side) + 0.2 * noise(rng, side, 2))
    return above(wall, _planks(rng, side, True), np.full(side, rng.uniform(0.3, 0.55), np.float32))


def room(rng: np.random.Generator, side: int) -> np.ndarray:
    colour = vary(rng, list(COLOURS.values())[rng.integers(len(COLOURS))], 10)
    soft = tuple(0.35 * c + 150 for c in colour)
    wall = mix(soft, tuple(min(255.0, c + 22) for c in soft), noise(rng, side, 2))
    image = Image.fromarray((wall * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.7:
        x, y, w = rng.uniform(0, 0.7) * side, rng.uniform(0.03, 0.15) * side, rng.uniform(0.2, 0.3) * side
        draw.rectangle([x, y, x + w, y + w * 1.2], fill=(245, 245, 242))
        outside = tuple(int(v) for v in vary(rng, (165, 205, 235)))
        draw.rectangle([x + 4, y + 4, x + w - 4, y + w * 1.2 - 4], fill=outside)
        draw.line([x + w / 2, y, x + w / 2, y + w * 1.2], fill=(245, 245, 242), width=3)
    wall = np.asarray(image, np.float32) / 255
    return above(wall, _planks(rng, side, True), np.full(side, rng.uniform(0.55, 0.75), np.float32))


def brick(rng: np.random.Generator, side: int) -> np.ndarray:
    rows = rng.integers(8, 16)
    high = side / rows
    base = vary(rng, (165, 82, 62), 22)
    image = Image.new("RGB", (side, side), tuple(int(v) for v in vary(rng, (200, 192, 182), 12)))
    draw = ImageDraw.Draw(image)
    for r in range(rows + 1):
        for c in range(-1, rows):
            x = (c + 0.5 * (r % 2)) * high * 2.2
            colour = tuple(int(v) for v in vary(rng, base, 9))
            draw.rectangle([x + 1, r * high + 1, x + high * 2.2 - 2, (r + 1) * high - 2], fill=colour)
    return np.asarray(image, np.float32) / 255 * (0.85 + 0.3 * noise(rng, side, 8, 5)[..., None])


def carpet(rng: np.random.Generator, side: int) -> np.ndarray:
    colour = vary(rng, list(COLOURS.values())[rng.integers(len(COLOURS))], 20)
    dark, light = tuple(c * 0.72 for c in colour), tuple(min(255.0, c * 1.1 + 25) for c in colour)
    return mix(dark, light, noise(rng, side, 64, 3))


PAINTERS: dict[str, Painter] = {
    "beach": beach, "snow": snow, "jungle": jungle, "forest": forest, "city": city, "mountains": mountains,
    "street": street, "table": table, "wood": wood, "water": water, "night": night, "grass": grass, "sky": sky,
    "desert": desert, "room": room, "brick": brick, "leaves": leaves, "carpet": carpet,
}  # fmt: skip


def plain(rng: np.random.Generator, side: int, colour: str) -> np.ndarray:
    """One colour, softly lit."""
    base = vary(rng, COLOURS[colour], 8)
    lit = 0.92 + 0.12 * noise(rng, side, 2, 1) + rng.uniform(-0.08, 0.08) * down(side)
    return np.clip(float32(base) / 255 * lit[..., None], 0, 1).astype(np.float32)


def pattern(rng: np.random.Generator, side: int, kind: str, colours: tuple[str, str]) -> np.ndarray:
    """ "gradient", "stripes", "checkers" or "dots" of two colours."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    turn = rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
    count = rng.uniform(4, 10)
    sharp = side / count / 3
    if kind == "gradient":
        amount = y if rng.random() < 0.6 else u
    elif kind == "stripes":
        amount = np.sin(u * count * np.pi) * sharp + 0.5
    elif kind == "checkers":
        amount = np.sin(x * count * np.pi) * np.sin(y * count * np.pi) * sharp + 0.5
    else:
        amount = (np.sin(u * count * np.pi) ** 2 + np.sin(v * count * np.pi) ** 2 - 1.3) * sharp
    return mix(vary(rng, COLOURS[colours[0]], 8), vary(rng, COLOURS[colours[1]], 8), amount)


def dead_leaves(rng: np.random.Generator, side: int) -> np.ndarray:
    """Textured discs over discs, radii by a power law, some of the picture out of focus."""
    hue = rng.uniform(40, 215, 3)
    image = Image.new("RGB", (side, side), tuple(int(v) for v in hue))
    draw = ImageDraw.Draw(image)
    for radius in np.sort(rng.pareto(1.6, 260) * 0.012 * side + 0.008 * side)[::-1].clip(1, side * 0.5):
        x, y = rng.uniform(0, side, 2)
        colour = tuple(int(v) for v in np.clip(hue + rng.normal(0, 55) + rng.normal(0, 28, 3), 0, 255))
        box = [x - radius, y - radius * rng.uniform(0.4, 1), x + radius, y + radius]
        (draw.ellipse if rng.random() < 0.6 else draw.rectangle)(box, fill=colour)
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.8)))
    grain = noise(rng, side, int(rng.integers(8, 64)), 5, float(rng.uniform(0.3, 3)))[..., None] - 0.5
    fine = rng.normal(0, rng.uniform(0, 0.04), (side, side, 1)).astype(np.float32)
    light = 0.75 + 0.5 * noise(rng, side, 2, 2)[..., None]
    return np.clip(np.asarray(image, np.float32) / 255 * light * (1 + rng.uniform(0, 0.9) * grain) + fine, 0, 1)
