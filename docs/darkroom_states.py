"""Take pictures of the darkroom in each of its states, at three widths, light and dark: to look at, not kept in docs/.

    python -m docs.darkroom_states --out DIR [--only gallery viewer] [--widths 390 1440]

The drawings are made up (tests/darkroom_states.py): no model is loaded, and it
takes a minute. Wants Chromium, as tests/e2e does.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests import darkroom_states
from tests.e2e.conftest import CHROMIUM

WIDTHS = (390, 768, 1440)
HEIGHT = 900
HOME: list[Path] = []  # of the drawings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where the pictures go")
    parser.add_argument("--only", nargs="*", default=list(STATES), choices=list(STATES), help="these states")
    parser.add_argument("--widths", nargs="*", type=int, default=WIDTHS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        drawn, empty = Path(place) / "drawn", Path(place) / "empty"
        darkroom_states.make(drawn)
        HOME.append(drawn)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name in arguments.only:
            with darkroom_states.serving(empty if name == "empty" else drawn) as address:
                for width in arguments.widths:
                    for scheme in ("light", "dark"):
                        size = {"width": width, "height": HEIGHT}
                        page = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")
                        page.goto(f"{address}/pictures")
                        page.wait_for_load_state("networkidle")
                        STATES[name](page)
                        page.wait_for_load_state("networkidle")
                        path = arguments.out / f"{name}_{width}_{scheme}.png"
                        page.screenshot(path=path, full_page=name not in ("viewer", "wipe"))
                        page.close()
        browser.close()


def form(page: Page) -> None:
    page.get_by_role("button", name="More", exact=True).click()
    page.get_by_role("button", name="Combine with another adapter").click()


def grid(page: Page) -> None:
    page.get_by_role("button", name="Grid", exact=True).click()
    page.locator("#strength-field").get_by_role("checkbox", name="0.6", exact=True).check(force=True)
    page.locator("#draw-words", has_text="Draw 8").wait_for()
    page.locator("#draw-button").click()
    page.locator("#grid-table td").first.wait_for()
    darkroom_states.fill_grid(HOME[0], int(page.url.rpartition("grid=")[2]), range(6))
    page.locator("#grid-table [data-cell]").nth(5).wait_for()


def viewer(page: Page) -> None:
    page.locator('[data-picture][aria-label*="1.4, seed 5"]').click()
    page.locator("#viewer-recipe dt").first.wait_for()


def wipe(page: Page) -> None:
    viewer(page)
    page.keyboard.press("w")


STATES: dict[str, Callable[[Page], object]] = {
    "empty": lambda page: None,
    "gallery": lambda page: None,
    "dense": lambda page: page.locator("#dense").click(),
    "form": form,
    "grid": grid,
    "viewer": viewer,
    "wipe": wipe,
}


if __name__ == "__main__":
    main()
