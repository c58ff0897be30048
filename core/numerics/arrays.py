"""Arrays read from safetensors files and seen as bytes, with precise types.

MLX's own signatures leave open what `mx.load` returns, and do not say that arrays have the buffer protocol.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import mlx.core as mx
import numpy as np


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


def bytes_view(array: mx.array) -> memoryview:
    """The bytes of an evaluated, contiguous array, in place; not of bfloat16, which Python's buffers do not know."""
    return np.asarray(array).data.cast("B")
