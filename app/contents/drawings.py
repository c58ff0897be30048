"""The page where pictures are drawn: the adapters there are, and what was drawn with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlmodel import col, select

from app import wording
from app.actions import adapters, models
from app.actions.run_views import SampleView, sample_view
from app.contents.lines import ALL, adapter_options, newest_event
from app.database import Database
from app.jobs.states import Kind, State
from app.knob_fields import KnobField, fields
from app.page_parts import Drawing, Line, Picture
from app.pages import PicturesPage
from app.tables import Job, Sample

DRAWINGS = 40
MORE = {"steps": "sample_steps", "guidance": "sample_guidance", "width": "side_px"}


def pictures(database: Database, run_id: int | None = None) -> PicturesPage:
    """The page, with the newest adapter of `run_id` chosen when it has one, else the newest of all."""
    after = newest_event(database)
    views = adapters.list_adapters(database, limit=ALL)[::-1]
    best = {model: models.draws_with(database, model) for model in {each.model for each in views}}
    options = tuple(replace(each, model=best[each.model]) for each in adapter_options(database, views))
    chosen = next((str(each.id) for each in views if each.run_id == run_id), options[0].value if options else "")
    subject = next((each for each in options if each.value == chosen), None)
    words = f"{subject.trigger} {subject.class_word}".strip() if subject else ""
    return PicturesPage(
        after=after,
        adapters=options,
        chosen=chosen,
        prompt=f"a photo of {words} on the beach" if words else "a photo of a teapot on the beach",
        trigger_words=words,
        seed=1,
        more=_more(database, subject.model if subject else "pocket"),
        drawings=tuple(_drawings(database)),
        blank_drawing=Drawing(0, "queued", "", "", "", (), 0, (), {}),
    )


def _more(database: Database, model: str) -> tuple[KnobField, ...]:
    """Sampler steps, guidance, size and precision, with what the model is drawn with best."""
    best = models.find(database, model).drawing if model in models.names(database) else {}
    drawn = fields({MORE.get(name, "side_px"): value for name, value in best.items()}, ())
    width = {"name": "side", "label": "Size", "sentence": "The picture's side in pixels; a multiple of 16."}
    return (
        _named(drawn["sample_steps"], name="steps"),
        _named(drawn["sample_guidance"], name="guidance"),
        _named(drawn["side_px"], **width),
        drawn["base_precision"],
    )


def _named(field: KnobField, **changes: Any) -> KnobField:
    return replace(field, **changes)


def _drawings(database: Database) -> list[Drawing]:
    """The newest jobs that drew, or wait to, with their pictures."""
    with database.read() as session:
        rows = session.exec(
            select(Job).where(Job.kind == Kind.SAMPLE).order_by(col(Job.id).desc()).limit(DRAWINGS)
        ).all()
        ids = [row.id for row in rows]
        drawn = session.exec(select(Sample).where(col(Sample.job_id).in_(ids)).order_by(col(Sample.id))).all()
        found: dict[int, list[SampleView]] = {}
        for sample in drawn:
            found.setdefault(sample.job_id, []).append(sample_view(sample))
    return [
        _drawing(row, found.get(int(row.id or 0), []))
        for row in rows
        if found.get(int(row.id or 0)) or row.state is not State.CANCELLED
    ]


def _drawing(job: Job, samples: list[SampleView]) -> Drawing:
    asked = job.params
    stack = asked.get("adapters") or []
    first = stack[0] if stack else {}
    done = job.state in (State.SUCCEEDED, State.STOPPED)
    return Drawing(
        job_id=int(job.id or 0),
        state=job.state.value,
        prompt=str(asked.get("prompt", "")),
        words=wording.ago(job.created_at) if done else wording.STATES[job.state],
        error=wording.error(job.error) if job.state is State.FAILED else "",
        pictures=tuple(_picture(sample, bool(stack)) for sample in samples),
        to_come=max(job.steps - len(samples), 0) if job.state in (State.QUEUED, State.RUNNING) else 0,
        recipe=_recipe(asked, samples),
        ask={
            "adapter": str(first.get("id", "")),
            "strength": first.get("strength", 1),
            "compare": bool(asked.get("without")),
            **{name: asked.get(name) for name in ("prompt", "seed", "steps", "guidance", "width")},
            "base_precision": asked.get("base_precision", "full"),
        },
    )


def _picture(sample: SampleView, adapted: bool) -> Picture:
    label = "the model as it is"
    if adapted:
        label = f"with the adapter, strength {sample.adapter_strength:g}" if sample.adapter_strength else "without it"
    return Picture(sample.id, sample.url, label, f"likeness-{sample.id}.png", sample.width, sample.height)


def _recipe(asked: Mapping[str, Any], samples: list[SampleView]) -> tuple[Line, ...]:
    """What it takes to draw the same picture again."""
    if not samples:
        return ()
    names = {"model": "Model", "seed": "Seed", "steps": "Steps", "guidance": "Guidance"}
    lines = [Line(label, wording.number(asked[name])) for name, label in names.items() if asked.get(name) is not None]
    lines.append(Line("Size", f"{samples[0].width} × {samples[0].height} px"))
    for each in asked.get("adapters") or []:
        lines.append(Line("Adapter", f"{str(each.get('sha256', ''))[:12]}…, strength {each.get('strength', 1):g}"))
    recipe = samples[0].recipe
    lines += [
        Line(name.replace("_", " ").capitalize(), str(recipe[name]))
        for name in ("device", "dtype", "precision", "mlx")
        if recipe.get(name)
    ]
    return tuple(lines)
