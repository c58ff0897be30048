"""Adapters in the forms of other programs: the same change whichever form holds it; what is not understood is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from core.adapters import diffusers, kohya, lora
from core.adapters import file as adapter_file
from core.adapters.key_maps import FAMILIES
from core.adapters.lora import Factors
from core.errors import AdapterProblem
from core.models.base import Family
from core.safetensors_file import read_header

D = 8
"""Width of the layers that are made up here."""


def random_factors(sizes: Mapping[str, tuple[int, int]], ranks: tuple[int, ...] = (3,)) -> Factors:
    """Factors for layers of these (out, in), whose numbers a bfloat16 holds exactly."""
    found = {}
    for index, (path, (size_out, size_in)) in enumerate(sizes.items()):
        rank, key = ranks[index % len(ranks)], mx.random.key(index)
        a, b = (
            mx.random.normal(shape, dtype=mx.bfloat16, key=one).astype(mx.float32)
            for shape, one in zip(((rank, size_in), (size_out, rank)), mx.random.split(key), strict=True)
        )
        found[path] = (a, b)
    return found


def of_model(family: Family, ranks: tuple[int, ...] = (3,)) -> Factors:
    """Factors for every layer that a run can train."""
    weights = {path: lora.find(family.transformer, path).weight.shape for path in family.presets["all_linear"]}
    return random_factors(weights, ranks)


def changes(factors: Factors) -> dict[str, mx.array]:
    """B A by layer."""
    return {path: b_OR @ a_RI for path, (a_RI, b_OR) in factors.items()}


def check_same(found: Factors, expected: Factors, error: float = 1e-6) -> None:
    ours, theirs = changes(found), changes(expected)
    assert ours.keys() == theirs.keys()
    for path, change in theirs.items():
        assert mx.linalg.norm(ours[path] - change).item() <= error * mx.linalg.norm(change).item(), path


def save(path: Path, tensors: dict[str, mx.array], metadata: dict[str, str] | None = None) -> Path:
    mx.save_safetensors(str(path), tensors, metadata or {})
    return path


@pytest.mark.parametrize("ranks", [(3,), (2, 5, 1)], ids=["one rank", "many ranks"])
def test_kohyas_form_reads_back_as_it_was(family: Family, tmp_path: Path, ranks: tuple[int, ...]) -> None:
    factors = of_model(family, ranks)
    kohya.write(tmp_path / "a.safetensors", factors, {"modelspec.trigger_phrase": "sks"}, "flux1")
    found = adapter_file.read(tmp_path / "a.safetensors", "flux1")
    assert found.trigger == "sks"
    check_same(found.factors, factors, error=0.0)
    for path, (a_RI, _) in factors.items():
        assert found.factors[path][0].shape == a_RI.shape  # the blocks came apart again


def test_kohyas_form_has_the_names_that_other_programs_look_for(family: Family, tmp_path: Path) -> None:
    kohya.write(tmp_path / "a.safetensors", of_model(family), {}, "flux1")
    header = read_header(tmp_path / "a.safetensors")
    layers = {name.partition(".")[0] for name in header.tensors}
    doubles = ("img_attn_qkv", "img_attn_proj", "txt_attn_qkv", "txt_attn_proj")
    doubles += ("img_mlp_0", "img_mlp_2", "txt_mlp_0", "txt_mlp_2")
    expected = {f"lora_unet_double_blocks_{index}_{name}" for index in range(2) for name in doubles}
    expected |= {f"lora_unet_single_blocks_{index}_{name}" for index in range(2) for name in ("linear1", "linear2")}
    assert layers == expected
    fused = header.tensors["lora_unet_single_blocks_1_linear1.lora_up.weight"]
    assert fused.shape == (32 * 7, 3 * 4)
    assert header.metadata["ss_network_dim"] == header.metadata["ss_network_alpha"] == "12"
    alpha = mx.load(str(tmp_path / "a.safetensors"))["lora_unet_single_blocks_1_linear1.alpha"]
    assert (alpha.item(), alpha.shape) == (12.0, ())


def test_a_part_without_an_adapter_keeps_its_rows(family: Family, tmp_path: Path) -> None:
    """Attention alone: linear1 also has the rows of the MLP, and nothing may slip into them."""
    attention = {path: pair for path, pair in of_model(family).items() if path in family.presets["attention"]}
    kohya.write(tmp_path / "a.safetensors", attention, {}, "flux1")
    shape = read_header(tmp_path / "a.safetensors").tensors["lora_unet_single_blocks_0_linear1.lora_up.weight"].shape
    assert shape == (32 * 7, 3 * 3)
    check_same(adapter_file.read(tmp_path / "a.safetensors", "flux1").factors, attention, error=0.0)


@pytest.mark.parametrize("family_name", FAMILIES)
def test_every_row_goes_out_and_comes_back(tmp_path: Path, family_name: str) -> None:
    sizes = {}
    for row in FAMILIES[family_name]:
        for path, share in zip(row.ours, row.rows, strict=True):
            sizes.setdefault(path.format(4), (share * D, D))  # later rows are parts of the first
    factors = random_factors(sizes)
    kohya.write(tmp_path / "a.safetensors", factors, {}, family_name)
    check_same(adapter_file.read(tmp_path / "a.safetensors", family_name).factors, factors, error=0.0)


def test_a_dense_fused_layer_is_split_by_its_rows(tmp_path: Path) -> None:
    """As ComfyUI users train it: one A for q, k and v."""
    a_RI, b_OR = mx.random.normal((2, D)), mx.random.normal((3 * D, 2))
    name = "diffusion_model.double_blocks.7.img_attn.qkv"
    path = save(tmp_path / "a.safetensors", {f"{name}.lora_A.weight": a_RI, f"{name}.lora_B.weight": b_OR})
    found = adapter_file.read(path, "flux1").factors
    parts = zip(("to_q", "to_k", "to_v"), mx.split(b_OR, 3), strict=True)
    check_same(found, {f"transformer_blocks.7.attn.{part}": (a_RI, b) for part, b in parts})


@pytest.mark.parametrize("name", ["single_blocks.4.linear1_qkv", "lora_unet_single_blocks_4_linear1_qkv"])
def test_linear1_without_its_mlp_is_split(tmp_path: Path, name: str) -> None:
    a_RI, b_OR = mx.random.normal((2, D)), mx.random.normal((3 * D, 2))
    path = save(tmp_path / "a.safetensors", {f"{name}.lora_A.weight": a_RI, f"{name}.lora_B.weight": b_OR})
    parts = zip(("to_q", "to_k", "to_v"), mx.split(b_OR, 3), strict=True)
    expected = {f"single_transformer_blocks.4.attn.{part}": (a_RI, b) for part, b in parts}
    check_same(adapter_file.read(path, "flux1").factors, expected)


def test_the_last_modulation_has_its_halves_in_the_other_order(tmp_path: Path) -> None:
    name = "lora_unet_final_layer_adaLN_modulation_1"
    b_OR = mx.arange(8.0).reshape(4, 2)
    tensors = {f"{name}.lora_down.weight": mx.ones((2, D)), f"{name}.lora_up.weight": b_OR}
    found = adapter_file.read(save(tmp_path / "a.safetensors", tensors), "flux1").factors["norm_out.linear"][1]
    assert found[:, 0].tolist() == [4, 6, 0, 2]


BEFORE = ("transformer.", "", "base_model.model.", "diffusion_model.", "base_model.model.transformer.")
AFTER = ((".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight"),
         (".lora_A.default.weight", ".lora_B.default.weight"), (".lora.down.weight", ".lora.up.weight"))  # fmt: skip


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16], ids=str)
def test_every_way_of_writing_a_layers_name_is_read(
    tmp_path: Path, before: str, after: tuple[str, str], dtype: mx.Dtype
) -> None:
    layer = "transformer_blocks.0.attn.to_out.0"
    factors = random_factors({layer: (6, D)})
    tensors = {f"{before}{layer}{end}": part.astype(dtype) for end, part in zip(after, factors[layer], strict=True)}
    found = adapter_file.read(save(tmp_path / "a.safetensors", tensors), "flux1").factors
    check_same(found, factors, error=0.0 if dtype != mx.float16 else 1e-3)


@pytest.mark.parametrize(
    ("family_name", "theirs", "ours"),
    [
        ("flux1", "lora_transformer_single_transformer_blocks_11_proj_mlp", "single_transformer_blocks.11.proj_mlp"),
        ("flux1", "lora_unet_transformer_blocks_3_ff_context_net_0_proj", "transformer_blocks.3.ff_context.net.0.proj"),
        ("flux1", "lora_unet_guidance_in_out_layer", "time_text_embed.guidance_embedder.linear_2"),
        ("flux1", "lycoris_single_transformer_blocks_3_proj_mlp", "single_transformer_blocks.3.proj_mlp"),
        ("flux1", "transformer.double_blocks.2.txt_attn.qkv.1", "transformer_blocks.2.attn.add_k_proj"),
        ("flux1", "transformer.single_blocks.5.linear1.3", "single_transformer_blocks.5.proj_mlp"),
        ("flux1", "transformer.img_in.proj", "x_embedder"),
        ("flux2", "lycoris_transformer_blocks_0_attn_to_out_0", "transformer_blocks.0.attn.to_out.0"),
        ("flux2", "transformer.transformer_blocks.2.attn.to_out", "transformer_blocks.2.attn.to_out.0"),
        ("flux2", "lora_unet_single_blocks_19_linear1", "single_transformer_blocks.19.attn.to_qkv_mlp_proj"),
        ("flux2", "transformer.single_transformer_blocks.2.attn.to_out", "single_transformer_blocks.2.attn.to_out"),
        ("z_image", "diffusion_model.layers.29.attention.out", "layers.29.attention.to_out.0"),
        ("z_image", "lora_unet_noise_refiner_1_feed_forward_w2", "noise_refiner.1.feed_forward.w2"),
        ("z_image", "diffusion_model.layers.0.adaLN_modulation.0", "layers.0.adaLN_modulation.0"),
        ("flux3", "lora_unet_content_mode_blocks_image_4_mlp_in", "mode_blocks.image.4.ff.linear_in"),
        ("flux3", "diffusion_model.txt_mode_blocks.0.attn_out", "txt_mode_blocks.0.attn.to_out.0"),
        ("flux3", "lora_unet_single_blocks_27_q_proj", "single_transformer_blocks.27.attn.to_q"),
        ("chroma", "lora_unet_single_blocks_37_linear2", "single_transformer_blocks.37.proj_out"),
        (
            "chroma",
            "diffusion_model.distilled_guidance_layer.layers.4.in_layer",
            "distilled_guidance_layer.layers.4.linear_1",
        ),
        ("z_image", "diffusion_model.final_layer.linear", "all_final_layer.2-1.linear"),
        ("z_image", "lora_unet_final_layer_adaLN_modulation_1", "all_final_layer.2-1.adaLN_modulation.1"),
        ("z_image", "diffusion_model.x_embedder", "all_x_embedder.2-1"),
        ("z_image", "transformer.all_x_embedder.2-1", "all_x_embedder.2-1"),
        ("z_image", "diffusion_model.t_embedder.mlp.2", "t_embedder.mlp.2"),
    ],
)
def test_other_programs_names_become_ours(tmp_path: Path, family_name: str, theirs: str, ours: str) -> None:
    tensors = {f"{theirs}.lora_down.weight": mx.ones((2, D)), f"{theirs}.lora_up.weight": mx.ones((D, 2))}
    assert list(adapter_file.read(save(tmp_path / "a.safetensors", tensors), family_name).factors) == [ours]


PAIR = {
    "transformer.img_in.lora_A.weight": mx.ones((2, D)),
    "transformer.img_in.lora_B.weight": mx.ones((D, 2)),
}


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16, mx.int64], ids=str)
def test_an_alpha_tensor_is_honoured(tmp_path: Path, dtype: mx.Dtype) -> None:
    for alpha in (mx.array(6, dtype), mx.array([6], dtype)):
        path = save(tmp_path / "a.safetensors", PAIR | {"transformer.img_in.alpha": alpha})
        assert adapter_file.read(path, "flux1").factors["x_embedder"][1][0, 0].item() == 3.0


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"r": 2, "lora_alpha": 8}, 4.0),
        ({"transformer.r": 2, "transformer.lora_alpha": 8, "text_encoder.lora_alpha": 1}, 4.0),
        ({"r": 16, "lora_alpha": 16, "rank_pattern": {"img_in": 2}, "alpha_pattern": {"img_in": 3}}, 1.5),
        ({"r": 16, "lora_alpha": 8, "rank_pattern": {"img_in": 2}, "alpha_pattern": {"b": 3}}, 4.0),
        ({"r": 2, "lora_alpha": 2, "use_rslora": True}, 2**0.5),
    ],
)
def test_pefts_settings_are_honoured(tmp_path: Path, config: dict[str, Any], scale: float) -> None:
    path = save(tmp_path / "a.safetensors", PAIR, {"lora_adapter_metadata": json.dumps(config)})
    assert adapter_file.read(path, "flux1").factors["x_embedder"][1][0, 0].item() == pytest.approx(scale)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "my can v2.safetensors"])
def test_pefts_settings_may_lie_beside_a_file_of_any_name(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, PAIR)
    assert adapter_file.read(path, "flux1").factors["x_embedder"][1][0, 0].item() == 1.0
    (tmp_path / "adapter_config.json").write_text('\ufeff{"r": 2, "lora_alpha": 5}', encoding="utf-8")
    assert adapter_file.read(path, "flux1").factors["x_embedder"][1][0, 0].item() == 2.5
    save(path, PAIR | {"transformer.img_in.alpha": mx.array(6.0)})  # the settings may be another file's
    assert adapter_file.read(path, "flux1").factors["x_embedder"][1][0, 0].item() == 3.0


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(?:a|a)*", ".*.*.*.*x", "a" * 300 + "*", "img(_in)?", "[", "\\"], ids=range(7)
)
def test_an_expression_that_could_take_for_ever_is_refused(tmp_path: Path, pattern: str) -> None:
    config = json.dumps({"lora_alpha": 1, "alpha_pattern": {pattern: 2}})
    path = save(tmp_path / "a.safetensors", PAIR, {"lora_adapter_metadata": config})
    with pytest.raises(AdapterProblem, match=r"a\.safetensors has settings of PEFT with"):
        adapter_file.read(path, "flux1")


FUSED = "lora_unet_double_blocks_0_img_attn_qkv"


@pytest.mark.parametrize(
    ("tensors", "metadata", "sentence"),
    [
        ({"transformer.img_in.dora_scale": mx.ones(3)}, {}, r"img_in\.dora_scale: is \(3,\); a magnitude"),
        ({"lora_unet_a.oft_blocks": mx.ones((2, 2))}, {}, "another kind of adapter"),
        ({"x" * 400: mx.ones((2, 2))}, {}, r"x\.\.\.: is not part of a LoRA"),
        ({"bundle_emb.sks.t5": mx.ones((2, 2))}, {}, "is an embedding"),
        ({"lora_te1_a.lora_down.weight": mx.ones((2, 2))}, {}, "is for a text encoder"),
        ({"transformer.txt_in.norm.weight": mx.ones(3)}, {}, r"txt_in\.norm\.weight: is not part of a LoRA"),
        ({"transformer.img_in.lora_B.bias": mx.ones(3)}, {}, r"lora_B\.bias: is not part of a LoRA"),
        ({"lora_unet_a.lora_down.weight": mx.ones((2, D)), "lora_unet_a.lora_up.weight": mx.ones((D, 2))}, {},
         r"lora_unet_a\.lora_down\.weight: names no layer"),
        ({"img_in.lora_A.weight": mx.ones((2, D)), "img_in.lora_B.weight": mx.ones((D, 2))}, {},
         "is for x_embedder, and so is"),
        ({f"{FUSED}.lora_down.weight": mx.ones((2, D)), f"{FUSED}.lora_up.weight": mx.ones((3 * D + 1, 2))}, {},
         r"has 25 rows; .* needs 8 \+ 8 \+ 8"),
        ({"transformer.txt_in.lora_A.weight": mx.ones((2, D)), "transformer.txt_in.lora_B.weight": mx.ones((D, 3))}, {},
         "do not share a rank"),
        ({"transformer.txt_in.alpha": mx.array(1.0)}, {}, "has no lora_A and lora_B"),
        ({"transformer.img_in.alpha": mx.ones(2)}, {}, "must be a single number"),
        ({"transformer.img_in.alpha": mx.array(mx.nan)}, {}, "alpha that is not a number"),
        ({"transformer.img_in.alpha": mx.array(1.0)}, {"lora_adapter_metadata": '{"lora_alpha": 1}'}, "alpha twice"),
        ({}, {"lora_adapter_metadata": '{"r": 2}'}, "lora_alpha that cannot be read"),
        ({}, {"lora_adapter_metadata": "[3]"}, "cannot be read"),
        ({}, {"lora_adapter_metadata": '{"lora_alpha": 1, "alpha_pattern": {"(": 2}}'}, "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_named(
    tmp_path: Path, tensors: dict[str, mx.array], metadata: dict[str, str], sentence: str
) -> None:
    path = save(tmp_path / "a.safetensors", PAIR | tensors, metadata)
    with pytest.raises(AdapterProblem, match=sentence):
        adapter_file.read(path, "flux1")


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("which", ["up", "down"])
@pytest.mark.parametrize(("layer", "rows"), [("lora_unet_img_in", D), (FUSED, 3 * D)], ids=["alone", "fused"])
def test_factors_of_zeros_are_refused(tmp_path: Path, layer: str, rows: int, which: str, zero: float) -> None:
    pair = {"down": mx.ones((2, D)), "up": mx.ones((rows, 2))}
    pair[which] = zero * pair[which]
    path = save(tmp_path / "a.safetensors", {f"{layer}.lora_{end}.weight": value for end, value in pair.items()})
    with pytest.raises(AdapterProblem, match=r"a\.safetensors is all zeros: it would change nothing"):
        adapter_file.read(path, "flux1")


def test_a_family_without_names_is_written_in_the_one_form_only(tmp_path: Path) -> None:
    factors = random_factors({"blocks.0.to_q": (D, D)})
    with pytest.raises(AdapterProblem, match="use the diffusers form"):
        kohya.write(tmp_path / "a.safetensors", factors, {}, "another")
    with pytest.raises(AdapterProblem, match=r"blocks\.0\.to_q: has no name"):
        kohya.write(tmp_path / "a.safetensors", factors, {}, "flux1")
    assert not list(tmp_path.iterdir())
    diffusers.write(tmp_path / "a.safetensors", factors, {})


def test_a_file_that_would_change_something_else_is_not_offered(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The written file is read as a stranger's: here the reader finds another change in it."""
    honest = adapter_file.read

    def dishonest(path: Path, family_name: str, name: str = "") -> adapter_file.AdapterFile:
        found = honest(path, family_name, name)
        path_of_one = next(iter(found.factors))
        a_RI, b_OR = found.factors[path_of_one]
        return adapter_file.AdapterFile(found.factors | {path_of_one: (a_RI, 1.01 * b_OR)}, {})

    monkeypatch.setattr(adapter_file, "read", dishonest)
    with pytest.raises(AdapterProblem, match="would not change as it was trained to"):
        kohya.write(tmp_path / "a.safetensors", of_model(family), {}, "flux1")
    assert not list(tmp_path.iterdir())
