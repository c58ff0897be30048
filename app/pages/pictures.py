"""The page where pictures are drawn: the adapters to draw with, and what was drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlmodel import col, select

from app import wording
from app.actions import adapters, models, runs
from app.actions import jobs as jobs_of
from app.actions.run_views import SampleView, sample_view
from app.database import Database
from app.jobs.states import Kind, State, Stop
from app.knob_fields import KnobField, fields
from app.pages.lines import ALL, AdapterOption, Line, adapter_options, newest_event
from app.pages.render import Page
from app.tables import Job, Sample

DRAWINGS = 40
SEED = 1
NO_ADAPTER = "pocket"  # the model to draw with where no adapter is chosen
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
    suits: dict[str, dict[str, str]]  # by model, also of adapters to come: the values of these fields that suit it
    drawings: tuple[Drawing, ...]  # the newest first; the script fetches them again when one changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What one press on Draw made: one picture, or two side by side."""

    job_id: int
    state: State
    prompt: str
    words: str  # "Waiting for its turn", "drawing", "stopped, 5 minutes ago"
    drawn_with: str  # "Miso, Run 1, step 300, strength 0.8"
    can_cancel: bool
    error: str  # empty without one
    pictures: tuple[Picture, ...]
    to_come: tuple[Place, ...]
    recipe: tuple[Line, ...]  # empty until a picture is there
    form: Mapping[str, Any]  # the form as it was filled in, for "Use again"


@dataclass(frozen=True, slots=True)
class Picture:
    """One drawn picture."""

    id: int
    url: str
    label: str  # "with the adapter, strength 1", "without it" or "the model as it is"
    file_name: str  # to save it under
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture will be."""

    number: int  # among those of its drawing
    label: str  # as the picture's


def pictures_page(
    database: Database, run_id: int | None = None, step: int | None = None, adapter_id: int | None = None
) -> PicturesPage:
    """The page, with this adapter chosen, or one of `run_id` when it has one, else the newest of all.

    Of a run it is that of `step`, else the starred one, else the newest.
    """
    after = newest_event(database)
    views = adapters.list_adapters(database, limit=ALL)[::-1]
    draws_with = {model: models.draws_with(database, model) for model in {view.model for view in views}}
    options = tuple(replace(each, model=draws_with[each.model]) for each in adapter_options(database, views))
    newest = options[0].value if options else ""
    of_run: dict[int | None, str] = {
        view.step: str(view.id) for view in reversed(views) if view.run_id == run_id and view.step
    }
    starred = runs.starred_step(database, run_id) if run_id else None
    value = of_run.get(step) or of_run.get(starred) or next(reversed(of_run.values()), newest)
    value = str(adapter_id) if any(view.id == adapter_id for view in views) else value
    chosen = next((each for each in options if each.value == value), None)
    words = f"{chosen.trigger} {chosen.class_word}".strip() if chosen else ""
    return PicturesPage(
        after=after,
        adapters=options,
        chosen=value,
        prompt=f"a photo of {words or 'a teapot'} on the beach",
        trigger_words=words,
        seed=SEED,
        more=_more_fields(database, chosen.model if chosen else NO_ADAPTER),
        suits={
            model: {field.name: field.value for field in _more_fields(database, model) if not field.choices}
            for model in {NO_ADAPTER, *(each.model for each in options), *models.names(database)}
        },
        drawings=tuple(_drawings(database, {each.value: each.label for each in options})),
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


def _drawings(database: Database, names: Mapping[str, str]) -> list[Drawing]:
    """The newest jobs that drew, or wait to, with their pictures. `names` are those of the adapters, by id.

    One that has ended without a picture is left out, unless it failed: its error is there to be read, until it is
    dismissed.
    """
    with database.read() as session:
        chosen = select(Job).where(Job.kind == Kind.SAMPLE).order_by(col(Job.id).desc()).limit(DRAWINGS)
        jobs = session.exec(chosen).all()
        samples: dict[int | None, list[SampleView]] = {job.id: [] for job in jobs}
        for row in session.exec(select(Sample).where(col(Sample.job_id).in_(samples)).order_by(col(Sample.id))):
            samples[row.job_id].append(sample_view(row))
    titles = {name: models.title(database, name) for name in {str(job.params.get("model", "")) for job in jobs}}
    shown = [job for job in jobs if samples[job.id] or job.state in GOING or jobs_of.failure_shown(job)]
    return [_drawing(job, samples[job.id], names, titles) for job in shown]


def _drawing(job: Job, samples: Sequence[SampleView], names: Mapping[str, str], titles: Mapping[str, str]) -> Drawing:
    params = job.params
    stack = params.get("adapters") or []
    first = stack[0] if stack else {}
    title = titles[str(params.get("model", ""))]
    return Drawing(
        job_id=int(job.id or 0),
        state=job.state,
        prompt=str(params.get("prompt", "")),
        words=_words(job),
        drawn_with=" and ".join(_with_strength(each, names) for each in stack) or f"{title} without an adapter",
        can_cancel=job.state in GOING and job.stop is Stop.NONE,
        error=wording.error(job.error) if jobs_of.failure_shown(job) else "",
        pictures=tuple(_picture(job, sample, names) for sample in samples),
        to_come=tuple(_places(job)) if job.state in GOING else (),
        recipe=_recipe(params, samples, names) if samples else (),
        form={
            "adapter": str(first.get("id", "")),
            "strength": first.get("strength", 1),
            "compare": bool(params.get("without")),
            **{name: params.get(name) for name in ("prompt", "seed", "steps", "guidance", "width")},
            "base_precision": params.get("base_precision", "full"),
        },
    )


def _words(job: Job) -> str:
    """How far a drawing is, or when it was made and how it ended."""
    if job.state is State.QUEUED:
        return wording.QUEUED
    if job.state is State.RUNNING:
        return job.phase if job.stop is Stop.NONE else "stopping"
    when = wording.ago(job.created_at)
    return when if job.state is State.SUCCEEDED else f"{wording.STATES[job.state]}, {when}"


def _with_strength(chosen: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """An adapter of a drawing: by its hash once it is deleted."""
    name = names.get(str(chosen.get("id"))) or f"a deleted adapter ({str(chosen.get('sha256', ''))[:12]}…)"
    return f"{name}, strength {chosen.get('strength', 1):g}"


def _label(stack: Sequence[Mapping[str, Any]], strength: float) -> str:
    if not stack:
        return wording.PLAIN
    return f"{wording.ADAPTED} {strength:g}" if strength else wording.UNADAPTED


def _picture(job: Job, sample: SampleView, names: Mapping[str, str]) -> Picture:
    stack, strength = job.params.get("adapters") or [], sample.adapter_strength
    used = [names.get(str(each.get("id")), "adapter") for each in stack] if strength else [job.params["model"]]
    words = [*used, *([f"strength {strength:g}"] if strength not in (0, 1) else []), f"seed {sample.seed}"]
    file_name = f"{runs.file_word(' '.join(words))}.png"
    return Picture(sample.id, sample.url, _label(stack, strength), file_name, sample.width, sample.height)


def _places(job: Job) -> Iterator[Place]:
    """Those that are not drawn yet: with the adapters, then the same without them, for each seed."""
    stack = job.params.get("adapters") or []
    strength = float(stack[0]["strength"]) if stack else 0.0
    for number in range(job.step, job.steps):
        without = job.params.get("without") and number % 2 == 1
        yield Place(number, _label(stack, 0.0 if without else strength))


def _recipe(params: Mapping[str, Any], samples: Sequence[SampleView], names: Mapping[str, str]) -> tuple[Line, ...]:
    """Everything that it takes to draw the same picture again."""
    labels = {"model": "Model", "seed": "Seed", "steps": "Steps", "guidance": "Guidance"}
    lines = [
        Line(label, wording.number(params[name])) for name, label in labels.items() if params.get(name) is not None
    ]
    lines.append(Line("Size", f"{samples[0].width} × {samples[0].height} px"))
    for each in params.get("adapters") or []:
        lines.append(Line("Adapter", _with_strength(each, names)))
        lines.append(Line("Its file’s SHA-256", f"{str(each.get('sha256', ''))[:12]}…"))
    recipe = samples[0].recipe
    lines += [
        Line(name.replace("_", " ").capitalize(), str(recipe[name]))
        for name in ("device", "dtype", "precision", "mlx")
        if recipe.get(name)
    ]
    return tuple(lines)
