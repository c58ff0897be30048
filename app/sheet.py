"""Sample sheets and loss charts as pictures, drawn with Pillow.

sheet    rows of pictures under column titles, one label a row           chart    loss over steps, raw and smoothed
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

INK, QUIET, RULE, PAPER = "#1c1d22", "#6b6f7b", "#e4e5ea", "#ffffff"
RAW, SMOOTH = "#c9cff5", "#4453d6"
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
GAP_PX, LABEL_PX, HEAD_PX = 12, 104, 64


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a sheet: its label and its pictures, None where one is missing."""

    label: str
    pictures: Sequence[Image.Image | None]


def sheet(title: str, columns: Sequence[str], rows: Sequence[Row], side_px: int = 256) -> Image.Image:
    """A picture of the rows under the column titles, each sample scaled into a square of `side_px`."""
    count = max([len(columns), *(len(row.pictures) for row in rows)])
    width = LABEL_PX + count * (side_px + GAP_PX) + GAP_PX
    height = HEAD_PX + 44 + len(rows) * (side_px + GAP_PX) + GAP_PX
    page = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((GAP_PX + 4, 18), title, fill=INK, font=_font(24))
    for index, column in enumerate(columns):
        x = LABEL_PX + index * (side_px + GAP_PX)
        for line, text in enumerate(_wrapped(pen, column, side_px, _font(14))[:2]):
            pen.text((x, HEAD_PX + 18 * line), text, fill=QUIET, font=_font(14))
    for number, row in enumerate(rows):
        y = HEAD_PX + 44 + number * (side_px + GAP_PX)
        for line, text in enumerate(_wrapped(pen, row.label, LABEL_PX - 2 * GAP_PX, _font(14))):
            pen.text((GAP_PX + 4, y + 4 + 18 * line), text, fill=INK, font=_font(14))
        for index, picture in enumerate(row.pictures):
            x = LABEL_PX + index * (side_px + GAP_PX)
            if picture is None:
                pen.rectangle((x, y, x + side_px - 1, y + side_px - 1), outline=RULE)
                continue
            small = picture.convert("RGB")
            small = small.resize(_fitted(small.size, side_px), Image.Resampling.LANCZOS)
            page.paste(small, (x + (side_px - small.width) // 2, y + (side_px - small.height) // 2))
    return page


def chart(title: str, losses: Sequence[float | None], width: int = 1000, height: int = 520) -> Image.Image:
    """A picture of the loss of every step (pale) and its running average (strong), with axes."""
    points = [(step, loss) for step, loss in enumerate(losses, start=1) if loss is not None]
    scale = 2
    page = Image.new("RGB", (width * scale, height * scale), PAPER)
    pen = ImageDraw.Draw(page)
    left, top, right, bottom = 76 * scale, 70 * scale, (width - 28) * scale, (height - 58) * scale
    pen.text((24 * scale, 20 * scale), title, fill=INK, font=_font(22 * scale))
    if not points:
        pen.text((left, top), "no steps yet", fill=QUIET, font=_font(16 * scale))
        return page.resize((width, height), Image.Resampling.LANCZOS)
    last = max(len(losses), 2)
    smooth = smoothed([loss for _, loss in points])
    ordered = sorted(loss for _, loss in points)
    # The axis ends above all but the highest 2% of the losses, so that outliers do not flatten the rest.
    high = max(ordered[min(len(ordered) - 1, int(0.98 * len(ordered)))], *smooth) * 1.08 or 1.0
    grid_step = _round_step(high / 5)

    def place(step: float, loss: float) -> tuple[float, float]:
        x = left + (step - 1) / (last - 1) * (right - left)
        return x, bottom - min(loss / high, 1.02) * (bottom - top)

    for index in range(int(high / grid_step) + 1):
        _, y = place(1, index * grid_step)
        pen.line((left, y, right, y), fill=RULE, width=scale)
        text = f"{index * grid_step:.3g}"
        pen.text((left - 10 * scale, y), text, fill=QUIET, font=_font(14 * scale), anchor="rm")
    step_grid = max(1, round(_round_step(last / 8)))
    for step in [1, *range(step_grid, last + 1, step_grid)]:
        if step != 1 and step < step_grid / 2:
            continue
        x, _ = place(step, 0)
        pen.line((x, bottom, x, bottom + 5 * scale), fill=QUIET, width=scale)
        pen.text((x, bottom + 9 * scale), str(step), fill=QUIET, font=_font(14 * scale), anchor="ma")
    pen.line((left, bottom, right, bottom), fill=QUIET, width=scale)
    pen.text(((left + right) / 2, bottom + 32 * scale), "step", fill=QUIET, font=_font(14 * scale), anchor="ma")
    pen.line([place(step, loss) for step, loss in points], fill=RAW, width=scale, joint="curve")
    curve = [place(step, loss) for (step, _), loss in zip(points, smooth, strict=True)]
    pen.line(curve, fill=SMOOTH, width=3 * scale, joint="curve")
    x, y = curve[-1]
    pen.ellipse((x - 5 * scale, y - 5 * scale, x + 5 * scale, y + 5 * scale), fill=SMOOTH)
    pen.text((right, top - 12 * scale), f"{smooth[-1]:.4f}", fill=SMOOTH, font=_font(16 * scale), anchor="rs")
    return page.resize((width, height), Image.Resampling.LANCZOS)


def smoothed(values: Sequence[float]) -> list[float]:
    """An exponential moving average over about a twentieth of the run, with bias correction at its start."""
    keep = 1.0 - 1.0 / max(8.0, len(values) / 20)
    total, weight, found = 0.0, 0.0, []
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        found.append(total / weight)
    return found


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, at least `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _fitted(size: tuple[int, int], side_px: int) -> tuple[int, int]:
    share = side_px / max(size)
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def _wrapped(pen: ImageDraw.ImageDraw, text: str, width: int, font: Font) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and pen.textlength(longer, font=font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _font(size_px: int) -> Font:
    return ImageFont.load_default(size_px)
