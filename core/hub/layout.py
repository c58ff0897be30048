"""The files of a complete model folder in diffusers' layout.

    model_index.json               names the parts: {"transformer": ["diffusers", "FluxTransformer2DModel"], ...};
                                   modular_model_index.json in newer models
    scheduler/                     scheduler_config.json
    tokenizer/ tokenizer_2/        tokenizer.json, or vocab.json with merges.txt
    every other part/              config.json, and one safetensors file or the shards that an index names

Weights must be in a form that is read (core/weights/forms.py). The same rule decides which files of a repository to
download and which files a folder lacks. Plain Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import FieldProblem, ModelProblem
from core.safetensors_file import read_header, read_json, weight_files
from core.weights import forms

INDEX, MODULAR_INDEX = "model_index.json", "modular_model_index.json"
PART = re.compile(r"transformer|vae|scheduler|(text_encoder|tokenizer)(_\d)?")  # a safety checker is not loaded
STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
WEIGHTS = re.compile(r"(diffusion_pytorch_model|model)(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
TEXT_FILES = re.compile(r".*\.(json|txt|jinja)|spiece\.model")  # configs and vocabularies
FLAT_FILES = re.compile(r"[^/]+\.(json|txt|jinja)|model(-\d{5}-of-\d{5})?\.safetensors")  # never code: no .py


def parts_of(index: Mapping[str, Any]) -> dict[str, str]:
    """The parts that an index names, each with its library ("diffusers" or "transformers").

    A modular index may name the library in a table of its own, as the type that a part should have.
    """
    found = {}
    for name, made in index.items():
        if PART.fullmatch(name) and isinstance(made, list) and made:
            table = made[2] if len(made) > 2 and isinstance(made[2], dict) else {}
            library = made[0] or next(iter(table.get("type_hint") or []), None)
            if isinstance(library, str):
                found[name] = library
    return found


def index_of(folder: Path) -> Path | None:
    """The file that names the parts of a model folder; None without one."""
    return next((path for name in (INDEX, MODULAR_INDEX) if (path := folder / name).is_file()), None)


def is_needed(file: str, parts: Mapping[str, str]) -> bool:
    """Whether loading the model needs this file of its repository.

    Single-file checkpoints at the top, other precisions (`model.fp16.safetensors`) and other formats are not needed.
    """
    part, _, name = file.partition("/")
    if file in (INDEX, MODULAR_INDEX):
        return True
    if part not in parts or not name or "/" in name:
        return False
    if ".safetensors" in name:
        return bool(WEIGHTS.fullmatch(name))
    return bool(TEXT_FILES.fullmatch(name)) and not name.endswith(".index.json")


def is_small(file: str) -> bool:
    """Whether a needed file is a config or of a tokenizer, and not of the weights."""
    return ".safetensors" not in file


def missing_files(folder: Path, *, weights: bool = True) -> list[FieldProblem]:
    """The files that a model folder needs and lacks, has damaged, or has in a form that is not read.

    Empty when the folder is complete; without `weights`, when its configs and tokenizers are there.
    """
    index = index_of(folder)
    if index is None:
        return [FieldProblem(INDEX, "is not there")]
    try:
        parts = parts_of(read_json(index))
    except ModelProblem:
        return [FieldProblem(index.name, "cannot be read")]
    if "transformer" not in parts:
        return [FieldProblem(index.name, "names no transformer")]
    problems: list[FieldProblem] = []
    for part, library in parts.items():
        if part == "scheduler":
            problems += _missing(folder, f"{part}/scheduler_config.json")
        elif part.startswith("tokenizer"):
            problems += _missing_vocabulary(folder, f"{part}/")
        else:
            lacks = _missing(folder, f"{part}/config.json") or _quantized(folder, f"{part}/config.json")
            problems += lacks
            if weights and not (lacks and lacks[0].message.startswith("says")):  # the weights would say it again
                problems += _missing_weights(folder, part, STEMS.get(library, "model"))
    return problems


def missing_listed(folder: Path, files: Sequence[str]) -> list[FieldProblem]:
    """Those of the named files that a folder lacks, or has damaged; for models that are not in diffusers' layout."""
    problems = []
    for file in files:
        problems += _missing(folder, file)
        if (
            (folder / file).is_file()
            and file.endswith(".safetensors")
            and (words := forms.trouble_of_file(folder / file))
        ):
            problems.append(FieldProblem(file, words))
    return problems


def _quantized(folder: Path, file: str) -> list[FieldProblem]:
    try:
        words = forms.trouble_of_config(read_json(folder / file))
    except ModelProblem:
        words = "cannot be read"
    return [FieldProblem(file, words)] if words else []


def is_needed_flat(file: str) -> bool:
    """Whether loading a model whose files all lie at the top of its repository needs this one."""
    return bool(FLAT_FILES.fullmatch(file))


def missing_flat(folder: Path) -> list[FieldProblem]:
    """Files that a vision-language model needs and its folder lacks, or has damaged; MLX may have quantized it."""
    problems = [*_missing(folder, "config.json"), *_missing(folder, "preprocessor_config.json")]
    return problems + _missing_vocabulary(folder, "") + _missing_weights(folder, "", STEMS["transformers"], _damage_of)


def _missing_vocabulary(folder: Path, prefix: str) -> list[FieldProblem]:
    if _missing(folder, f"{prefix}vocab.json") or _missing(folder, f"{prefix}merges.txt"):
        return _missing(folder, f"{prefix}tokenizer.json")
    return []


def _missing(folder: Path, file: str) -> list[FieldProblem]:
    return [] if (folder / file).is_file() else [FieldProblem(file, "is not there")]


def _missing_weights(
    folder: Path, part: str, stem: str, trouble: Callable[[Path], str] = forms.trouble_of_file
) -> list[FieldProblem]:
    try:
        files = weight_files(folder / part, stem)
    except ModelProblem as problem:
        named = [FieldProblem(_within(part, each.field), each.message) for each in problem.problems]
        single = folder / part / f"{stem}.safetensors"
        words = trouble(single)  # it is not there, or a link to a file that is not
        return named or [FieldProblem(_within(part, single.name), words or "is not there")]
    troubles = {path: trouble(path) for path in files}
    return [FieldProblem(_within(part, path.name), words) for path, words in troubles.items() if words]


def _within(part: str, file: str) -> str:
    return f"{part}/{file}" if part else file


def _damage_of(path: Path) -> str:
    """What is wrong with a safetensors file, whatever its numbers mean, or ""."""
    if not path.is_file():
        return "is not there"
    try:
        read_header(path)
    except ModelProblem:
        return f"is damaged or cut off at {path.stat().st_size:,} bytes"
    return ""
