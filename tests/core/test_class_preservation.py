"""Class preservation: on captions without the trigger the network is drawn to what it predicts without the adapter."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest

from core import flow
from core.adapters import lora
from core.config.train import TrainConfig
from core.dataset.batches import Batch, Batches, Encoded
from core.models.base import Family
from core.models.load import load_family
from core.training.checkpoint import State
from core.training.gradient import Gradient
from core.training.optimizers import OPTIMIZERS
from core.training.step import Step
from core.training.update import init
from tests import tiny
from tests.core.subjects import settings
from tests.core.test_gradient import attached, difference

Parameters = dict[str, mx.array]
GUIDANCE = 1.0


@pytest.fixture(scope="module", params=[None, 4])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tiny.make_model_folder(tmp_path_factory.mktemp("model"), heads=4)  # wide enough to be quantized
    return load_family(folder, quantize=request.param)


def batches(family: Family, config: TrainConfig) -> Batches:
    """Two photos with masks, and two class pictures where the config asks for them."""
    grid = family.grid(32, 64)

    def made(number: int, caption: str) -> Encoded:
        l_T = mx.random.normal((1, grid.tokens, grid.channels), key=mx.random.key(number))
        mask = mx.random.uniform(shape=(1, grid.tokens), key=mx.random.key(number)) if number < 2 else None
        without = family.encode_text([caption.replace("sks ", "")])
        return Encoded(l_T, None, family.encode_text([caption]), grid, number, without, mask)

    photos = [made(number, f"a photo of sks can {number}") for number in range(2)]
    prior = [made(number, "a photo of can") for number in (2, 3)] if config.has_class_pictures else []
    return Batches(photos, family.encode_text([""]), config, family.training_shift, prior)


def plain(family: Family, adapter: lora.Adapter, batch: Batch, config: TrainConfig) -> tuple[mx.array, Parameters]:
    """The formula as MLX differentiates it, part by part, without the weights of the batch."""
    before, size = adapter.parameters(), config.batch_size
    l_t_BLC = flow.interpolate(batch.clean_BLC, batch.noise_BLC, batch.sigma_B)
    photos, last = slice(size), slice(-size, None)

    def velocity(here: slice) -> mx.array:
        conditioning = {name: array[here] for name, array in batch.conditioning.items()}
        return family.velocity(l_t_BLC[here], batch.sigma_B[here], conditioning, batch.grid, GUIDANCE)

    adapter.strength = 0.0
    base = velocity(last)
    mx.eval(base)
    adapter.strength = 1.0

    def error(here: slice) -> mx.array:
        assert batch.weight_BL is not None
        squared = (velocity(here) + batch.clean_BLC[here] - batch.noise_BLC[here]).square().mean(axis=2)
        weight_BL = batch.weight_BL[here]
        return ((weight_BL * squared).sum(axis=1) / weight_BL.sum(axis=1)).mean()

    def loss(parameters: Parameters) -> mx.array:
        adapter.update(parameters)
        whole = error(photos) + config.class_preservation * (velocity(last) - base).square().mean()
        return whole + config.prior_weight * error(slice(size, 2 * size)) if config.has_class_pictures else whole

    found = mx.value_and_grad(loss)(before)
    mx.eval(found)
    adapter.update(before)
    return found


@pytest.mark.parametrize("class_pictures", [0, 2])
@pytest.mark.parametrize("kept", [0, 1, None])
def test_loss_and_gradient_are_those_of_the_formula(family: Family, kept: int | None, class_pictures: int) -> None:
    config = settings(batch_size=2, class_preservation=0.7, class_pictures=class_pictures, prior_weight=0.3)
    adapter = attached(family)
    try:
        batch = batches(family, config).batch(3, 0)
        assert len(batch.sigma_B) == config.examples_at_once == 4 + class_pictures
        loss, gradient = plain(family, adapter, batch, config)
        losses_B, found = Gradient(family, adapter, GUIDANCE, kept)(adapter.parameters(), batch)
        assert (batch.weight_B * losses_B).mean().item() == pytest.approx(loss.item(), rel=1e-5)
        assert difference(found, gradient) <= 1e-5
        assert losses_B[-1].item() > 0, "the adapter does something"
        assert adapter.strength == 1.0
    finally:
        adapter.detach()


@pytest.mark.parametrize("kept", [0, None])
def test_an_adapter_that_is_zero_has_no_term_and_no_gradient_of_it(family: Family, kept: int | None) -> None:
    paths = [path for path, _ in family.architecture.layers.sizes.items() if "attn" in path]
    adapter = lora.attach(family.transformer, paths, 2, 2.0, mx.random.key(0))  # B is zero
    try:
        gradient = Gradient(family, adapter, GUIDANCE, kept)
        found = {}
        for weight in (0.0, 5.0):
            batch = batches(family, settings(batch_size=2, class_preservation=weight)).batch(1, 0)
            losses_B, found[weight] = gradient(adapter.parameters(), batch)
            assert losses_B[2:].tolist() == pytest.approx([0.0] * batch.preserved, abs=1e-10)
        assert difference(found[5.0], found[0.0]) <= 1e-5
    finally:
        adapter.detach()


def test_the_term_has_the_photos_l_t_and_sigma_and_their_captions_without_the_trigger(family: Family) -> None:
    config = settings(batch_size=2, class_preservation=1, caption_dropout=1.0)
    batch, without = batches(family, config).batch(1, 0), family.encode_text(["a photo of can 0", "a photo of can 1"])
    for one, other in ((0, 2), (1, 3)):
        for array in (batch.clean_BLC, batch.noise_BLC, batch.sigma_B):
            assert mx.array_equal(array[one], array[other])
        number = batch.photos[one]
        assert mx.array_equal(batch.conditioning["tokens"][other], without["tokens"][number]), "captions drop, it stays"
    assert batch.weight_BL is not None
    assert batch.weight_BL[2:].min().item() == 1.0, "a mask is of the photo's own loss alone"


def test_training_on_the_term_alone_brings_the_class_back_to_the_base(tmp_path: Path) -> None:
    """What an adapter does to the class word goes, as the weight drowns the photos."""
    family = load_family(tiny.make_model_folder(tmp_path / "model"))
    adapter = attached(family)
    try:
        config = settings(class_preservation=100, steps=30)
        w = adapter.parameters()
        state = State(0, w, init(OPTIMIZERS["adamw"], w, with_ema=False), {}, "", {}, 0)
        step, examples = Step(family, adapter, config, state), batches(family, config)
        drift = []
        for number in range(1, 31):
            step.submit(number, examples)
            (taken,) = step.read()
            drift.append(taken.loss - taken.subject_loss)  # a hundred times the term
        assert sum(drift[-5:]) < 0.3 * sum(drift[:5])
    finally:
        adapter.detach()
