"""Cache of clean latents and text conditionings on disk, by a hash of their inputs.

    cache/latents/<key>.safetensors     key = hash of photo, crop, bucket, flip, VAE, family
    cache/weights/<key>.safetensors     of tokens in the loss; key = hash of mask, crop, bucket, background_weight
    cache/text/<key>.safetensors        key = hash of text, text encoders, family
    cache/class/<key>.safetensors       class pictures of training/class_images.py; key = hash of their recipe

A second run on the same photos encodes nothing; another crop, caption or model has other keys. Families share VAEs and
text encoders but use their outputs differently, so the family is part of the key. A mask changes no latent. Latents and
weights are float32, conditionings in the compute dtype; an unreadable file is computed again.

Shapes   B batch of 1   L image tokens   C channels of one token
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
from PIL import Image

from core import files
from core.dataset import crops, masks, photos
from core.dataset.buckets import Bucket
from core.dataset.crops import Box
from core.dataset.examples import Example
from core.device.backend import evaluate
from core.errors import DataProblem, OutOfMemory
from core.models.base import Conditioning, Family
from core.numerics.arrays import load_with_metadata

TEXTS_AT_ONCE = 16  # texts for each pass over the text encoders' files; a few MB of memory each
ALL_ZEROS = (
    "An encoded photo is all zeros, which MLX can return when the GPU runs out of memory. Close other programs, or "
    "choose a smaller picture size, then start this again."
)
VERSION = 2  # part of every key: raise it when an encoding changes


def latents_of(family: Family, example: Example, bucket: Bucket, cache: Path, *, flip: bool = False) -> mx.array:
    """l_T of one photo in its bucket, from the cache or the VAE: float32 (1, L, C).

    Raises DataProblem when the photo cannot be read, DiskProblem when the cache cannot be written, OutOfMemory when the
    latents are all zero.
    """
    box, crop = example.box, _sides(example.box)
    key = key_of("latents", example.sha256, crop, bucket.width, bucket.height, flip, family.hashes["vae"], family.name)
    found, _ = read(cache / "latents", key)
    if not found:
        picture = crops.cut(photos.open_rgb(example.photo), (bucket.width, bucket.height), box, flip=flip)
        pixels_BHWC = mx.array(np.asarray(picture, dtype=np.float32)[None] / 127.5 - 1.0)
        found = {"l_T": family.encode_photo(pixels_BHWC)}
        evaluate(found)
        if not mx.any(found["l_T"]).item():
            raise OutOfMemory(ALL_ZEROS)
        write(cache / "latents", key, found)
    return found["l_T"]


def weights_of(
    family: Family, example: Example, bucket: Bucket, size: tuple[int, int], background_weight: float, cache: Path
) -> mx.array | None:
    """The weights of a photo's tokens in the loss, from the cache or its mask: float32 (1, L); None if all are alike.

    `size` is the photo's (width, height in pixels). Raises DataProblem when the mask cannot be read, has another size,
    or leaves nothing to learn within the crop; DiskProblem when the cache cannot be written.
    """
    if example.mask is None:
        return None
    grid, shape = family.grid(bucket.height, bucket.width), (bucket.width, bucket.height)
    key = key_of("weights", example.mask.sha256, _sides(example.box), size, shape, grid.rows, background_weight)
    found, _ = read(cache / "weights", key)
    if not found:
        mask = masks.read_of_photo(example.mask.file, size)
        tokens = masks.token_weights(mask, shape, (grid.columns, grid.rows), example.box, background_weight)
        weights = np.asarray(tokens, np.float32).reshape(1, grid.tokens)
        if not weights.any():
            raise DataProblem(_nothing_to_learn(mask))
        found = {"weight_BL": mx.array(weights)}
        write(cache / "weights", key, found)
    weight_BL = found["weight_BL"]
    return None if (weight_BL == weight_BL[0, 0]).all().item() else weight_BL


def _sides(box: Box | None) -> list[float] | None:
    return [box.left, box.top, box.right, box.bottom] if box else None


def _nothing_to_learn(mask: Image.Image) -> str:
    """Why all weights of a photo's crop are 0; continues its name."""
    there = masks.counts(mask)
    if not there[masks.SUBJECT] and not there[masks.BACKGROUND]:
        return "has a mask that ignores all of it; paint the subject, or set the photo aside."
    if not there[masks.SUBJECT]:
        return "has a mask without a subject, and background_weight is 0; paint the subject, or raise the weight."
    return "has a crop of which the mask leaves nothing to learn; move the crop to the subject, or change the mask."


def texts_of(family: Family, prompts: Sequence[str], cache: Path) -> Iterator[tuple[str, Conditioning]]:
    """(prompt, conditioning) for each distinct prompt, batch axis 1; new ones are encoded TEXTS_AT_ONCE at a time.

    Raises DiskProblem when the cache cannot be written, ModelProblem when an encoder cannot be read.
    """
    keys = {
        prompt: key_of("text", prompt, family.hashes["text"], family.name, family_dtype(family)) for prompt in prompts
    }
    new: list[str] = []
    for prompt, key in keys.items():
        found, _ = read(cache / "text", key)
        if not found:
            new.append(prompt)
        else:
            yield prompt, found
    for begin in range(0, len(new), TEXTS_AT_ONCE):
        portion = new[begin : begin + TEXTS_AT_ONCE]
        for prompt, found in zip(portion, family.encode_each(portion), strict=True):
            write(cache / "text", keys[prompt], found)
            yield prompt, found


def family_dtype(family: Family) -> str:
    """The name of the dtype that the family computes in, e.g. "float32"."""
    return str(getattr(family, "dtype", mx.float32)).rpartition(".")[2]


def key_of(*parts: object) -> str:
    """The cache key of something computed from `parts`, which JSON must be able to hold."""
    return hashlib.sha256(json.dumps([VERSION, *parts]).encode()).hexdigest()


def read(folder: Path, key: str) -> tuple[dict[str, mx.array], dict[str, str]]:
    """Arrays and metadata saved under this key; two empty dicts when there are none."""
    path = folder / f"{key}.safetensors"
    if not path.is_file():
        return {}, {}
    try:
        arrays, metadata = load_with_metadata(path)
        mx.eval(arrays)
    except RuntimeError:
        return {}, {}  # cut off or damaged: computed again and overwritten
    return arrays, metadata


def write(folder: Path, key: str, arrays: dict[str, mx.array], metadata: dict[str, str] | None = None) -> None:
    """Save arrays and metadata under this key. Raises DiskProblem."""
    with files.atomic_file(folder / f"{key}.safetensors") as part, part.open("wb") as file:
        mx.save_safetensors(file, arrays, metadata or {})
