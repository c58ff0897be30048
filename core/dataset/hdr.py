"""Photos in high dynamic range (PQ, HLG), shown on a screen of standard range.

    code value  --EOTF-->  light in cd/m^2  --primaries-->  of sRGB  --tone curve-->  at most white  -->  sRGB

PQ is SMPTE ST 2084, HLG is ITU-R BT.2100; the tone curve is that of ITU-R BT.2390 (EETF), from 1000 cd/m^2 to 203, the
white of BT.2408. It leaves what is darker than some 90 cd/m^2 as it is and compresses the rest. Pillow applies all this
as one table of 65 x 65 x 65 colours: code values of PQ and HLG are nearly even to the eye, so that is fine enough.
"""

from __future__ import annotations

from functools import lru_cache
from typing import BinaryIO

from PIL import Image, ImageFilter

from core.dataset import heif_boxes
from core.dataset.heif_boxes import CodePoints

PQ, HLG = 16, 18  # transfer characteristics in H.273
PEAK, WHITE = 1000.0, 203.0  # cd/m^2
TABLE_SIDE = 65  # the largest that Pillow takes; greys come out 3 of 255 too dark at most

Colour = tuple[float, float, float]
Matrix = tuple[Colour, Colour, Colour]

IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
TO_SRGB: dict[int, Matrix] = {  # from the primaries of BT.2020 (9) and Display P3 (12), in linear light; 1 is BT.709
    9: ((1.6605, -0.5877, -0.0728), (-0.1246, 1.1330, -0.0084), (-0.0182, -0.1006, 1.1187)),
    12: ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}


def code_points(format_name: str, file: BinaryIO) -> CodePoints | None:
    """How the colour of an HDR photo is coded; None for photos of standard range."""
    if format_name in ("HEIF", "AVIF"):
        found = heif_boxes.code_points(file)
    else:
        found = _png_code_points(file) if format_name == "PNG" else None
    return found if found is not None and found.transfer in (PQ, HLG) else None


def to_srgb(image: Image.Image, coded: CodePoints) -> Image.Image:
    """An RGB picture of PQ or HLG code values in sRGB, tone-mapped."""
    return image.filter(_table(coded.primaries if coded.primaries in TO_SRGB else 1, coded.transfer))


@lru_cache
def _table(primaries: int, transfer: int) -> ImageFilter.Color3DLUT:
    matrix = TO_SRGB.get(primaries, IDENTITY)
    light = {n / (TABLE_SIDE - 1): _light(n / (TABLE_SIDE - 1), transfer) for n in range(TABLE_SIDE)}

    def shown(red: float, green: float, blue: float) -> Colour:
        each = light[red], light[green], light[blue]
        return _shown(each if transfer == PQ else _displayed(each), matrix)

    return ImageFilter.Color3DLUT.generate(TABLE_SIDE, shown)


def _light(code: float, transfer: int) -> float:
    """PQ: light of the display in cd/m^2. HLG: light of the scene, 0 to 1."""
    if transfer == PQ:
        return _pq_light(code)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return code**2 / 3 if code <= 0.5 else (2.718281828459045 ** ((code - c) / a) + b) / 12


def _displayed(scene: Colour) -> Colour:
    """HLG's scene light as its display of 1000 cd/m^2 shows it: the OOTF, with a system gamma of 1.2."""
    luminance = 0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2]
    factor = PEAK * luminance**0.2
    return factor * scene[0], factor * scene[1], factor * scene[2]


def _shown(light: Colour, matrix: Matrix) -> Colour:
    """Light in cd/m^2 as sRGB code values, 0 to 1. The brightest channel is tone-mapped, which keeps the hue."""
    (r, g, b), (to_red, to_green, to_blue) = light, matrix
    red = to_red[0] * r + to_red[1] * g + to_red[2] * b
    green = to_green[0] * r + to_green[1] * g + to_green[2] * b
    blue = to_blue[0] * r + to_blue[1] * g + to_blue[2] * b
    brightest = max(red, green, blue)
    scale = 1 / WHITE if brightest <= KNEE else _tone_mapped(brightest) / brightest / WHITE
    return _srgb(red * scale), _srgb(green * scale), _srgb(blue * scale)


def _tone_mapped(light: float) -> float:
    """BT.2390's EETF for light above the knee: a Hermite spline in PQ that ends flat at WHITE."""
    t = (min(_pq_code(light) / _TOP, 1.0) - _KNEE) / (1 - _KNEE)
    code = (2 * t**3 - 3 * t**2 + 1) * _KNEE + (t**3 - 2 * t**2 + t) * (1 - _KNEE) + (3 * t**2 - 2 * t**3) * _MOST
    return _pq_light(code * _TOP)


_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _pq_light(code: float) -> float:
    power = code ** (1 / _M2)
    return 10_000.0 * float((max(power - _C1, 0.0) / (_C2 - _C3 * power)) ** (1 / _M1))


def _pq_code(light: float) -> float:
    power = (light / 10_000.0) ** _M1
    return float(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


_TOP = _pq_code(PEAK)
_MOST = _pq_code(WHITE) / _TOP
_KNEE = 1.5 * _MOST - 0.5
KNEE = _pq_light(_KNEE * _TOP)  # 91 cd/m^2


def _srgb(light: float) -> float:
    light = min(max(light, 0.0), 1.0)
    return 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055


def _png_code_points(file: BinaryIO) -> CodePoints | None:
    """From a PNG file's cICP chunk, which comes before its pixels."""
    file.seek(8)
    for _ in range(heif_boxes.BOXES_AT_MOST):
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IDAT":
            return None
        if head[4:] == b"cICP":
            body = file.read(2)
            return CodePoints(body[0], body[1]) if len(body) == 2 else None
        file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return None
