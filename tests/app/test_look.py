"""The colours of static/css/tokens.css can be told apart, by day and by night (WCAG 2.2, AA)."""

from __future__ import annotations

import re

import pytest

from app.resources import folder

TOKENS = (folder("static") / "css" / "tokens.css").read_text(encoding="utf-8")
COLOURS = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", TOKENS))
TEXT = [  # (text, ground): at least 4.5 : 1
    *((ink, ground) for ink in ("ink", "muted", "accent") for ground in ("paper", "card")),
    *((ink, "sunk") for ink in ("ink", "muted")),
    *((tone, f"{tone}-soft") for tone in ("accent", "good", "bad", "warn")),
    *(("ink", f"{tone}-soft") for tone in ("accent", "bad", "warn")),
    *((tone, "card") for tone in ("good", "bad", "warn")),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("paper", "ink"),
]
SHAPES = [("edge", "card"), ("edge", "paper"), ("accent", "sunk"), ("good", "card")]  # at least 3 : 1


def luminance(colour: str) -> float:
    linear = []
    for place in (1, 3, 5):
        part = int(colour[place : place + 2], 16) / 255
        linear.append(part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str, theme: int) -> float:
    light, dark = sorted((luminance(COLOURS[name].split(", ")[theme]) for name in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXT)
def test_text_can_be_read_on_its_ground(text: str, ground: str, theme: int) -> None:
    assert contrast(text, ground, theme) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("shape", "ground"), SHAPES)
def test_borders_and_lines_can_be_seen(shape: str, ground: str, theme: int) -> None:
    assert contrast(shape, ground, theme) >= 3


def test_no_colour_is_used_that_is_not_a_token() -> None:
    for path in (folder("static") / "css").glob("*.css"):
        if path.name != "tokens.css":
            assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?=[;,)\s])", path.read_text(encoding="utf-8")), path.name
