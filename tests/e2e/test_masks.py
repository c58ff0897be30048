"""Masks are painted in the loupe by mouse, pen and touch, saved at the photo's size, and undone."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Studio, new_project, tile
from tests.e2e.test_dataset import LAID_OUT

STROKE = """async (type) => {
  const area = document.querySelector('#canvas');
  const box = area.getBoundingClientRect();
  const at = (x, y, kind) => area.dispatchEvent(new PointerEvent(kind, { pointerId: 7, pointerType: type, bubbles: true,
    cancelable: true, isPrimary: true, pressure: 0.7,
    clientX: box.left + x * box.width, clientY: box.top + y * box.height }));
  area.setPointerCapture = () => {};
  at(0.5, 0.2, 'pointerdown');
  for (let step = 1; step <= 6; step += 1) at(0.5, 0.2 + step * 0.1, 'pointermove');
  at(0.5, 0.8, 'pointerup');
}"""


@pytest.fixture
def plain_photo(tmp_path: Path) -> Path:
    """A photo without a subject, so that no mask is proposed while the test paints."""
    file = tmp_path / "plain.png"
    Image.new("RGB", (320, 280), "#78828c").save(file)
    return file


def mask_of(page: Page) -> Image.Image | None:
    """The mask that the studio has of the project's only photo."""
    base, project = page.url.split("#")[0].split("/projects/")
    photo = page.request.get(f"{base}/api/projects/{project}/photos").json()[0]
    if not photo["mask_url"]:
        return None
    return Image.open(io.BytesIO(page.request.get(f"{base}{photo['mask_url']}").body()))


def open_mask(page: Page) -> dict[str, float]:
    """Open the photo with the mask tool; returns where it lies on the screen."""
    tile(page, "plain.png").focus()
    page.keyboard.press("Space")
    page.keyboard.press("m")
    page.wait_for_function("() => document.querySelector('#loupe-image').complete")
    page.evaluate(LAID_OUT)
    page.wait_for_function("() => document.querySelector('#mask-canvas').width > 1")
    box = page.locator("#canvas").bounding_box()
    assert box
    return {name: float(value) for name, value in box.items()}


def drag(page: Page, box: dict[str, float], *points: tuple[float, float]) -> None:
    """Press at the first of these places on the photo (in fractions), move along the others, and wait for the save."""
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    with page.expect_response("**/mask"):
        page.mouse.up()


def values(mask: Image.Image, *places: tuple[float, float]) -> list[int]:
    pixels = [mask.getpixel((int(x * mask.width), int(y * mask.height))) for x, y in places]
    return [pixel for pixel in pixels if isinstance(pixel, int)]


def test_a_mask_is_added_erased_ignored_and_undone_with_the_mouse(
    page: Page, studio: Studio, plain_photo: Path
) -> None:
    new_project(page, studio, [plain_photo], "Masked photo")
    box = open_mask(page)
    expect(page.locator("#loupe-facts")).to_contain_text("Mask")
    page.locator("#mask-box").click()
    drag(page, box, (0.25, 0.25), (0.75, 0.75))  # a box of subject: the first says that all else is background
    mask = mask_of(page)
    assert mask
    assert (mask.mode, mask.size) == ("L", (320, 280))
    assert set(mask.get_flattened_data()) <= {255, 128}
    assert values(mask, (0.5, 0.5), (0.3, 0.3), (0.1, 0.1)) == [255, 255, 128]
    page.locator("#mask-box").click()
    page.get_by_role("button", name="Erase").click()
    drag(page, box, (0.5, 0.5), (0.6, 0.5))
    page.get_by_role("button", name="Ignore").click()
    drag(page, box, (0.1, 0.9), (0.2, 0.9))
    places = ((0.55, 0.5), (0.3, 0.3), (0.15, 0.9), (0.9, 0.1))
    mask = mask_of(page)
    assert mask
    assert values(mask, *places) == [128, 255, 0, 128]
    page.keyboard.press("Control+z")
    expect(page.locator(".toast").last).to_contain_text("Undone")
    mask = mask_of(page)
    assert mask
    assert values(mask, *places) == [128, 255, 128, 128]
    shown = page.evaluate(
        "() => { const c = document.querySelector('#mask-canvas'); const [w, h] = [c.width, c.height];"
        "const all = c.getContext('2d').getImageData(0, 0, w, h).data;"
        "const at = (x, y) => all[4 * (Math.floor(y * h) * w + Math.floor(x * w)) + 3];"
        "return [at(0.3, 0.3) === 0, at(0.15, 0.9) > 100]; }"
    )
    assert shown == [True, True], "the subject is shown as it is, the rest is veiled"
    page.get_by_role("button", name="As proposed").click()
    expect(page.locator("#loupe-facts")).not_to_contain_text("yours")


@pytest.mark.parametrize("pointer", ["pen", "touch"])
def test_a_mask_is_painted_by_pen_and_by_touch(page: Page, studio: Studio, plain_photo: Path, pointer: str) -> None:
    new_project(page, studio, [plain_photo], f"House by {pointer}")
    open_mask(page)
    with page.expect_response("**/mask"):
        page.evaluate(STROKE, pointer)
    mask = mask_of(page)
    assert mask
    assert values(mask, (0.5, 0.3), (0.5, 0.75), (0.1, 0.5)) == [255, 255, 128]
