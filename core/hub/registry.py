"""The models that Likeness knows by name beside Pocket: nine rows of facts, and nothing else.

    name   the hub's repository   parameters by part, shapes   licence   how to train it, how to draw with it

Parameters are those of diffusers' and transformers' own classes, built to each repository's config.json without
allocating, and shapes are what those configs say of sizes (tests/interop counts both again). A download holds the
parameters in 16 bits, but for Z-Image-Turbo's transformer, which lies there in 32.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PAGES = "https://huggingface.co"  # where a person reads about a model and accepts its licence
VOCABULARY_BYTES = 16_000_000  # at most: tokenizers and configs, beside the weights

CLIP, T5_XXL = 123_060_480, 4_762_310_656
QWEN3_4B, QWEN3_8B = 4_022_468_096, 8_190_735_360
FLUX1_VAE, FLUX2_VAE = 83_819_683, 84_046_115
T5_XXL_LAYER, QWEN3_4B_LAYER, QWEN3_8B_LAYER = 192_948_224, 100_930_816, 192_946_432  # parameters of the largest
VAE_CHANNELS = (128, 256, 512, 512)  # of every one of them, by resolution

APACHE = ("Apache 2.0", "Commercial use is allowed, of the model, of adapters and of pictures.")
DEV_TERMS = "FLUX.1 [dev] Non-Commercial License"
FLUX1_DEV = (
    DEV_TERMS,
    "The model and adapters trained on it are for non-commercial use only. Pictures may be used commercially, "
    "within the bounds of the licence.",
)
FLUX2_TERMS = "FLUX Non-Commercial License v2.1"
FLUX2 = (FLUX2_TERMS, "The model and adapters trained on it are for non-commercial use only.")


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository on the hub."""

    repo: str
    name: str


@dataclass(frozen=True, slots=True)
class Shapes:
    """What a repository's configs say of sizes, as far as memory is concerned."""

    transformer: Mapping[str, Any]  # those values of its config.json
    text_layer: int  # parameters of the text encoders' largest layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One model that can be downloaded: what a person reads about it, what it takes, and the knobs it sets."""

    name: str
    title: str
    what_for: str
    repo: str  # on the hub
    pipeline: str  # diffusers' class, as its model_index.json names it
    terms: tuple[str, str]  # the licence, and what it says about commercial use
    parameters: Mapping[str, int]  # by part: the folders of the repository
    shapes: Shapes
    item_bytes: Mapping[str, int] = field(default_factory=dict)  # of a parameter on the hub, where it is not 2
    gated: str = ""  # what has to be accepted on the model's page before its files are handed out; "" for nothing
    trains: bool = True  # whether a run should start from it; a distilled model is only drawn with
    draws_with: str = ""  # the model that its adapters draw best with, where that is another one
    assistant: HubFile | None = None  # the adapter that is on while it is trained; it comes after the model itself
    defaults: Mapping[str, Any]  # knobs of core.config.train.TrainConfig
    drawing: Mapping[str, Any]  # {"steps", "guidance", "side_px"}: how it is drawn with best

    @property
    def download_bytes(self) -> int:
        """What a download of the model takes, to 0.1%; the hub says it to the byte before the download begins."""
        weights = sum(count * self.item_bytes.get(part, 2) for part, count in self.parameters.items())
        return weights + VOCABULARY_BYTES

    @property
    def page(self) -> str:
        """Where a person reads about it and accepts its licence."""
        return f"{os.environ.get('HF_ENDPOINT', PAGES).rstrip('/')}/{self.repo}"


def _flux1(transformer: int = 11_901_408_320, *, guidance: bool = True) -> dict[str, Any]:
    """What the three FLUX.1 models have in common."""
    blocks = {"num_layers": 19, "num_single_layers": 38, "num_attention_heads": 24, "attention_head_dim": 128}
    shapes = Shapes(blocks | {"joint_attention_dim": 4096, "guidance_embeds": guidance}, T5_XXL_LAYER)
    parts = {"transformer": transformer, "text_encoder": CLIP, "text_encoder_2": T5_XXL, "vae": FLUX1_VAE}
    knobs = {"steps": 800, "side_px": 512, "rank": 16, "learning_rate": 1e-4}
    # Guidance 1 while training is what keeps the distillation; some scripts begin with 3.5.
    knobs |= {"train_guidance": 1.0}
    return {"pipeline": "FluxPipeline", "parameters": parts, "shapes": shapes, "defaults": knobs}


def _klein(transformer: int, text_encoder: int, shapes: Shapes, *, base: bool) -> dict[str, Any]:
    """What the FLUX.2-klein models have in common: the base takes true guidance, the distilled one four steps."""
    parts = {"transformer": transformer, "text_encoder": text_encoder, "vae": FLUX2_VAE}
    how = {"steps": 50, "guidance": 4.0} if base else {"steps": 4, "guidance": 1.0}
    return {
        "pipeline": "Flux2KleinPipeline",
        "parameters": parts,
        "shapes": shapes,
        "trains": base,
        "defaults": {"steps": 1000, "side_px": 512, "rank": 16, "learning_rate": 1e-4},
        "drawing": how | {"side_px": 1024},
    }


def _z_image() -> dict[str, Any]:
    """What both Z-Image models have in common."""
    blocks = {"dim": 3840, "n_layers": 30, "n_refiner_layers": 2, "n_heads": 30}
    return {
        "pipeline": "ZImagePipeline",
        "terms": APACHE,
        "parameters": {"transformer": 6_154_908_736, "text_encoder": QWEN3_4B, "vae": FLUX1_VAE},
        "shapes": Shapes(blocks | {"cap_feat_dim": 2560}, QWEN3_4B_LAYER),
        "defaults": {"steps": 1000, "side_px": 512, "rank": 16, "learning_rate": 1e-4},
    }


def _klein_4b(base: bool) -> dict[str, Any]:
    blocks = {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "attention_head_dim": 128}
    shapes = Shapes(blocks | {"joint_attention_dim": 7680, "mlp_ratio": 3.0}, QWEN3_4B_LAYER)
    return {"terms": APACHE, **_klein(3_875_544_576, QWEN3_4B, shapes, base=base)}


def _klein_9b(base: bool) -> dict[str, Any]:
    blocks = {"num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32, "attention_head_dim": 128}
    shapes = Shapes(blocks | {"joint_attention_dim": 12_288, "mlp_ratio": 3.0}, QWEN3_8B_LAYER)
    return {"terms": FLUX2, "gated": FLUX2_TERMS, **_klein(9_078_581_248, QWEN3_8B, shapes, base=base)}


KNOWN: dict[str, Known] = {
    row.name: row
    for row in (
        Known(
            name="flux2-klein-base-4b",
            title="FLUX.2 klein base 4B",
            what_for="The first large model to try: small enough for most computers, free to use, made to be trained. "
            "Its adapters draw quickest with FLUX.2 klein 4B.",
            repo="black-forest-labs/FLUX.2-klein-base-4B",
            draws_with="flux2-klein-4b",
            **_klein_4b(base=True),
        ),
        Known(
            name="flux2-klein-4b",
            title="FLUX.2 klein 4B",
            what_for="Draws in four steps, with adapters that were trained on its base. Not made to be trained.",
            repo="black-forest-labs/FLUX.2-klein-4B",
            **_klein_4b(base=False),
        ),
        Known(
            name="flux2-klein-base-9b",
            title="FLUX.2 klein base 9B",
            what_for="Finer pictures than 4B, for computers with much memory. Its adapters draw quickest with "
            "FLUX.2 klein 9B.",
            repo="black-forest-labs/FLUX.2-klein-base-9B",
            draws_with="flux2-klein-9b",
            **_klein_9b(base=True),
        ),
        Known(
            name="flux2-klein-9b",
            title="FLUX.2 klein 9B",
            what_for="Draws in four steps, with adapters that were trained on its base. Not made to be trained.",
            repo="black-forest-labs/FLUX.2-klein-9B",
            **_klein_9b(base=False),
        ),
        Known(
            name="z-image",
            title="Z-Image",
            what_for="Photographs, and people above all, free to use. Made to be trained.",
            repo="Tongyi-MAI/Z-Image",
            drawing={"steps": 50, "guidance": 5.0, "side_px": 1024},  # diffusers calls it 4: it adds, we weigh
            **_z_image(),
        ),
        Known(
            name="z-image-turbo",
            title="Z-Image Turbo",
            what_for="Draws in eight steps. It is distilled: an assistant adapter, which comes with the download, "
            "keeps it quick while it is trained.",
            repo="Tongyi-MAI/Z-Image-Turbo",
            item_bytes={"transformer": 4},
            assistant=HubFile("ostris/zimage_turbo_training_adapter", "zimage_turbo_training_adapter_v2.safetensors"),
            drawing={"steps": 8, "guidance": 1.0, "side_px": 1024},
            **_z_image(),
        ),
        Known(
            name="flux1-dev",
            title="FLUX.1 dev",
            what_for="The model that most adapters have been made for. Large, and slow to draw with.",
            repo="black-forest-labs/FLUX.1-dev",
            terms=FLUX1_DEV,
            gated=DEV_TERMS,
            drawing={"steps": 28, "guidance": 3.5, "side_px": 1024},
            **_flux1(),
        ),
        Known(
            name="flux1-krea-dev",
            title="FLUX.1 Krea dev",
            what_for="FLUX.1 dev with a look nearer to photographs. Large, and slow to draw with.",
            repo="black-forest-labs/FLUX.1-Krea-dev",
            terms=FLUX1_DEV,
            gated=DEV_TERMS,
            drawing={"steps": 28, "guidance": 4.5, "side_px": 1024},
            **_flux1(),
        ),
        Known(
            name="flux1-schnell",
            title="FLUX.1 schnell",
            what_for="Draws in four steps and is free to use. It is distilled, so it learns less well than FLUX.1 dev.",
            repo="black-forest-labs/FLUX.1-schnell",
            terms=APACHE,
            gated="its owner's conditions",
            drawing={"steps": 4, "guidance": 1.0, "side_px": 1024},
            **_flux1(11_891_178_560, guidance=False),
        ),
    )
}
"""In the order in which they are shown."""
