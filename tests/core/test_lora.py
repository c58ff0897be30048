"""Adapters: a fresh one changes nothing, only A and B are trainable, several live on one layer."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from core.adapters import lora
from core.adapters.layers import resolve_ranks, resolve_targets
from core.config import layer_ranks
from core.errors import AdapterProblem, ConfigProblem
from core.models.base import Family

KEY = mx.random.key(1)


def velocity(family: Family) -> mx.array:
    grid = family.grid(32, 32)
    l_t = mx.random.normal((2, grid.tokens, grid.channels), key=mx.random.key(2))
    return family.velocity(l_t, mx.array([0.3, 0.8]), family.encode_text(["a can", "a dog"]), grid, 1.0)


def noisy(adapter: lora.Adapter, seed: int = 3) -> None:
    """Give an adapter something to say."""
    parameters = adapter.parameters()
    keys = mx.random.split(mx.random.key(seed), len(parameters))
    adapter.update({name: 0.1 * mx.random.normal(v.shape, key=k) for (name, v), k in zip(parameters.items(), keys)})  # noqa: B905


def plain(x: mx.array, part: lora.LowRank) -> mx.array:
    return part.scale * (x @ part.lora_A.T) @ part.lora_B.T


def test_a_fresh_adapter_changes_no_bit_of_the_output(family: Family) -> None:
    before = velocity(family)
    lora.attach(family.transformer, family.presets["all_linear"], 4, 4.0, KEY)
    assert mx.array_equal(velocity(family), before)


def test_only_a_and_b_are_trainable(family: Family) -> None:
    lora.attach(family.transformer, family.presets["all_linear"], 4, 4.0, KEY)
    names = [name for name, _ in tree_flatten(family.transformer.trainable_parameters())]
    assert {name.rpartition(".")[2] for name in names} == {"lora_A", "lora_B"}
    assert len(names) == 2 * len(family.presets["all_linear"])


def test_a_frozen_adapter_is_not_trainable(family: Family) -> None:
    lora.attach(family.transformer, family.presets["attention"], 4, 4.0, KEY, trained=False)
    assert not tree_flatten(family.transformer.trainable_parameters())


def test_an_adapter_equals_weights_with_the_product_added(family: Family) -> None:
    path = family.presets["all_linear"][0]
    adapter = lora.attach(family.transformer, [path], 2, 6.0, KEY)
    noisy(adapter)
    with_adapter = velocity(family)
    (a_RI, b_OR) = adapter.folded()[path]
    adapter.detach()
    linear = lora.find(family.transformer, path)
    linear.weight = linear.weight + b_OR @ a_RI
    assert mx.allclose(velocity(family), with_adapter, atol=1e-5)


def test_detaching_gives_the_base_back(family: Family) -> None:
    before = velocity(family)
    adapter = lora.attach(family.transformer, family.presets["all_linear"], 4, 4.0, KEY)
    noisy(adapter)
    assert not mx.allclose(velocity(family), before)
    adapter.detach()
    assert mx.array_equal(velocity(family), before)
    assert not any(isinstance(module, lora.LoRALinear) for module in family.transformer.modules())


def test_strength_is_live_and_zero_is_the_base(family: Family) -> None:
    before = velocity(family)
    adapter = lora.attach(family.transformer, family.presets["attention"], 4, 4.0, KEY)
    noisy(adapter)
    full = velocity(family)
    adapter.strength = 0.0
    assert mx.array_equal(velocity(family), before)
    adapter.strength = 1.0
    assert mx.array_equal(velocity(family), full)


def test_two_adapters_of_different_rank_add_up_on_one_layer() -> None:
    model = nn.Sequential(nn.Linear(6, 5))
    x = mx.random.normal((3, 6), key=KEY)
    base = model(x)
    first = lora.attach(model, ["layers.0"], 2, 2.0, KEY, name="first")
    second = lora.attach(model, ["layers.0"], 3, 6.0, KEY, name="second")
    noisy(first, 1)
    noisy(second, 2)
    parts = [plain(x, model.layers[0].adapters[name]) for name in ("first", "second")]
    assert mx.allclose(model(x), base + parts[0] + parts[1], atol=1e-6)
    first.detach()
    assert mx.allclose(model(x), base + parts[1], atol=1e-6)


def test_the_gradients_are_those_of_the_plain_formula() -> None:
    model = nn.Sequential(nn.Linear(6, 5))
    adapter = lora.attach(model, ["layers.0"], 3, 6.0, KEY)
    noisy(adapter, 1)
    part = model.layers[0].adapters["subject"]
    base, x = model.layers[0].base, mx.random.normal((2, 4, 6), key=KEY)

    def ours(x: mx.array, a: mx.array, b: mx.array) -> mx.array:
        part.lora_A, part.lora_B = a, b
        return mx.sin(model(x)).sum()

    def formula(x: mx.array, a: mx.array, b: mx.array) -> mx.array:
        return mx.sin(base(x) + 2.0 * (x @ a.T) @ b.T).sum()

    at = (x, part.lora_A, part.lora_B)
    for found, expected in zip(*(mx.grad(each, (0, 1, 2))(*at) for each in (ours, formula)), strict=True):
        assert found.shape == expected.shape
        assert mx.allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_adapter_trains_over_a_quantized_weight() -> None:
    model = nn.Sequential(nn.Linear(64, 64))
    nn.quantize(model, group_size=32, bits=4)
    x = mx.random.normal((3, 64), key=KEY)
    before = model(x)
    adapter = lora.attach(model, ["layers.0"], 4, 4.0, KEY)
    assert mx.array_equal(model(x), before)
    assert adapter.parameters()["layers.0.lora_A"].shape == (4, 64)
    names = {name for name, _ in tree_flatten(model.trainable_parameters())}
    assert names == {"layers.0.adapters.subject.lora_A", "layers.0.adapters.subject.lora_B"}


def test_the_product_is_taken_in_the_activations_dtype() -> None:
    model = nn.Sequential(nn.Linear(6, 5))
    model.set_dtype(mx.bfloat16)
    adapter = lora.attach(model, ["layers.0"], 2, 2.0, KEY)
    assert model(mx.ones((1, 6), mx.bfloat16)).dtype == mx.bfloat16
    assert all(value.dtype == mx.float32 for value in adapter.parameters().values())


def test_a_target_that_is_not_there_is_an_error_by_name(family: Family) -> None:
    with pytest.raises(AdapterProblem, match=r"transformer_blocks\.9\.attn\.to_q.*is not in this model"):
        lora.attach(family.transformer, ["transformer_blocks.9.attn.to_q"], 2, 2.0, KEY)
    with pytest.raises(AdapterProblem, match="is not a linear layer"):
        lora.attach(family.transformer, ["transformer_blocks.0.attn"], 2, 2.0, KEY)


def test_targets_are_a_preset_or_globs(family: Family) -> None:
    def resolve(wanted: str) -> list[str]:
        return resolve_targets(family.architecture.layers, wanted)

    assert resolve("all_linear") == list(family.presets["all_linear"])
    assert resolve("transformer_blocks.*.attn.to_q") == [f"transformer_blocks.{i}.attn.to_q" for i in (0, 1)]
    assert resolve("attention, *.proj_out") == [*family.presets["attention"], *resolve("*.proj_out")]
    with pytest.raises(ConfigProblem, match="'likeness' matches no layer; use all_linear, attention, mlp"):
        resolve("likeness")  # its blocks are not in so small a model
    with pytest.raises(ConfigProblem, match="'nowhere' matches no layer"):
        resolve("transformer_blocks.0.attn.to_q, nowhere")


def test_layers_can_have_a_rank_and_an_alpha_of_their_own(family: Family) -> None:
    targets = family.presets["all_linear"]
    entries, troubles = layer_ranks.read("attention=3, *.ff.*=5:2, transformer_blocks.0.attn.to_q=1")
    assert not troubles
    own = resolve_ranks(family.architecture.layers, targets, entries, 0.5)
    assert own["transformer_blocks.1.attn.to_q"] == (3, 1.5)  # the scale of the others
    assert own["transformer_blocks.0.attn.to_q"] == (1, 0.5)  # the later entry
    assert own["transformer_blocks.0.ff.net.2"] == (5, 2.0)
    adapter = lora.attach(family.transformer, targets, 4, 2.0, KEY, own=own)
    for path, part in adapter.parts.items():
        rank, alpha = own.get(path, (4, 2.0))
        assert (part.lora_A.shape[0], part.lora_B.shape[1], part.scale) == (rank, rank, alpha / rank)
    noisy(adapter)
    path = "transformer_blocks.0.ff.net.2"
    assert mx.array_equal(adapter.folded()[path][1], adapter.parts[path].lora_B * 0.4)


def test_a_rank_for_layers_that_get_no_adapter_is_a_sentence(family: Family) -> None:
    entries, _ = layer_ranks.read("mlp=3, *.attn.to_q=2, nothing=1")
    with pytest.raises(ConfigProblem) as caught:
        resolve_ranks(family.architecture.layers, family.presets["attention"], entries, 1.0)
    words = [problem.message.partition(";")[0] for problem in caught.value.problems]
    assert words == [f"{name!r} matches no layer that gets an adapter" for name in ("mlp", "nothing")]


def test_factors_of_another_model_are_refused_by_name(family: Family) -> None:
    path = family.presets["all_linear"][0]
    with pytest.raises(AdapterProblem, match=f"{path}.*7 in and 32 out; this model's has 32 in"):
        lora.attach_factors(family.transformer, {path: (mx.zeros((2, 7)), mx.zeros((32, 2)))}, name="foreign")
