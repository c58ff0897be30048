"""How fast a model trains and draws on this computer: a few steps and two short drawings, in noise instead of photos.

    step       the quicker of the last two of three steps, on one photo's worth of noise, rank 16, no activations kept
    picture    from drawings of two and of four sampler steps: their difference gives a step, the rest is decoding

Nothing is written. The first step and the first drawing, which also compile kernels, do not count.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import mlx.core as mx

from core.adapters import lora
from core.adapters.layers import resolve_targets
from core.config.resolve import resolve
from core.dataset.batches import Batches, Encoded
from core.device import backend
from core.models.base import Conditioning, Family
from core.sampling import draw
from core.training.checkpoint import State
from core.training.optimizers import OPTIMIZERS
from core.training.step import Step
from core.training.update import init

STEPS, SHORT, LONGER = 3, 2, 4


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds, and the most bytes that arrays held."""

    step: float
    picture: float
    peak: int


def measure(family: Family, side_px: int, sampler_steps: int, guidance: float) -> Speed:
    """The speed of this model for pictures of this size. Raises the problems of models."""
    backend.reset_peak_memory()
    photo, empty = family.encode_each(["a photo of a thing", ""])
    two, four = (_drawn(family, photo, empty, side_px, steps, guidance) for steps in (SHORT, LONGER))
    family.free("vae")
    per_step = (four - two) / (LONGER - SHORT)
    picture = two + (sampler_steps - SHORT) * per_step
    return Speed(_step(family, photo, empty, side_px), picture, backend.peak_memory())


def _drawn(
    family: Family, photo: Conditioning, empty: Conditioning, side_px: int, steps: int, guidance: float
) -> float:
    """Seconds of the second of two drawings."""
    began = 0.0
    for _ in range(2):
        began = time.perf_counter()
        draw(
            family,
            photo,
            height_px=side_px,
            width_px=side_px,
            steps=steps,
            guidance=guidance,
            seed=0,
            negative_prompt=empty,
        )
    return time.perf_counter() - began


def _step(family: Family, photo: Conditioning, empty: Conditioning, side_px: int) -> float:
    """Seconds of a training step."""
    knobs = {"steps": STEPS, "batch_size": 1, "warmup_steps": 0, "side_px": side_px, "activations": "none"}
    config = resolve(knobs, family.defaults).config
    paths = resolve_targets(family.architecture.layers, "all_linear")
    adapter = lora.attach(family.transformer, paths, config.rank, config.rank, mx.random.key(0))
    try:
        parameters = adapter.parameters()
        optimizer = OPTIMIZERS[config.optimizer]
        state = State(0, parameters, init(optimizer, parameters, with_ema=False), {}, "", {}, 0, kept=0)
        grid = family.grid(side_px, side_px)
        noise_1LC = mx.random.normal((1, grid.tokens, grid.channels), key=mx.random.key(1))
        batches = Batches([Encoded(noise_1LC, None, photo, grid)], empty, config, family.training_shift)
        taker = Step(family, adapter, config, state)
        seconds = []
        for step in range(1, STEPS + 1):
            began = time.perf_counter()
            taker.submit(step, batches)
            list(taker.read(0))
            seconds.append(time.perf_counter() - began)
    finally:
        adapter.detach()
    return min(seconds[1:])
