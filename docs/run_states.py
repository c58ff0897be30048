"""Take pictures of a run's page in each of its states, of runs compared and of the queue: three widths, light and dark.

They are to look at, not kept in docs/.

    python -m docs.run_states --out DIR [--only running queue compare_4] [--widths 390 1440]

The runs are made up (tests/run_states.py): nothing is trained, and it takes a
minute. Wants Chromium, as tests/e2e does.
"""

from __future__ import annotations

import argparse
import socket
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests import run_states
from tests.e2e.conftest import CHROMIUM

WIDTHS = (390, 768, 1440)
HEIGHT = 900
COMPARED = (2, 4, 6)  # runs beside one another


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where the pictures go")
    parser.add_argument("--only", nargs="*", default=[], help="these states and pages; all of them otherwise")
    parser.add_argument("--widths", nargs="*", type=int, default=WIDTHS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        runs = run_states.make(Path(place) / "home")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        with run_states.served(Path(place) / "home", port) as address:
            pages = {name: f"runs/{run}" for name, run in runs.items()}
            pages["queue"] = "queue"
            for count in COMPARED:
                ids = list(runs.values())[-count:]
                pages[f"compare_{count}"] = f"runs/compare?ids={','.join(map(str, ids))}"
            wanted = arguments.only or list(pages)
            for name, place_of_page in ((name, pages[name]) for name in wanted):
                for width in arguments.widths:
                    for scheme in ("light", "dark"):
                        take(
                            browser,
                            f"{address}/{place_of_page}",
                            arguments.out / f"{name}_{width}_{scheme}.png",
                            width,
                            scheme,
                        )
        browser.close()


def take(browser: Browser, address: str, path: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme, reduced_motion="reduce")
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(400)  # charts are drawn at intervals
    page.screenshot(path=path, full_page=True)
    page.close()


if __name__ == "__main__":
    main()
