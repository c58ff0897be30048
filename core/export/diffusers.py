"""The one portable adapter file: diffusers, ComfyUI, mflux, Forge and Draw Things all read it, at the same strength.

    transformer.<module path>.lora_A.weight   (rank, in)        bfloat16, alpha / rank multiplied into B,
    transformer.<module path>.lora_B.weight   (out, rank)       no alpha tensors, metadata of strings only

Most of those programs skip what they do not know without a word, so a file is read back and compared before it counts,
and one that would do nothing is refused. The header names no captions and no files of the user.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlx.core as mx
from safetensors import safe_open

from core import files
from core.config import TrainConfig
from core.errors import AdapterProblem, FieldProblem
from core.lora import Factors
from core.weights import read_header

PREFIX = "transformer."
_NAME = re.compile(r"transformer\.(?P<path>.+)\.lora_(?P<which>[AB])\.weight")
_FLOATS = ("F32", "F16", "BF16")
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """What an adapter file holds: (A, B) by module path, float32, and its metadata."""

    factors: dict[str, tuple[mx.array, mx.array]]
    metadata: dict[str, str]

    @property
    def rank(self) -> int:
        """The largest rank of any layer."""
        return max(a_RI.shape[0] for a_RI, _ in self.factors.values())

    @property
    def trigger(self) -> str:
        return self.metadata.get("modelspec.trigger_phrase", "")


def write(path: Path, factors: Factors, metadata: Mapping[str, str]) -> None:
    """Write (A, alpha / rank * B) by module path to `path`, whole, read back and compared.

    Raises AdapterProblem when it would do nothing or is not finite, DiskProblem when it cannot be written.
    """
    check_worth(factors)
    tensors: dict[str, mx.array] = {}
    for module, (a_RI, b_OR) in factors.items():
        tensors[f"{PREFIX}{module}.lora_A.weight"] = mx.contiguous(a_RI.astype(mx.bfloat16))
        tensors[f"{PREFIX}{module}.lora_B.weight"] = mx.contiguous(b_OR.astype(mx.bfloat16))
    with files.written_whole(path) as part:
        with part.open("wb") as file:
            mx.save_safetensors(file, tensors, {"format": "pt", **metadata})
        found = mx.load(str(part))
        with safe_open(part, framework="np") as other:  # the reader that most other programs have
            whole = set(other.keys()) == tensors.keys()
        if (
            not whole
            or found.keys() != tensors.keys()
            or not all(mx.array_equal(found[n], tensors[n]).item() for n in tensors)
        ):
            raise AdapterProblem(f"{path.name} was written, but what is on the disk differs. Check the disk.")


def read(path: Path) -> AdapterFile:
    """Read an adapter file of this form, ours or another program's.

    Raises AdapterProblem, naming the tensors, when it is broken, foreign, or has halves missing.
    """
    header = read_header(path, AdapterProblem)
    problems = []
    pairs: dict[str, dict[str, str]] = {}
    for name, info in header.tensors.items():
        match = _NAME.fullmatch(name)
        if match is None:
            problems.append(FieldProblem(name, "is not of the form transformer.<layer>.lora_A.weight or lora_B.weight"))
        elif info.dtype not in _FLOATS or len(info.shape) != 2 or 0 in info.shape:
            problems.append(FieldProblem(name, f"is {info.dtype} {info.shape}; it must be a matrix of 16 or 32 bit"))
        else:
            pairs.setdefault(match["path"], {})[match["which"]] = name
    for pair in pairs.values():
        if len(pair) == 1:
            (which, name), other = next(iter(pair.items())), "BA"["AB".index(next(iter(pair)))]
            problems.append(FieldProblem(name, f"has no lora_{other} beside its lora_{which}"))
    if problems or not pairs:
        shown = problems[:_SHOWN]
        if len(problems) > _SHOWN:
            shown.append(FieldProblem("...", f"and {len(problems) - _SHOWN} more"))
        raise AdapterProblem(f"{path.name} is not an adapter file that can be read here.", shown)
    scale = _unbaked_scale(header.metadata, path.name)
    try:
        tensors = mx.load(str(path), format="safetensors")
        factors = {
            module: (tensors[pair["A"]].astype(mx.float32), tensors[pair["B"]].astype(mx.float32) * scale)
            for module, pair in pairs.items()
        }
        mx.eval(factors)
    except RuntimeError as error:
        raise AdapterProblem(f"{path.name} cannot be read: {error}.") from error
    if not _all_finite(factors):
        raise AdapterProblem(f"{path.name} holds values that are not numbers; it cannot be used.")
    return AdapterFile(factors, header.metadata)


def check_worth(factors: Factors) -> None:
    """Raise AdapterProblem when an adapter is empty, not finite, or all zeros (then it would change nothing)."""
    if not factors:
        raise AdapterProblem("This adapter is empty: it has no layers.")
    if not _all_finite(factors):
        raise AdapterProblem("This adapter holds values that are not numbers; use an earlier checkpoint.")
    if not mx.any(mx.stack([mx.any(b_OR != 0) for _, b_OR in factors.values()])).item():
        raise AdapterProblem("This adapter is all zeros: it has not been trained yet and would change nothing.")


def metadata_for(
    config: TrainConfig, *, family: str, title: str, trigger: str, step: int, photos: int, started_at: float
) -> dict[str, str]:
    """What the header says: which base model, how it was trained, the trigger word. Strings only, nothing private."""
    model = Path(config.model).name  # a model may be a folder; where it lies is the user's business
    now = datetime.now(UTC)
    settings = {
        name: getattr(config, name)
        for name in ("learning_rate", "schedule", "warmup_steps", "weight_decay", "clip_norm", "sigma_draw", "targets")
    }
    settings |= {"batch_size": config.batch_size, "accumulate": config.accumulate, "side_px": config.side_px}
    architecture = {"flux1": "flux-1-dev/lora"}.get(family, f"{family}/lora")
    implementation = {"flux1": "https://github.com/black-forest-labs/flux"}.get(family, "")
    found = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": architecture,
        "modelspec.implementation": implementation,
        "modelspec.title": title,
        "modelspec.description": f"LoRA for {model}, trained with Likeness",
        "modelspec.resolution": f"{config.side_px}x{config.side_px}",
        "modelspec.date": now.replace(microsecond=0).isoformat(),
        "modelspec.trigger_phrase": trigger,
        "ss_trigger_words": trigger,
        "trained_words": trigger,
        "ss_output_name": title,
        "ss_sd_model_name": model,
        "ss_base_model_version": family,
        "ss_network_module": "networks.lora_flux" if family == "flux1" else "networks.lora",
        "ss_network_dim": str(config.rank),
        "ss_network_alpha": str(config.rank),  # alpha / rank is in B, so a reader of this one multiplies by 1
        "ss_learning_rate": f"{config.learning_rate:g}",
        "ss_optimizer": "AdamW",
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


def _all_finite(factors: Factors) -> bool:
    return bool(mx.all(mx.stack([mx.all(mx.isfinite(each)) for pair in factors.values() for each in pair])).item())


def _unbaked_scale(metadata: Mapping[str, str], name: str) -> float:
    """alpha / rank where diffusers' own metadata says that it is not in B yet; else 1."""
    text = metadata.get("lora_adapter_metadata")
    if not text:
        return 1.0
    try:
        table = {str(key).removeprefix(PREFIX): value for key, value in dict(json.loads(text)).items()}
        if table.get("rank_pattern") or table.get("alpha_pattern"):
            raise AdapterProblem(f"{name} has a rank or alpha for each layer in its metadata, which is not read here.")
        return float(table.get("lora_alpha", 1.0)) / float(table.get("r", table.get("lora_alpha", 1.0)))
    except (ValueError, TypeError, ZeroDivisionError):
        raise AdapterProblem(f"{name} has metadata (lora_adapter_metadata) that cannot be read.") from None
