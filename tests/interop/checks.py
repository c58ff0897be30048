"""What every family is held to: the same velocity, gradients, pictures and trained adapters as diffusers'.

The families' files hand over both sides as functions of l_t. `shaped` turns our tokens (B, L, C) into what the
reference takes and gives, where that is something else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import torch
from mlx.utils import tree_flatten
from peft.tuners.tuners_utils import BaseTunerLayer
from PIL import Image

from core.adapters import file as adapter_file
from core.adapters import lora
from core.models.base import Conditioning, Family, Grid
from core.sampling import draw, guidance_for, sampler_steps, starting_noise
from core.training.events import Finished
from tests import tiny
from tests.core.subjects import photo_folder, training
from tests.interop.reference import TOLERANCE, noise, psnr, relative_error

PROMPT = "a photo of sks can"
SIGMA = [0.93, 0.21]
LEAST_PSNR_DB = 40.0
ADAPTER_TOLERANCE = 1e-3  # of the change that an adapter makes, read from its bfloat16 file by both
STRONG = {"rank": 3, "alpha": 6, "learning_rate": 0.02, "steps": 6, "warmup_steps": 0, "save_every": 100}

Ours = Callable[[mx.array], mx.array]
Theirs = Callable[[torch.Tensor], torch.Tensor]
Shaped = Callable[[mx.array], mx.array]


def as_it_is(tokens: mx.array) -> mx.array:
    return tokens


def to_torch(array: mx.array) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def check_velocity_and_gradients(
    transformer: nn.Module,
    reference: torch.nn.Module,
    ours: Ours,
    theirs: Theirs,
    l_t: np.ndarray,
    learned: Sequence[str],
    shaped: Shaped = as_it_is,
) -> None:
    """Equal velocity, gradient of l_t, and gradients of the parameters `learned`."""
    their_l_t = to_torch(shaped(mx.array(l_t))).requires_grad_()
    expected = theirs(their_l_t)
    expected.square().mean().backward()
    assert relative_error(shaped(ours(mx.array(l_t))), expected) <= TOLERANCE

    gradient = mx.grad(lambda l_t: ours(l_t).square().mean())(mx.array(l_t))
    assert relative_error(shaped(gradient), their_l_t.grad) <= TOLERANCE
    _, gradients = nn.value_and_grad(transformer, lambda l_t: ours(l_t).square().mean())(mx.array(l_t))
    ours_by_name, theirs_by_name = dict(tree_flatten(gradients)), dict(reference.named_parameters())
    for name in learned:
        assert relative_error(ours_by_name[name], theirs_by_name[name].grad) <= TOLERANCE, name
    reference.zero_grad()


def check_velocity_with_an_adapter(
    transformer: nn.Module,
    reference: Any,
    ours: Ours,
    theirs: Theirs,
    l_t: np.ndarray,
    blocks: Sequence[str],
    shaped: Shaped = as_it_is,
) -> None:
    """Equal velocity with the same factors on every linear layer whose path has one of `blocks` in it."""
    plain = shaped(ours(mx.array(l_t)))
    factors = {
        path: (noise(3, width_in, seed=i) * width_in**-0.5, noise(width_out, 3, seed=i + 999) * 0.3)
        for i, (path, (width_out, width_in)) in enumerate(tiny.linear_shapes(transformer).items())
        if any(each in path for each in blocks)
    }
    lora.attach_factors(transformer, {path: (mx.array(a), mx.array(b)) for path, (a, b) in factors.items()}, name="one")
    state = {f"transformer.{path}.lora_A.weight": torch.from_numpy(a) for path, (a, _) in factors.items()}
    state |= {f"transformer.{path}.lora_B.weight": torch.from_numpy(b) for path, (_, b) in factors.items()}
    reference.load_lora_adapter(state)
    with torch.no_grad():
        expected = theirs(to_torch(shaped(mx.array(l_t))))
    assert relative_error(shaped(ours(mx.array(l_t))), expected) <= TOLERANCE
    assert relative_error(plain, expected) > 0.1  # the adapter says something


def check_picture(
    family: Family, guidance: float, steps: int, latent: torch.Tensor, picture: Image.Image, shaped: Shaped = as_it_is
) -> None:
    """The pipeline's latent and picture of PROMPT, 64 x 48 px, from the noise of seed 7."""
    grid = family.grid(64, 48)
    texts = [family.encode_text([text]) for text in (PROMPT, "")]
    *_, l_T = sampler_steps(family, *texts, grid, steps, guidance_for(family, guidance), starting_noise(grid, seed=7))
    assert relative_error(shaped(l_T), latent) <= TOLERANCE
    drawn = draw(family, PROMPT, height_px=64, width_px=48, steps=steps, guidance=guidance, seed=7).image
    assert psnr(np.array(drawn), np.array(picture)) >= LEAST_PSNR_DB
    assert np.array(drawn).std() > 5  # a picture, not a plain grey


def check_trained_adapter(
    family: Family,
    pipeline: Any,
    theirs: Callable[[torch.Tensor, Conditioning, Grid], torch.Tensor],
    place: Path,
    caplog: pytest.LogCaptureFixture,
    shaped: Shaped = as_it_is,
    known: str = "",
) -> None:
    """The file of a short run makes the same change in the pipeline, on every layer, and can be taken off again.

    `theirs` is the velocity of the pipeline's transformer. `known` is in warnings that are none of the adapter's.
    """
    finished = list(training(family, photo_folder(place / "photos"), place / "run", **STRONG))[-1]
    assert isinstance(finished, Finished)
    grid = family.grid(64, 48)
    l_t, text = mx.array(noise(2, grid.tokens, grid.channels)), family.encode_text([PROMPT, "a red toy car"])

    def velocities() -> tuple[mx.array, torch.Tensor]:
        with torch.no_grad():
            expected = theirs(to_torch(shaped(l_t)), text, grid)
        return shaped(family.velocity(l_t, mx.array(SIGMA), text, grid, 1.0)), expected

    before, their_before = velocities()
    assert relative_error(before, their_before) <= TOLERANCE  # the run left nothing on the model, no assistant either
    held = adapter_file.read(finished.adapter, family.name)
    lora.attach_factors(family.transformer, held.factors, name="trained")
    logging.getLogger("diffusers").propagate = True
    with caplog.at_level(logging.WARNING):
        pipeline.load_lora_weights(str(finished.adapter.parent), weight_name=finished.adapter.name)
    said = [record.getMessage() for record in caplog.records if "eys" in record.getMessage()]
    assert not [each for each in said if not known or known not in each]
    tuned = {name for name, module in pipeline.transformer.named_modules() if isinstance(module, BaseTunerLayer)}
    assert tuned == set(held.factors) == set(family.presets["all_linear"])

    after, their_after = velocities()
    assert relative_error(after - before, their_after - their_before) <= ADAPTER_TOLERANCE
    assert relative_error(after, their_before) > 0.05  # the adapter says something
    pipeline.unload_lora_weights()
    assert torch.equal(velocities()[1], their_before)
