"""Scenes with captions: named things (sprites of Noto Color Emoji), placed, sized and tilted at random, somewhere.

    Sprites()  the things, drawn once          Backgrounds()  a bank of every place, drawn once
    Scenes(sprites, backgrounds).draw(rng, side)  ->  Scene(pixels uint8 (side, side, 3), caption, name)

Sprites come from the font on this computer (Debian: fonts-noto-color-emoji), or from a file that `Sprites.save` wrote
on another, for machines that lack the font: `python -m core.pocket.scenes FILE.npz` writes one.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from core.pocket import backgrounds as paint
from core.pocket.vocabulary import COLOURS, NAMES, PLACES, THINGS, TINTS, article, plural

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
FONT_PX = 109  # the one size of the font's bitmaps: 136 x 128 px
SPRITE_PX = 136


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture, what is said about it, and the thing in it ("" where there is none or there are several)."""

    pixels_HW3: np.ndarray
    caption: str
    name: str


class Sprites:
    """Every named thing as an RGBA picture of SPRITE_PX a side."""

    def __init__(self, file: Path | None = None) -> None:
        if file is not None:
            with np.load(file) as stored:
                self.images = {name: Image.fromarray(stored[name.replace(" ", "_")]) for name in NAMES}
            return
        font = ImageFont.truetype(str(FONT), FONT_PX)
        self.images = {name: self._drawn(font, letter) for name, letter in THINGS.items()}

    @staticmethod
    def _drawn(font: ImageFont.FreeTypeFont, letter: str) -> Image.Image:
        image = Image.new("RGBA", (SPRITE_PX, SPRITE_PX))
        ImageDraw.Draw(image).text((SPRITE_PX / 2, SPRITE_PX / 2), letter, font=font, embedded_color=True, anchor="mm")
        return image

    def save(self, file: Path) -> None:
        """Write them to an .npz, for a machine without the font."""
        arrays: dict[str, Any] = {name.replace(" ", "_"): np.asarray(image) for name, image in self.images.items()}
        np.savez_compressed(file, **arrays)


class Backgrounds:
    """`each` drawings of every place, from which scenes cut a random piece."""

    def __init__(self, seed: int, each: int = 24, side: int = 320) -> None:
        rng = np.random.default_rng(seed)
        self.side = side
        self.places = {
            place: [_bytes(paint.PAINTERS[place](rng, side)) for _ in range(each)] for place in PLACES
        }  # fmt: skip

    def cut(self, rng: np.random.Generator, place: str, side: int) -> Image.Image:
        """A random piece of a random drawing, mirrored half of the time."""
        drawn = self.places[place][rng.integers(len(self.places[place]))]
        size = int(rng.uniform(0.75, 1.0) * self.side)
        # Only sideways: a horizon stays near where the painter put it.
        x, y = rng.integers(self.side - size + 1), (self.side - size) // 2
        piece = drawn[y : y + size, x : x + size]
        piece = piece[:, ::-1] if rng.random() < 0.5 else piece
        return Image.fromarray(piece).resize((side, side), Image.Resampling.BILINEAR)


class Scenes:
    """Draws scenes; the same generator state draws the same scene."""

    def __init__(self, sprites: Sprites, backgrounds: Backgrounds) -> None:
        self.sprites, self.backgrounds = sprites, backgrounds

    def draw(self, rng: np.random.Generator, side: int, single: bool = False) -> Scene:
        """One scene and its caption; `single` asks for exactly one thing."""
        image, where = self._background(rng, side)
        roll = 0.03 + 0.77 * rng.random() if single else rng.random()
        if roll < 0.03:
            words, name = "", ""
        elif roll < 0.80:
            name = NAMES[rng.integers(len(NAMES))]
            tint = TINTS[rng.integers(len(TINTS))] if rng.random() < 0.10 and " " not in name else ""
            size = rng.uniform(0.5, 0.92)
            spread = (1 - size) / 2 * 0.7
            self._paste(rng, image, name, tint, size, 0.5 + rng.uniform(-spread, spread),
                        0.52 + rng.uniform(-spread, spread))  # fmt: skip
            words = article(name) if not tint else f"{'an' if tint == 'orange' else 'a'} {tint} {name}"
        else:
            first, second = (NAMES[i] for i in rng.integers(len(NAMES), size=2))
            if rng.random() < 0.35:
                second = first
            for name, x in ((first, 0.27), (second, 0.73)):
                self._paste(rng, image, name, "", rng.uniform(0.36, 0.54), x + rng.uniform(-0.05, 0.05),
                            0.55 + rng.uniform(-0.12, 0.12))  # fmt: skip
            words = f"two {plural(first)}" if first == second else f"{article(first)} and {article(second)}"
            name = ""
        pixels = np.asarray(image, np.float32) * rng.uniform(0.88, 1.08) * rng.uniform(0.96, 1.04, 3).astype(np.float32)
        return Scene(pixels.clip(0, 255).astype(np.uint8), self._caption(rng, words, where), name)

    def _background(self, rng: np.random.Generator, side: int) -> tuple[Image.Image, str]:
        roll = rng.random()
        if roll < 0.72:
            place = tuple(PLACES)[rng.integers(len(PLACES))]
            return self.backgrounds.cut(rng, place, side), PLACES[place][rng.integers(len(PLACES[place]))]
        names = tuple(COLOURS)
        one, two = (names[i] for i in rng.choice(len(names), 2, replace=False))
        if roll < 0.88:
            where = f"on a {one} background".replace("a orange", "an orange")
            return Image.fromarray(_bytes(paint.plain(rng, side, one))), where
        kind = ("gradient", "stripes", "checkers", "dots")[rng.integers(4)]
        picture = Image.fromarray(_bytes(paint.pattern(rng, side, kind, (one, two))))
        return picture, f"on a {one} and {two} {kind} background".replace("a orange", "an orange")

    def _paste(
        self, rng: np.random.Generator, image: Image.Image, name: str, tint: str, size: float, x: float, y: float
    ) -> None:
        side = image.width
        sprite = self.sprites.images[name]
        if rng.random() < 0.3:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if tint:
            sprite = _tinted(sprite, tint)
        px = max(8, int(size * side))
        sprite = sprite.resize((px, px), Image.Resampling.BICUBIC)
        sprite = sprite.rotate(float(rng.normal(0, 7)), Image.Resampling.BILINEAR)
        left, top = int(x * side - px / 2), int(y * side - px / 2)
        mask = sprite.getchannel("A")
        if rng.random() < 0.6:
            dark = mask.point(lambda a: int(a * 0.4)).filter(ImageFilter.BoxBlur(side / 64))
            image.paste((12, 12, 16), (left + int(rng.normal(0, 0.02) * side), top + int(0.025 * side)), dark)
        image.paste(sprite.convert("RGB"), (left, top), mask)

    @staticmethod
    def _caption(rng: np.random.Generator, words: str, where: str) -> str:
        if not words:
            return f"a photo {where}" if rng.random() < 0.5 else where
        if rng.random() < 0.04:  # an unknown word before the thing is to be read over, as "sks" in a user's prompt
            letters = "".join("bcdfghjklmnpqrstvwxz"[i] for i in rng.integers(20, size=3))
            words = f"{words.split(' ', 1)[0]} {letters} {words.split(' ', 1)[-1]}"
        if rng.random() < 0.7:
            words = f"{words} {where}"
        roll = rng.random()
        if roll < 0.6:
            return f"a photo of {words}"
        if roll < 0.85:
            return words
        return f"{('a picture of', 'an image of', 'a close up photo of')[rng.integers(3)]} {words}"


def _tinted(sprite: Image.Image, tint: str) -> Image.Image:
    """The thing in another colour: its light and dark, in the tint."""
    rgba = np.asarray(sprite, np.float32)
    light = rgba[..., :3] @ paint.float32([0.3, 0.59, 0.11]) / 255
    light = light[..., None] * 0.95 + 0.15
    coloured = paint.float32(COLOURS[tint]) * light * 1.25 + 25 * light
    rgb = np.clip(0.85 * coloured + 0.15 * rgba[..., :3], 0, 255)
    return Image.fromarray(np.concatenate([rgb, rgba[..., 3:]], -1).astype(np.uint8))


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(picture, 0, 1) * 255).astype(np.uint8)


if __name__ == "__main__":
    Sprites().save(Path(sys.argv[1]))
