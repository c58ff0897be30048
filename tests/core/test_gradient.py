"""The blockwise gradient is the plain one, however many blocks keep their activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from core import flow
from core.adapters import lora
from core.adapters.layers import resolve_targets
from core.dataset.batches import Batch
from core.device import backend
from core.loss import dreambooth_loss, weighted_mean
from core.models.base import Family
from core.models.load import load_family
from core.numerics import staged_eval
from core.training.gradient import Gradient
from tests import tiny
from tests.families import FOLDERS
from tests.peak import peak


@pytest.fixture(scope="module", params=FOLDERS)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return load_family(FOLDERS[request.param](tmp_path_factory.mktemp("model") / request.param))


def attached(family: Family, targets: str = "all_linear") -> lora.Adapter:
    """An adapter that does something already: B is not zero."""
    paths = resolve_targets(family.architecture.layers, targets)
    adapter = lora.attach(family.transformer, paths, rank=2, alpha=4.0, key=mx.random.key(1))
    adapter.update(
        {name: value + 0.05 * mx.random.normal(value.shape, key=mx.random.key(len(name)))
         for name, value in adapter.parameters().items()}
    )  # fmt: skip
    return adapter


def batch_of(family: Family, *, masked: bool = False) -> Batch:
    grid = family.grid(32, 64)
    shape = (2, grid.tokens, grid.channels)
    clean, noise = (mx.random.normal(shape, key=mx.random.key(number)) for number in (2, 3))
    texts = family.encode_text(["a red can", "a cup of tea at night"])
    weight_BL = mx.random.uniform(shape=shape[:2], key=mx.random.key(4)) if masked else None
    return Batch(clean, noise, mx.array([0.3, 0.8]), texts, grid, (), mx.array([2.0, 0.5]), weight_BL)


def plain(family: Family, adapter: lora.Adapter, batch: Batch) -> tuple[mx.array, dict[str, mx.array]]:
    """Loss and gradient of the note's equation as MLX differentiates it."""
    before = adapter.parameters()

    def loss(parameters: dict[str, mx.array]) -> mx.array:
        adapter.update(parameters)
        l_t_BLC = flow.interpolate(batch.clean_BLC, batch.noise_BLC, batch.sigma_B)
        velocity_BLC = family.velocity(l_t_BLC, batch.sigma_B, batch.conditioning, batch.grid, 3.5)
        loss_B = dreambooth_loss(velocity_BLC, batch.clean_BLC, batch.noise_BLC, batch.weight_BL)
        return weighted_mean(loss_B, batch.weight_B)

    found = mx.value_and_grad(loss)(before)
    mx.eval(found)
    adapter.update(before)
    return found


def difference(one: dict[str, mx.array], other: dict[str, mx.array]) -> float:
    assert one.keys() == other.keys()
    apart = sum((one[name] - other[name]).square().sum().item() for name in one)
    return (apart / sum(value.square().sum().item() for value in other.values())) ** 0.5


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kept", [0, 1, 3, None])
def test_the_gradient_is_the_plain_one_in_every_mode(family: Family, kept: int | None, masked: bool) -> None:
    adapter, batch = attached(family), batch_of(family, masked=masked)
    try:
        loss, gradient = plain(family, adapter, batch)
        losses_B, found = Gradient(family, adapter, 3.5, kept)(adapter.parameters(), batch)
        assert weighted_mean(losses_B, batch.weight_B).item() == pytest.approx(loss.item(), rel=1e-6)
        assert difference(found, gradient) <= 1e-5
        assert all(mx.abs(value).max().item() > 0 for value in found.values())
    finally:
        adapter.detach()


def test_blocks_of_one_kind_share_their_functions(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a network of fifty blocks is compiled as quickly as one of four, and a rank of its own makes a kind."""
    compiled: list[str] = []

    def compile_step(function: Callable[..., object]) -> Callable[..., object]:
        compiled.append(getattr(function, "__name__", ""))
        return function

    monkeypatch.setattr(backend, "compile_step", compile_step)
    adapter, batch = attached(family), batch_of(family)
    try:
        Gradient(family, adapter, 1.0, 0)(adapter.parameters(), batch)
        kinds = [block.kind for block in family.blocks]
        assert len(kinds) > len(set(kinds)) == compiled.count("forward")
        assert compiled.count("vjp") == len(set(kinds)) + (kinds[0] in kinds[1:])  # the first has one without dx
    finally:
        adapter.detach()


def test_no_gradient_is_computed_before_the_first_block_with_an_adapter(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_inputs: list[dict[str, mx.array]] = []  # what each vjp of a block returns for the block's input

    def compile_step(function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            result = function(*arguments)
            if getattr(function, "__name__", "") == "vjp":
                of_inputs.append(result[1])
            return result

        return watched

    monkeypatch.setattr(backend, "compile_step", compile_step)
    adapter, batch = attached(family, f"{family.blocks[-1].path}.*"), batch_of(family)
    try:
        _, gradient = plain(family, adapter, batch)
        assert difference(Gradient(family, adapter, 3.5, 0)(adapter.parameters(), batch)[1], gradient) <= 1e-5
        assert of_inputs == [{}, {}]  # one block's for each example, and it leads no further
        assert difference(Gradient(family, adapter, 3.5, 2)(adapter.parameters(), batch)[1], gradient) <= 1e-5
    finally:
        adapter.detach()


def test_a_network_is_left_with_its_own_arrays(family: Family) -> None:
    adapter, batch = attached(family), batch_of(family)
    try:
        before = dict(tree_flatten(family.transformer.parameters()))
        Gradient(family, adapter, 1.0, 1)(adapter.parameters(), batch)
        after = dict(tree_flatten(family.transformer.parameters()))
        assert all(after[name] is value for name, value in before.items())
    finally:
        adapter.detach()


@pytest.mark.slow
def test_recomputing_keeps_the_activations_of_one_block(tmp_path: Path) -> None:
    """Peaks over what was held before: with every block's activations they grow with depth, else by its inputs."""
    grown = {}
    for kept in (None, 0):
        peaks = []
        for depth in (4, 12):
            family = load_family(tiny.make_model_folder(tmp_path / f"{kept}-{depth}", heads=4, single_blocks=depth))
            adapter = attached(family)
            grid = family.grid(256, 256)
            clean, noise = (mx.random.normal((1, grid.tokens, grid.channels)) for _ in range(2))
            batch = Batch(clean, noise, mx.array([0.5]), family.encode_text(["a can"]), grid)
            mx.eval(family.transformer.parameters())
            peaks.append(peak_of(Gradient(family, adapter, 1.0, kept), adapter.parameters(), batch))
        grown[kept] = (peaks[1] - peaks[0]) / 8
    one_input = 272 * 64 * 4
    assert grown[0] < 3 * one_input
    assert grown[None] > 10 * one_input


def peak_of(gradient: Gradient, parameters: dict[str, mx.array], batch: Batch) -> int:
    """Bytes over what was held before."""
    mx.eval(parameters, batch.clean_BLC, batch.noise_BLC, batch.conditioning)
    with peak() as taken:
        gradient(parameters, batch)
    return taken.over


def larger_batch(family: Family, examples: int) -> Batch:
    grid = family.grid(256, 256)
    clean, noise = (mx.random.normal((examples, grid.tokens, grid.channels)) for _ in range(2))
    return Batch(clean, noise, mx.full((examples,), 0.5), family.encode_text(["a can"] * examples), grid)


@pytest.mark.slow
def test_recomputing_needs_no_more_for_a_batch_than_for_its_largest_example(tmp_path: Path) -> None:
    family = load_family(tiny.make_model_folder(tmp_path / "model", heads=4, single_blocks=4))
    adapter = attached(family)
    one, four = (
        peak_of(Gradient(family, adapter, 1.0, 0), adapter.parameters(), larger_batch(family, examples))
        for examples in (1, 4)
    )
    assert four < 1.2 * one


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, None])
def test_a_mask_needs_no_more_memory(tmp_path: Path, kept: int | None) -> None:
    """So the forecast of a run does not count it."""
    family = load_family(tiny.make_model_folder(tmp_path / "model", heads=4, single_blocks=4))
    adapter, plain = attached(family), larger_batch(family, 2)
    masked = replace(plain, weight_BL=mx.random.uniform(shape=plain.clean_BLC.shape[:2]))
    mx.eval(masked.weight_BL)
    before, after = (
        min(peak_of(Gradient(family, adapter, 1.0, kept), adapter.parameters(), each) for _ in range(3))
        for each in (plain, masked)  # a busy machine frees some arrays later
    )
    assert after < 1.02 * before


@pytest.mark.slow
def test_a_gradient_in_stages_takes_less_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = load_family(tiny.make_model_folder(tmp_path / "model", heads=4, single_blocks=4))
    adapter, batch = attached(family), larger_batch(family, 1)
    in_stages = peak_of(Gradient(family, adapter, 1.0, 0), adapter.parameters(), batch)
    monkeypatch.setattr(staged_eval, "evaluate", lambda recorded: None)
    assert in_stages < 0.8 * peak_of(Gradient(family, adapter, 1.0, 0), adapter.parameters(), batch)
