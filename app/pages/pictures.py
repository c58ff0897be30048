"""The darkroom: the page where pictures are drawn, with any base, with or without adapters, and all that was drawn.

What was drawn is in the page as JSON, since it changes while jobs draw: static/js/darkroom/ shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from app.actions import adapters, drawings, models, runs
from app.actions.drawings import DrawingView, Pace
from app.database import Database
from app.knob_fields import KnobField, Option, fields
from app.pages.lines import ALL, AdapterOption, adapter_options, newest_event
from app.pages.render import Page
from core.hub import catalog

SEED = 1
NO_ADAPTER = "pocket"  # the model to draw with where no adapter is chosen
STRENGTHS = ("0.4", "0.6", "0.8", "1", "1.2", "1.4")
CHOSEN_STRENGTHS = ("1",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PicturesPage(Page):
    """Drawing with adapters, and what was drawn."""

    template = "pictures.html"
    here = "pictures"
    after: int  # the newest event that the page knows of
    adapters: tuple[AdapterOption, ...]  # the newest first
    chosen: str  # the value of one of them; empty for none
    bases: tuple[Option, ...]  # the models that are here
    base: str  # the one that suits the chosen adapter
    prompt: str
    trigger_words: str  # "sks can"; empty without an adapter
    seed: int
    strengths: tuple[str, ...]
    chosen_strengths: tuple[str, ...]
    more: tuple[KnobField, ...]  # steps, guidance, width, height, precision
    suits: dict[str, dict[str, str]]  # by model, also of adapters to come: the values of these fields that suit it
    data: Mapping[str, Any]  # `DarkroomData` as JSON


@dataclass(frozen=True, slots=True)
class DarkroomData:
    """What the page's scripts show."""

    drawings: list[DrawingView]  # the newest first
    paces: dict[str, Pace]  # by model: how long a picture takes
    fits: dict[str, list[str]]  # by the model that an adapter was trained on: those that it can be drawn with
    trained: dict[str, str]  # by adapter: that model
    steps: dict[str, tuple[int, int]]  # by adapter of a run: (run, step)


def pictures_page(
    database: Database, run_id: int | None = None, step: int | None = None, adapter_id: int | None = None
) -> PicturesPage:
    """The page, with this adapter chosen, or one of `run_id` when it has one, else of the newest adapter's run.

    Of a run it is that of `step`, else the starred one, else the newest.
    """
    after = newest_event(database)
    views = adapters.list_adapters(database, limit=ALL)[::-1]
    here = models.names(database)
    trained_on = {view.model for view in views}
    draws_with = {model: models.draws_with(database, model) for model in trained_on}
    options = tuple(replace(each, model=draws_with[each.model]) for each in adapter_options(database, views))
    newest = options[0].value if options else ""
    if run_id is None and views and views[0].step is not None:
        run_id = views[0].run_id
    of_run: dict[int | None, str] = {
        view.step: str(view.id) for view in reversed(views) if view.run_id == run_id and view.step
    }
    starred = runs.starred_step(database, run_id) if run_id else None
    value = of_run.get(step) or of_run.get(starred) or next(reversed(of_run.values()), newest)
    value = str(adapter_id) if any(view.id == adapter_id for view in views) else value
    chosen = next((each for each in options if each.value == value), None)
    words = f"{chosen.trigger} {chosen.class_word}".strip() if chosen else ""
    base = chosen.model if chosen else NO_ADAPTER
    fits = {each: [name for name in here if catalog.adapters_fit(each, name)] for each in {*trained_on, *here}}
    data = DarkroomData(
        drawings=drawings.list_drawings(database),
        paces=drawings.paces(database),
        fits=fits,
        trained={str(view.id): view.model for view in views},
        steps={str(view.id): (view.run_id, view.step) for view in views if view.run_id and view.step is not None},
    )
    return PicturesPage(
        after=after,
        adapters=options,
        chosen=value,
        bases=tuple(Option(name, models.title(database, name)) for name in here),
        base=base,
        prompt=f"a photo of {words or 'a teapot'} on the beach",
        trigger_words=words,
        seed=SEED,
        strengths=STRENGTHS,
        chosen_strengths=CHOSEN_STRENGTHS,
        more=_more_fields(database, base),
        suits={
            model: {field.name: field.value for field in _more_fields(database, model) if not field.choices}
            for model in {NO_ADAPTER, *(each.model for each in options), *here}
        },
        data=asdict(data),
    )


def _more_fields(database: Database, model: str) -> tuple[KnobField, ...]:
    """Sampler steps, guidance, size and precision, with the values that suit the model."""
    knob_of = {"steps": "sample_steps", "guidance": "sample_guidance", "side_px": "side_px"}
    best = models.find(database, model).drawing if model in models.names(database) else {}
    knobs = fields({knob_of[name]: value for name, value in best.items()}, ())
    side = replace(knobs["side_px"], sentence="In pixels; a multiple of 16.")
    return (
        replace(knobs["sample_steps"], name="steps"),
        replace(knobs["sample_guidance"], name="guidance"),
        replace(side, name="width", label="Width"),
        replace(side, name="height", label="Height"),
        knobs["base_precision"],
    )
