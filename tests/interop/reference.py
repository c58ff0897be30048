"""What every comparison with a reference needs: random weights, arrays across, and the error between two."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
from mlx.utils import tree_flatten

from core.models.parts import convolution_names, read_weights
from core.safetensors_file import read_json, weight_files

TOLERANCE = 1e-4  # relative, float32


def randomized(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The module with weights whose activations keep their size, and with norms that are not simply 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim == 1:
                value.copy_(0.1 * noise + (1.0 if name.endswith("weight") else 0.0))
            elif "embedding.weight" in name or "shared" in name:
                value.copy_(0.5 * noise)
            else:
                value.copy_(noise * value[0].numel() ** -0.5)
    return module.eval()


def ours(build: Any, folder: Path, stem: str) -> nn.Module:
    """Our module of a folder that the reference saved."""
    module = build(read_json(folder / "config.json"))
    read_weights(module, weight_files(folder, stem), mx.float32)
    return module


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def relative_error(value: mx.array, expected: torch.Tensor) -> float:
    """|value - expected| / |expected|, over all elements, in float64."""
    a, b = np.array(value, dtype=np.float64), expected.detach().double().numpy()
    assert a.shape == b.shape
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def psnr(picture: np.ndarray, expected: np.ndarray) -> float:
    """Peak signal to noise in dB, of pictures in 0..255."""
    error = np.mean((picture.astype(np.float64) - expected.astype(np.float64)) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255.0**2 / error)


def names_and_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Our module's parameters as the checkpoint would hold them; nothing is allocated."""
    convolutions = convolution_names(module)
    found = {}
    for name, value in tree_flatten(module.parameters()):
        shape = value.shape
        found[name] = (shape[0], shape[3], shape[1], shape[2]) if name in convolutions else shape
    return found
