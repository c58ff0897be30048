"""Pictures of the drawing page as a job: the model is loaded once, and each picture is shown as soon as it is drawn.

A picture without adapters is the same for every adapter and strength that it is compared with: it is drawn once, and
copied from then on. A picture that is drawn again from its recipe is never copied, and compared with the first one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sqlmodel import col, select

from app.actions import models
from app.actions.picture_plan import plan
from app.jobs import store
from app.jobs.states import State
from app.tables import Adapter, Sample
from app.worker.outcome import Outcome
from app.worker.samples import add_sample
from app.worker.work import Work
from core import files
from core.adapters import dense
from core.adapters import file as adapter_file
from core.adapters.adapted import OnLayer
from core.adapters.lora import Attached
from core.config.choices import BITS
from core.errors import AdapterProblem
from core.hub import catalog
from core.models.base import Conditioning, Family
from core.models.load import load_family
from core.sampling import draw, recipe_of


def draw_pictures(work: Work) -> Outcome:
    """Draw the requested pictures; those that are done stay when the job ends early.

    Raises Stopped, the problems of models and adapters, and PictureProblem for a picture that is not finite.
    """
    params = work.job.params
    work.report_phase("loading the model", 0, 1)
    bits = BITS[params.get("base_precision", "full")]
    family = load_family(catalog.find(params["model"], models.folders(work.database)).path, quantize=bits)
    texts = family.encode_each([params["prompt"], ""])  # once, and before the transformer is in memory
    adapters = attach_adapters(work, family, params["adapters"])
    pictures = plan(params)
    same: dict[str, Any] = {}
    for each in pictures[work.job.step :]:  # after those of earlier attempts
        work.report_phase("drawing", each.place, len(pictures))
        for adapter, strength in zip(adapters, each.strengths, strict=True):
            adapter.strength = strength
        may_copy = not any(each.strengths) and "again" not in params
        earlier = drawn_without_adapters(work, family, params, each.seed) if may_copy else None
        row = copied(work, earlier, params, each.strengths, each.place) if earlier is not None else None
        if row is None:
            row = draw_one(work, family, params, texts, each.strengths, each.place, each.seed)
        same = _compared(work, params["again"], row) if "again" in params else same
        with work.transaction(step=each.place + 1) as session:
            store.append_event(session, work.claim, "sample", add_sample(session, row))
    work.report_phase("drawing", len(pictures), len(pictures))
    return Outcome(State.SUCCEEDED, result=same)


def attach_adapters(work: Work, family: Family, chosen: Sequence[dict[str, Any]]) -> list[Attached[OnLayer]]:
    """Attach the files {"file", "strength", ...} to the transformer. Raises AdapterProblem, and none is attached."""
    read = []
    names = _names(work, chosen)
    for each, name in zip(chosen, names, strict=True):
        path = work.home.file(each["file"])
        if not path.is_file():
            raise AdapterProblem(f"The file of {name} is no longer there; choose another adapter.")
        read.append(adapter_file.read_to_draw(path, family.name, name))
    adapters: list[Attached[OnLayer]] = []
    try:
        for place, (held, each, name) in enumerate(zip(read, chosen, names, strict=True)):
            attached = dense.attach(
                family.transformer,
                held.factors,
                held.parts,
                name=f"adapter{place}",
                strength=each["strength"],
                title=name,
            )
            adapters.append(attached)
    except AdapterProblem:
        for earlier in reversed(adapters):
            earlier.detach()
        raise
    return adapters


def draw_one(
    work: Work,
    family: Family,
    params: dict[str, Any],
    texts: Sequence[Conditioning],
    strengths: Sequence[float],
    place: int,
    seed: int,
) -> Sample:
    """Draw one picture and write its file, with its recipe; returns its row. Raises Stopped between sampler steps."""
    picture = draw(
        family,
        texts[0],
        height_px=params["height"],
        width_px=params["width"],
        steps=params["steps"],
        guidance=params["guidance"],
        seed=seed,
        on_step=lambda _done, _of: work.raise_if_stopped(),
        negative_prompt=texts[1],
        about=_about(params, strengths),
        adapters=[
            f"{name} at strength {strength:g}"
            for name, strength in zip(_names(work, params["adapters"]), strengths, strict=True)
            if strength
        ],
    )
    target = _target(work, place)
    text = PngInfo()
    text.add_text("recipe", json.dumps(picture.recipe))
    with files.atomic_file(target) as part:
        picture.image.save(part, "PNG", pnginfo=text)
    return Sample(
        job_id=work.claim.job_id,
        prompt_id=place,
        prompt=params["prompt"],
        seed=seed,
        adapter_strength=strengths[0] if strengths else 0.0,
        recipe=picture.recipe,
        file=work.home.relative(target),
        width=picture.image.width,
        height=picture.image.height,
    )


def drawn_without_adapters(work: Work, family: Family, params: dict[str, Any], seed: int) -> Sample | None:
    """An earlier picture that is the same without any adapter: its recipe is equal and its file is there."""
    wanted = recipe_of(
        family,
        height_px=params["height"],
        width_px=params["width"],
        steps=params["steps"],
        guidance=params["guidance"],
        seed=seed,
        about=_about(params, ()),
    )
    earlier = select(Sample).where(
        col(Sample.run_id).is_(None),
        Sample.prompt == params["prompt"],
        Sample.seed == seed,
        Sample.adapter_strength == 0.0,
    )
    with work.database.read() as session:
        for row in session.exec(earlier.order_by(col(Sample.id).desc())):
            used = row.recipe.get("adapters", ())
            plain = {"model_name": params["model"], **row.recipe, "adapters": []}  # earlier versions named no model
            same = not any(each["strength"] for each in used) and plain == wanted
            if same and work.home.file(row.file).is_file():
                return row
    return None


def copied(
    work: Work, earlier: Sample, params: dict[str, Any], strengths: Sequence[float], place: int
) -> Sample | None:
    """The earlier picture as one of this job, with a file of its own, so that either can be deleted.

    None if it has just been deleted.
    """
    target = _target(work, place)
    try:
        with files.atomic_file(target) as part:
            shutil.copyfile(work.home.file(earlier.file), part)
    except FileNotFoundError:
        return None
    return Sample(
        job_id=work.claim.job_id,
        prompt_id=place,
        prompt=earlier.prompt,
        seed=earlier.seed,
        adapter_strength=0.0,
        recipe=earlier.recipe | _about(params, strengths),
        file=work.home.relative(target),
        width=earlier.width,
        height=earlier.height,
    )


def _about(params: dict[str, Any], strengths: Sequence[float]) -> dict[str, Any]:
    """What a recipe says of the texts and the adapters; no strengths: of no adapters."""
    chosen = params["adapters"] if strengths else ()
    used = [
        {**{key: adapter[key] for key in ("sha256", "settings") if key in adapter}, "strength": strength}
        for adapter, strength in zip(chosen, strengths, strict=True)
    ]
    return {"prompt": params["prompt"], "negative_prompt": "", "model_name": params["model"], "adapters": used}


def _compared(work: Work, sample_id: int, row: Sample) -> dict[str, Any]:
    """Whether the picture of `row` equals the one that it draws again, bit for bit, and what of their recipes differs.

    {"same": bool, "differs": [names]}; empty when the first one is no longer there.
    """
    with work.database.read() as session:
        first = session.get(Sample, sample_id)
    if first is None or not work.home.file(first.file).is_file():
        return {}
    same = _pixels(work.home.file(first.file)) == _pixels(work.home.file(row.file))
    names = ("model", "device", "mlx", "dtype", "precision")
    return {"same": same, "differs": [each for each in names if first.recipe.get(each) != row.recipe.get(each)]}


def _pixels(path: Path) -> tuple[tuple[int, int], bytes]:
    with Image.open(path) as image:
        return image.size, image.convert("RGB").tobytes()


def _target(work: Work, place: int) -> Path:
    return work.home.pictures / f"{work.claim.job_id}-{place}.png"


def _names(work: Work, chosen: Sequence[dict[str, Any]]) -> list[str]:
    """The adapters as the studio lists them; a deleted one by its hash."""
    with work.database.read() as session:
        rows = [session.get(Adapter, each["id"]) for each in chosen]
    return [row.name if row is not None else each["sha256"][:12] for row, each in zip(rows, chosen, strict=True)]
