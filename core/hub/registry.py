"""The models that Likeness knows by name besides Pocket: rows of facts.

    name   Hugging Face repository   parameters by part, shapes   licence   defaults for training and for drawing

Parameter counts are those of diffusers' and transformers' classes, built from each repository's config.json without
allocating; shapes are from the same configs (tests/interop compares both). A download has two bytes per parameter,
except Z-Image-Turbo's transformer, which is stored in float32.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PAGES = "https://huggingface.co"  # model pages, where users accept licences
VOCABULARY_BYTES = 16_000_000  # upper bound for tokenizers and configs

CLIP, T5_XXL = 123_060_480, 4_762_310_656
QWEN3_4B, QWEN3_8B, QWEN3_VL_4B = 4_022_468_096, 8_190_735_360, 4_437_815_808
FLUX1_VAE, FLUX2_VAE = 83_819_683, 84_046_115
T5_XXL_LAYER, QWEN3_4B_LAYER, QWEN3_8B_LAYER = 192_948_224, 100_930_816, 192_946_432  # parameters of the largest layer
VAE_CHANNELS = (128, 256, 512, 512)  # of all these VAEs, by resolution

APACHE = ("Apache 2.0", "Commercial use is allowed, of the model, of adapters and of pictures.")
DEV_TERMS = "FLUX.1 [dev] Non-Commercial License"
FLUX1_DEV = (
    DEV_TERMS,
    "The model and adapters trained on it are for non-commercial use only. Pictures may be used commercially, "
    "within the bounds of the licence.",
)
FLUX2_TERMS = "FLUX Non-Commercial License v2.1"
FLUX2 = (FLUX2_TERMS, "The model and adapters trained on it are for non-commercial use only.")
FLUX3_TERMS = "FLUX Kommunity License"
FLUX3 = (FLUX3_TERMS, "Read its terms on the model's page before any commercial use.")
USES = {"MIT": "commercial", APACHE[0]: "commercial", DEV_TERMS: "non-commercial", FLUX2_TERMS: "non-commercial"}
"""What a licence is for, in a word; others have to be read."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a Hugging Face repository."""

    repo: str
    name: str


@dataclass(frozen=True, slots=True)
class Shapes:
    """The sizes in a repository's configs on which memory depends."""

    transformer: Mapping[str, Any]  # values of its config.json
    text_layer: int  # parameters of the text encoders' largest layer


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """One model that can be downloaded: its description, sizes, and defaults for training and drawing."""

    name: str
    title: str
    what_for: str
    repo: str  # on Hugging Face
    pipeline: str  # diffusers' class, as its model_index.json names it
    terms: tuple[str, str]  # the licence, and its terms for commercial use
    parameters: Mapping[str, int]  # by part: the folders of the repository
    shapes: Shapes
    unread: int = 0  # parameters of the transformer that are never read
    item_bytes: Mapping[str, int] = field(default_factory=dict)  # per stored parameter, where it is not 2
    gated: str = ""  # what users must accept on the model's page before downloading; "" for nothing
    trains: bool = True  # whether to train it; distilled models are for drawing only
    draws_with: str = ""  # another model with which its adapters draw better
    assistant: HubFile | None = None  # active while the model is trained; downloaded after it
    defaults: Mapping[str, Any]  # knobs of core.config.train.TrainConfig
    drawing: Mapping[str, Any]  # {"steps", "guidance", "side_px"}: best settings for drawing

    @property
    def download_bytes(self) -> int:
        """Size of the download, to 0.1%; the exact size is known once the download begins."""
        weights = sum(count * self.item_bytes.get(part, 2) for part, count in self.parameters.items())
        return weights + VOCABULARY_BYTES

    @property
    def page(self) -> str:
        """Its page on Hugging Face, where users accept the licence."""
        return page_of(self.repo)


def page_of(repo: str) -> str:
    """The page of a repository: on Hugging Face, or on HF_ENDPOINT."""
    return f"{os.environ.get('HF_ENDPOINT', PAGES).rstrip('/')}/{repo}"


KLEIN_DEFAULTS = {"steps": 1000, "side_px": 512, "rank": 16, "learning_rate": 1e-4}
KLEIN_DRAWING = {"steps": 4, "guidance": 1.0, "side_px": 1024}
KLEIN_BASE_DRAWING = {"steps": 50, "guidance": 4.0, "side_px": 1024}
KLEIN_4B = Shapes(
    {
        "num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "attention_head_dim": 128,
        "joint_attention_dim": 7680, "mlp_ratio": 3.0,
    },
    QWEN3_4B_LAYER,
)  # fmt: skip
KLEIN_9B = Shapes(
    {
        "num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32, "attention_head_dim": 128,
        "joint_attention_dim": 12_288, "mlp_ratio": 3.0,
    },
    QWEN3_8B_LAYER,
)  # fmt: skip
KLEIN_4B_PARAMETERS = {"transformer": 3_875_544_576, "text_encoder": QWEN3_4B, "vae": FLUX2_VAE}
KLEIN_9B_PARAMETERS = {"transformer": 9_078_581_248, "text_encoder": QWEN3_8B, "vae": FLUX2_VAE}

Z_IMAGE_DEFAULTS = {"steps": 1000, "side_px": 512, "rank": 16, "learning_rate": 1e-4}
Z_IMAGE = Shapes(
    {"dim": 3840, "n_layers": 30, "n_refiner_layers": 2, "n_heads": 30, "cap_feat_dim": 2560}, QWEN3_4B_LAYER
)
Z_IMAGE_PARAMETERS = {"transformer": 6_154_908_736, "text_encoder": QWEN3_4B, "vae": FLUX1_VAE}

FLUX1_DEFAULTS = {
    "steps": 800, "side_px": 512, "rank": 16, "learning_rate": 1e-4,
    "train_guidance": 1.0,  # training at guidance 1 preserves the distillation; some scripts use 3.5
}  # fmt: skip

CHROMA_DEFAULTS = {"steps": 1000, "side_px": 512, "rank": 16, "learning_rate": 1e-4}
CHROMA = Shapes(
    {
        "num_layers": 19, "num_single_layers": 38, "num_attention_heads": 24, "attention_head_dim": 128,
        "joint_attention_dim": 4096, "approximator_num_channels": 64, "approximator_hidden_dim": 5120,
        "approximator_layers": 5,
    },
    T5_XXL_LAYER,
)  # fmt: skip

FLUX3_DEFAULTS = {"steps": 1000, "side_px": 512, "rank": 16, "learning_rate": 1e-4}
FLUX3_KLEIN_BASE = Shapes(
    {
        "num_layers": 5, "num_single_layers": 28, "num_attention_heads": 24, "attention_head_dim": 128,
        "joint_attention_dim": 20_480, "mlp_ratio": 3.0,
    },
    QWEN3_4B_LAYER,
)  # fmt: skip
FLUX3_KLEIN = Shapes({**FLUX3_KLEIN_BASE.transformer, "flow_map": True}, QWEN3_4B_LAYER)
FLUX3_REFERENCES = 670_434_560  # parameters for reference images


def _flux1_shapes(*, guidance: bool) -> Shapes:
    transformer = {
        "num_layers": 19, "num_single_layers": 38, "num_attention_heads": 24, "attention_head_dim": 128,
        "joint_attention_dim": 4096, "guidance_embeds": guidance,
    }  # fmt: skip
    return Shapes(transformer, T5_XXL_LAYER)


def _flux1_parameters(transformer: int) -> dict[str, int]:
    return {"transformer": transformer, "text_encoder": CLIP, "text_encoder_2": T5_XXL, "vae": FLUX1_VAE}


KNOWN: dict[str, KnownModel] = {
    row.name: row
    for row in (
        KnownModel(
            name="flux2-klein-base-4b",
            title="FLUX.2 klein base 4B",
            what_for="The first large model to try: small enough for most computers, free to use, made to be trained. "
            "Its adapters draw fastest with FLUX.2 klein 4B.",
            repo="black-forest-labs/FLUX.2-klein-base-4B",
            pipeline="Flux2KleinPipeline",
            terms=APACHE,
            parameters=KLEIN_4B_PARAMETERS,
            shapes=KLEIN_4B,
            draws_with="flux2-klein-4b",
            defaults=KLEIN_DEFAULTS,
            drawing=KLEIN_BASE_DRAWING,
        ),
        KnownModel(
            name="flux2-klein-4b",
            title="FLUX.2 klein 4B",
            what_for="Draws in four steps, with adapters that were trained on its base. Not made to be trained.",
            repo="black-forest-labs/FLUX.2-klein-4B",
            pipeline="Flux2KleinPipeline",
            terms=APACHE,
            parameters=KLEIN_4B_PARAMETERS,
            shapes=KLEIN_4B,
            trains=False,
            defaults=KLEIN_DEFAULTS,
            drawing=KLEIN_DRAWING,
        ),
        KnownModel(
            name="flux2-klein-base-9b",
            title="FLUX.2 klein base 9B",
            what_for="Finer pictures than 4B, for computers with much memory. Its adapters draw fastest with "
            "FLUX.2 klein 9B.",
            repo="black-forest-labs/FLUX.2-klein-base-9B",
            pipeline="Flux2KleinPipeline",
            terms=FLUX2,
            parameters=KLEIN_9B_PARAMETERS,
            shapes=KLEIN_9B,
            gated=FLUX2_TERMS,
            draws_with="flux2-klein-9b",
            defaults=KLEIN_DEFAULTS,
            drawing=KLEIN_BASE_DRAWING,
        ),
        KnownModel(
            name="flux2-klein-9b",
            title="FLUX.2 klein 9B",
            what_for="Draws in four steps, with adapters that were trained on its base. Not made to be trained.",
            repo="black-forest-labs/FLUX.2-klein-9B",
            pipeline="Flux2KleinPipeline",
            terms=FLUX2,
            parameters=KLEIN_9B_PARAMETERS,
            shapes=KLEIN_9B,
            gated=FLUX2_TERMS,
            trains=False,
            defaults=KLEIN_DEFAULTS,
            drawing=KLEIN_DRAWING,
        ),
        KnownModel(
            name="z-image",
            title="Z-Image",
            what_for="Photographs, and people above all, free to use. Made to be trained.",
            repo="Tongyi-MAI/Z-Image",
            pipeline="ZImagePipeline",
            terms=APACHE,
            parameters=Z_IMAGE_PARAMETERS,
            shapes=Z_IMAGE,
            defaults=Z_IMAGE_DEFAULTS,
            drawing={"steps": 50, "guidance": 5.0, "side_px": 1024},  # guidance 4 in diffusers, which adds 1 to it
        ),
        KnownModel(
            name="z-image-turbo",
            title="Z-Image Turbo",
            what_for="Draws in eight steps. It is distilled: an assistant adapter, which comes with the download, "
            "keeps it fast while it is trained.",
            repo="Tongyi-MAI/Z-Image-Turbo",
            pipeline="ZImagePipeline",
            terms=APACHE,
            parameters=Z_IMAGE_PARAMETERS,
            shapes=Z_IMAGE,
            item_bytes={"transformer": 4},
            assistant=HubFile("ostris/zimage_turbo_training_adapter", "zimage_turbo_training_adapter_v2.safetensors"),
            defaults=Z_IMAGE_DEFAULTS,
            drawing={"steps": 8, "guidance": 1.0, "side_px": 1024},
        ),
        KnownModel(
            name="flux1-dev",
            title="FLUX.1 dev",
            what_for="The model that most adapters have been made for. Large, and slow to draw with.",
            repo="black-forest-labs/FLUX.1-dev",
            pipeline="FluxPipeline",
            terms=FLUX1_DEV,
            parameters=_flux1_parameters(11_901_408_320),
            shapes=_flux1_shapes(guidance=True),
            gated=DEV_TERMS,
            defaults=FLUX1_DEFAULTS,
            drawing={"steps": 28, "guidance": 3.5, "side_px": 1024},
        ),
        KnownModel(
            name="flux1-krea-dev",
            title="FLUX.1 Krea dev",
            what_for="FLUX.1 dev with a look closer to photographs. Large, and slow to draw with.",
            repo="black-forest-labs/FLUX.1-Krea-dev",
            pipeline="FluxPipeline",
            terms=FLUX1_DEV,
            parameters=_flux1_parameters(11_901_408_320),
            shapes=_flux1_shapes(guidance=True),
            gated=DEV_TERMS,
            defaults=FLUX1_DEFAULTS,
            drawing={"steps": 28, "guidance": 4.5, "side_px": 1024},
        ),
        KnownModel(
            name="flux1-schnell",
            title="FLUX.1 schnell",
            what_for="Draws in four steps and is free to use. It is distilled: an assistant adapter, which comes with "
            "the download, keeps it fast while it is trained. It learns less well than FLUX.1 dev all the same.",
            repo="black-forest-labs/FLUX.1-schnell",
            pipeline="FluxPipeline",
            terms=APACHE,
            parameters=_flux1_parameters(11_891_178_560),
            shapes=_flux1_shapes(guidance=False),
            gated="its owner's conditions",
            assistant=HubFile("ostris/FLUX.1-schnell-training-adapter", "pytorch_lora_weights.safetensors"),
            defaults=FLUX1_DEFAULTS,
            drawing={"steps": 4, "guidance": 1.0, "side_px": 1024},
        ),
        KnownModel(
            name="chroma1-hd",
            title="Chroma1 HD",
            what_for="FLUX.1 schnell, made smaller and trained on without its distillation. Free to use, and made to "
            "be trained further. Large, and slow to draw with.",
            repo="lodestones/Chroma1-HD",
            pipeline="ChromaPipeline",
            terms=APACHE,
            parameters={"transformer": 8_899_983_424, "text_encoder": T5_XXL, "vae": FLUX1_VAE},
            shapes=CHROMA,
            defaults=CHROMA_DEFAULTS,
            drawing={"steps": 40, "guidance": 3.0, "side_px": 1024},
        ),
        KnownModel(
            name="flux3-klein-base",
            title="FLUX.3 klein base",
            what_for="The newest of its makers' small models, made to be trained. Its adapters draw fastest with "
            "FLUX.3 klein.",
            repo="black-forest-labs/flux-3-image-klein-base",
            pipeline="Flux3ModularPipeline",
            terms=FLUX3,
            parameters={"transformer": 5_538_458_368, "text_encoder": QWEN3_VL_4B, "vae": FLUX2_VAE},
            shapes=FLUX3_KLEIN_BASE,
            unread=FLUX3_REFERENCES,
            gated=FLUX3_TERMS,
            draws_with="flux3-klein",
            defaults=FLUX3_DEFAULTS,
            drawing={"steps": 50, "guidance": 3.5, "side_px": 1024},
        ),
        KnownModel(
            name="flux3-klein",
            title="FLUX.3 klein",
            what_for="Draws in sixteen steps, with adapters that were trained on its base. Not made to be trained.",
            repo="black-forest-labs/flux-3-image-klein",
            pipeline="Flux3DistilledModularPipeline",
            terms=FLUX3,
            parameters={"transformer": 5_548_681_984, "text_encoder": QWEN3_VL_4B, "vae": FLUX2_VAE},
            shapes=FLUX3_KLEIN,
            unread=FLUX3_REFERENCES,
            gated=FLUX3_TERMS,
            trains=False,
            defaults=FLUX3_DEFAULTS,
            drawing={"steps": 16, "guidance": 1.0, "side_px": 1024},
        ),
    )
}
"""In display order."""
