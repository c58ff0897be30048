"""The tensors of a safetensors file as MLX arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx


def load_tensors(path: Path) -> dict[str, mx.array]:
    """The tensors of a file by name; each is read when it is evaluated. Raises RuntimeError for a broken file."""
    loaded: Any = mx.load(str(path), format="safetensors")  # annotated for every format that MLX reads
    tensors: dict[str, mx.array] = loaded
    return tensors
