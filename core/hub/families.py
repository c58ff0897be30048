"""The families of models, each by its card: what is known of a family without its network.

    model_index.json  --pipeline-->  FamilyCard  --network-->  a class in core/models/

A family is four things: its card here, its network (core/models/<name>.py), its layers (core/adapters/layers.py), and
their names in other programs' adapter files (core/adapters/key_maps.py). Plain Python, for the web process too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from core.hub.layout import INDEX
from core.weights.recognize import CLIP, QWEN3, QWEN3_VL, T5

Config = Mapping[str, Any]
"""The values of a transformer/config.json."""
Setting = Callable[[str, str], Any]
"""(JSON file of a model folder, name) to the value, or None; INDEX stands for either index."""
Encoder = tuple[str, str, int]
"""A text encoder's kind (core/weights/recognize.py), and the transformer's size that is so many times its width."""
TRANSFORMER, SCHEDULER = "transformer/config.json", "scheduler/scheduler_config.json"
Z_IMAGE_TURBO_SHIFT = 3.0  # of its scheduler; the base model has 6
SCHNELL_SHIFT = 1.0  # of its scheduler: none; FLUX.1 dev has a dynamic one


def _says_so(setting: Setting) -> bool:
    return bool(setting(INDEX, "is_distilled"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyCard:
    """What the catalog and the memory forecast need to know of a family."""

    name: str
    pipelines: tuple[str, ...]  # diffusers' classes, as model_index.json names them
    network: str  # "module:class", imported by core/models/load.py
    like: Callable[[Setting], str]  # the known model whose defaults suit a folder
    distilled: Callable[[Setting], bool] = _says_so  # whether it was distilled to few steps, which training damages
    text_tokens: Callable[[Config], int]  # tokens of an encoded prompt, where prompts differ of most
    tokenizer: str = "tokenizer"  # the folder whose limit on tokens is that of prompts
    encoders: Mapping[str, Encoder]  # what fits a transformer of ComfyUI's, by the part's folder
    vae_statistics: bool = False  # whether its VAE's file holds the statistics of its latents, as FLUX.2's does
    elsewhere: str = ""  # which programs miss layers of its adapters in diffusers' names, in a sentence; empty for none
    unread: str = "(?!)"  # pattern in the names of the transformer's tensors that are never read; by default none


CARDS = (
    FamilyCard(
        name="flux1",
        pipelines=("FluxPipeline",),
        network="core.models.flux1:Flux1",
        like=lambda setting: "flux1-dev" if setting(TRANSFORMER, "guidance_embeds") else "flux1-schnell",
        distilled=lambda setting: _says_so(setting) or _is_schnell(setting),
        text_tokens=lambda config: 512 if config.get("guidance_embeds") else 256,
        tokenizer="tokenizer_2",
        encoders={
            "text_encoder": (CLIP, "pooled_projection_dim", 1),
            "text_encoder_2": (T5, "joint_attention_dim", 1),
        },
    ),
    FamilyCard(
        name="flux2",
        pipelines=("Flux2KleinPipeline",),
        network="core.models.flux2:Flux2",
        like=lambda setting: "flux2-klein-4b" if _says_so(setting) else "flux2-klein-base-4b",
        text_tokens=lambda _: 512,
        encoders={"text_encoder": (QWEN3, "joint_attention_dim", 3)},
        vae_statistics=True,
        elsewhere="ComfyUI before 0.11 (January 2026) and Forge before February 2026 leave out up to 60% of the layers "
        "of this file and draw on. In kohya's format they take all of them.",
    ),
    FamilyCard(
        name="z_image",
        pipelines=("ZImagePipeline",),
        network="core.models.z_image:ZImage",
        like=lambda setting: "z-image-turbo" if _is_turbo(setting) else "z-image",
        distilled=lambda setting: _is_turbo(setting),
        text_tokens=lambda _: 128,
        encoders={"text_encoder": (QWEN3, "cap_feat_dim", 1)},
    ),
    FamilyCard(
        name="chroma",
        pipelines=("ChromaPipeline",),
        network="core.models.chroma:Chroma",
        like=lambda _: "chroma1-hd",
        text_tokens=lambda _: 128,
        encoders={"text_encoder": (T5, "joint_attention_dim", 1)},
    ),
    FamilyCard(
        name="flux3",
        pipelines=("Flux3ModularPipeline", "Flux3DistilledModularPipeline"),
        network="core.models.flux3:Flux3",
        like=lambda setting: "flux3-klein" if _is_flow_map(setting) else "flux3-klein-base",
        distilled=lambda setting: _is_flow_map(setting),
        text_tokens=lambda _: 80,
        elsewhere="diffusers reads this file. ComfyUI does not list FLUX.3 among its models yet (0.38); a version that "
        "does may take kohya's format alone, which has the names of the model's own code.",
        unread=r"\bimage_cond\b",
        encoders={"text_encoder": (QWEN3_VL, "joint_attention_dim", 8)},
        vae_statistics=True,
    ),
)
FAMILIES = {card.name: card for card in CARDS}


def _is_schnell(setting: Setting) -> bool:
    """Pocket has no guidance input either, but a shift."""
    dynamic, shift = setting(SCHEDULER, "use_dynamic_shifting"), setting(SCHEDULER, "shift")
    return not setting(TRANSFORMER, "guidance_embeds") and not dynamic and shift == SCHNELL_SHIFT


def _is_turbo(setting: Setting) -> bool:
    return bool(setting(SCHEDULER, "shift") == Z_IMAGE_TURBO_SHIFT)


def _is_flow_map(setting: Setting) -> bool:
    return bool(setting(TRANSFORMER, "flow_map"))
