"""AdamW and the gradient limit equal torch's, step after step, and so does the schedule's shape transformers'."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import torch
from transformers import get_cosine_with_min_lr_schedule_with_warmup

from core.config import TrainConfig
from core.training.optimizer import LOWEST_SHARE, Moments, learning_rate, update
from tests.interop.reference import noise, relative_error

STEPS = 25
SHAPES = {"a": (4, 12), "b": (9, 4)}
LIMIT, DECAY = 1.0, 0.1


def gradients(step: int) -> dict[str, np.ndarray]:
    """Some above the limit, some far below it."""
    size = 3.0 if step % 3 else 0.01
    return {name: size * noise(*shape, seed=100 * step + index) for index, (name, shape) in enumerate(SHAPES.items())}


def test_a_run_of_steps_equals_torchs() -> None:
    start = {name: noise(*shape, seed=index) for index, (name, shape) in enumerate(SHAPES.items())}
    theirs = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in start.items()}
    adamw = torch.optim.AdamW(theirs.values(), lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=DECAY)
    ours = {name: mx.array(value) for name, value in start.items()}
    moments = Moments.of(ours)
    for step in range(STEPS):
        for name, value in gradients(step).items():
            theirs[name].grad = torch.from_numpy(value.copy())
        their_norm = torch.nn.utils.clip_grad_norm_(theirs.values(), LIMIT)
        adamw.step()
        g = {name: mx.array(value) for name, value in gradients(step).items()}
        ours, moments, norm, counted = update(ours, g, moments, mx.array(1.0), mx.array(0.01), limit=LIMIT, decay=DECAY)
        assert counted.item()
        assert norm.item() == pytest.approx(their_norm.item(), rel=1e-5)
    for name, value in ours.items():
        assert relative_error(value, theirs[name]) < 1e-5


def test_the_cosine_ends_at_a_tenth_as_transformers_ends_at_its_lowest_rate() -> None:
    config = TrainConfig(steps=200, warmup_steps=20, learning_rate=2e-3)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    theirs = get_cosine_with_min_lr_schedule_with_warmup(
        optimizer, config.warmup_steps, config.steps - 1, min_lr_rate=LOWEST_SHARE
    )
    for step in range(1, config.steps + 1):
        # Theirs begins at zero and ours with a first step that moves: after the warm-up both fall the same way.
        if step > config.warmup_steps:
            assert learning_rate(step, config) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        theirs.step()
