"""The run's page, photo by photo: one that stands out is opened, recropped, set aside, or trained on without."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from app.jobs.states import State
from tests import run_states
from tests.e2e.axe import faults

SCENES = (
    run_states.Scene("done", State.SUCCEEDED, steps=100, step=100, every=25, prompts=0, odd=True),
    run_states.Scene("running", State.RUNNING, steps=200, step=100, every=25, prompts=0, odd=True, phase="training"),
)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    run_states.make(tmp_path / "home", SCENES)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with run_states.served(tmp_path / "home", port) as studio:
        yield studio


def test_a_photo_that_stands_out_is_opened_set_aside_and_trained_on_without(page: Page, address: str) -> None:
    page.goto(f"{address}/runs/1")
    expect(page.locator("#harm-words")).to_have_text(re.compile("^One stands out"))
    odd = page.locator("#odd-photos li")
    name = odd.locator("h3").inner_text()
    expect(odd).to_contain_text("above the others")
    expect(page.locator("#other-photos li")).to_have_count(7)
    expect(page.locator("#other-photos")).to_contain_text("unseen")
    assert faults(page, "photo by photo") == []

    page.get_by_role("button", name=f"Set aside {name}").click()
    expect(page.get_by_role("button", name=f"Take back {name}")).to_be_visible()
    expect(odd).to_contain_text("Set aside since")
    page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name=f"Set aside {name}")).to_be_visible()

    page.get_by_role("link", name=f"Recrop {name}").click()
    expect(page.locator("#loupe-name")).to_have_text(name)
    expect(page.locator('#loupe [data-tool="crop"]')).to_have_attribute("aria-pressed", "true")
    page.goto(f"{address}/runs/1")
    page.get_by_role("link", name=f"Open {name}").first.click()
    expect(page.locator("#loupe-name")).to_have_text(name)
    page.goto(f"{address}/runs/1")

    best = {run: page.request.get(f"{address}/api/runs/{run}/suggestion").json()["step"] for run in (1, 2)}
    page.get_by_role("button", name=f"Train on without {name}").press("Enter")
    expect(page.locator("#began-from")).to_have_text(f"Begun from Run 1, step {best[1]}, without {name}.")
    page.get_by_role("link", name="Run 1", exact=True).click()
    expect(page.locator(".lineage")).to_have_text(f"Run 3 began from its step {best[1]}, without {name}.")
    assert faults(page, "with a later run") == []

    page.goto(f"{address}/runs/2")
    page.get_by_role("button", name=f"Train on without {name}").click()
    dialog = page.locator("#without-dialog")
    expect(dialog).to_contain_text(f"Sets {name} aside, which you can undo, and begins a new run from step {best[2]}")
    assert faults(page, "before it is stopped") == []
    dialog.get_by_role("button", name="Stop it and train on").click()
    expect(page.locator("#began-from")).to_have_text(f"Begun from Run 2, step {best[2]}, without {name}.")
    page.goto(f"{address}/runs/2")
    expect(page.locator("#stop")).to_have_text("Stopping …")
