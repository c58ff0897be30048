"""Model folders that are made of ComfyUI's files: small files copied, weights linked.

    models/flux1-dev/
      model_index.json  likeness.json                        copied from the model's repository; the card of this model
      transformer/config.json  tokenizer/ ...                copied: 16 MB in all
      transformer/diffusion_pytorch_model.safetensors        a link to ComfyUI's file, as are the other weights

Such a folder is a model folder like any other. ComfyUI's files stay where they are and are never written. Plain Python.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from core.errors import ModelProblem, disk_errors_as_problem
from core.files import write_text
from core.hub import cache as hub_cache
from core.hub.catalog import CARD_FILE, PIPELINES
from core.hub.comfyui import Offer
from core.hub.families import FAMILIES
from core.hub.layout import STEMS, index_of, is_needed, is_small, missing_files, parts_of
from core.hub.registry import KnownModel
from core.safetensors_file import read_json
from core.strict_json import dumps
from core.weights.places import DIFFUSERS, TRANSFORMERS

NAME_CHARACTERS = 60


def small_files(known: KnownModel) -> Path | None:
    """The downloaded revision of a model that has all configs and tokenizers; None without one."""
    return next((place for place in hub_cache.snapshots(known.repo) if not missing_files(place, weights=False)), None)


def name_for(known: KnownModel, file: Path, taken: Iterable[str]) -> str:
    """The name of a model of this file: the known one's, or if it is taken one from the file's name."""
    names = set(taken)
    if known.name not in names:
        return known.name
    plain = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-")[:NAME_CHARACTERS] or known.name
    return next(name for name in (plain, *(f"{plain}-{number}" for number in range(2, 1000))) if name not in names)


def assemble(
    known: KnownModel, offer: Offer, small: Path, target: Path, check: Callable[[Path], None] = lambda _folder: None
) -> None:
    """Make the folder `target` from the small files of the folder `small` and the files of an offer.

    `check` looks at the folder before it gets its name, and may raise. Raises ModelProblem when parts are lacking or
    the folder is there already; DiskProblem.
    """
    if offer.lacking:
        raise ModelProblem(f"{offer.file.name} also needs {'; '.join(offer.lacking)}.")
    if target.exists():
        raise ModelProblem(f"{target} is there already. Move it away, or remove it, and try again.")
    part = target.with_name(f".{target.name}.part")
    with disk_errors_as_problem(target):
        shutil.rmtree(part, ignore_errors=True)
        try:
            _write(known, offer, small, part, target.name)
            check(part)
            os.replace(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def made_of(folders: Iterable[Path]) -> dict[Path, str]:
    """The names of the models that were made of a file, by that file; `folders` are folders of models."""
    found = {}
    for folder in folders:
        for link in sorted(folder.glob(f"*/transformer/{DIFFUSERS}.safetensors")):
            if link.is_symlink() and not link.parent.parent.name.startswith("."):
                found[link.resolve()] = link.parent.parent.name
    return found


def _write(known: KnownModel, offer: Offer, small: Path, folder: Path, name: str) -> None:
    index = index_of(small)
    if index is None:
        raise ModelProblem(f"{small} has no index of a model.")
    parts = parts_of(read_json(index))
    for path in sorted(small.rglob("*")):
        file = path.relative_to(small).as_posix()
        if path.is_file() and is_needed(file, parts) and is_small(file):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / file)
    unused = {part for part in parts if part.startswith("text_encoder")} - FAMILIES[
        PIPELINES[known.pipeline]
    ].encoders.keys()
    if unused:
        raise ModelProblem(f"{known.repo} has the parts {', '.join(sorted(unused))}, which no file here is for.")
    for part, weights in offer.parts.items():
        stem = STEMS.get(parts.get(part, ""), TRANSFORMERS if part.startswith("text_encoder") else DIFFUSERS)
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / f"{stem}.safetensors").symlink_to(weights.absolute())
    write_text(folder / CARD_FILE, dumps(_card(known, offer, name), indent=1))


def _card(known: KnownModel, offer: Offer, name: str) -> Mapping[str, Any]:
    title = known.title if name == known.name else f"{known.title} ({offer.file.stem})"
    return {
        "title": title,
        "what_for": f"Made of ComfyUI's files, as {known.title}.",
        "licence": known.terms[0],
        "defaults": dict(known.defaults),
        "drawing": dict(known.drawing),
        "files": {part: str(file) for part, file in offer.parts.items()},
    }
