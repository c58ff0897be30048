"""The page where pictures are drawn: the adapters to draw with, and what was drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlmodel import col, select

from app import wording
from app.actions import adapters, models
from app.actions.run_views import SampleView, sample_view
from app.database import Database
from app.jobs.states import Kind, State
from app.knob_fields import KnobField, fields
from app.pages.lines import ALL, AdapterOption, Line, adapter_options, newest_event
from app.pages.render import Page
from app.tables import Job, Sample, now

DRAWINGS = 40
SEED = 1
GOING = (State.QUEUED, State.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class PicturesPage(Page):
    """Drawing with an adapter, and what was drawn."""

    template = "pictures.html"
    here = "pictures"
    after: int  # the newest event that the page knows of
    adapters: tuple[AdapterOption, ...]  # the newest first
    chosen: str  # the value of one of them; empty for none
    prompt: str
    trigger_words: str  # "sks can"; empty without an adapter
    seed: int
    more: tuple[KnobField, ...]  # steps, guidance, size, precision
    drawings: tuple[Drawing, ...]  # the newest first
    blank_drawing: Drawing  # for the script to copy and fill in


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What one press on Draw made: one picture, or two side by side."""

    job_id: int
    state: State
    prompt: str
    created_at: datetime
    error: str = ""
    pictures: tuple[Picture, ...] = ()
    to_come: int = 0  # how many are not drawn yet
    recipe: tuple[Line, ...] = ()  # empty until a picture is there
    form: Mapping[str, Any]  # the form as it was filled in, for "Use again"


@dataclass(frozen=True, slots=True)
class Picture:
    """One drawn picture."""

    id: int
    url: str
    label: str  # "with the adapter, strength 1", "without it" or "the model as it is"
    width: int
    height: int


def pictures_page(database: Database, run_id: int | None = None) -> PicturesPage:
    """The page, with the newest adapter of `run_id` chosen when it has one, else the newest of all."""
    after = newest_event(database)
    views = adapters.list_adapters(database, limit=ALL)[::-1]
    draws_with = {model: models.draws_with(database, model) for model in {view.model for view in views}}
    options = tuple(replace(each, model=draws_with[each.model]) for each in adapter_options(database, views))
    newest = options[0].value if options else ""
    value = next((str(view.id) for view in views if view.run_id == run_id), newest)
    chosen = next((each for each in options if each.value == value), None)
    words = f"{chosen.trigger} {chosen.class_word}".strip() if chosen else ""
    return PicturesPage(
        after=after,
        adapters=options,
        chosen=value,
        prompt=f"a photo of {words or 'a teapot'} on the beach",
        trigger_words=words,
        seed=SEED,
        more=_more_fields(database, chosen.model if chosen else "pocket"),
        drawings=tuple(_drawings(database)),
        blank_drawing=Drawing(job_id=0, state=State.QUEUED, prompt="", created_at=now(), form={}),
    )


def _more_fields(database: Database, model: str) -> tuple[KnobField, ...]:
    """Sampler steps, guidance, size and precision, with the values that suit the model."""
    knob_of = {"steps": "sample_steps", "guidance": "sample_guidance", "side_px": "side_px"}
    best = models.find(database, model).drawing if model in models.names(database) else {}
    knobs = fields({knob_of[name]: value for name, value in best.items()}, ())
    return (
        replace(knobs["sample_steps"], name="steps"),
        replace(knobs["sample_guidance"], name="guidance"),
        replace(
            knobs["side_px"], name="side", label="Size", sentence="The picture's side in pixels; a multiple of 16."
        ),
        knobs["base_precision"],
    )


def _drawings(database: Database) -> list[Drawing]:
    """The newest jobs that drew, or wait to, with their pictures; removed ones without a picture are left out."""
    with database.read() as session:
        chosen = select(Job).where(Job.kind == Kind.SAMPLE).order_by(col(Job.id).desc()).limit(DRAWINGS)
        jobs = session.exec(chosen).all()
        samples: dict[int | None, list[SampleView]] = {job.id: [] for job in jobs}
        for row in session.exec(select(Sample).where(col(Sample.job_id).in_(samples)).order_by(col(Sample.id))):
            samples[row.job_id].append(sample_view(row))
    return [_drawing(job, samples[job.id]) for job in jobs if samples[job.id] or job.state is not State.CANCELLED]


def _drawing(job: Job, samples: Sequence[SampleView]) -> Drawing:
    params = job.params
    stack = params.get("adapters") or []
    first = stack[0] if stack else {}
    return Drawing(
        job_id=int(job.id or 0),
        state=job.state,
        prompt=str(params.get("prompt", "")),
        created_at=job.created_at,
        error=wording.error(job.error) if job.state is State.FAILED else "",
        pictures=tuple(_picture(sample, adapted=bool(stack)) for sample in samples),
        to_come=max(job.steps - len(samples), 0) if job.state in GOING else 0,
        recipe=_recipe(params, samples) if samples else (),
        form={
            "adapter": str(first.get("id", "")),
            "strength": first.get("strength", 1),
            "compare": bool(params.get("without")),
            **{name: params.get(name) for name in ("prompt", "seed", "steps", "guidance", "width")},
            "base_precision": params.get("base_precision", "full"),
        },
    )


def _picture(sample: SampleView, *, adapted: bool) -> Picture:
    label = wording.PLAIN
    if adapted:
        strength = sample.adapter_strength
        label = f"{wording.ADAPTED} {strength:g}" if strength else wording.UNADAPTED
    return Picture(sample.id, sample.url, label, sample.width, sample.height)


def _recipe(params: Mapping[str, Any], samples: Sequence[SampleView]) -> tuple[Line, ...]:
    """Everything that it takes to draw the same picture again."""
    labels = {"model": "Model", "seed": "Seed", "steps": "Steps", "guidance": "Guidance"}
    lines = [
        Line(label, wording.number(params[name])) for name, label in labels.items() if params.get(name) is not None
    ]
    lines.append(Line("Size", f"{samples[0].width} × {samples[0].height} px"))
    for each in params.get("adapters") or []:
        lines.append(Line("Adapter", f"{str(each.get('sha256', ''))[:12]}…, strength {each.get('strength', 1):g}"))
    recipe = samples[0].recipe
    lines += [
        Line(name.replace("_", " ").capitalize(), str(recipe[name]))
        for name in ("device", "dtype", "precision", "mlx")
        if recipe.get(name)
    ]
    return tuple(lines)
