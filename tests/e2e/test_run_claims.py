"""A run that is watched to its end, through a cut line and a killed server: what its page claims is what was stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from sqlmodel import col, select

from app import wording
from app.database import Database
from app.home import Home
from app.jobs.states import Kind
from app.tables import Checkpoint, Event, Job, Sample
from core import files
from tests.e2e.conftest import end, new_project, start, start_tiny_run, wait_for_step

STEPS, EVERY = 200, 50  # the table of the chart shows so many steps one by one
CLAIMS = """() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const text = (selector) => document.querySelector(selector).textContent;
  const table = document.querySelector('#chart-table');
  if (!table.open) table.querySelector('summary').click();
  return {
    state: document.querySelector('#state').dataset.state,
    step: text('#step'), steps: text('#steps'),
    losses: all('#chart-table tbody tr').map((row) => [0, 1].map((cell) => row.cells[cell].textContent)),
    checkpoints: all('#checkpoints li').map((one) => [one.dataset.step, one.querySelector('[data-size]').textContent]),
    pictures: all('.frame img:not(.missing)').map((one) => one.getAttribute('src')),
  };
}"""


def stored(home: Path) -> dict[str, Any]:
    """The same from the database and the files."""
    database = Database(Home(home))
    with database.read() as session:
        job = session.exec(select(Job).where(Job.kind == Kind.TRAIN)).one()
        losses: dict[int, float] = {}
        for row in session.exec(select(Event).where(Event.job_id == job.id).order_by(col(Event.id))):
            if row.kind == "rewind":
                losses = {step: loss for step, loss in losses.items() if step <= row.payload["to_step"]}
            elif row.kind == "metric" and "lr" in row.payload:
                losses[row.step or 0] = row.payload["loss"]
        saved = session.exec(select(Checkpoint).order_by(col(Checkpoint.step).desc())).all()
        samples = session.exec(select(Sample).order_by(col(Sample.step), col(Sample.prompt_id))).all()
    adapters = {row.step: database.home.file(row.folder) / "adapter.safetensors" for row in saved}
    assert all(files.sha256_of(adapters[row.step]) == row.sha256 for row in saved)
    assert all(database.home.file(row.file).is_file() for row in samples)
    database.close()
    return {
        "state": job.state,
        "step": str(job.step),
        "steps": str(job.steps),
        "losses": [[str(step), f"{loss:.4f}"] for step, loss in sorted(losses.items())],
        "checkpoints": [[str(step), wording.size(path.stat().st_size)] for step, path in adapters.items()],
        "pictures": [f"/api/pictures/{row.id}/file" for row in samples],
    }


@pytest.mark.outage
def test_what_the_page_claims_is_what_was_stored(
    page: Page, context: BrowserContext, tmp_path: Path, tiny_models: Path, photo_files: list[Path]
) -> None:
    studio = start(tmp_path / "home", tiny_models)
    try:
        new_project(page, studio, photo_files[:2], "True house")
        start_tiny_run(page, steps=STEPS, every=EVERY)
        page.evaluate("() => { document.querySelector('#chart-table summary').click() }")
        wait_for_step(page, 5)
        other = context.new_page()
        other.goto(page.url)
        context.set_offline(True)
        expect(page.locator("#gone")).to_be_visible()
        context.set_offline(False)
        expect(page.locator("#gone")).to_be_hidden()
        studio.process.kill()  # the run's own process goes on
        studio.process.wait()
        studio = start(tmp_path / "home", tiny_models, urlsplit(studio.url).port or 0)
        for tab in (page, other):
            tab.bring_to_front()
            expect(tab.locator("#state")).to_contain_text("done", timeout=60_000)
        truth = stored(studio.home)
        assert [step for step, _ in truth["losses"]] == [str(step) for step in range(1, STEPS + 1)]
        for tab, when in ((page, "watched"), (other, "joined"), (page, "opened again")):
            tab.bring_to_front()
            if when == "opened again":
                tab.reload()
            expect(tab.locator("#checkpoints li")).to_have_count(STEPS // EVERY)
            tab.evaluate(CLAIMS)
            expect(tab.locator("#chart-table tbody tr")).to_have_count(STEPS)
            assert tab.evaluate(CLAIMS) == truth, when
    finally:
        end(studio)
