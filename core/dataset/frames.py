"""How many frames a file has, counted from its structure and only so far as a sentence needs.

Pillow counts GIF frames and TIFF pages by reading each: a file of 64 MB can hold millions of them.

    GIF    head, then blocks: 0x2C an image, 0x21 an extension, 0x3B the end; data in chunks of 1 to 255 bytes
    TIFF   directories, each of which says where the next one is
"""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

from core.dataset import tiff_tags

COUNTED_AT_MOST = 1000
GIF_CHUNKS_AT_MOST = 300_000  # as many as 64 MB have when they are full
GIF_CHUNKS_AT_FIRST = 4000  # before the first frame: Pillow joins those of a comment one by one


def count(image: Image.Image, file: BinaryIO) -> int:
    """The frames of an opened photo; COUNTED_AT_MOST + 1 for more than that."""
    if image.format == "MPO":
        return 1  # the pictures behind the first are the phone's own, such as depth
    try:
        if image.format == "GIF":
            return max(gif_frames(file)[0], 1)
        if image.format == "TIFF":
            return max(tiff_tags.pages(file, COUNTED_AT_MOST + 1), 1)
        return min(int(getattr(image, "n_frames", 1)), COUNTED_AT_MOST + 1)  # named in the header
    except Exception:  # noqa: BLE001  the further frames are damaged, and unused
        return 1


def spoken(frames: int) -> str:
    """The number as a sentence has it."""
    return f"over {COUNTED_AT_MOST:,}" if frames > COUNTED_AT_MOST else f"{frames}"


def gif_frames(file: BinaryIO, at_most: int = COUNTED_AT_MOST) -> tuple[int, int]:
    """The frames of a GIF, and the chunks before the first one.

    Reading ends with the file, with more than `at_most` frames, or with GIF_CHUNKS_AT_MOST chunks.
    """
    file.seek(0)
    head = file.read(13)
    frames, chunks, at_first = 0, 0, 0
    if len(head) == 13:
        _skip_colours(file, head[10])
    while chunks < GIF_CHUNKS_AT_MOST and (kind := file.read(1)) not in (b"", b";"):
        chunks += 1
        if kind == b",":
            described = file.read(9)
            _skip_colours(file, described[8] if len(described) == 9 else 0)
            frames += 1
            if frames > at_most:
                break
        if kind in b",!":
            file.read(1)  # the size of codes, or the kind of extension
            while chunks < GIF_CHUNKS_AT_MOST and (size := file.read(1)) not in (b"", b"\0"):
                file.read(size[0])
                chunks += 1
        if frames == 0:
            at_first = chunks  # other bytes between blocks, which Pillow skips, count too
    return frames, at_first


def gif_begins_too_late(file: BinaryIO) -> bool:
    """Whether so much precedes a GIF's first frame that Pillow would take minutes to read it."""
    return gif_frames(file, 0)[1] > GIF_CHUNKS_AT_FIRST


def _skip_colours(file: BinaryIO, flags: int) -> None:
    """The table of colours that the flags may announce."""
    if flags & 0x80:
        file.read(3 * 2 ** ((flags & 7) + 1))
