"""A project's photos: the examples, dropping, cropping, captions from a vision model that is not there."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.e2e.conftest import Studio, new_project, start_tiny_run

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
  document.querySelector("#drop").dispatchEvent(drop);
}"""


def test_the_example_photos_come_with_one_press(page: Page, studio: Studio) -> None:
    page.goto(studio.url)
    page.locator("#start-example").click()
    expect(page.locator("#photos [data-photo]")).to_have_count(8)
    assert all(box.input_value() for box in page.locator("#photos textarea").all())
    expect(page.get_by_role("link", name="Train")).to_be_visible()


def test_photos_that_are_dropped_on_the_page_are_taken_in(page: Page, studio: Studio) -> None:
    new_project(page, studio, [], "Dropped house")
    page.evaluate(DROP)
    expect(page.locator("#photos [data-photo]")).to_have_count(2)
    expect(page.get_by_role("textbox", name="Caption of left.png")).to_be_visible()


def test_the_part_that_counts_is_chosen_with_the_keyboard_too(
    page: Page, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files[:1], "Cropped house")
    page.get_by_label("Crop house 0.png").click()
    dialog = page.get_by_role("dialog", name="Crop")
    dialog.get_by_label("Size").fill("50")
    dialog.get_by_label("Left to right").fill("0")
    dialog.get_by_label("Top to bottom").focus()
    page.keyboard.press("Home")
    with page.expect_response("**/api/photos/*") as answer:
        dialog.get_by_role("button", name="Save").click()
    crop = answer.value.json()["crop"]
    assert (crop["left"], crop["top"]) == (0, 0)
    assert abs(crop["right"] * 320 - 140) < 1
    assert abs(crop["bottom"] * 280 - 140) < 1
    expect(dialog).to_be_hidden()
    page.reload()
    expect(page.locator(".crop-mark")).to_be_visible()


def test_where_photos_keep_their_shape_the_frame_has_it_too(
    page: Page, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files[:1], "Wide house")
    shape = page.get_by_role("dialog", name="Crop").get_by_label("Shape")
    page.get_by_label("Crop house 0.png").click()
    expect(shape).to_be_hidden()  # Pocket comes first here, and it is shown squares
    page.keyboard.press("Escape")
    expect(page.locator(".crop-mark")).to_be_visible()
    project = page.url
    start_tiny_run(page, steps=1)
    page.goto(project)
    expect(page.locator(".crop-mark")).to_be_hidden()  # the tiny model keeps shapes: the whole photo counts
    page.get_by_label("Crop house 0.png").click()
    dialog = page.get_by_role("dialog", name="Crop")
    for chosen, size, wide, high in [("photo", "50", 160, 140), ("square", "100", 280, 280)]:
        if not dialog.is_visible():
            page.get_by_label("Crop house 0.png").click()
        shape.select_option(chosen)
        dialog.get_by_label("Size").fill(size)
        with page.expect_response("**/api/photos/*") as answer:
            dialog.get_by_role("button", name="Save").click()
        crop = answer.value.json()["crop"]
        assert abs((crop["right"] - crop["left"]) * 320 - wide) < 1
        assert abs((crop["bottom"] - crop["top"]) * 280 - high) < 1
        expect(dialog).to_be_hidden()
        expect(page.locator(".crop-mark")).to_be_visible()
    page.get_by_label("Crop house 0.png").click()
    expect(shape).to_have_value("square")
    shape.select_option("photo")
    dialog.get_by_role("button", name="As large as possible").click()
    with page.expect_response("**/api/photos/*") as answer:
        dialog.get_by_role("button", name="Save").click()
    assert answer.value.json()["crop"] is None


def test_a_vision_model_that_does_not_answer_is_told_in_words(
    page: Page, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files[:1], "Described house")
    page.get_by_role("button", name="Write captions").click()
    page.get_by_label("From a vision model").check()
    expect(page.locator("#captioner-words")).to_contain_text("No vision server answers")
    page.get_by_label("Model", exact=True).fill("none")
    page.get_by_role("button", name="Write captions", exact=True).click()
    expect(page.locator("#captioning-error")).to_contain_text("127.0.0.1", timeout=60_000)
