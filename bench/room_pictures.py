"""Pictures of the dataset room and the home page, to be looked at: python -m bench.room_pictures PHOTOS [--out DIR]

The states: first page, question, empty room, working (photos arrive, and are looked at), 8, 60 and 1,000 photos, a
proposal, loupe, crop, mask, captions; each at 390, 768 and 1,440 px, light and dark, on one sheet. PHOTOS is a folder
of photos; a large set is cut and lit anew from them. Takes some minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance
from playwright.sync_api import Browser, Page, expect, sync_playwright

from app.actions import photos, projects
from app.database import Database
from app.home import Home
from core import files
from core.dataset import photos as reading
from tests.e2e.conftest import CHROMIUM, Studio, running_studio

SIZES = ((1440, 900), (768, 1024), (390, 844))
PATIENCE_MS = 300_000
SHOWN_HIGH = 640  # pixels of a picture on a sheet


def made(sources: Sequence[Path], count: int, folder: Path, side_px: int) -> list[Path]:
    """`count` photos: the sources first, then parts of them in other light."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    opened = []
    for path in sources:
        image = reading.open_rgb(path)
        image.thumbnail((2 * side_px, 2 * side_px))
        opened.append(image)
    found = []
    for number in range(count):
        image = opened[number % len(opened)]
        if number >= len(opened):
            wide, high = (float(rng.uniform(0.55, 0.95)) * side for side in image.size)
            x, y = rng.uniform(0, image.width - wide), rng.uniform(0, image.height - high)
            image = image.crop((round(x), round(y), round(x + wide), round(y + high)))
            image = ImageEnhance.Brightness(image).enhance(float(rng.uniform(0.7, 1.25)))
        image.thumbnail((side_px, side_px))
        found.append(folder / f"IMG_{number + 1:04d}.jpg")
        image.save(found[-1], quality=88)
    return found


def filled(home: Path, name: str, paths: Sequence[Path]) -> int:
    """A project with copies of these photos; its id."""
    database = Database(Home(home))
    project = projects.create(database, name, name.lower(), "thing").id
    for path in paths:
        upload = home / "uploads" / path.name
        upload.parent.mkdir(exist_ok=True)
        upload.write_bytes(path.read_bytes())
        photos.add(database, project, path.name, upload, files.sha256_of(upload), batch="bench")
    database.close()
    return project


class Album:
    """Takes a picture of a state at every size, light and dark, and puts them on one sheet."""

    def __init__(self, out: Path) -> None:
        self.out = out
        out.mkdir(parents=True, exist_ok=True)

    def take(self, page: Page, name: str) -> None:
        pictures = {}
        for scheme in ("light", "dark"):
            for width, height in SIZES:
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                page.set_viewport_size({"width": width, "height": height})
                page.wait_for_timeout(400)
                path = self.out / f"{name}-{width}-{scheme}.png"
                page.screenshot(path=path)
                pictures[scheme, width] = Image.open(path)
        page.set_viewport_size({"width": SIZES[0][0], "height": SIZES[0][1]})
        for scheme in ("light", "dark"):
            row = [pictures[scheme, width] for width, _ in SIZES]
            row = [each.resize((round(each.width * SHOWN_HIGH / each.height), SHOWN_HIGH)) for each in row]
            sheet = Image.new("RGB", (sum(each.width + 8 for each in row), SHOWN_HIGH), "#808080")
            left = 0
            for each in row:
                sheet.paste(each, (left, 0))
                left += each.width + 8
            sheet.save(self.out / f"sheet-{name}-{scheme}.png")
        print(name, flush=True)


def opened(page: Page, studio: Studio, project: int, count: int) -> None:
    page.goto(f"{studio.url}/projects/{project}")
    page.wait_for_load_state()
    expect(page.locator("#photo-count")).to_have_text(str(count), timeout=PATIENCE_MS)


def judged(page: Page) -> None:
    """Wait until all photos were looked at."""
    running = page.locator("#review-running")
    page.wait_for_timeout(1500)
    expect(running).to_be_hidden(timeout=PATIENCE_MS)
    page.reload()
    page.wait_for_load_state("networkidle")


def before_photos(album: Album, page: Page, studio: Studio, paths: Sequence[Path]) -> None:
    page.goto(studio.url)
    page.wait_for_load_state()
    album.take(page, "01-first-page")
    page.locator("#choose-files").set_input_files(paths)
    expect(page.locator("#arrived [data-photo]")).to_have_count(len(paths), timeout=PATIENCE_MS)
    album.take(page, "02-question")
    page.get_by_label("What it is").fill("dog")
    page.get_by_label("Its name").fill("Miso")
    page.get_by_role("button", name="Begin with these photos").click()
    page.wait_for_url("**/projects/*")


def empty_and_working(album: Album, page: Page, studio: Studio, paths: Sequence[Path]) -> None:
    project = filled(studio.home, "Ziggo", [])
    opened(page, studio, project, 0)
    album.take(page, "03-empty")
    page.route("**/archive", lambda route: route.abort())
    page.locator("#choose-files").set_input_files(paths)
    expect(page.locator("#photos [data-photo]").nth(len(paths) // 4)).to_be_visible(timeout=PATIENCE_MS)
    album.take(page, "04-working")
    expect(page.locator("#upload-words")).to_have_text(f"{len(paths)} added.", timeout=PATIENCE_MS)


def eight(album: Album, page: Page) -> None:
    judged(page)
    album.take(page, "05-eight")
    page.locator("#photos [role=option]").nth(1).click()
    page.keyboard.press("x")
    album.take(page, "06-chosen")
    page.keyboard.press("Control+z")
    page.keyboard.press("Escape")
    finding = page.locator("button.finding").first
    if finding.count():
        finding.click()
        album.take(page, "07-proposal")
        page.locator("#proposal-not").click()
    page.locator("#photos [role=option]").nth(2).dblclick()
    page.wait_for_timeout(500)
    for key, name in (("v", "08-loupe"), ("c", "09-crop"), ("m", "10-mask")):
        page.keyboard.press(key)
        page.wait_for_timeout(500)
        album.take(page, name)
    page.locator("[data-loupe=close]").click()
    page.locator('[data-view="captions"]').click()
    album.take(page, "11-captions")
    page.locator('[data-view="grid"]').click()


def all_states(browser: Browser, studio: Studio, sources: Sequence[Path], folder: Path, out: Path, most: int) -> None:
    album = Album(out)
    page = browser.new_page(viewport={"width": SIZES[0][0], "height": SIZES[0][1]})
    page.set_default_timeout(60_000)
    before_photos(album, page, studio, made(sources, 8, folder / "8", 900))
    eight(album, page)
    sixty = made(sources, 60, folder / "60", 900)
    empty_and_working(album, page, studio, sixty)
    judged(page)
    album.take(page, "12-sixty")
    if most:
        thousand = filled(studio.home, "Many", made(sources, most, folder / "most", 480))
        opened(page, studio, thousand, most)
        album.take(page, "13-thousand")
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)")
        page.wait_for_timeout(600)
        album.take(page, "14-thousand-within")
    page.goto(studio.url)
    album.take(page, "15-projects")
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of photos; folders within count too")
    parser.add_argument("--out", type=Path, default=Path("room-pictures"), help="where the pictures go")
    parser.add_argument("--most", type=int, default=1000, help="photos of the largest set; 0 leaves it out")
    given = parser.parse_args()
    sources = sorted(
        path for path in given.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
    )
    if not sources:
        parser.error(f"there is no photo in {given.photos}")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        (Path(place) / "models").mkdir()
        with running_studio(Path(place) / "home", Path(place) / "models") as studio:
            all_states(browser, studio, sources, Path(place) / "photos", given.out, given.most)
        browser.close()


if __name__ == "__main__":
    main()
