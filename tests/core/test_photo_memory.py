"""Large photos at once: what they need together, and that it is given back."""

from __future__ import annotations

import io
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from core.dataset import colour, photos
from core.dataset.pixel_budget import PixelBudget
from core.errors import DataProblem
from tests.core.photo_files import HEIGHT, WIDTH, corners
from tests.core.subjects import encoded, picture

pytestmark = pytest.mark.slow


def test_decodes_share_a_budget_of_pixels() -> None:
    budget, most, now, lock = PixelBudget(100), 0, 0, threading.Lock()

    def decode(pixels: int) -> None:
        nonlocal most, now
        with budget.taken(pixels):
            with lock:
                now += min(pixels, 100)
                most = max(most, now)
            threading.Event().wait(0.002)
            with lock:
                now -= min(pixels, 100)

    numbers = random.Random(0)
    threads = [threading.Thread(target=decode, args=(numbers.choice([20, 30, 60, 100, 500]),)) for _ in range(30)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(timeout=20)
    assert not any(each.is_alive() for each in threads)
    assert 50 < most <= 100


def test_every_reading_takes_its_pixels_from_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    class Noted(PixelBudget):
        def taken(self, pixels: int):  # type: ignore[no-untyped-def]
            taken.append(pixels)
            return super().taken(pixels)

    monkeypatch.setattr(photos, "BUDGET", Noted(100))
    content = encoded(corners())
    photos.inspect(content)
    photos.open_rgb(content)
    photos.write_thumb(content, tmp_path / "thumb.jpg", 16)
    assert taken == [WIDTH * HEIGHT] * 3
    with pytest.raises(DataProblem):
        photos.inspect(content[:60])
    assert photos.BUDGET.pixels == 100
    photos.inspect(content)  # a photo that failed gave its pixels back


def test_a_large_photo_is_converted_in_strips_to_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    glass = picture(0, 150, 130)
    glass.putalpha(glass.getchannel(0))
    for image in (
        picture(0, 150, 130),
        glass,
        glass.convert("LA"),
        glass.convert("P"),
        picture(0, 150, 130).convert("I"),
    ):
        content = encoded(image.convert("I;16") if image.mode == "I" else image)
        monkeypatch.setattr(colour, "STRIP_PIXELS", 10**9)
        whole = photos.open_rgb(content)
        monkeypatch.setattr(colour, "STRIP_PIXELS", 1000)
        assert photos.open_rgb(content).tobytes() == whole.tobytes()
        with Image.open(io.BytesIO(content)) as opened:
            small = colour.to_rgb(opened, colour.coding_of(opened), shrink=4)
        assert small.tobytes() == whole.reduce(4).tobytes()


UPLOADS = """
import sys, threading
from pathlib import Path
import psutil
from core.dataset import photos
from core.dataset.pixel_budget import PixelBudget

folder, me = Path(sys.argv[1]), psutil.Process()
photos.inspect(folder / "small.png")
photos.BUDGET, most, over, before = PixelBudget(16_000_000), 0, threading.Event(), me.memory_info().rss

def watch():
    global most
    while not over.wait(0.005):
        most = max(most, me.memory_info().rss)

def take(number):
    photos.inspect(folder / "large.png")
    photos.write_thumb(folder / "large.png", folder / f"{number}.jpg", 448)

watcher = threading.Thread(target=watch)
threads = [threading.Thread(target=take, args=(number,)) for number in range(5)]
watcher.start()
for each in threads: each.start()
for each in threads: each.join()
over.set()
watcher.join()
print((most - before) // 2**20, (me.memory_info().rss - before) // 2**20)
"""


def test_large_photos_at_once_need_the_memory_of_one_and_give_it_back(tmp_path: Path) -> None:
    """Five of 16 megapixels, 64 MB each when decoded, beside strips and an alpha channel."""
    corners().save(tmp_path / "small.png")
    Image.new("RGBA", (4000, 4000), (200, 60, 40, 250)).save(tmp_path / "large.png", compress_level=1)
    command = [sys.executable, "-c", UPLOADS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    most, afterwards = map(int, done.stdout.split())
    assert most < 200
    assert afterwards < 50
