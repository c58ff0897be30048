"""HEIC and AVIF files of tiles, as phones write them, put together from one small coded picture."""

from __future__ import annotations

import base64
import io
import struct

from PIL import Image

TILE_PX = 64

# 64 x 64 px, red with a blue box top left and a yellow one bottom right; made with `heif-enc -q 35`.
_HEIC_TILE = base64.b64decode("""
AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAUJtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA
AA5waXRtAAAAAAABAAAAImlsb2MAAAAAREAAAQABAAAAAAFmAAEAAAAAAAAAZAAAACNpaW5mAAAAAAABAAAAFWluZmUCAAAAAAEA
AGh2YzEAAAAAwmlwcnAAAACkaXBjbwAAAHhodmNDAQNwAAAAAAAAAAAAHvAA/P34+AAADwMgAAEAGEABDAH//wNwAAADAJAAAAMA
AAMAHroCQCEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqSSmubgQEDAgAAAMACAAAAwAIQCIAAQAHRAHBcrAiQAAAABRpc3Bl
AAAAAAAAAEAAAABAAAAAEHBpeGkAAAAAAwgICAAAABZpcG1hAAAAAAAAAAEAAQOBAoMAAABsbWRhdAAAAGAoAa82aLtPV/4agPtG
HX9RMYEKXG3ApDWqUk2M3pYxSzZNTgJ5p1TlaBfE+qbooXJ2fzJ0/log3R/3X8SPPsVwXLs8p+bVwKqUPMHKQW7CbnkQlhTfm/0h
An+Mxr+j7OA=""")


def heic(columns: int = 3, rows: int = 2, transfer: int = 0) -> bytes:
    """A HEIC of this many tiles; `transfer` 16 is PQ, 18 HLG, with the primaries of BT.2020."""
    return _tiled(_HEIC_TILE, b"heic", columns, rows, transfer)


def avif(columns: int = 3, rows: int = 2, transfer: int = 0, colour: tuple[int, int, int] = (200, 60, 40)) -> bytes:
    """An AVIF of this many tiles, all of one colour."""
    content = io.BytesIO()
    Image.new("RGB", (TILE_PX, TILE_PX), colour).save(content, "AVIF", quality=90, subsampling="4:4:4")
    return _tiled(content.getvalue(), b"avif", columns, rows, transfer)


def box(kind: bytes, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    return struct.pack(">I", 8 + len(body)) + kind + body


def full_box(kind: bytes, *bodies: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *bodies)


def _tiled(single: bytes, brand: bytes, columns: int, rows: int, transfer: int) -> bytes:
    """Item 1 is the grid, then hidden tiles; properties: 1 the decoder's, 2 a tile's size, 3 the grid's, 4 colour."""
    config, tile = _coded(single)
    coded_as = b"hvc1" if brand == b"heic" else b"av01"
    count, numbers = columns * rows, range(2, 2 + columns * rows)
    width, height = columns * TILE_PX, rows * TILE_PX
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    infos = [full_box(b"infe", struct.pack(">HH4sB", n, 0, kind, 0), version=2, flags=int(n > 1))
             for n, kind in [(1, b"grid"), *((n, coded_as) for n in numbers)]]  # fmt: skip
    colours = [box(b"colr", b"nclx", struct.pack(">HHHB", 9, transfer, 9 if brand == b"heic" else 6, 0x80))]
    properties = [config, full_box(b"ispe", struct.pack(">II", TILE_PX, TILE_PX)),
                  full_box(b"ispe", struct.pack(">II", width, height)), *(colours if transfer else [])]  # fmt: skip
    of_grid = b"\x03\x04" if transfer else b"\x03"
    links = [struct.pack(">HB", 1, len(of_grid)) + of_grid, *(struct.pack(">HB2s", n, 2, b"\x81\x02") for n in numbers)]

    def meta(start: int) -> bytes:
        places = [struct.pack(">HHHIHII", 1, 1, 0, 0, 1, 0, len(grid))]
        places += [struct.pack(">HHHIHII", n, 0, 0, 0, 1, start + len(tile) * (n - 2), len(tile)) for n in numbers]
        return full_box(
            b"meta",
            full_box(b"hdlr", struct.pack(">I4s12sx", 0, b"pict", bytes(12))),
            full_box(b"pitm", struct.pack(">H", 1)),
            full_box(b"iinf", struct.pack(">H", 1 + count), *infos),
            full_box(b"iref", box(b"dimg", struct.pack(f">HH{count}H", 1, count, *numbers))),
            box(b"iprp", box(b"ipco", *properties), full_box(b"ipma", struct.pack(">I", 1 + count), *links)),
            full_box(b"iloc", b"\x44\x40", struct.pack(">H", 1 + count), *places, version=1),
            box(b"idat", grid),
        )

    first = box(b"ftyp", brand, bytes(4), b"mif1", brand, b"miaf")
    return first + meta(len(first) + len(meta(0)) + 8) + box(b"mdat", tile * count)


def _coded(single: bytes) -> tuple[bytes, bytes]:
    """The box for the decoder, and the coded picture, of a file with one picture at its end."""
    kind = b"hvcC" if b"hvcC" in single else b"av1C"
    at = single.index(kind) - 4
    config = single[at : at + int.from_bytes(single[at : at + 4], "big")]
    return config, single[single.index(b"mdat") + 4 :]
