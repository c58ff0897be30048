"""A picture's recipe, and back from the recipe to the request that draws the same picture again, bit for bit.

A recipe is what `core.sampling.recipe_of` makes; it lies in the database and in the text of the picture's PNG. It names
the adapters and the model by the hashes of their files, so it finds them also under another name, and says which of
them are not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from app.actions import adapters, models, pictures
from app.actions.pictures import Number, PictureRequest
from app.database import Database
from app.errors import Conflict
from app.jobs import store
from app.tables import Sample
from app.wording import number
from core.config.choices import BITS
from core.errors import ConfigProblem, FieldProblem

SENTENCE = "This picture cannot be drawn again here."
LABELS = {"seed": "Seed", "steps": "Steps", "guidance": "Guidance"}
FACTS = {"precision": "Precision of the base", "dtype": "Computed in", "device": "Device", "mlx": "MLX"}


@dataclass(frozen=True, slots=True)
class RecipeLine:
    """A name and a value of a recipe."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class RecipeView:
    """A picture's recipe as it is shown, and as the form takes it."""

    lines: list[RecipeLine]
    form: PictureRequest | None  # None when it cannot be drawn again here
    problems: list[str]  # why


def of_picture(database: Database, sample_id: int) -> RecipeView:
    """Raises NotFound."""
    with database.read() as session:
        row = pictures.find(session, sample_id)
        recipe = _named(session, row)
    lines = _lines(database, recipe)
    try:
        return RecipeView(lines, request_of(database, recipe), [])
    except ConfigProblem as problem:
        return RecipeView(lines, None, [f"Its {one.field} {one.message}." for one in problem.problems])


def again(database: Database, sample_id: int) -> int:
    """Queue the picture once more, from its recipe; returns the job's id.

    Raises NotFound, Conflict for a sample of a run, ConfigProblem with what is not here.
    """
    with database.read() as session:
        row = pictures.find(session, sample_id)
        if row.run_id is not None:
            raise Conflict("This is a sample of a run, and is drawn with the run alone.")
        recipe = _named(session, row)
    return pictures.draw(database, request_of(database, recipe), again=sample_id)


def request_of(database: Database, recipe: Mapping[str, Any]) -> PictureRequest:
    """The request that draws the picture of a recipe. Raises ConfigProblem, naming all that is wrong or not here."""
    problems: list[FieldProblem] = []
    model = _model(database, recipe, problems)
    stack = _adapters(database, recipe, problems)
    precision = recipe.get("precision", "full")
    if precision not in BITS:
        problems.append(FieldProblem("precision", f"is {precision!r}; it can be {', '.join(BITS)}"))
    if recipe.get("negative_prompt"):
        problems.append(FieldProblem("negative_prompt", "is not empty, and pictures are drawn without one here"))
    if not isinstance(prompt := recipe.get("prompt"), str):
        problems.append(FieldProblem("prompt", "is missing from the recipe"))
    if problems:
        raise ConfigProblem(SENTENCE, problems)
    return PictureRequest(
        model=model,
        prompt=str(prompt),
        adapters=stack,
        seed=_number(recipe, "seed"),
        steps=_number(recipe, "steps"),
        guidance=_number(recipe, "guidance"),
        width=_number(recipe, "width_px"),
        height=_number(recipe, "height_px"),
        base_precision=str(precision),
    )


def _named(session: Session, row: Sample) -> dict[str, Any]:
    """The recipe of a picture; those of earlier versions do not name the model, but their jobs do."""
    model = store.get(session, row.job_id).params.get("model", "")
    return {"model_name": model, **row.recipe}


def _model(database: Database, recipe: Mapping[str, Any], problems: list[FieldProblem]) -> str:
    name, here = recipe.get("model_name"), models.names(database)
    if isinstance(name, str) and name in here:
        return name
    of_family = [each.name for each in models.entries(database) if each.usable and each.family == recipe.get("family")]
    if not name and len(of_family) == 1:
        return of_family[0]
    wanted = f"{name!r}, which is" if name else "named by hash alone, and"
    problems.append(
        FieldProblem("model", f"is {wanted} not on this computer; the Models page has what can be downloaded")
    )
    return ""


def _adapters(database: Database, recipe: Mapping[str, Any], problems: list[FieldProblem]) -> list[dict[str, Any]]:
    """The adapters that a recipe names by hash, as a request takes them; those at strength 0 change nothing."""
    found: list[dict[str, Any]] = []
    given = recipe.get("adapters")
    with database.read() as session:
        for each in given if isinstance(given, list) else ():
            if not isinstance(each, Mapping) or not each.get("strength"):
                continue
            sha256, settings = str(each.get("sha256", "")), str(each.get("settings", ""))
            row = adapters.with_hash(session, database, sha256, settings)
            if row is None:
                message = f"with the SHA-256 {sha256[:12]}… is not here; import its file first"
                problems.append(FieldProblem("adapter", message))
                continue
            found.append({"id": row.id, "strength": each["strength"]})
    return found


def _number(recipe: Mapping[str, Any], name: str) -> Number | None:
    """A number of a recipe; `pictures.draw` checks its limits."""
    value = recipe.get(name)
    return value if isinstance(value, int | float | str) else None


def _lines(database: Database, recipe: Mapping[str, Any]) -> list[RecipeLine]:
    """All that it takes to draw the picture, for people."""
    labels = adapters.labels(database)
    lines = [RecipeLine("Model", models.title(database, str(recipe["model_name"])))]
    with database.read() as session:
        for each in recipe.get("adapters", ()):
            row = adapters.with_hash(session, database, str(each.get("sha256")), str(each.get("settings", "")))
            name = labels.get(int(row.id or 0), row.name) if row is not None else "a deleted adapter"
            lines.append(RecipeLine("Adapter", f"{name}, strength {each.get('strength', 1):g}"))
            lines.append(RecipeLine("Its file’s SHA-256", f"{str(each.get('sha256'))[:12]}…"))
    lines += [RecipeLine(label, number(recipe[name])) for name, label in LABELS.items() if recipe.get(name) is not None]
    lines.append(RecipeLine("Size", f"{recipe.get('width_px')} × {recipe.get('height_px')} px"))
    lines += [RecipeLine(label, str(recipe[name])) for name, label in FACTS.items() if recipe.get(name)]
    return lines
