"""Arrays read from safetensors files and seen as bytes, with precise types; 8-bit floats widened.

MLX's own signatures leave open what `mx.load` returns, and do not say that arrays have the buffer protocol.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import BinaryIO

import mlx.core as mx
import numpy as np

from core.safetensors_file import FLOAT8, Place, number_of, read_place

DTYPES = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}
FLOAT8_BITS = {"F8_E4M3": (3, 7), "F8_E5M2": (2, 15)}  # of the fraction, and the exponent's bias


def load_tensors(source: Path | BinaryIO) -> dict[str, mx.array]:
    """The tensors of a safetensors file, lazy: read when evaluated. Raises RuntimeError for a damaged file."""
    tensors = mx.load(str(source) if isinstance(source, Path) else source, format="safetensors")
    if not isinstance(tensors, dict):
        raise TypeError(f"{source} holds a single array")
    return tensors


def load_with_metadata(path: Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    """`load_tensors`, and the strings of the file's header. Raises RuntimeError for a damaged file."""
    found = mx.load(str(path), format="safetensors", return_metadata=True)
    if not isinstance(found, tuple):
        raise TypeError(f"{path} has no metadata")
    return found


def read_array(place: Place, dtype: mx.Dtype) -> mx.array:
    """A stored tensor or its part, cast to `dtype`. Raises ModelProblem when it cannot be read."""
    info, scale = place.info, place.scale
    factor = number_of(scale.info.dtype, read_place(scale)) if scale is not None else 1.0
    value = decoded(read_place(place), info.dtype, dtype, factor).reshape(info.shape)
    if not place.swapped:
        return value
    first, second = mx.split(value, 2, axis=0)
    return mx.concatenate([second, first])


def decoded(content: bytes, stored: str, dtype: mx.Dtype, factor: float = 1.0) -> mx.array:
    """Bytes of a tensor as numbers in `dtype`, on one axis; 8-bit floats are multiplied by `factor`."""
    data = mx.array(np.frombuffer(content, np.uint8))
    if stored not in FLOAT8:
        return data.view(DTYPES[stored]).astype(dtype)
    # The factor goes into the table: each weight is rounded once, and no float32 copy of the tensor is made.
    return mx.array(float8_values(stored) * np.float32(factor)).astype(dtype)[data]


@cache
def float8_values(stored: str) -> np.ndarray:
    """The 256 numbers of an 8-bit float: float32.

    Source: Micikevicius et al. 2022, arXiv:2209.05433. E4M3 has no infinities, and one NaN of each sign.
    """
    fraction_bits, bias = FLOAT8_BITS[stored]
    bits = np.arange(256)
    sign = np.where(bits < 128, 1.0, -1.0)
    exponent = (bits & 127) >> fraction_bits
    fraction = (bits & ((1 << fraction_bits) - 1)) / (1 << fraction_bits)
    normal = (1 + fraction) * 2.0 ** (exponent - bias)
    values = sign * np.where(exponent == 0, fraction * 2.0 ** (1 - bias), normal)
    if stored == "F8_E4M3":
        values[[127, 255]] = np.nan
    else:
        highest = exponent == exponent.max()
        values[highest & (fraction == 0)] *= np.inf
        values[highest & (fraction > 0)] = np.nan
    return values.astype(np.float32)


def bytes_view(array: mx.array) -> memoryview:
    """The bytes of an evaluated, contiguous array, in place; not of bfloat16, which Python's buffers do not know."""
    return np.asarray(array).data.cast("B")
