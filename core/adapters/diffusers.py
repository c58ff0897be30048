"""The portable adapter file: diffusers, ComfyUI, mflux, Forge and Draw Things all read it, at the same strength.

    transformer.<module path>.lora_A.weight   (rank, in)        bfloat16, alpha / rank multiplied into B,
    transformer.<module path>.lora_B.weight   (out, rank)       no alpha tensors, metadata of strings only

Most of those programs silently skip unknown tensors, so every file is read back and compared, and one without effect
is refused. The header contains no captions and no file names of the user.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import mlx.core as mx

from core.adapters import file as adapter_file
from core.adapters.key_maps import DIFFUSERS, TRIGGER
from core.adapters.lora import Factors
from core.config.optimizer_defaults import TRAITS
from core.config.train import TrainConfig

CONFIG_KNOBS = (
    "learning_rate", "schedule", "warmup_steps", "weight_decay", "clip_norm", "ema_decay", "sigma_draw", "targets",
    "ranks", "batch_size", "accumulate", "side_px",
)  # fmt: skip
"""Knobs in the header's training_config; others have header fields of their own."""


def write(path: Path, factors: Factors, metadata: Mapping[str, str]) -> None:
    """Write (A, alpha / rank * B) by module path to `path`, atomically, and compare it with what is read back.

    Raises AdapterProblem when it is without effect or not finite, DiskProblem when it cannot be written.
    """
    adapter_file.check_worth(factors)
    adapter_file.write(path, tensors_of(factors), metadata)


def tensors_of(factors: Factors) -> dict[str, mx.array]:
    """The tensors of the file: bfloat16, by their names in diffusers."""
    tensors: dict[str, mx.array] = {}
    for module, (a_RI, b_OR) in factors.items():
        tensors[f"{DIFFUSERS}{module}.lora_A.weight"] = mx.contiguous(a_RI.astype(mx.bfloat16))
        tensors[f"{DIFFUSERS}{module}.lora_B.weight"] = mx.contiguous(b_OR.astype(mx.bfloat16))
    return tensors


def metadata_for(
    config: TrainConfig,
    *,
    family: str,
    modelspec: Mapping[str, str],
    title: str,
    trigger: str,
    step: int,
    rank: int,
    photos: int,
    started_at: float,
) -> dict[str, str]:
    """The header: base model, training settings, trigger word. Strings only, nothing private.

    `modelspec` has the family's "architecture" and "implementation"; `rank` is the highest of any layer.
    """
    model = Path(config.model).name  # a model may be a folder, whose path is private
    now = datetime.now(UTC)
    settings = {name: getattr(config, name) for name in CONFIG_KNOBS}
    found = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": modelspec["architecture"],
        "modelspec.implementation": modelspec["implementation"],
        "modelspec.title": title,
        "modelspec.description": f"LoRA for {model}, trained with Likeness",
        "modelspec.resolution": f"{config.side_px}x{config.side_px}",
        "modelspec.date": now.replace(microsecond=0).isoformat(),
        TRIGGER: trigger,
        "ss_trigger_words": trigger,
        "trained_words": trigger,
        "ss_output_name": title,
        "ss_sd_model_name": model,
        "ss_base_model_version": family,
        "ss_network_module": "networks.lora_flux" if family == "flux1" else "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank),  # alpha / rank is in B already, so a reader must multiply by 1
        "ss_learning_rate": f"{config.learning_rate:g}",
        "ss_optimizer": TRAITS[config.optimizer].title,
        "ss_steps": str(step),
        "ss_max_train_steps": str(config.steps),
        "ss_seed": str(config.seed),
        "ss_resolution": f"({config.side_px}, {config.side_px})",
        "ss_num_train_images": str(photos),
        "ss_training_started_at": f"{started_at:.0f}",
        "ss_training_finished_at": f"{now.timestamp():.0f}",
        "training_config": json.dumps(settings, sort_keys=True),
    }
    return {name: value for name, value in found.items() if value}
