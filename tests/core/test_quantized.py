"""A quantized base: which layers are packed, and that an adapter over it learns as over the same base unpacked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from core import flow
from core.adapters import lora
from core.device import backend
from core.loss import dreambooth_loss
from core.models.base import Family
from core.models.load import load_family
from core.models.quantized import QuantizedLinear, bits_of, lay_out, packed_layers, unpack
from tests import tiny
from tests.peak import peak

BITS = [8, 6, 4]
KEY = mx.random.key(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_model_folder(tmp_path_factory.mktemp("wide"), heads=4)


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Take products as another device would: "packed" or "unpacked"."""

    def force(way: str) -> None:
        prepared = backend.prepare()
        policy = replace(prepared.policy, packed_products=way == "packed")
        monkeypatch.setattr(backend, "prepare", lambda: replace(prepared, policy=policy))

    return force


def unpacked(family: Family) -> Family:
    """The same family with every packed weight unpacked for good: plain linear layers."""
    whole = []
    for path, layer in packed_layers(family.transformer).items():
        size_out, size_in = layer.whole_shape
        plain = nn.Linear(size_in, size_out, "bias" in layer)
        plain.weight = unpack(layer.weight, layer.scales, layer.biases)
        if "bias" in layer:
            plain.bias = layer.bias
        whole.append((path, plain))
    family.transformer.update_modules(tree_unflatten(whole))
    return family


def gradients(family: Family) -> dict[str, mx.array]:
    """Loss and gradients of one training step with an adapter that has something to say."""
    adapter = lora.attach(family.transformer, family.presets["all_linear"], 4, 4.0, KEY)
    parameters = adapter.parameters()
    keys = mx.random.split(mx.random.key(2), len(parameters))
    start = {
        name: value + 0.1 * mx.random.normal(value.shape, key=key)
        for (name, value), key in zip(parameters.items(), keys, strict=True)
    }
    grid = family.grid(64, 48)
    clean, noise = (mx.random.normal((2, grid.tokens, grid.channels), key=mx.random.key(seed)) for seed in (3, 4))
    text = family.encode_text(["a can", "a dog"])

    def loss_of(parameters: dict[str, mx.array]) -> mx.array:
        adapter.update(parameters)
        sigma = mx.array([0.3, 0.8])
        velocity = family.velocity(flow.interpolate(clean, noise, sigma), sigma, text, grid, 1.0)
        return dreambooth_loss(velocity, clean, noise).mean()

    loss, found = mx.value_and_grad(loss_of)(start)
    mx.eval(loss, found)
    return {"loss": loss, **found}


@pytest.mark.parametrize("way", ["packed", "unpacked"])
@pytest.mark.parametrize("bits", BITS)
def test_a_steps_gradients_equal_those_over_the_same_base_unpacked(
    folder: Path, bits: int, way: str, take: Callable[[str], None]
) -> None:
    expected = gradients(unpacked(load_family(folder, dtype=mx.float32, quantize=bits)))
    take(way)
    found = gradients(load_family(folder, dtype=mx.float32, quantize=bits))
    assert found.keys() == expected.keys()
    assert len(found) == 1 + 2 * (2 * 12 + 2 * 5)
    for name, value in expected.items():
        error = mx.linalg.norm(found[name] - value) / mx.linalg.norm(value)
        assert error.item() <= 1e-5, name
    whole = gradients(load_family(folder, dtype=mx.float32))
    assert abs(whole["loss"] - expected["loss"]).item() > 0, "quantizing changed nothing"


def test_fewer_bits_are_further_from_the_base(folder: Path) -> None:
    def velocity(bits: int | None) -> mx.array:
        family = load_family(folder, dtype=mx.float32, quantize=bits)
        grid = family.grid(64, 48)
        l_t = mx.random.normal((1, grid.tokens, grid.channels), key=KEY)
        return family.velocity(l_t, mx.array([0.5]), family.encode_text(["a can"]), grid, 1.0)

    whole = velocity(None)
    errors = [float(mx.linalg.norm(velocity(bits) - whole) / mx.linalg.norm(whole)) for bits in BITS]
    assert 0 < errors[0] < errors[1] < errors[2] < 0.5


def test_a_step_unpacks_a_few_layers_at_a_time_however_many_there_are(take: Callable[[str], None]) -> None:
    layers, width = 32, 512
    model = nn.Sequential(nn.Sequential(*[nn.Linear(width, width, bias=False) for _ in range(layers)]))
    lay_out(model, 8)
    assert len(packed_layers(model)) == layers
    x = mx.random.normal((1, width), key=KEY)
    mx.eval(model.parameters(), x)
    take("unpacked")
    with peak() as taken:
        mx.eval(mx.grad(lambda x: model(x).square().mean())(x))
    unpacked_at_once = taken.over / (4 * width * width)
    assert 1 <= unpacked_at_once <= 8  # as many as MLX puts in work at once


def test_the_linear_layers_within_blocks_are_packed_and_no_others(folder: Path) -> None:
    transformer = load_family(folder, quantize=4).transformer
    plain = {path for path, layer in transformer.named_modules() if isinstance(layer, nn.Linear)}
    packed = set(packed_layers(transformer))
    assert {path for path in plain | packed if path.startswith(("transformer_blocks.", "single_"))} == packed
    assert {"transformer_blocks.0.norm1.linear", "single_transformer_blocks.1.proj_out"} < packed
    assert {"x_embedder", "context_embedder", "norm_out.linear", "proj_out"} < plain
    assert bits_of(transformer) == 4
    assert bits_of(load_family(folder).transformer) is None


def test_rows_that_do_not_divide_into_groups_stay_whole(tmp_path: Path) -> None:
    odd = tiny.make_model_folder(tmp_path, heads=5)  # 80 wide: only what comes out of an MLP, 320 wide, divides by 64
    packed = packed_layers(load_family(odd, quantize=4).transformer)
    assert {path.partition("s.")[2][2:] for path in packed} == {"ff.net.2", "ff_context.net.2"}


def test_a_quantized_model_has_nothing_to_train_but_its_adapter(folder: Path) -> None:
    family = load_family(folder, quantize=4)
    assert tree_flatten(family.transformer.trainable_parameters()) == []
    lora.attach(family.transformer, family.presets["all_linear"], 4, 4.0, KEY)
    names = [name for name, _ in tree_flatten(family.transformer.trainable_parameters())]
    assert len(names) == 2 * len(family.presets["all_linear"])
    assert {name.rpartition(".")[2] for name in names} == {"lora_A", "lora_B"}


def test_a_detached_adapter_leaves_the_quantized_layer(folder: Path) -> None:
    family = load_family(folder, quantize=4)
    path = family.presets["all_linear"][0]
    lora.attach(family.transformer, [path], 4, 4.0, KEY).detach()
    assert isinstance(lora.find(family.transformer, path), QuantizedLinear)


@pytest.mark.parametrize("way", ["packed", "unpacked"])
def test_a_quantized_base_computes_in_16_bits_where_the_model_does(
    folder: Path, way: str, take: Callable[[str], None]
) -> None:
    take(way)
    family = load_family(folder, dtype=mx.bfloat16, quantize=4)
    kinds = {value.dtype for _, value in tree_flatten(family.transformer.parameters())}
    assert kinds == {mx.bfloat16, mx.uint32}
    grid = family.grid(32, 32)
    l_t = mx.zeros((1, grid.tokens, grid.channels))
    assert family.velocity(l_t, mx.array([0.5]), family.encode_text(["a can"]), grid, 1.0).dtype == mx.bfloat16
