"""Each optimizer, the average and the schedules equal somebody else's, step after step.

AdamW torch's, Adafactor transformers', Lion and Prodigy those of the packages lion-pytorch and prodigyopt, the average
diffusers', the schedules transformers'. All in float32, with gradients above and below the limit.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest
import torch
import transformers
from diffusers.training_utils import EMAModel
from lion_pytorch import Lion
from prodigyopt import Prodigy

from core.config.choices import Optimizer, Schedule
from core.config.train import TrainConfig
from core.training.ema import GROUP
from core.training.optimizers import OPTIMIZERS
from core.training.schedule import LOWEST_SHARE, learning_rate
from core.training.update import init, update
from tests.interop.reference import noise, relative_error

STEPS = 100
SHAPES = {"a": (4, 12), "b": (9, 4)}
LIMIT, DECAY, EMA_DECAY = 1.0, 0.1, 0.7
PLAIN_ADAFACTOR = {"scale_parameter": False, "relative_step": False, "warmup_init": False}
PRODIGY = {"use_bias_correction": True, "safeguard_warmup": True, "d0": 1e-5}

Theirs = Callable[..., torch.optim.Optimizer]
REFERENCES: dict[Optimizer, tuple[Theirs, dict]] = {
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8}),
    "adafactor": (transformers.Adafactor, {"lr": 0.01, **PLAIN_ADAFACTOR}),
    "lion": (Lion, {"lr": 0.01, "betas": (0.9, 0.99)}),
    "prodigy": (Prodigy, {"lr": 1.0, "betas": (0.9, 0.999), **PRODIGY}),
}


def gradients(step: int) -> dict[str, np.ndarray]:
    """One direction and noise, some above the limit and some far below; like an adapter's A, "a" has none at first."""
    size, drawn = 3.0 if step % 3 else 0.01, {}
    for index, (name, shape) in enumerate(SHAPES.items()):
        drawn[name] = size * (noise(*shape, seed=50 + index) + 0.5 * noise(*shape, seed=100 * step + index))
    return drawn | ({"a": np.zeros(SHAPES["a"], np.float32)} if step == 0 else {})


@pytest.mark.parametrize("kind", REFERENCES)
def test_a_run_of_steps_equals_the_reference(kind: Optimizer) -> None:
    start = {name: noise(*shape, seed=index) for index, (name, shape) in enumerate(SHAPES.items())}
    start["b"] *= 0  # as an adapter's B
    if kind == "prodigy":
        # It measures w_0 - w, which is tiny at first. Beside weights of 0.05 float32 has few digits left for that: with
        # a d_0 of 1e-6 theirs ends 5e-4 from what it is in float64, and ours 5e-5. From zero the difference is exact.
        start["a"] *= 0
    theirs = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in start.items()}
    make, options = REFERENCES[kind]
    reference = make(list(theirs.values()), weight_decay=DECAY, **options)
    averaged = EMAModel(theirs.values(), decay=EMA_DECAY)
    optimizer, ours = OPTIMIZERS[kind], {name: mx.array(value) for name, value in start.items()}
    state = init(optimizer, ours, with_ema=True)
    knobs = {"clip_norm": LIMIT, "weight_decay": DECAY, "ema_decay": EMA_DECAY}
    for step in range(STEPS):
        rate = options["lr"] * min(1.0, (step + 1) / 10)  # a warm-up, which Prodigy has to bear
        for name, value in gradients(step).items():
            theirs[name].grad = torch.from_numpy(value.copy())
        their_norm = torch.nn.utils.clip_grad_norm_(theirs.values(), LIMIT)
        reference.param_groups[0]["lr"] = rate
        reference.step()
        averaged.step(theirs.values())
        g = {name: mx.array(value) for name, value in gradients(step).items()}
        ours, state, norm, counted = update(optimizer, ours, g, state, mx.array(1.0), mx.array(rate), **knobs)
        assert counted.item()
        assert norm.item() == pytest.approx(their_norm.item(), rel=1e-5)
    for name, value in ours.items():
        assert relative_error(value, theirs[name]) < 1e-5
    for (name, value), their in zip(state.tensors[GROUP].items(), averaged.shadow_params, strict=True):
        assert relative_error(value, their) < 1e-5, name
    if kind == "prodigy":
        found = state.numbers["d"].item()
        assert found == pytest.approx(reference.param_groups[0]["d"], rel=1e-5)
        assert found > 0.1  # ten thousand times what it began with


@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [
        ("cosine", transformers.get_cosine_schedule_with_warmup),
        ("cosine_restarts", transformers.get_cosine_with_hard_restarts_schedule_with_warmup),
        ("linear", transformers.get_linear_schedule_with_warmup),
    ],
)
def test_a_schedule_falls_as_transformers_does(schedule: Schedule, theirs: Callable) -> None:
    """Theirs falls to nothing and begins at zero; ours falls to a tenth and begins with a first step that moves."""
    config = TrainConfig(steps=200, warmup_steps=20, learning_rate=2e-3, schedule=schedule, cycles=4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    more = {"num_cycles": 4} if schedule == "cosine_restarts" else {}
    falling = theirs(optimizer, config.warmup_steps, config.steps - 1, **more)
    for step in range(1, config.steps + 1):
        if step > config.warmup_steps:
            share = LOWEST_SHARE + (1 - LOWEST_SHARE) * falling.get_last_lr()[0] / config.learning_rate
            assert learning_rate(step, config) == pytest.approx(config.learning_rate * share, rel=1e-6)
        optimizer.step()
        falling.step()
