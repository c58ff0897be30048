"""The dialog that sends an adapter to another program. The run is made up, and says what it would write."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from app.database import Database
from app.home import Home
from app.tables import Run
from tests import run_states
from tests.e2e.axe import faults

LORAS = "models/loras"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A run of FLUX.2 klein base that is done."""
    home = tmp_path_factory.mktemp("send") / "home"
    runs = run_states.make(home, [scene for scene in run_states.SCENES if scene.name == "done"])
    database = Database(Home(home))
    with database.write() as session:
        run = session.get_one(Run, runs["done"])
        run.config = run.config | {"model": {"value": "flux2-klein-base-4b", "source": "user"}}
        session.add(run)
    database.close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with run_states.served(home, port) as address:
        yield f"{address}/runs/{runs['done']}"


def test_the_dialog_says_what_will_be_written_where_and_how_it_is_used(
    page: Page, address: str, tmp_path: Path
) -> None:
    (tmp_path / "ComfyUI" / LORAS).mkdir(parents=True)
    (tmp_path / "ComfyUI" / "models" / "vae").mkdir()
    page.goto(address)
    page.get_by_role("button", name="Send the adapter of step 200").click()
    dialog = page.get_by_role("dialog", name="Send to")
    expect(page.get_by_label("Checkpoint", exact=True)).to_have_value("200")
    expect(dialog.get_by_label("ComfyUI")).to_be_checked()
    files, where = page.locator("#send-files li"), page.locator("#send-to")
    expect(where).to_contain_text("One zip to download")
    expect(files.last).to_contain_text("README.txt")
    expect(page.locator("#send-preview")).to_be_visible()

    folder = page.get_by_label("Folder")
    folder.fill(str(tmp_path / "gone"))
    expect(page.locator("#export-folder-error")).to_have_text("Folder is not there; name a folder of this computer.")
    expect(page.locator("#send-plan")).to_be_hidden()
    folder.fill(str(tmp_path / "ComfyUI"))
    expect(where).to_have_text(f"Into {tmp_path / 'ComfyUI' / LORAS}:")
    expect(files).to_have_count(4)
    expect(files.first).to_have_text("Pip-Run-1-200.safetensors: the adapter")
    expect(page.locator("#export-folder-error")).to_have_text("")
    page.get_by_label("Strength", exact=True).fill("0,8")
    expect(page.locator("#send-lines li").nth(1)).to_contain_text("at strength 0.8")
    expect(dialog.get_by_role("button", name="Send", exact=True)).to_be_visible()
    page.get_by_label("Strength", exact=True).fill("9")
    expect(page.locator("#export-strength-error")).to_have_text("Strength is 9; it can be -4 to 4, and not 0.")
    page.get_by_label("Strength", exact=True).fill("1")

    dialog.get_by_label("ComfyUI").focus()
    for _ in range(2):
        page.keyboard.press("ArrowDown")  # by keys: to Draw Things, to mflux
    expect(dialog.get_by_label("mflux")).to_be_checked()
    expect(folder).to_have_value("")  # each program has its own
    expect(page.locator("#send-code")).to_contain_text("mflux-generate-flux2 --model flux2-klein-4b --steps 4")
    dialog.get_by_label("Share").check()
    expect(folder).to_be_hidden()
    expect(files.nth(2)).to_contain_text("Pip-Run-1-200-kohya.safetensors")
    expect(dialog.get_by_role("button", name="Make the zip")).to_be_visible()

    dialog.get_by_label("ComfyUI").check()
    expect(page.locator("#send-lines li")).to_have_count(3)
    assert faults(page, "send to") == []
    page.set_viewport_size({"width": 390, "height": 844})
    outside = "(all) => all.filter((one) => one.getBoundingClientRect().right > 391).map((one) => one.outerHTML)"
    assert page.locator("#export *").evaluate_all(outside) == []
