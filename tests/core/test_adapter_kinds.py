"""LoHa, LoKr and DoRA: drawn with, by the change that their formulas make by hand, and refused where only LoRA fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from core.adapters import contents, dense, lora
from core.adapters import file as adapter_file
from core.adapters.adapted import LoRALinear, sizes_of
from core.errors import AdapterProblem
from core.models.base import Family
from core.models.blockwise import BlockwiseVelocity, FunctionalBlock
from core.models.load import load_family
from tests.core.subjects import training
from tests.core.test_adapter_forms import save
from tests.tiny import make_model_folder

Arrays = dict[str, np.ndarray]
TO_Q, FF = "transformer_blocks.1.attn.to_q", "transformer_blocks.0.ff.net.2"
QKV = [f"transformer_blocks.0.attn.{name}" for name in ("to_q", "to_k", "to_v")]
LAST = "norm_out.linear"


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def lokr(out: tuple[int, int], size_in: tuple[int, int], rank: int | None = None) -> tuple[Arrays, np.ndarray]:
    """Factors of a Kronecker product, the second one in two of its own with a `rank`; and the product."""
    (first_out, second_out), (first_in, second_in) = out, size_in
    w1 = drawn(first_out, first_in)
    if rank is None:
        w2 = drawn(second_out, second_in, seed=1)
        return {"lokr_w1": w1, "lokr_w2": w2}, np.kron(w1, w2)
    a, b = drawn(second_out, rank, seed=2), drawn(rank, second_in, seed=3)
    return {"lokr_w1": w1, "lokr_w2_a": a, "lokr_w2_b": b}, np.kron(w1, a @ b)


def loha(size_out: int, size_in: int, rank: int) -> tuple[Arrays, np.ndarray]:
    parts = {
        f"hada_w{number}_{half}": drawn(*((size_out, rank) if half == "a" else (rank, size_in)), seed=number)
        for number in (1, 2)
        for half in "ab"
    }
    return parts, (parts["hada_w1_a"] @ parts["hada_w1_b"]) * (parts["hada_w2_a"] @ parts["hada_w2_b"])


def plain(size_out: int, size_in: int, rank: int) -> tuple[Arrays, np.ndarray]:
    down, up = drawn(rank, size_in), drawn(size_out, rank, seed=1)
    return {"lora_down.weight": down, "lora_up.weight": up}, up @ down


def written(path: Path, name: str, parts: Arrays, **more: float | np.ndarray) -> Path:
    """A file with these tensors of one layer."""
    return save(path, {f"{name}.{role}": mx.array(value) for role, value in {**parts, **more}.items()})


def weight(family: Family, path: str) -> np.ndarray:
    """W of a layer: what it makes of each unit vector, without its bias."""
    layer = lora.find(family.transformer, path)
    base = layer.base if isinstance(layer, LoRALinear) else layer
    size_in = sizes_of(family.transformer, [path])[path][0]
    rows = base(mx.eye(size_in, dtype=family.dtype)) - base(mx.zeros((1, size_in), dtype=family.dtype))
    return np.array(rows.astype(mx.float32)).T


def check_change(family: Family, path: str, expected: np.ndarray, strength: float = 1.0) -> None:
    """The layer adds strength * expected x to its output, and would not without the adapter."""
    layer = lora.find(family.transformer, path)
    assert isinstance(layer, LoRALinear), path
    x = mx.array(drawn(5, expected.shape[1], seed=9)).astype(family.dtype)
    found = np.array((layer(x) - layer.base(x)).astype(mx.float32))
    wanted = strength * np.array(x.astype(mx.float32)) @ expected.T
    assert np.linalg.norm(wanted) > 0
    assert np.linalg.norm(found - wanted) <= 1e-4 * np.linalg.norm(wanted), path


def attach(family: Family, file: Path, strength: float = 1.0):  # type: ignore[no-untyped-def]
    held = adapter_file.read_to_draw(file, family.name)
    return dense.attach(family.transformer, held.factors, held.parts, name="theirs", strength=strength)


@pytest.mark.parametrize(
    ("parts", "scale"),
    [
        (lokr((4, 8), (2, 16)), 1.0),  # two whole factors: alpha does not scale them
        (lokr((4, 8), (2, 16), rank=3), 6.0 / 3),
        (loha(32, 32, 4), 6.0 / 4),
    ],
    ids=["LoKr", "LoKr of low rank", "LoHa"],
)
def test_a_kind_makes_the_change_of_its_formula(
    family: Family, tmp_path: Path, parts: tuple[Arrays, np.ndarray], scale: float
) -> None:
    file = written(tmp_path / "a.safetensors", "lycoris_transformer_blocks_1_attn_to_q", parts[0], alpha=6.0)
    adapter = attach(family, file, strength=0.5)
    check_change(family, TO_Q, scale * parts[1], strength=0.5)
    adapter.strength = -2.0
    check_change(family, TO_Q, scale * parts[1], strength=-2.0)
    adapter.detach()
    assert not any(isinstance(module, LoRALinear) for module in family.transformer.modules())


@pytest.mark.parametrize("axis", [1, 0], ids=["of rows", "of columns"])
@pytest.mark.parametrize("kind", [plain, loha], ids=["LoRA", "LoHa"])
def test_a_dora_gives_the_weight_its_magnitude(
    family: Family, tmp_path: Path, kind: Callable[..., tuple[Arrays, np.ndarray]], axis: int
) -> None:
    parts, product = kind(32, 128, 4)
    w = weight(family, FF)
    magnitude = 1.0 + np.abs(drawn(*((32, 1) if axis else (1, 128)), seed=5))
    file = written(tmp_path / "a.safetensors", f"transformer.{FF}", parts, alpha=2.0, dora_scale=magnitude)
    attach(family, file)
    merged = w + 0.5 * product
    check_change(family, FF, magnitude * merged / np.linalg.norm(merged, axis=axis, keepdims=True) - w)


def test_a_magnitude_of_peft_is_one_of_rows(family: Family, tmp_path: Path) -> None:
    parts, product = plain(32, 32, 4)
    magnitude = 1.0 + np.abs(drawn(32, seed=5))
    file = written(tmp_path / "a.safetensors", f"base_model.model.{TO_Q}", parts, lora_magnitude_vector=magnitude)
    attach(family, file)
    merged = weight(family, TO_Q) + product
    expected = magnitude[:, None] * merged / np.linalg.norm(merged, axis=1, keepdims=True)
    check_change(family, TO_Q, expected - weight(family, TO_Q))


@pytest.mark.parametrize("magnitude", [None, (96, 1), (1, 32)], ids=["alone", "DoRA of rows", "DoRA of columns"])
def test_a_fused_layer_is_split_by_its_rows(family: Family, tmp_path: Path, magnitude: tuple[int, int] | None) -> None:
    """24 rows of a block of the product do not divide into the 32 of q, k and v."""
    parts, expected = lokr((4, 24), (2, 16), rank=3)
    w = np.concatenate([weight(family, path) for path in QKV])
    more: Arrays = {}
    if magnitude is not None:
        more = {"dora_scale": 1.0 + np.abs(drawn(*magnitude, seed=5))}
        norm = np.linalg.norm(w + expected, axis=1 if magnitude[1] == 1 else 0, keepdims=True)
        expected = more["dora_scale"] * (w + expected) / norm - w
    attach(family, written(tmp_path / "a.safetensors", "lora_unet_double_blocks_0_img_attn_qkv", parts, **more))
    for path, rows in zip(QKV, np.split(expected, 3), strict=True):
        check_change(family, path, rows)


def test_the_last_modulation_has_its_halves_in_the_other_order(family: Family, tmp_path: Path) -> None:
    parts, product = loha(64, 32, 2)
    magnitude = 1.0 + np.abs(drawn(64, 1, seed=5))
    name = "transformer.final_layer.adaLN_modulation.1"
    attach(family, written(tmp_path / "a.safetensors", name, parts, dora_scale=magnitude))
    w = weight(family, LAST)
    merged = np.roll(w, 32, axis=0) + product
    theirs = magnitude * merged / np.linalg.norm(merged, axis=1, keepdims=True)
    check_change(family, LAST, np.roll(theirs, 32, axis=0) - w)


def test_a_file_of_many_parts_is_attached_in_one_walk_through_the_network(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {f"{path}.{role}": mx.array(value) for path in QKV for role, value in lokr((4, 8), (2, 16))[0].items()}
    file = save(tmp_path / "a.safetensors", tensors)
    walks, modules = [], nn.Module.modules
    monkeypatch.setattr(nn.Module, "modules", lambda self: walks.append(self) or modules(self))
    attach(family, file)
    assert sum(each is family.transformer for each in walks) <= 2
    for path in QKV:
        check_change(family, path, lokr((4, 8), (2, 16))[1])


def test_a_dora_has_its_magnitude_on_a_quantized_base_too(tmp_path: Path) -> None:
    family = load_family(make_model_folder(tmp_path / "model", heads=4), quantize=4)
    parts, product = plain(64, 64, 4)
    magnitude = 1.0 + np.abs(drawn(64, 1, seed=5))
    attach(family, written(tmp_path / "a.safetensors", TO_Q, parts, dora_scale=magnitude))
    w = weight(family, TO_Q)
    merged = w + product
    check_change(family, TO_Q, magnitude * merged / np.linalg.norm(merged, axis=1, keepdims=True) - w)


def many(tmp_path: Path) -> Path:
    """A file with parts of every kind, the same in both blocks."""
    tensors: dict[str, mx.array] = {}
    kinds = {"attn.to_q": lokr((4, 8), (2, 16), 3), "attn.to_k": loha(32, 32, 4), "attn.to_v": plain(32, 32, 2)}
    for block in range(2):
        for layer, (parts, _) in kinds.items():
            more = {"dora_scale": 3.0 + drawn(32, 1, seed=block)} if layer == "attn.to_v" else {}
            for role, value in {**parts, **more}.items():
                tensors[f"transformer.transformer_blocks.{block}.{layer}.{role}"] = mx.array((1 + block) * value)
        path = f"transformer.transformer_blocks.{block}.attn.to_out.0.lora"
        tensors |= {f"{path}_A.weight": mx.array(drawn(2, 32)), f"{path}_B.weight": mx.array(drawn(32, 2))}
    return save(tmp_path / "many.safetensors", tensors)


def test_blocks_of_one_signature_are_one_function_of_their_arrays(family: Family, tmp_path: Path) -> None:
    """GPUs compile one function for all blocks: no factor may be a constant in it."""
    adapter = attach(family, many(tmp_path))
    first, second = [FunctionalBlock.of(block) for block in family.blocks][:2]
    assert first.signature == second.signature
    grid, sigma = family.grid(64, 64), mx.array([0.5])
    noise = mx.random.normal((1, grid.tokens, grid.channels), key=mx.random.key(0))
    stream = family.embed(noise, sigma, family.encode_text(["a can"]), grid, 1.0)
    own, lent = second(second.frozen_arrays, [], stream), first(second.frozen_arrays, [], stream)
    assert all(mx.array_equal(own[name], lent[name]) for name in own)
    other = first(first.frozen_arrays, [], stream)
    assert not mx.array_equal(other["img"], own["img"])
    adapter.strength = 0.5
    assert FunctionalBlock.of(family.blocks[0]).signature != first.signature


def test_layers_with_other_rows_of_one_product_are_other_functions(family: Family, tmp_path: Path) -> None:
    attach(family, written(tmp_path / "a.safetensors", "double_blocks.0.img_attn.qkv", lokr((4, 24), (2, 16))[0]))
    on_layers = [lora.find(family.transformer, path).adapters["theirs"] for path in QKV]
    assert len({each.signature for each in on_layers}) == 3


def test_a_picture_changes_with_the_strength_and_not_at_zero(family: Family, tmp_path: Path) -> None:
    grid, sigma, text = family.grid(64, 64), mx.array([0.5]), family.encode_text(["a can"])
    noise = mx.random.normal((1, grid.tokens, grid.channels), key=mx.random.key(0))

    def velocity() -> mx.array:
        return BlockwiseVelocity(family)(noise, sigma, text, grid, 1.0)

    before = velocity()
    adapter = attach(family, many(tmp_path), strength=0.01)
    little = velocity()
    assert mx.allclose(little, family.velocity(noise, sigma, text, grid, 1.0), atol=1e-5)
    assert not mx.array_equal(little, before)
    adapter.strength = 0.0
    assert mx.array_equal(velocity(), before)


def test_a_change_for_another_model_is_named_and_nothing_is_attached(family: Family, tmp_path: Path) -> None:
    file = written(tmp_path / "a.safetensors", TO_Q, lokr((4, 8), (2, 32))[0])
    with pytest.raises(AdapterProblem, match=rf"{TO_Q}: is for a layer of 64 in and 32 out; this model's has 32 in"):
        attach(family, file)
    assert not any(isinstance(module, LoRALinear) for module in family.transformer.modules())


@pytest.mark.parametrize(
    ("parts", "more", "sentence"),
    [
        (lokr((4, 8), (2, 16))[0], {"lora_down.weight": drawn(2, 32)}, "has no lora_B"),
        ({"lokr_w1": drawn(2, 2)}, {}, "lokr_w1: has no lokr_w2"),
        ({"lokr_w1_a": drawn(2, 2), "lokr_w2": drawn(2, 2)}, {}, "has no lokr_w1"),
        (lokr((4, 8), (2, 16), 3)[0], {"lokr_w2": drawn(2, 2)}, "beside factors of another kind"),
        (lokr((4, 8), (2, 16))[0], {"lokr_t2": drawn(2, 2)}, "another kind of adapter"),
        (loha(32, 32, 2)[0], {"hada_w2_b": drawn(2, 31)}, r"is \(32, 32\) when multiplied out, and its partner is"),
        (loha(32, 32, 2)[0], {"hada_w2_b": drawn(3, 32)}, "do not share a rank"),
        (plain(32, 32, 2)[0], {"dora_scale": drawn(31)}, r"dora_scale: is \(31,\); a magnitude for this layer"),
        (plain(32, 32, 2)[0], {"lora_down.weight": 0 * drawn(2, 32)}, "is all zeros"),
        (loha(32, 32, 2)[0], {"hada_w1_a": 0 * drawn(32, 2)}, "is all zeros"),
        (lokr((4, 8), (2, 16), 3)[0], {"lokr_w2_b": -0.0 * np.abs(drawn(3, 16))}, "is all zeros"),
        (lokr((4, 8), (2, 16), 3)[0], {"alpha": np.float32(0)}, "is all zeros"),
        (lokr((4, 8), (2, 16), 3)[0], {"lokr_w1": np.inf * np.ones((4, 2))}, "not numbers"),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path: Path, parts: Arrays, more: Arrays, sentence: str) -> None:
    file = written(tmp_path / "theirs.safetensors", TO_Q, {**parts, **more})
    with pytest.raises(AdapterProblem, match=sentence) as caught:
        adapter_file.read_to_draw(file, "flux1")
    assert "theirs.safetensors" in caught.value.message
    if "zeros" in sentence:  # the studio finds this without MLX
        header, found = contents.read(file, "flux1", "theirs.safetensors")
        with pytest.raises(AdapterProblem, match=sentence):
            contents.check(file, header, found, "theirs.safetensors")


@pytest.mark.parametrize(
    ("parts", "more", "kind"),
    [
        (lokr((4, 8), (2, 16))[0], {}, "LoKr"),
        (loha(32, 32, 2)[0], {}, "LoHa"),
        (plain(32, 32, 2)[0], {"dora_scale": drawn(32, 1)}, "DoRA"),
    ],
)
def test_only_plain_lora_is_trained_further_and_exported(
    family: Family, photos: Path, tmp_path: Path, parts: Arrays, more: Arrays, kind: str
) -> None:
    file = written(tmp_path / "theirs.safetensors", TO_Q, {**parts, **more})
    words = f"theirs.safetensors is a {kind}, which can be drawn with, but neither trained further nor exported"
    with pytest.raises(AdapterProblem, match=words):
        adapter_file.read(file, "flux1")
    with pytest.raises(AdapterProblem, match=words):
        list(training(family, photos, tmp_path / "run", start_from=file))
    assert adapter_file.read_to_draw(file, "flux1").parts
