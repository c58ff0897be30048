"""Take the pictures in docs/pictures/: the studio in a real browser, and what a real run on the example photos drew.

    python -m docs.screenshots [--steps N] [--models DIR --model NAME] [--out DIR]

Wants Chromium, as tests/e2e does. Takes as long as the run; Pocket's own number of steps unless told otherwise.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from app import sheet
from core.config.train import TrainConfig
from core.dataset import captions, photos
from core.pocket import assets
from tests.e2e.conftest import CHROMIUM, running_studio

PICTURES = Path(__file__).resolve().parent / "pictures"
RUN_MS = 1_800_000
WIDE = {"width": 1280, "height": 860}
TALL = {"width": 1280, "height": 1240}
PHONE = {"width": 390, "height": 844}
SHARE_TRAINED = 0.7  # how far the run has come when its picture is taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, help="train so many steps")
    parser.add_argument("--model", default="pocket", help="the model to train")
    parser.add_argument("--models", type=Path, help="a folder of models, as LIKENESS_MODELS names one")
    parser.add_argument("--out", type=Path, default=PICTURES, help="where the pictures go")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        with running_studio(Path(place) / "Likeness", arguments.models or Path(place) / "none") as studio:
            take(browser, studio.url, arguments)
            example_sheet(studio.home / "runs" / "1" / "samples").save(arguments.out / "example_sheet.png")
        browser.close()


def take(browser: Browser, url: str, wanted: argparse.Namespace) -> None:
    """The pictures, in the order in which a person would see them."""
    page = browser.new_page(viewport=WIDE, color_scheme="light", reduced_motion="reduce")
    page.goto(url)
    keep(page, wanted.out / "welcome")
    page.locator("#start-example").click()
    expect(page.locator("#photos [data-photo]")).to_have_count(8)
    expect(page.locator("#verdict-title")).to_contain_text("good", timeout=RUN_MS)
    expect(page.locator("#review-running")).to_be_hidden(timeout=RUN_MS)
    page.wait_for_load_state("networkidle")
    keep(page, wanted.out / "project")
    page.get_by_role("link", name="Train").click()
    page.wait_for_url("**/train")
    page.get_by_label("Model").select_option(wanted.model)
    if wanted.steps is not None:
        page.get_by_label("Steps", exact=True).fill(str(wanted.steps))
    expect(page.locator("#estimate")).not_to_have_text("…")
    keep(page, wanted.out / "train")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**/runs/*")
    page.set_viewport_size(TALL)
    far = "share => Number(step.textContent) > share * Number(steps.textContent) && phase.textContent === 'training'"
    page.wait_for_function(far, arg=SHARE_TRAINED, timeout=RUN_MS)
    keep(page, wanted.out / "run")
    for name, size, scheme in (("run_dark", TALL, "dark"), ("run_phone", PHONE, "light")):
        other = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        other.goto(page.url)
        expect(other.locator("#chart canvas")).to_be_visible()
        other.wait_for_timeout(1500)
        keep(other, wanted.out / name)
        other.close()
    expect(page.locator("#state")).to_contain_text("done", timeout=RUN_MS)
    page.set_viewport_size(WIDE)
    page.goto(f"{url}/pictures")
    for strength in ("0.6", "1.2"):
        page.get_by_role("checkbox", name=strength, exact=True).check(force=True)
    page.get_by_role("button", name="One seed more").click()
    page.locator("#draw-button").click()
    expect(page.locator("#gallery > .drawing").first.locator("img")).to_have_count(8, timeout=RUN_MS)
    page.wait_for_timeout(1500)
    keep(page, wanted.out / "pictures")
    page.close()


def example_sheet(samples: Path) -> Image.Image:
    """The samples of a run side by side: a row for each prompt, a column for each step, two of the photos in front."""
    drawn = {tuple(map(int, path.stem.split("-"))): Image.open(path) for path in samples.glob("*-*.png")}
    steps = sorted({step for step, _ in drawn})
    subject = [photos.open_rgb(path) for path in photos.find(assets.EXAMPLES)]
    rows = []
    for number, prompt in enumerate(TrainConfig().sample_prompts):
        label = captions.fill(prompt, assets.EXAMPLE_TRIGGER, assets.EXAMPLE_CLASS_WORD)
        rows.append(sheet.Row(label, [subject[number], *(drawn[step, number] for step in steps)]))
    columns = ["photo", *(f"step {step}" if step else "untrained" for step in steps)]
    title = f"{assets.EXAMPLE_TRIGGER} {assets.EXAMPLE_CLASS_WORD}, learned from {len(subject)} photos"
    return sheet.sheet(title, columns, rows, side_px=160)


def keep(page: Page, path: Path) -> None:
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=path.with_suffix(".png"))


if __name__ == "__main__":
    main()
