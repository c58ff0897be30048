"""The files in ComfyUI's folder, and which models they make.

    models/
      diffusion_models/ unet/        transformers alone
      text_encoders/ clip/  vae/     the other parts
      checkpoints/                   a transformer, often with the other parts in the same file

A transformer makes a model together with the text encoders and the VAE that fit its widths; of several that fit, the
one with the most digits. Files are recognized by their tensors (core/weights/recognize.py). Tensors cannot tell which
of two trainings they come from: FLUX.1 dev and Krea dev, Z-Image and Turbo, klein and its base have the same. Then an
offer has several candidates, and a person chooses. Plain Python over headers, for the web process too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.adapters.key_maps import TITLES
from core.errors import ModelProblem
from core.hub.catalog import PIPELINES
from core.hub.families import FAMILIES
from core.hub.foreign import SUFFIXES
from core.hub.layout import index_of
from core.hub.registry import KNOWN, KnownModel
from core.safetensors_file import read_header
from core.weights import forms, recognize
from core.weights.recognize import CLIP, QWEN3, QWEN3_VL, T5, TRANSFORMER, VAE, Component

PLACES = ("diffusion_models", "unet", "text_encoders", "clip", "vae", "checkpoints")
LOOKED_AT_MOST = 500  # files
USUAL_NAMES = {
    CLIP: "clip_l.safetensors", T5: "t5xxl_fp16.safetensors", QWEN3: "qwen_3_4b or qwen_3_8b.safetensors",
    QWEN3_VL: "qwen3_vl_4b.safetensors",
}  # fmt: skip
_DIGITS = ("bf16", "fp32", "fp16", "fp8 scaled", "fp8")  # the preferred first


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of weights: what it contains, or what is wrong with it."""

    path: Path
    bytes: int
    components: tuple[Component, ...]
    trouble: str  # continues the file's name; empty when it is read

    def part(self, kind: str) -> Component | None:
        return next((each for each in self.components if each.kind == kind), None)


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that a transformer and the files beside it make."""

    file: Path
    bytes: int
    transformer: Component
    candidates: tuple[str, ...]  # the known models that it can be, by name; several where tensors cannot tell
    exact: bool  # whether its sizes are those of the candidates
    parts: Mapping[str, Path]  # the file of each part that is here, by the part's folder
    lacking: tuple[str, ...]  # the parts that are not, in words

    @property
    def title(self) -> str:
        """What the file is, in words."""
        return f"{_family_title(self.transformer.family)} transformer, {self.transformer.dtype}"


@dataclass(frozen=True, slots=True)
class Scan:
    """What is in a folder."""

    offers: tuple[Offer, ...]
    refused: tuple[FoundFile, ...]  # in a form that is not read, or of a model that Likeness does not know


def models_folder(folder: Path) -> Path | None:
    """ComfyUI's `models`: the folder itself, or the one in it; None when neither has one of PLACES."""
    for place in (folder, folder / "models"):
        if any((place / name).is_dir() for name in PLACES):
            return place
    return None


def trouble_of_folder(folder: Path) -> str:
    """Why a folder cannot be ComfyUI's, continuing its name; "" when it can."""
    if not folder.is_absolute():
        return "is not an absolute path; give the whole path, such as ~/ComfyUI"
    if not folder.is_dir():
        return "is not a folder on this computer"
    if index_of(folder) is not None:
        return "is a model in diffusers' layout; name it under Model folders"
    if models_folder(folder) is None:
        return f"has none of ComfyUI's folders ({', '.join(PLACES)}), nor a folder models that has one"
    return ""


def scan(folder: Path) -> Scan:
    """Every offer and every refused file of ComfyUI's folder."""
    found = [_found(path) for path in _files(folder)]
    readable = [each for each in found if not each.trouble]
    offers = [_offer(each, readable) for each in readable if each.part(TRANSFORMER)]
    refused = [each for each in found if each.trouble]
    unknown = [each for each in offers if not each.candidates]
    refused += [
        FoundFile(each.file, each.bytes, (each.transformer,), f"is a {each.title} of no model that Likeness knows")
        for each in unknown
    ]
    return Scan(tuple(each for each in offers if each.candidates), tuple(sorted(refused, key=lambda each: each.path)))


def _files(folder: Path) -> Iterator[Path]:
    root = models_folder(folder)
    left = LOOKED_AT_MOST
    for name in PLACES if root is not None else ():
        for path in sorted((root / name).rglob("*")) if root is not None and (root / name).is_dir() else ():
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("._") and path.is_file() and left:
                left -= 1
                yield path


def _found(path: Path) -> FoundFile:
    stat = path.stat()
    return _recognized(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1024)
def _recognized(path: Path, size: int, changed_ns: int) -> FoundFile:
    trouble = forms.trouble_of_file(path)
    if trouble:
        return FoundFile(path, size, (), trouble)
    try:
        return FoundFile(path, size, tuple(recognize.components(path, read_header(path))), "")
    except ModelProblem as problem:
        return FoundFile(path, size, (), f"cannot be used: {problem.message}")


def _offer(file: FoundFile, readable: Sequence[FoundFile]) -> Offer:
    transformer = file.part(TRANSFORMER)
    if transformer is None:
        raise ValueError(f"{file.path} holds no transformer")
    card = FAMILIES[transformer.family]
    alike = [known for known in KNOWN.values() if PIPELINES.get(known.pipeline) == transformer.family]
    flags = ("guidance_embeds", "flow_map")
    alike = [known for known in alike if all(_same(known, transformer, flag) for flag in flags)]
    exact = [known for known in alike if all(_same(known, transformer, size) for size in transformer.sizes)]
    parts, lacking = {TRANSFORMER: file.path}, []
    ordered = sorted(readable, key=lambda each: (each != file, len(each.components), each.path))
    for part, (kind, size, times) in card.encoders.items():
        width, odd = divmod(int(transformer.sizes.get(size) or 0), times)
        here = _best([(each, each.part(kind)) for each in ordered], {"width": width} if not odd else {"width": -1})
        if here is None:
            lacking.append(f"a {recognize.TITLES[kind]} {width:,} wide (as {USUAL_NAMES[kind]}) in text_encoders")
        else:
            parts[part] = here
    latent, statistics = int(transformer.sizes.get("channels") or 0) // 4, card.vae_statistics
    vae = _best([(each, each.part(VAE)) for each in ordered], {"latent_channels": latent, "statistics": statistics})
    if vae is None:
        usual = "flux2-vae.safetensors" if statistics else "ae.safetensors"
        lacking.append(f"a VAE with {latent} channels (as {usual}) in vae")
    else:
        parts[VAE] = vae
    names = tuple(known.name for known in exact or alike)
    return Offer(file.path, file.bytes, transformer, names, bool(exact), parts, tuple(lacking))


def _best(found: Sequence[tuple[FoundFile, Component | None]], sizes: Mapping[str, Any]) -> Path | None:
    """The file whose component has these sizes: of the first file if it has one, else the one with the most digits."""
    fitting = [(file, part) for file, part in found if part is not None and dict(part.sizes) == dict(sizes)]
    if fitting and fitting[0][0] is found[0][0]:
        return fitting[0][0].path
    order = {dtype: index for index, dtype in enumerate(_DIGITS)}
    ranked = sorted(fitting, key=lambda each: order.get(each[1].dtype, len(order)))
    return ranked[0][0].path if ranked else None


def _same(known: KnownModel, transformer: Component, size: str) -> bool:
    """Whether a known model has this size; sizes that the registry does not hold count as equal."""
    shapes: Mapping[str, Any] = known.shapes.transformer
    actual = transformer.sizes.get(size)
    if size in ("guidance_embeds", "flow_map"):
        return bool(shapes.get(size, False)) == bool(actual)
    if size == "width":
        return bool(shapes["num_attention_heads"] * shapes["attention_head_dim"] == actual)
    return bool(shapes.get(size, actual) == actual)


def _family_title(family: str) -> str:
    return TITLES.get(family, family)
