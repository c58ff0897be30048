"""The forms of adapter files held against diffusers and PEFT: at full size by every name, and by the change they make.

A model at full size has weights that nobody wrote to: memory that is never touched takes none.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import (
    ChromaPipeline,
    ChromaTransformer2DModel,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    Flux3Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_flux3_lora_to_diffusers
from diffusers.loaders.single_file_utils import convert_flux3_transformer_checkpoint_to_diffusers
from diffusers.modular_pipelines.flux3.denoise import Flux3DenoiseStep
from diffusers.modular_pipelines.flux3.modular_pipeline import Flux3ModularPipeline
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict

from bench import real_models as real
from core.adapters import diffusers, kohya, merge
from core.adapters import file as adapter_file
from core.adapters.key_maps import FAMILIES
from core.adapters.lora import Factors
from tests import tiny_chroma, tiny_klein, tiny_z_image
from tests.core.test_adapter_forms import check_same, random_factors
from tests.interop.reference import randomized
from tests.interop.test_adapter import trained
from tests.interop.test_transformer import SMALL
from tests.tiny import make_model_folder

TOLERANCE = 1e-3  # of a layer's change, relative; the files hold bfloat16
BLOCKS = r"(single_)?transformer_blocks\.\d+\."
FLUX_ATTENTION = r"attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"


@dataclass(frozen=True)
class Reference:
    """A model of diffusers at full size, and the layers that an adapter of ours has there."""

    family: str
    pipeline: type
    network: Callable[..., torch.nn.Module]
    config: Mapping[str, Any]
    adapted: str  # pattern of module paths
    layers: int

    def laid_out(self) -> torch.nn.Module:
        """The transformer without memory for its weights."""
        with torch.device("meta"):
            return self.network(**self.config).to(torch.bfloat16)

    def sizes(self, transformer: torch.nn.Module) -> dict[str, tuple[int, int]]:
        """(out, in) of the adapted layers."""
        found = {
            name: (module.out_features, module.in_features)
            for name, module in transformer.named_modules()
            if isinstance(module, torch.nn.Linear) and re.fullmatch(self.adapted, name)
        }
        assert len(found) == self.layers
        return found

    def loaded(self) -> tuple[Any, dict[str, tuple[int, int]]]:
        """The pipeline with nothing but an empty transformer, and (out, in) of the adapted layers."""
        transformer = self.laid_out()
        transformer.to_empty(device="cpu")
        if self.pipeline is Flux3ModularPipeline:
            pipeline = Flux3DenoiseStep().init_pipeline()
            pipeline.update_components(transformer=transformer)
            return pipeline, self.sizes(transformer)
        others = {"text_encoder_2": None, "tokenizer_2": None} if self.pipeline is FluxPipeline else {}
        parts = {"scheduler": None, "vae": None, "text_encoder": None, "tokenizer": None, **others}
        return self.pipeline(transformer=transformer, **parts), self.sizes(transformer)


FLUX1 = BLOCKS + rf"({FLUX_ATTENTION}|ff(_context)?\.net\.(0\.proj|2)|proj_mlp|proj_out)"
FLUX2 = BLOCKS + rf"({FLUX_ATTENTION}|ff(_context)?\.linear_(in|out)|attn\.(to_qkv_mlp_proj|to_out))"
FLUX3 = (
    r"(txt_mode_blocks|mode_blocks\.image|single_transformer_blocks)\.\d+\."
    r"(attn\.to_([qkv]|out\.0)|ff\.linear_(in|out))"
)
Z_IMAGE = r"(layers|noise_refiner|context_refiner)\.\d+\.(attention\.(to_[qkv]|to_out\.0)|feed_forward\.w[123])"
REFERENCES = {
    "FLUX.1-dev": Reference("flux1", FluxPipeline, FluxTransformer2DModel, real.FLUX1_DEV, FLUX1, 19 * 12 + 38 * 5),
    "klein-4B": Reference("flux2", Flux2KleinPipeline, Flux2Transformer2DModel, real.KLEIN_4B, FLUX2, 5 * 12 + 20 * 2),
    "klein-9B": Reference("flux2", Flux2KleinPipeline, Flux2Transformer2DModel, real.KLEIN_9B, FLUX2, 8 * 12 + 24 * 2),
    "Z-Image": Reference("z_image", ZImagePipeline, ZImageTransformer2DModel, real.Z_IMAGE, Z_IMAGE, 34 * 7),
    "FLUX.3 klein": Reference(
        "flux3", Flux3ModularPipeline, Flux3Transformer2DModel, real.FLUX3_KLEIN_BASE, FLUX3, (5 + 5 + 28) * 6
    ),
    "Chroma1-HD": Reference(
        "chroma", ChromaPipeline, ChromaTransformer2DModel, real.CHROMA1_HD, FLUX1, 19 * 12 + 38 * 5
    ),
}


def as_torch(value: mx.array) -> torch.Tensor:
    return torch.from_numpy(np.array(value.astype(mx.float32)))


def lora_layers(module: torch.nn.Module) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """What each adapted layer of a module adds to its output, by path."""
    found = {}
    for name, layer in module.named_modules():
        if isinstance(layer, LoraLayer) and layer.active_adapters:
            adapter = layer.active_adapters[0]
            a, b = layer.lora_A[adapter].weight.float(), layer.lora_B[adapter].weight.float()
            found[name] = lambda x, a=a, b=b, scale=layer.scaling[adapter]: scale * (x @ a.T) @ b.T
    return found


def check_changes(module: torch.nn.Module, factors: Factors) -> None:
    """Every layer, and no other, adds what ours adds."""
    theirs = lora_layers(module)
    assert theirs.keys() == factors.keys()
    for path, (a_RI, b_OR) in factors.items():
        x = torch.randn(4, a_RI.shape[1], generator=torch.Generator().manual_seed(0))
        expected = (x @ as_torch(a_RI).T) @ as_torch(b_OR).T
        assert torch.linalg.norm(theirs[path](x) - expected) <= TOLERANCE * torch.linalg.norm(expected), path


def load(pipeline: Any, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`load_lora_weights`, which only warns about what it leaves out: here a warning fails."""
    logging.getLogger("diffusers").propagate = True
    with caplog.at_level(logging.WARNING):
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    said = [record.getMessage() for record in caplog.records if "eys" in record.getMessage()]
    # Of text encoders, there or not, it says that they have no adapter; of the transformer nothing may be said.
    assert not [text for text in said if not re.search("CLIPTextModel|T5EncoderModel|Qwen3|NoneType", text)]


def in_the_makers_names(tensors: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """An adapter of FLUX.3 in kohya's form as ai-toolkit would save it: dots, lora_A and lora_B, and no alpha."""
    dotted = {
        row.theirs.format(number).replace(".", "_"): row.theirs.format(number)
        for row in FAMILIES["flux3"]
        for number in range(28)
    }
    ends = {"lora_down": "lora_A", "lora_up": "lora_B"}
    found = {}
    for name, value in tensors.items():
        layer, _, rest = name.removeprefix("lora_unet_").partition(".")
        if rest != "alpha":
            found[f"diffusion_model.{dotted[layer]}.{ends[rest.partition('.')[0]]}.weight"] = value
    return found


def test_the_makers_names_of_flux3s_layers_are_those_that_diffusers_reads() -> None:
    """Its table for adapters has the layers of blocks, its table for whole checkpoints has all."""
    rows = [row for row in FAMILIES["flux3"] if row.theirs != row.ours[0]]
    wanted = {row.ours[0].format(3): row.theirs.format(3) for row in rows}
    whole = convert_flux3_transformer_checkpoint_to_diffusers(
        {f"{theirs}.weight": torch.zeros(2, 2) for theirs in wanted.values()}
    )
    assert {name.removesuffix(".weight") for name in whole} == set(wanted)
    blocks = {ours: theirs for ours, theirs in wanted.items() if "blocks." in ours}
    assert len(blocks) == 3 * 6
    converted = _convert_non_diffusers_flux3_lora_to_diffusers(
        {f"diffusion_model.{theirs}.lora_A.weight": ours for ours, theirs in blocks.items()}
    )
    assert converted == {f"transformer.{ours}.lora_A.weight": ours for ours in blocks}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("form", ["diffusers", "kohya"])
def test_every_layer_at_full_size_loads_and_changes_the_same(
    tmp_path: Path, name: str, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    reference = REFERENCES[name]
    pipeline, sizes = reference.loaded()
    factors = random_factors(sizes, (2,))
    file = tmp_path / "a.safetensors"
    if form == "kohya" and reference.family == "flux3":  # diffusers reads its own names and the makers', not kohya's
        kohya.write(file, factors, {"format": "pt"}, reference.family)
        mx.save_safetensors(str(file), in_the_makers_names(mx.load(str(file))))
    elif form == "kohya":
        kohya.write(file, factors, {"format": "pt"}, reference.family)
    else:
        diffusers.write(file, factors, {"format": "pt"})
    load(pipeline, file, caplog)
    check_changes(pipeline.transformer, factors)


@dataclass(frozen=True)
class Trained:
    """A small model to train, and the layers whose adapter diffusers takes from kohya's form at such a width."""

    pipeline: type
    make: Callable[[Path], Path]
    targets: str


TRAINED = {  # diffusers splits FLUX.1's linear1 at 3072, whatever its width
    "flux1": Trained(FluxPipeline, make_model_folder, "transformer_blocks.*"),
    "flux2": Trained(Flux2KleinPipeline, tiny_klein.make_model_folder, "all_linear"),
    "z_image": Trained(ZImagePipeline, tiny_z_image.make_model_folder, "all_linear"),
    "chroma": Trained(ChromaPipeline, tiny_chroma.make_model_folder, "transformer_blocks.*"),
}


@pytest.mark.parametrize("name", TRAINED)
def test_an_adapter_trained_here_makes_its_change_there_from_kohyas_form(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    row = TRAINED[name]
    folder = row.make(tmp_path / "model")
    held = adapter_file.read(trained(folder, tmp_path, targets=row.targets), name)
    kohya.write(tmp_path / "kohya.safetensors", held.factors, held.metadata, name)
    pipeline = row.pipeline.from_pretrained(folder, dtype=torch.float32)
    load(pipeline, tmp_path / "kohya.safetensors", caplog)
    check_changes(pipeline.transformer, held.factors)


@pytest.mark.parametrize("ranks", [(3,), (4, 1, 2)], ids=["one rank", "many ranks"])
def test_attention_alone_and_mixed_ranks_load_from_kohyas_form(
    tmp_path: Path, ranks: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """FLUX.1's linear1 then has rows of the MLP without an adapter; diffusers gives those a change of zero."""
    pipeline, sizes = REFERENCES["FLUX.1-dev"].loaded()
    attention = {path: size for path, size in sizes.items() if ".attn." in path and re.search(r"\.[07]\.", path)}
    factors = random_factors(attention, ranks)
    kohya.write(tmp_path / "a.safetensors", factors, {}, "flux1")
    load(pipeline, tmp_path / "a.safetensors", caplog)
    nothing = {
        path: (mx.ones((1, size[1])), mx.zeros((size[0], 1)))
        for path, size in sizes.items()
        if path.endswith("proj_mlp") and path.replace("proj_mlp", "attn.to_q") in attention
    }
    check_changes(pipeline.transformer, {**factors, **nothing})


PEFT = {
    "r": 4, "lora_alpha": 6, "rank_pattern": {"to_k": 2, "proj_mlp": 5}, "alpha_pattern": {"to_k": 5, "1.attn.to_v": 1},
    "init_lora_weights": False,
}  # fmt: skip


def trained_by_peft(rslora: bool) -> tuple[Any, dict[str, tuple[mx.array, mx.array]]]:
    """A small model with an adapter of PEFT's own, and its factors with PEFT's scaling in B."""
    torch.manual_seed(0)
    transformer = randomized(FluxTransformer2DModel(**SMALL), seed=1)
    config = LoraConfig(**PEFT, use_rslora=rslora, target_modules=FLUX1)
    model = get_peft_model(transformer, config)
    factors = {}
    for name, layer in model.get_base_model().named_modules():
        if isinstance(layer, LoraLayer):
            a, b = (part["default"].weight.detach().numpy() for part in (layer.lora_A, layer.lora_B))
            factors[name] = (mx.array(a), mx.array(b) * layer.scaling["default"])
    return model, factors


@pytest.mark.parametrize("rslora", [False, True], ids=["alpha/r", "rslora"])
def test_kohyas_diffusers_and_pefts_files_of_one_adapter_make_one_change(tmp_path: Path, rslora: bool) -> None:
    model, factors = trained_by_peft(rslora)
    model.save_pretrained(tmp_path)
    config = model.peft_config["default"].to_dict()
    config["target_modules"] = sorted(factors)
    FluxPipeline.save_lora_weights(
        tmp_path,
        transformer_lora_layers=get_peft_model_state_dict(model),
        transformer_lora_adapter_metadata=config,
        weight_name="diffusers.safetensors",
    )
    tensors = kohya.tensors_of(factors, "flux1")
    for key in [key for key in tensors if key.endswith(".alpha")]:  # another alpha, as kohya's trainers leave it in
        tensors[key] = 0.5 * tensors[key]
        up = key.replace(".alpha", ".lora_up.weight")
        tensors[up] = 2.0 * tensors[up]
    mx.save_safetensors(str(tmp_path / "kohya.safetensors"), tensors)
    for name in ("adapter_model", "diffusers", "kohya"):
        check_same(adapter_file.read(tmp_path / f"{name}.safetensors", "flux1").factors, factors, error=1e-6)


def test_the_merged_file_is_what_diffusers_fuses(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "model")
    pipeline = FluxPipeline.from_pretrained(folder, dtype=torch.float32)
    linear = {name: module for name, module in pipeline.transformer.named_modules() if re.fullmatch(FLUX1, name)}
    factors = random_factors({name: tuple(module.weight.shape) for name, module in linear.items()}, (3, 1))
    diffusers.write(tmp_path / "a.safetensors", factors, {})
    pipeline.load_lora_weights(str(tmp_path), weight_name="a.safetensors")
    pipeline.fuse_lora(lora_scale=0.7)
    pipeline.unload_lora_weights()

    target = tmp_path / "merged"
    merge.write(target / "diffusion_pytorch_model.safetensors", folder / "transformer", factors, {}, strength=0.7)
    shutil.copy(folder / "transformer" / "config.json", target)
    weights: Mapping[str, torch.Tensor] = FluxTransformer2DModel.from_pretrained(target).state_dict()
    for name, expected in pipeline.transformer.state_dict().items():
        assert torch.linalg.norm(weights[name] - expected) <= 1e-6 * torch.linalg.norm(expected), name
