"""The queue: one run at a time, the order can be changed, waiting jobs can be removed."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, expect

from tests.e2e.conftest import Studio, held, new_project, start_tiny_run, wait_for_step


def test_waiting_runs_change_places_and_are_taken_out(
    page: Page, context: BrowserContext, studio: Studio, photo_files: list[Path]
) -> None:
    new_project(page, studio, photo_files[:1], "First house")
    start_tiny_run(page, steps=20_000, every=10_000)
    wait_for_step(page, 2)
    with held(studio):
        queue = two_wait_and_are_taken_out(context, studio, photo_files)

    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#state")).to_contain_text("stopped")
    expect(queue.get_by_text("Nothing is waiting")).to_be_visible()
    expect(queue.locator("#active-jobs")).to_be_hidden()
    page.goto(studio.url)
    page.get_by_role("link", name="Third house", exact=True).click()
    page.get_by_role("tab", name="Runs").click()
    expect(page.locator(".run-line .badge").first).to_contain_text("removed")


def two_wait_and_are_taken_out(context: BrowserContext, studio: Studio, photo_files: list[Path]) -> Page:
    """Behind the run that is being trained; returns the page of the queue."""
    for name in ("Second house", "Third house"):
        other = context.new_page()
        new_project(other, studio, photo_files[:1], name)
        start_tiny_run(other, steps=5)
        expect(other.locator("#state")).to_contain_text("waiting")
        other.close()

    queue = context.new_page()
    queue.goto(f"{studio.url}/queue")
    expect(queue.locator("#active-jobs-count")).to_have_text("3")
    waiting = queue.locator('li[data-state="queued"] h3')
    second, third = (re.compile(rf"^Training: {name} house, Run 1$") for name in ("Second", "Third"))
    expect(waiting).to_have_text([second, third])
    queue.get_by_label(re.compile(r"^Move Training: Third house, Run 1 up$")).click()
    expect(waiting).to_have_text([third, second])
    removed = queue.locator('li[data-state="cancelled"]')
    earlier = removed.count()  # of other tests of this studio
    for taken in (1, 2):
        queue.get_by_role("button", name="Remove").first.click()
        expect(removed).to_have_count(earlier + taken)
    return queue
