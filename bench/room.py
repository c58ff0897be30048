"""The dataset room with a thousand photos, in a real Chromium: python -m bench.room

first paint     from the request to the first photo painted                       at most 1 s
scrolling       the longest frame while the whole grid is scrolled through        at most 50 ms
selection       from a click, and from Ctrl+A, to the frame that shows it         at most 100 ms
undo            from Ctrl+Z after setting 1 photo, and 200, aside, to its frame   at most 100 ms
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from app.actions import photos, projects
from app.database import Database
from app.home import Home
from core import files
from tests.e2e.conftest import running_studio

FRAMES = """async (pixels) => {
  const times = [];
  let last = performance.now();
  while (scrollY + innerHeight < document.documentElement.scrollHeight - 2) {
    scrollBy(0, pixels);
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
  }
  return times.slice(2);
}"""
PAINTED = """async () => {
  for (;;) {
    const image = document.querySelector('#photos img');
    if (image?.complete && image.naturalWidth) break;
    await new Promise(requestAnimationFrame);
  }
  await new Promise(requestAnimationFrame);
  return performance.now();
}"""
UNTIL = """async ([key, test]) => {
  const shown = new Function(`return ${test}`);
  const start = performance.now();
  if (key === 'click') document.querySelectorAll('#photos .tile')[5].click();
  else document.activeElement.dispatchEvent(new KeyboardEvent('keydown',
    { key, ctrlKey: key !== 'x', bubbles: true, cancelable: true }));
  while (!shown()) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - start;
}"""

CHOOSE = """async (count) => {
  const { room } = await import('/static/js/project/state.js');
  room.choose(room.order.slice(0, count), room.order[0]);
}"""


def fill(home: Path, count: int) -> int:
    """A project with `count` photos of 448 x 336 px, each with other content."""
    database = Database(Home(home))
    project = projects.create(database, "A thousand", "zwx", "toy").id
    rng = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
        shape = (448, 336) if number % 3 else (336, 448)
        encoded = io.BytesIO()
        small.resize(shape, Image.Resampling.BICUBIC).save(encoded, "JPEG", quality=80)
        upload = home / "uploads" / f"{number}.jpg"
        upload.parent.mkdir(exist_ok=True)
        upload.write_bytes(encoded.getvalue())
        photos.add(database, project, f"photo {number}.jpg", upload, files.sha256_of(upload), batch="bench")
    return project


def measure(browser: Browser, address: str) -> dict[str, float]:
    """Milliseconds."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, bypass_csp=True)
    page = context.new_page()
    page.goto(address)  # the first page of a studio's life compiles its templates
    stop_jobs(page, address)
    page.goto(address, wait_until="commit")
    found = {"first paint": page.evaluate(PAINTED)}
    page.wait_for_load_state()
    found["longest frame, scrolling by 120 px"] = max(page.evaluate(FRAMES, 120))
    page.evaluate("scrollTo(0, 0)")
    found["longest frame, scrolling by 900 px"] = max(page.evaluate(FRAMES, 900))
    page.evaluate("scrollTo(0, 0)")
    found |= acts(page)
    context.close()
    return found


def stop_jobs(page: Page, address: str) -> None:
    """The review of the photos takes a core of its own: it is measured elsewhere."""
    jobs = address.split("/projects/")[0] + "/api/jobs"
    for job in page.request.get(f"{jobs}?state=queued&state=running").json():
        page.request.post(f"{jobs}/{job['id']}/stop", data={"now": True})
    while page.request.get(f"{jobs}?state=running").json():
        page.wait_for_timeout(200)


def acts(page: Page) -> dict[str, float]:
    selected = "document.querySelectorAll('#photos [aria-selected=true]').length"
    all_selected = "!document.querySelector('#photos [aria-selected=false]')"  # of the tiles in the document
    aside = "document.querySelectorAll('#photos .tile.aside').length"
    found = {"one click": page.evaluate(UNTIL, ["click", f"{selected} === 1"])}
    found["setting 1 aside"] = page.evaluate(UNTIL, ["x", f"{aside} === 1"])
    page.wait_for_timeout(1500)
    found["undo of 1"] = page.evaluate(UNTIL, ["z", f"{aside} === 0"])
    page.wait_for_timeout(500)
    found["Ctrl+A"] = page.evaluate(UNTIL, ["a", all_selected])
    found["one click again"] = page.evaluate(UNTIL, ["click", f"{selected} === 1"])
    page.evaluate(CHOOSE, 200)
    found["setting 200 aside"] = page.evaluate(UNTIL, ["x", f"{aside} >= Math.min({selected}, 200)"])
    page.wait_for_timeout(2500)
    found["undo of 200"] = page.evaluate(UNTIL, ["z", f"{aside} === 0"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1000, help="how many")
    count = parser.parse_args().photos
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium-headless-shell") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder:
        home, models = Path(folder) / "home", Path(folder) / "models"
        models.mkdir()
        project = fill(home, count)
        with running_studio(home, models) as studio, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            for name, milliseconds in measure(browser, f"{studio.url}/projects/{project}").items():
                print(f"{name:36} {milliseconds:7.0f} ms")
            browser.close()


if __name__ == "__main__":
    main()
