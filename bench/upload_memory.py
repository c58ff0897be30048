"""How much memory the studio takes while large photos are uploaded at once: `python -m bench.upload_memory`.

A dozen pictures of 100 megapixels, each in a file of 0.4 MB (a PNG of one colour), are sent at the same moment. The
figures are the resident memory of the server with all its children: before, at most, and afterwards; the aim is at most
1 GB. Other formats, one after the other: `--format JPEG WEBP`.
"""

from __future__ import annotations

import argparse
import http.client
import io
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import psutil
from PIL import Image

from bench.first_page import request, studio

MB = 2**20


class Watch:
    """The resident memory of this process's studio, sampled every 20 ms by a thread."""

    def __init__(self) -> None:
        self.most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, resident())


def resident() -> int:
    """Bytes of the studio's process and of all its children."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def large_picture(number: int, form: str, side_px: int, mode: str) -> bytes:
    content = io.BytesIO()
    colour = (200, 10 * number, 40, 255)[: len(mode)]
    options = {"compress_level": 9} if form == "PNG" else {"quality": 50} if form in ("JPEG", "AVIF", "WEBP") else {}
    Image.new(mode, (side_px, side_px), colour).save(content, form, **options)
    return content.getvalue()


def upload(port: int, project: int, name: str, content: bytes) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
        connection.request("PUT", f"/api/projects/{project}/photos/{name}", content)
        answer = connection.getresponse()
        answer.read()
        return answer.status


def measure(form: str, count: int, side_px: int, mode: str) -> None:
    contents = [large_picture(number, form, side_px, mode) for number in range(count)]
    with tempfile.TemporaryDirectory() as folder, studio(Path(folder) / "home") as (port, _):
        project = request(port, "POST", "/api/projects", {"name": "Large", "trigger": "sks", "class_word": "can"})["id"]
        before, began, statuses = resident(), time.perf_counter(), []

        def send(number: int) -> None:
            statuses.append(upload(port, project, f"{number}.{form.lower()}", contents[number]))

        threads = [threading.Thread(target=send, args=(number,)) for number in range(count)]
        with Watch() as watch:
            for each in threads:
                each.start()
            for each in threads:
                each.join()
        seconds = time.perf_counter() - began
        time.sleep(1)
        print(
            f"{form} {mode}: {count} of {side_px}^2 px, {len(contents[0]) / 1e6:.1f} MB each, answers {set(statuses)}: "
            f"{before / MB:.0f} MB before, {watch.most / MB:.0f} MB at most, {resident() / MB:.0f} MB afterwards, "
            f"{seconds:.1f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--side-px", type=int, default=10_000)
    parser.add_argument("--mode", default="RGBA", help="Pillow's name of the pixels")
    parser.add_argument("--format", nargs="*", default=["PNG"])
    given = parser.parse_args()
    for form in given.format:
        measure(form, given.count, given.side_px, given.mode)


if __name__ == "__main__":
    main()
