"""Caption files find their photos, a new trigger replaces the old one, and a photo without an answer is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.app.test_captioners import VisionServer
from tests.e2e.conftest import Studio, new_project, show_captions, wait_until

CASES = json.loads((Path(__file__).parents[1] / "caption_files.json").read_text(encoding="utf-8"))
MATCH = """async (cases) => {
  const { match } = await import("/static/js/project/caption_files.js");
  return cases.map((one) => match(one.photos, one.files));
}"""


def write(folder: Path, **texts: str | bytes) -> list[Path]:
    """Files in `folder`, by name with "__" for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in texts.items():
        paths.append(folder / name.replace("__", "."))
        paths[-1].write_bytes(text if isinstance(text, bytes) else text.encode())
    return paths


def test_the_browser_matches_captions_as_the_command_line_does(page: Page, studio: Studio) -> None:
    page.goto(studio.url)
    found = page.evaluate(MATCH, CASES)
    assert found == [case["matches"] for case in CASES]


def test_the_same_name_in_two_folders_gets_each_folders_caption(
    page: Page, studio: Studio, photo_files: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    for number, name in enumerate(("10_sks can", "5_can")):
        write(folder / name, **{"1__TXT": f"caption of {name}"})
        shutil.copy(photo_files[number], folder / name / "1.png")
        shutil.copy(photo_files[number + 2], folder / name / "two.png")
    rows = [{"file_name": f"{name}/two.png", "text": f"row of {name}"} for name in ("10_sks can", "5_can")]
    write(folder, metadata__jsonl="\n".join(map(json.dumps, rows)))
    new_project(page, studio, [], "Folders")
    page.locator("#choose-folder").set_input_files(folder)
    expect(page.locator("#photos [data-photo]")).to_have_count(4)
    expect(page.locator("#upload-words")).to_have_text("4 added, 4 captions added.")
    show_captions(page)
    captions = ["caption of 10_sks can", "caption of 5_can", "row of 10_sks can", "row of 5_can"]
    boxes = page.locator("#lines textarea")
    wait_until(page, lambda: sorted(box.input_value() for box in boxes.all()) == captions)
    for box in page.locator("#lines textarea").all():
        name = (box.get_attribute("aria-label") or "").removeprefix("Caption of ")
        assert name[0] == ("1" if "caption" in box.input_value() else "t")


@pytest.mark.refusals
def test_captions_that_come_later_are_added_and_those_that_fit_nothing_are_reported(
    page: Page, studio: Studio, photo_files: list[Path], tmp_path: Path
) -> None:
    new_project(page, studio, photo_files[:3], "Later captions")
    show_captions(page)
    files = write(tmp_path, **{"house 0__txt": "zero", "House 1__png__txt": "one", "house 2__caption": "two"})
    page.locator("#choose-files").set_input_files(files)
    for name, text in zip(("house 0.png", "house 1.png", "house 2.png"), ("zero", "one", "two"), strict=True):
        expect(page.get_by_role("textbox", name=f"Caption of {name}")).to_have_value(text)
    page.reload()
    expect(page.get_by_role("textbox", name="Caption of house 1.png")).to_have_value("one")

    page.wait_for_load_state()
    files = write(tmp_path, stray__txt="nobody", **{"house 0__txt": "caf\u00e9".encode("cp1252")})
    page.locator("#choose-files").set_input_files(files)
    lines = page.locator("#upload-list li")
    expect(lines).to_have_count(2)
    expect(lines.filter(has_text="stray.txt is a caption without a photo of that name.")).to_have_count(1)
    expect(lines.filter(has_text="house 0.txt is not UTF-8 text; save it again as plain UTF-8.")).to_have_count(1)
    expect(page.locator("#upload-words")).to_have_text("2 files not used.")
    expect(page.get_by_role("textbox", name="Caption of house 0.png")).to_have_value("zero")

    long = write(tmp_path, **{"house 3__txt": "x" * 3000})
    page.locator("#choose-files").set_input_files([photo_files[3], *long])
    expect(page.locator("#upload-words")).to_have_text("1 added, 1 file not used.")
    expect(page.locator("#upload-list")).to_contain_text("house 3.txt has 3000 characters; at most 2000.")


def test_another_trigger_takes_the_old_ones_place_in_the_captions(
    page: Page, studio: Studio, photo_files: list[Path], tmp_path: Path
) -> None:
    texts = write(
        tmp_path, **{"house 0__txt": "a photo of sks house", "house 1__txt": "Sks, red", "house 2__txt": "red"}
    )
    new_project(page, studio, photo_files[:3], "Renamed house")
    show_captions(page)
    page.locator("#choose-files").set_input_files(texts)
    expect(page.get_by_role("textbox", name="Caption of house 2.png")).to_have_value("red")
    page.wait_for_load_state()

    def change(word: str, offered: str) -> None:
        page.get_by_role("button", name="Change", exact=True).click()
        dialog = page.get_by_role("dialog", name="About this subject")
        expect(dialog.locator("#replace-trigger")).to_be_hidden()
        dialog.get_by_label("Trigger word").fill(word)
        expect(dialog.locator("#replace-trigger")).to_contain_text(offered)

    change("zwx", "Also replace “sks” with “zwx” in 2 captions")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#in-prompts")).to_have_text("zwx house")
    expect(page.get_by_role("textbox", name="Caption of house 0.png")).to_have_value("a photo of zwx house")
    expect(page.get_by_role("textbox", name="Caption of house 1.png")).to_have_value("zwx, red")

    page.wait_for_load_state()
    change("ohwx", "Also replace “zwx” with “ohwx” in 2 captions")
    page.get_by_label("Also replace “zwx”").uncheck()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#in-prompts")).to_have_text("ohwx house")
    expect(page.get_by_role("textbox", name="Caption of house 1.png")).to_have_value("zwx, red")
    page.get_by_role("link", name="Train").click()
    expect(page.locator("#advice")).to_contain_text("No caption has the trigger word 'ohwx'")


@pytest.fixture
def vision(page: Page, studio: Studio) -> Iterator[VisionServer]:
    server = VisionServer()
    before = page.request.get(f"{studio.url}/api/settings").json()["captioner_url"]
    page.request.patch(f"{studio.url}/api/settings", data={"captioner_url": server.url})
    yield server
    page.request.patch(f"{studio.url}/api/settings", data={"captioner_url": before})
    server.close()


def test_a_photo_that_a_vision_model_has_no_words_for_is_named(
    page: Page, studio: Studio, photo_files: list[Path], vision: VisionServer
) -> None:
    new_project(page, studio, photo_files[:2], "Half described house")
    vision.say("<think>hm</think>A house.")
    vision.say("")
    first, second = [line.text_content() for line in page.locator("#photos .name").all()]
    show_captions(page)
    page.get_by_role("button", name="Write captions").click()
    page.get_by_label("From a vision model").check()
    expect(page.locator("#captioner-words")).to_contain_text("answers at")
    page.get_by_role("button", name="Write captions", exact=True).click()
    words = f"1 caption written. {second} was left out: The model gave an empty caption."
    expect(page.locator("#captioning-error")).to_contain_text(words, timeout=60_000)
    expect(page.get_by_role("textbox", name=f"Caption of {first}")).to_have_value("A house.")
