"""mflux matches whole names and only prints those that it has no place for: every layer of ours is on its list.

The lists were written down from mflux 0.24.0's mappings; its loader itself has read our files of every family at full
size (in diffusers' form, and for FLUX.1 and FLUX.2 in kohya's) and made the same change in every layer. Its packages
cannot be installed beside ours on Linux, so what is held here is names.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import mlx.core as mx
import pytest

from core.adapter_names import FAMILIES
from core.export import adapter_file, diffusers, kohya
from core.models.base import Family
from core.models.load import load_family
from core.weights import read_header
from tests import tiny_klein, tiny_z_image
from tests.core.test_adapter_forms import D, of_model, random_factors

FLUX_DOUBLE = {
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
    "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out",
}  # fmt: skip
FLUX1 = {f"transformer_blocks.N.{name}" for name in FLUX_DOUBLE} | {
    "transformer_blocks.N.ff.net.0.proj", "transformer_blocks.N.ff.net.2",
    "transformer_blocks.N.ff_context.net.0.proj", "transformer_blocks.N.ff_context.net.2",
    "single_transformer_blocks.N.attn.to_q", "single_transformer_blocks.N.attn.to_k",
    "single_transformer_blocks.N.attn.to_v", "single_transformer_blocks.N.proj_mlp",
    "single_transformer_blocks.N.proj_out",
}  # fmt: skip
FLUX2 = {f"transformer_blocks.N.{name}" for name in FLUX_DOUBLE} | {
    "transformer_blocks.N.ff.linear_in", "transformer_blocks.N.ff.linear_out",
    "transformer_blocks.N.ff_context.linear_in", "transformer_blocks.N.ff_context.linear_out",
    "single_transformer_blocks.N.attn.to_qkv_mlp_proj", "single_transformer_blocks.N.attn.to_out",
}  # fmt: skip
Z_IMAGE = {
    f"{stack}.N.{name}"
    for stack in ("layers", "noise_refiner", "context_refiner")
    for name in ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0",
                 "feed_forward.w1", "feed_forward.w2", "feed_forward.w3")
}  # fmt: skip
KOHYA_FLUX1 = {
    "double_blocks_N_img_attn_qkv", "double_blocks_N_img_attn_proj", "double_blocks_N_img_mlp_0",
    "double_blocks_N_img_mlp_2", "double_blocks_N_txt_attn_qkv", "double_blocks_N_txt_attn_proj",
    "double_blocks_N_txt_mlp_0", "double_blocks_N_txt_mlp_2", "single_blocks_N_linear1", "single_blocks_N_linear2",
}  # fmt: skip
LISTS = {"flux1": FLUX1, "flux2": FLUX2, "z_image": Z_IMAGE}


def layers_of(file: Path, end: str) -> set[str]:
    """The layers in a file, N for the block's number; every tensor must end as mflux wants it."""
    names = list(read_header(file).tensors)
    assert all(re.fullmatch(rf".+({end})", name) for name in names)
    return {re.sub(r"([._])\d+([._])", r"\1N\2", re.sub(rf"({end})$", "", name), count=1) for name in names}


def test_every_layer_that_a_run_trains_has_a_name_in_mflux(family: Family, tmp_path: Path) -> None:
    diffusers.write(tmp_path / "a.safetensors", of_model(family), {})
    found = layers_of(tmp_path / "a.safetensors", r"\.lora_[AB]\.weight")
    assert found == {f"transformer.{name}" for name in FLUX1}
    kohya.write(tmp_path / "a.safetensors", of_model(family), {}, "flux1")
    found = layers_of(tmp_path / "a.safetensors", r"\.lora_(down|up)\.weight|\.alpha")
    assert found == {f"lora_unet_{name}" for name in KOHYA_FLUX1}


@pytest.mark.parametrize("tiny_folder", [tiny_klein, tiny_z_image], ids=["klein", "Z-Image"])
def test_every_layer_of_a_younger_family_that_a_run_trains_has_a_name_in_mflux(
    tmp_path: Path, tiny_folder: ModuleType
) -> None:
    family = load_family(tiny_folder.make_model_folder(tmp_path / "model"))
    for form in (diffusers, kohya):
        more = (family.name,) if form is kohya else ()
        form.write(tmp_path / "a.safetensors", of_model(family), {}, *more)
        layers = adapter_file.read(tmp_path / "a.safetensors", family.name).factors
        assert {re.sub(r"\.\d+\.", ".N.", layer, count=1) for layer in layers} == LISTS[family.name]


@pytest.mark.parametrize("family_name", LISTS)
def test_the_layers_on_the_list_are_those_of_the_table(tmp_path: Path, family_name: str) -> None:
    """A name that the table has no row for could not be written in any other form."""
    known = {ours.replace("{}", "N") for row in FAMILIES[family_name] for ours in row.ours}
    assert LISTS[family_name] <= known


def test_mfluxs_own_files_of_flux2_are_read(tmp_path: Path) -> None:
    """It leaves out the .0 of to_out, in every double block, and keeps its factors in float32."""
    pair = random_factors({"a": (D, D)})["a"]
    name = "transformer.transformer_blocks.3.attn.to_out"
    tensors = {f"{name}.lora_A.weight": pair[0], f"{name}.lora_B.weight": pair[1]}
    mx.save_safetensors(str(tmp_path / "a.safetensors"), tensors, {"mflux_version": "0.24.0"})
    found = adapter_file.read(tmp_path / "a.safetensors", "flux2").factors
    assert list(found) == ["transformer_blocks.3.attn.to_out.0"]
