"""`likeness sample`: one prompt in, one picture out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL.PngImagePlugin import PngInfo

from app.terminal.console import print_line
from core import files
from core.adapters import contents, dense
from core.adapters import file as adapter_file
from core.config.drawing_limits import read
from core.config.resolve import resolve
from core.errors import ConfigProblem, FieldProblem, ModelProblem
from core.hub import catalog
from core.models.load import load_family
from core.sampling import draw


def draw_to_file(
    out: Path,
    prompt: str,
    model: str,
    adapter: Path | None,
    strength: float,
    seed: int,
    steps: int | None,
    base_precision: str,
    width: int | None = None,
    height: int | None = None,
    folders: Sequence[Path] = (),
) -> dict[str, Any]:
    """Draw one picture to `out` and return its recipe, which is stored in the PNG's text too.

    The model is looked for in `folders` too (core/hub/catalog.py).

    Raises ConfigProblem, ModelProblem, AdapterProblem, DiskProblem, and PictureProblem for a picture that is not
    finite, which is not written.
    """
    _check_limits(strength=strength, seed=seed, steps=steps, width=width, height=height)
    bits = resolve({"base_precision": base_precision}).config.base_bits
    try:
        entry = catalog.find(model, folders)
    except ModelProblem as problem:
        raise ConfigProblem("This cannot be drawn.", [FieldProblem("model", problem.message)]) from None
    family = load_family(entry.path, quantize=bits)
    adapters = []
    if adapter is not None:
        held = adapter_file.read_to_draw(adapter, family.name)
        if held.alpha_assumed:
            print_line(f"{adapter.name} {contents.ALPHA_ASSUMED}")
        dense.attach(family.transformer, held.factors, held.parts, name="chosen", strength=strength, title=adapter.name)
        adapters.append({"file": adapter.name, "sha256": files.sha256_of(adapter), "strength": strength})
    side_px = int(entry.drawing["side_px"])
    picture = draw(
        family,
        prompt,
        height_px=height or side_px,
        width_px=width or side_px,
        steps=steps if steps is not None else int(entry.drawing["steps"]),
        guidance=float(entry.drawing["guidance"]),
        seed=seed,
        about={"model_name": model, "adapters": adapters},
        adapters=[f"{each['file']} at strength {strength:g}" for each in adapters if strength],
    )
    text = PngInfo()
    text.add_text("recipe", json.dumps(picture.recipe))
    with files.atomic_file(out) as part:
        picture.image.save(part, "PNG", pnginfo=text)
    return picture.recipe


def _check_limits(**numbers: float | None) -> None:
    """Raise ConfigProblem, naming each option out of its limits, which are those of the API."""
    messages = {name: read(name, value)[1] for name, value in numbers.items() if value is not None}
    problems = [FieldProblem(f"--{name}", message) for name, message in messages.items() if message]
    if problems:
        raise ConfigProblem("The picture cannot be drawn like this.", problems)
