"""Sheets and charts are pictures of what they were given, whatever that is; the demo names those that there are."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from app import sheet
from app.terminal import demo, training


def test_a_sheet_has_a_place_for_every_picture() -> None:
    red, wide = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (128, 32), "blue")
    rows = [sheet.Row("step 0", [red, None]), sheet.Row("a photo of sks can on the beach", [wide, red])]
    page = sheet.sheet("sks can", ["one", "a prompt that is long enough to need two lines"], rows, side_px=64)
    colours = {colour for _, colour in page.getcolors(100_000)}
    assert {(255, 0, 0), (0, 0, 255)} <= colours
    assert page.width > 2 * 64
    assert page.height > 2 * 64


@pytest.mark.parametrize(
    "losses", [[], [None], [0.5], [0.0, 0.0], [1.0, None, 0.5] * 40, [0.1] * 99 + [1e9], [1e-9] * 5]
)
def test_a_chart_is_drawn_of_any_losses(losses: list[float | None]) -> None:
    assert sheet.chart("loss", losses, 400, 240).size == (400, 240)


def test_the_running_average_starts_where_the_values_do() -> None:
    assert sheet.smoothed([3.0, 3.0, 3.0]) == pytest.approx([3.0, 3.0, 3.0])
    assert sheet.smoothed([0.0] * 5 + [1.0] * 200)[-1] == pytest.approx(1.0, abs=1e-3)


def test_a_demo_stopped_before_its_first_step_names_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"steps": 0, "stopped": True, "seconds": 5.0}
    found |= {"adapter": None, "loss_picture": None, "samples_picture": "a.png"}
    demo.report(found, training.Subject("sks", "toy"), tmp_path)
    words = capsys.readouterr().err
    assert "Stopped after step 0, in 5.0 s." in words
    assert "the sample sheet   a.png" in words
    assert "There is no adapter before the first step is finished. Start the demo again." in words
    assert "None" not in words
    assert "likeness sample" not in words
