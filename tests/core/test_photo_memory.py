"""Large photos at once: what they need together, and that it is given back."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from core.dataset import colour, frames, photos, tiff_tags
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


WEBPS = """
import sys, threading
from pathlib import Path
import psutil
from core.dataset import photos
from core.dataset.pixel_budget import PixelBudget

file, me = Path(sys.argv[1]), psutil.Process()
photos.BUDGET, most, over, before = PixelBudget(40_000_000), 0, threading.Event(), me.memory_info().rss

def watch():
    global most
    while not over.wait(0.002):
        most = max(most, me.memory_info().rss)

watcher = threading.Thread(target=watch)
threads = [threading.Thread(target=photos.inspect, args=(file,)) for _ in range(4)]
watcher.start()
for each in threads: each.start()
for each in threads: each.join()
over.set()
watcher.join()
print((most - before) // 2**20)
"""


def test_webps_at_once_need_the_memory_of_one(tmp_path: Path) -> None:
    """Four of 9 megapixels: each takes 144 MB in Pillow's decoder, where another format takes 36."""
    Image.new("RGB", (3000, 3000), (200, 60, 40)).save(tmp_path / "a.webp", lossless=True, method=0, quality=0)
    command = [sys.executable, "-c", WEBPS, str(tmp_path / "a.webp")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert int(done.stdout) < 250


def large_webp(side: int) -> bytes:
    """A WebP whose canvas has `side` x `side` px, of which one small frame is painted."""
    whole = encoded(picture(0, 20, 20), "WEBP", lossless=True)
    image = whole[12:]
    frame = bytes(6) + (19).to_bytes(3, "little") * 2 + (100).to_bytes(3, "little") + b"\0" + image
    body = b"WEBP" + b"VP8X" + (10).to_bytes(4, "little") + b"\2\0\0\0" + (side - 1).to_bytes(3, "little") * 2
    body += b"ANIM" + (6).to_bytes(4, "little") + bytes(6)
    body += b"ANMF" + len(frame).to_bytes(4, "little") + frame
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def test_a_webp_is_refused_where_its_decoder_has_no_room() -> None:
    with pytest.raises(DataProblem, match=r"has 10,000 x 10,000 px; a WebP can have 40 million pixels here"):
        photos.inspect(large_webp(10_000), webp_pixels=photos.WEBP_PIXELS_AT_MOST)
    with pytest.raises(DataProblem, match="Save it as JPEG"):
        photos.inspect(large_webp(20), webp_pixels=300)
    assert photos.inspect(large_webp(20)).width == 20  # where a run trains: it may be of an older home
    assert photos.open_rgb(large_webp(20)).size == (20, 20)


class Counted(io.BytesIO):
    """A file that knows how much was read of it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.taken = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.taken += len(content)
        return content


GIF_FRAME = b",\0\0\0\0\1\0\1\0\0\2\2D\1\0"  # 1 x 1 px


def test_the_frames_of_a_long_gif_are_counted_only_so_far() -> None:
    content = encoded(picture(), "GIF")[:-1] + 200_000 * GIF_FRAME + b";"
    facts = photos.inspect(content)
    assert "has over 1,000 frames; the first one is used" in facts.warnings
    file = Counted(content)
    assert frames.gif_frames(file)[0] == 1001
    assert file.taken < 50_000
    file = Counted(content[:-1] + GIF_FRAME[:-3] + 1_000_000 * b"\1D" + b"\0;")
    assert 100_000 < frames.gif_frames(file, 10**6)[0] <= frames.GIF_CHUNKS_AT_MOST // 2  # a block and its data are two
    assert file.taken < 10**7


def test_a_gif_with_a_huge_comment_before_its_first_frame_is_refused() -> None:
    whole = encoded(picture(), "GIF")
    at = 13 + 3 * 2 ** ((whole[10] & 7) + 1)
    for chunks, refused in ((3000, False), (200_000, True)):
        content = whole[:at] + b"!\xfe" + chunks * b"\1x" + b"\0" + whole[at:]
        if refused:
            with pytest.raises(DataProblem, match="very many blocks before its first frame; save it as PNG"):
                photos.inspect(content)
        else:
            assert photos.inspect(content).frames == 1


def test_the_pages_of_a_long_tiff_are_counted_only_so_far() -> None:
    pages = [picture(0, 16, 16).convert("L")] * 3
    whole = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert photos.inspect(whole).frames == 3
    at = len(encoded(pages[0], "TIFF"))
    one = bytearray(encoded(pages[0], "TIFF")) + bytes(at % 2)
    (first,) = struct.unpack_from("<I", one, 4)
    (entries,) = struct.unpack_from("<H", one, first)
    struct.pack_into("<I", one, first + 2 + 12 * entries, len(one))
    more = b"".join(struct.pack("<HI", 0, len(one) + 6 * (number + 1)) for number in range(100_000))
    content = bytes(one) + more
    assert "has over 1,000 frames; the first one is used" in photos.inspect(content).warnings
    file = Counted(content)
    assert tiff_tags.pages(file, 1001) == 1001
    assert file.taken < 10_000
