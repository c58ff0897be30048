"""A project's photos: the examples, dropping, zips, crops, captions from a vision model that is not there."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.e2e.conftest import Studio, new_project, show_captions, start_tiny_run, tile, wait_until

DROP = """() => {
  const transfer = new DataTransfer();
  for (const name of ['left.png', 'right.png']) {
    const canvas = document.createElement('canvas');
    canvas.width = 320; canvas.height = 300;
    const pen = canvas.getContext('2d');
    pen.fillStyle = name === 'left.png' ? '#a03020' : '#2050a0';
    pen.fillRect(40, 40, 200, 180);
    const bytes = Uint8Array.from(atob(canvas.toDataURL('image/png').split(',')[1]), (c) => c.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: 'image/png' }));
  }
  const drop = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.querySelector("h1").dispatchEvent(drop);
  return drop.defaultPrevented;
}"""

LAID_OUT = """async () => {
  const width = () => document.querySelector('#canvas').getBoundingClientRect().width;
  for (let before = 0; before !== width();) {
    before = width();
    for (let frame = 0; frame < 5; frame += 1) await new Promise(requestAnimationFrame);
  }
}"""


def crops_of(page: Page) -> list[dict[str, float]]:
    """The crops that the studio has of the project's only photo."""
    project = page.url.split("#")[0].replace("/projects/", "/api/projects/")
    return page.request.get(f"{project}/photos").json()[0]["crops"]


def open_crop(page: Page, name: str) -> None:
    """Open the photo with the crop tool, by keys."""
    tile(page, name).focus()
    page.keyboard.press("Space")
    page.keyboard.press("c")
    expect(page.locator("#crop-frame")).to_be_focused()
    page.wait_for_function("() => document.querySelector('#loupe-image').complete")
    page.evaluate(LAID_OUT)


def test_the_example_photos_come_with_one_press(page: Page, studio: Studio) -> None:
    page.goto(studio.url)
    page.wait_for_load_state()
    page.locator("#start-example").click()
    expect(page.locator("#photos [data-photo]")).to_have_count(8)
    show_captions(page)
    assert all(box.input_value() for box in page.locator("#lines textarea").all())
    expect(page.get_by_role("link", name="Train")).to_be_visible()


def test_photos_that_are_dropped_anywhere_on_the_page_are_taken_in(page: Page, studio: Studio) -> None:
    new_project(page, studio, [], "Dropped house")
    assert page.evaluate(DROP)
    expect(page.locator("#photos [data-photo]")).to_have_count(2)
    expect(page.locator("#upload-words")).to_have_text("2 added.")
    page.get_by_role("button", name="Undo: 2 photos added").click()  # one drop is one step
    expect(page.locator("#photos [data-photo]")).to_have_count(0)
    page.goto(f"{studio.url}/queue")
    page.wait_for_load_state()
    assert page.evaluate(DROP), "a page without a place for photos takes them to the one that has it"
    expect(page.locator("#arrived img")).to_have_count(2)
    expect(page.get_by_role("heading", level=1)).to_contain_text("What is it?")
    assert page.evaluate("sessionStorage.length") == 0, "and only once"


def test_a_zip_brings_photos_with_captions_and_goes_out_again(
    page: Page, studio: Studio, photo_files: list[Path], tmp_path: Path
) -> None:
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in photo_files[:3]:
            file.write(path, path.name)
        file.writestr("house 0.txt", "a house from a zip")
    new_project(page, studio, [], "Zipped house")
    page.locator("#choose-files").set_input_files(archive)
    expect(page.locator("#photos [data-photo]")).to_have_count(3)
    expect(page.locator("#upload-words")).to_have_text("3 added, 1 caption added.")
    page.get_by_label("More about this project").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Photos as a zip (kohya)").click()
    with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as file:
        texts = [file.read(name).decode() for name in file.namelist() if name.endswith("house 0.txt")]
    assert [text.strip() for text in texts] == ["a house from a zip"]


def test_a_crop_is_made_with_keys_alone_and_undone(page: Page, studio: Studio, photo_files: list[Path]) -> None:
    new_project(page, studio, photo_files[:1], "Cropped house")
    open_crop(page, "house 0.png")
    with page.expect_response("**/api/photos/*") as answer:
        page.get_by_role("slider", name="Size", exact=True).fill("50")
    assert answer.value.ok
    page.locator("#crop-frame").focus()
    with page.expect_response("**/api/photos/*"):
        for _ in range(12):
            page.keyboard.press("Shift+ArrowLeft")
            page.keyboard.press("Shift+ArrowUp")
    crop = crops_of(page)[0]
    assert (crop["left"], crop["top"]) == (0, 0)
    assert abs(crop["right"] * 320 - 140) < 1  # half of the largest square, for Pocket trains on squares
    assert abs(crop["bottom"] * 280 - 140) < 1
    page.keyboard.press("Escape")
    assert tile(page, "house 0.png").evaluate("one => one.style.getPropertyValue('--w')") == f"{crop['right']:.5f}"
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    expect(page.locator(".toast").last).to_contain_text("Undone")
    wait_until(page, lambda: crops_of(page) == [])


def test_a_crop_is_dragged_by_corner_and_middle_with_the_mouse(
    page: Page, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files[:1], "Dragged house")
    open_crop(page, "house 0.png")
    canvas = page.locator("#canvas").bounding_box()
    frame = page.locator("#crop-frame").bounding_box()
    assert canvas
    assert frame
    start = crops_of(page)
    assert start == []
    page.mouse.move(frame["x"] + frame["width"] - 3, frame["y"] + frame["height"] - 3)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] * 0.5, frame["y"] + frame["height"] * 0.5, steps=4)
    with page.expect_response("**/api/photos/*"):
        page.mouse.up()
    small = crops_of(page)[0]
    assert abs((small["right"] - small["left"]) * 320 - (small["bottom"] - small["top"]) * 280) < 0.01, "still a square"
    assert abs((small["right"] - small["left"]) * canvas["width"] - frame["width"] * 0.5) < 4
    assert abs(small["left"] * canvas["width"] + canvas["x"] - frame["x"]) < 2, "the other corner stays"
    page.mouse.move(frame["x"] + frame["width"] * 0.25, frame["y"] + frame["height"] * 0.25)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] * 0.25 + 40, frame["y"] + frame["height"] * 0.25 + 20, steps=4)
    with page.expect_response("**/api/photos/*"):
        page.mouse.up()
    moved = crops_of(page)[0]
    assert abs((moved["left"] - small["left"]) * canvas["width"] - 40) < 2
    assert abs((moved["right"] - moved["left"]) - (small["right"] - small["left"])) < 1e-6
    with page.expect_response("**/api/photos/*"):
        page.mouse.wheel(0, 200)  # zooms
    assert crops_of(page)[0]["right"] - crops_of(page)[0]["left"] > moved["right"] - moved["left"]


def test_where_photos_keep_their_shape_the_frame_has_that_of_the_bucket(
    page: Page, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files[:1], "Wide house")
    open_crop(page, "house 0.png")
    expect(page.locator("#crop-shape")).to_be_hidden()  # Pocket comes first here, and it is shown squares
    expect(page.locator("#crop-size")).to_have_text("Trained as 256 × 256")
    page.keyboard.press("Escape")
    project = page.url.split("#")[0]
    start_tiny_run(page, steps=1)
    page.goto(project)
    page.wait_for_load_state()
    open_crop(page, "house 0.png")
    expect(page.locator("#crop-size")).to_have_text("Trained as 64 × 64")
    with page.expect_response("**/api/photos/*"):
        page.get_by_label("Shape").select_option("80x48")
    crop = crops_of(page)[0]
    assert abs((crop["right"] - crop["left"]) * 320 / ((crop["bottom"] - crop["top"]) * 280) - 80 / 48) < 1e-6
    expect(page.locator("#crop-size")).to_have_text("Trained as 80 × 48")
    page.get_by_role("button", name="Another crop").click()
    expect(page.locator("#crop-count")).to_have_text("2 pictures")
    page.get_by_role("button", name="Remove crop 2").click()
    expect(page.locator("#crop-count")).to_have_text("1 picture")
    page.get_by_role("button", name="Back to the default crop").click()
    expect(page.locator("#crop-size")).to_have_text("Trained as 64 × 64")
    assert crops_of(page) == []


def test_a_vision_model_that_does_not_answer_is_told_in_words(
    page: Page, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files[:1], "Described house")
    show_captions(page)
    page.get_by_role("button", name="Write captions").click()
    page.get_by_label("From a vision model").check()
    expect(page.locator("#captioner-words")).to_contain_text("No vision server answers")
    page.get_by_label("Model", exact=True).fill("none")
    page.get_by_role("button", name="Write captions", exact=True).click()
    expect(page.locator("#captioning-error")).to_contain_text("127.0.0.1", timeout=60_000)
