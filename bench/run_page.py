"""A run's page with 20,000 points, in a real Chromium: python -m bench.run_page

metrics       the answer of /metrics with every point                                 at most 0.2 s
first paint   from the end of that answer to the curve on the screen                  at most 1 s
update        one more step: collecting, smoothing, drawing                           at most 50 ms
watching      CPU time of the studio that an open page costs, a step a second         at most 5 s an hour
"""

from __future__ import annotations

import argparse
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path

import psutil
from playwright.sync_api import Browser, BrowserType, Page, sync_playwright
from sqlmodel import Session

from app.database import Database
from app.home import Home
from app.jobs.states import State
from app.tables import Event, Job, Run
from tests import run_states
from tests.e2e.conftest import CHROMIUM, running_studio

PAINTED = """async () => {
  const drawn = () => document.querySelector('#chart canvas') && document.querySelector('#chart-empty').hidden;
  while (!drawn()) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  const [entry] = performance.getEntriesByType('resource').filter((one) => one.name.includes('/metrics'));
  return performance.now() - entry.responseEnd;
}"""
UPDATES = """async ([step, count]) => {
  const { LossChart } = await import('/static/js/run/loss_chart.js');
  const redraw = LossChart.prototype.redraw;
  const times = [];
  LossChart.prototype.redraw = function () {
    const start = performance.now();
    redraw.call(this);
    this.plot?.ctx.getImageData(0, 0, 1, 1);
    times.push(performance.now() - start);
  };
  window.updates = times;
}"""
WATCHED_SECONDS = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=20_000, help="steps of the run")
    parser.add_argument("--seconds", type=int, default=WATCHED_SECONDS, help="how long the page is watched")
    arguments = parser.parse_args()
    scene = run_states.Scene(
        "long", State.RUNNING, steps=arguments.points + 10_000, step=arguments.points, phase="training", every=1000
    )
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright, socket.socket() as probe:
        home = Path(place) / "home"
        run = run_states.make(home, [scene])["long"]
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        with run_states.served(home, port) as address:
            for name, value in measure(browser, address, home, run).items():
                print(f"{name:34} {value:9.1f} ms")
        browser.close()
        if arguments.seconds:
            watched(playwright.chromium, home, Path(place) / "none", run, arguments.seconds)


def measure(browser: Browser, address: str, home: Path, run: int) -> dict[str, float]:
    """Milliseconds."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    answer = f"{address}/api/runs/{run}/metrics?names=loss,lr&points=20000"
    times = []
    for _ in range(5):
        start = time.perf_counter()
        page.request.get(answer).body()
        times.append(1000 * (time.perf_counter() - start))
    found = {"metrics, median of five": statistics.median(times)}
    page.goto(f"{address}/runs/{run}", wait_until="commit")
    found["first paint after the data"] = page.evaluate(PAINTED)
    page.wait_for_load_state("networkidle")
    found |= updates(page, home, run)
    page.close()
    return found


def updates(page: Page, home: Path, run: int, count: int = 12) -> dict[str, float]:
    """Steps that arrive as events: how long the chart takes for each redraw."""
    page.evaluate(UPDATES, [0, 0])
    database = Database(Home(home))
    for _ in range(count):
        with database.write() as session:
            add_step(session, run)
        page.wait_for_timeout(400)
    database.close()
    times = page.evaluate("window.updates")
    return {"update, median": statistics.median(times), "update, longest": max(times)}


def add_step(session: Session, run_id: int) -> None:
    job = session.get_one(Job, session.get_one(Run, run_id).job_id)
    job.step += 1
    payload = {"loss": 0.3, "lr": 1e-3, "gradient_norm": 1.0, "seconds": 1.0}
    session.add(job)
    session.add(Event(job_id=job.id, attempt=1, kind="metric", step=job.step, payload=payload))


def watched(chromium: BrowserType, home: Path, models: Path, run: int, seconds: int) -> None:
    """CPU time of the studio's process while a step a second arrives, with the page open and without."""
    database = Database(Home(home))
    with database.write() as session:  # nobody executes it: the studio must not take it for a dead one
        job = session.get_one(Job, session.get_one(Run, run).job_id)
        job.state = State.STOPPED
        session.add(job)
    with running_studio(home, models) as studio:
        process = psutil.Process(studio.process.pid)
        spent = {}
        browser = chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name in ("closed", "open"):
            page = browser.new_page()
            if name == "open":
                page.goto(f"{studio.url}/runs/{run}")
                page.wait_for_load_state("networkidle")
            page.wait_for_timeout(2000)
            before = sum(process.cpu_times()[:2])
            stop = threading.Event()
            writer = threading.Thread(target=write_steps, args=(database, run, stop))
            writer.start()
            page.wait_for_timeout(1000 * seconds)
            stop.set()
            writer.join()
            spent[name] = (sum(process.cpu_times()[:2]) - before) * 3600 / seconds
            page.close()
        browser.close()
    database.close()
    cost = spent["open"] - spent["closed"]
    print(f"{'watching':34} {cost:9.1f} CPU-seconds an hour (without a page {spent['closed']:.1f})")


def write_steps(database: Database, run: int, stop: threading.Event) -> None:
    while not stop.wait(1.0):
        with database.write() as session:
            add_step(session, run)


if __name__ == "__main__":
    main()
