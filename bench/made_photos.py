"""Photos made from others, whose fault is known: bursts, blur, darkness; and screens drawn from nothing.

Every function draws from the generator that it is given, so the same seed makes the same photos.
"""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

CROP, TURN_DEGREES, LIGHT, NOISE, JPEG = (0.02, 0.06), 2.0, 0.2, (2.0, 8.0), (60, 92)
WORDS = (
    "the",
    "photo",
    "of",
    "a",
    "toy",
    "on",
    "sand",
    "was",
    "taken",
    "yesterday",
    "evening",
    "settings",
    "general",
    "by",
)
INKS, PAPERS = ((20, 20, 24), (235, 235, 240)), ((255, 255, 255), (18, 18, 22))


def near_duplicate(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The next frame of a burst: turned by up to 2 degrees, cropped by 2 to 6%, other light, noise, JPEG."""
    width, height = photo.size
    angle = rng.uniform(-TURN_DEGREES, TURN_DEGREES)
    turned = photo.rotate(angle, Image.Resampling.BICUBIC)
    lost = math.tan(math.radians(abs(angle))) / 2  # corners without picture are cropped away
    share = float(rng.uniform(*CROP))
    rest_x, rest_y = width * (1 - share) - 2 * lost * height, height * (1 - share) - 2 * lost * width
    x = lost * height + rng.uniform(0, width * share)
    y = lost * width + rng.uniform(0, height * share)
    cropped = turned.crop((round(x), round(y), round(x + rest_x), round(y + rest_y)))
    lit = ImageEnhance.Brightness(cropped).enhance(float(rng.uniform(1 - LIGHT, 1 + LIGHT)))
    lit = ImageEnhance.Contrast(lit).enhance(float(rng.uniform(1 - LIGHT / 2, 1 + LIGHT / 2)))
    values = np.asarray(lit, np.float32) + rng.normal(0, rng.uniform(*NOISE), (lit.height, lit.width, 3))
    noisy = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    return through_jpeg(noisy, int(rng.integers(*JPEG)))


def through_jpeg(photo: Image.Image, quality: int) -> Image.Image:
    """Saved as JPEG and read again."""
    content = io.BytesIO()
    photo.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("RGB")


def blurred(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Out of focus by 0.6 to 1.2% of the longer side, or shaken by 2 to 4% of it."""
    side = max(photo.size)
    if rng.random() < 0.5:
        return photo.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.006, 0.012)) * side))
    length, angle = float(rng.uniform(0.02, 0.04)) * side, float(rng.uniform(0, math.pi))
    steps = max(round(length / 2), 8)
    total = np.zeros((photo.height, photo.width, 3), np.float32)
    for each in np.linspace(-0.5, 0.5, steps):
        dx, dy = each * length * math.cos(angle), each * length * math.sin(angle)
        moved = photo.transform(photo.size, Image.Transform.AFFINE, (1, 0, dx, 0, 1, dy), Image.Resampling.BILINEAR)
        total += np.asarray(moved, np.float32)
    edge = math.ceil(length / 2)
    return Image.fromarray((total / steps).astype(np.uint8)).crop(
        (edge, edge, photo.width - edge, photo.height - edge))  # fmt: skip


def dark(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Three to four stops too dark, in linear light, with a dark sensor's noise."""
    linear = (np.asarray(photo, np.float32) / 255) ** 2.2 * 2.0 ** -rng.uniform(3, 4)
    values = linear ** (1 / 2.2) * 255 + rng.normal(0, 2, (photo.height, photo.width, 3))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def overexposed(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Three to four stops too bright, in linear light."""
    linear = (np.asarray(photo, np.float32) / 255) ** 2.2 * 2.0 ** rng.uniform(3, 4)
    return Image.fromarray((np.clip(linear, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8))


def screenshot(rng: np.random.Generator, photo: Image.Image | None = None) -> Image.Image:
    """A screen: a bar, then a conversation, a page of text, a list of settings, or a post around a photo."""
    wide = rng.random() < 0.4
    size = (1280, 800) if wide else (750, 1334)
    night = int(rng.random() < 0.4)
    screen = Image.new("RGB", size, PAPERS[night])
    draw = ImageDraw.Draw(screen)
    scale = size[0] / (1280 if wide else 750)
    small = ImageFont.load_default(20 * scale)
    ink = INKS[night]
    bar = tuple(int(0.93 * a + 0.07 * b) for a, b in zip(PAPERS[night], ink, strict=True))
    draw.rectangle((0, 0, size[0], 44), fill=bar)
    draw.text((24, 10), "9:41", ink, small)
    draw.text((size[0] - 130, 10), "LTE 82%", ink, small)
    kind = int(rng.integers(4))
    if kind == 0:
        _conversation(draw, size, rng, night)
    elif kind == 1:
        _text(draw, (40, 80, size[0] - 40, size[1] - 60), rng, ink, 26)
    elif kind == 2:
        _settings(draw, size, rng, ink, bar)
    else:
        _post(screen, draw, rng, ink, photo)
    return through_jpeg(screen, 85) if rng.random() < 0.5 else screen


def _conversation(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator, night: int) -> None:
    y = 80
    while y < size[1] - 160:
        mine = rng.random() < 0.5
        wide, high = int(rng.uniform(0.4, 0.7) * size[0]), int(rng.integers(2, 5)) * 34 + 24
        x = size[0] - wide - 24 if mine else 24
        fill = (0, 122, 255) if mine else ((229, 229, 234), (44, 44, 48))[night]
        draw.rounded_rectangle((x, y, x + wide, y + high), 18, fill=fill)
        _text(draw, (x + 16, y + 12, x + wide - 16, y + high - 8), rng, (255, 255, 255) if mine else INKS[night], 24)
        y += high + 20


def _settings(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    rng: np.random.Generator,
    ink: tuple[int, ...],
    line: tuple[int, ...],
) -> None:
    for y in range(90, size[1] - 60, 64):
        _text(draw, (90, y + 16, 90 + int(rng.uniform(0.2, 0.5) * size[0]), y + 48), rng, ink, 26)
        draw.rounded_rectangle((28, y + 12, 68, y + 52), 8, fill=tuple(int(v) for v in rng.integers(60, 230, 3)))
        draw.line((90, y + 63, size[0], y + 63), fill=line, width=2)
        draw.rounded_rectangle((size[0] - 90, y + 16, size[0] - 30, y + 48), 16, fill=(52, 199, 89))


def _post(
    screen: Image.Image,
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    ink: tuple[int, ...],
    photo: Image.Image | None,
) -> None:
    width, height = screen.size
    draw.ellipse((24, 64, 84, 124), fill=tuple(int(v) for v in rng.integers(60, 230, 3)))
    _text(draw, (100, 70, width // 2, 130), rng, ink, 24)
    top, high = 150, int(0.42 * height)
    if photo is not None:
        wide = min(width, int(high * photo.width / photo.height))
        screen.paste(photo.resize((wide, high), Image.Resampling.LANCZOS), ((width - wide) // 2, top))
    for at in range(3):
        draw.ellipse((30 + 60 * at, top + high + 20, 66 + 60 * at, top + high + 56), outline=ink, width=4)
    _text(draw, (30, top + high + 80, width - 30, height - 60), rng, ink, 26)


def _text(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], rng: np.random.Generator, ink: tuple[int, ...], size: int
) -> None:
    font = ImageFont.load_default(size)
    for y in range(box[1], box[3] - size + 1, round(size * 1.4)):
        line = ""
        while True:
            longer = f"{line}{' ' if line else ''}{WORDS[int(rng.integers(len(WORDS)))]}"
            if draw.textlength(longer, font) > box[2] - box[0]:
                break
            line = longer
        draw.text((box[0], y), line, ink, font)
