"""A tiny model and a few drawn photos, for tests that train. Photos are coloured shapes, one file each."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
from PIL import Image, ImageDraw

from core.config.resolve import resolve
from core.config.train import TrainConfig
from core.dataset.examples import Example, read_folder
from core.models.base import Family
from core.models.load import load_family
from core.training import checkpoint
from core.training.events import Finished, Progress, Request, Stepped
from core.training.group import ALONE, Group
from core.training.trainer import train

TINY_RUN: dict[str, Any] = {
    "find_subjects": False,  # the command line would; in this process nothing does
    "steps": 4,
    "side_px": 64,
    "rank": 2,
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "sample_every": 0,
    "sample_steps": 1,
    "sample_guidance": 1.0,
    "save_every": 2,
}


def picture(number: int = 0, width: int = 48, height: int = 40) -> Image.Image:
    """A coloured disc on another colour."""
    image = Image.new("RGB", (width, height), (40 * number % 256, 120, 200 - 20 * number))
    ImageDraw.Draw(image).ellipse((10, 8, 34, 32), fill=(230, 30 * number % 256, 40))
    return image


def encoded(image: Image.Image, format_name: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, format_name, **options)
    return content.getvalue()


def photo_folder(path: Path, count: int = 3) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture(number).save(path / f"{number}.png")
    return path


def settings(**knobs: Any) -> TrainConfig:
    return resolve({**TINY_RUN, **knobs}).config


def examples(folder: Path) -> list[Example]:
    return read_folder(folder, "sks", "can")[0]


def training(
    family: Family,
    photos: Path,
    out: Path,
    *,
    resume: bool = False,
    start_from: Path | None = None,
    cache: Path | None = None,
    group: Group = ALONE,
    dinov2: Path | None = None,
    **knobs: Any,
) -> Any:
    """A run of `TINY_RUN` with other knobs, not started."""
    return train(
        family,
        examples(photos),
        settings(**knobs),
        out,
        trigger="sks",
        class_word="can",
        cache=cache or out.parent / "cache",
        resume=resume,
        start_from=start_from,
        group=group,
        dinov2=dinov2,
    )


def check_resuming_is_exact(folder: Path, photos: Path, place: Path, **knobs: Any) -> None:
    """A run of five steps that is stopped after the third equals one that is not, bit for bit."""
    list(training(load_family(folder), photos, place / "whole", **knobs))
    run = training(load_family(folder), photos, place / "parts", **knobs)
    progress = next(run)
    while not isinstance(progress, Finished):
        progress = run.send(Request.STOP if isinstance(progress, Stepped) and progress.step == 3 else None)
    list(training(load_family(folder), photos, place / "parts", resume=True, **knobs))
    whole, parts = (checkpoint.load(place / name / "checkpoints" / "5") for name in ("whole", "parts"))
    assert whole.losses == parts.losses
    assert all(mx.array_equal(whole.parameters[name], parts.parameters[name]) for name in whole.parameters)
    v, of_parts = whole.optimizer_state.tensors["v"], parts.optimizer_state.tensors["v"]
    assert all(mx.array_equal(value, of_parts[name]) for name, value in v.items())


def rewrite_state(checkpoint: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Make state.json what a version from before it was protected by a hash would have written."""
    path = checkpoint / "state.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    del table["sha256"]
    change(table)
    path.write_text(json.dumps(table), encoding="utf-8")


def of_kind(progress: Iterator[Progress], kind: type) -> list[Any]:
    return [each for each in progress if isinstance(each, kind)]
