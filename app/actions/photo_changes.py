"""Changing one photo: caption, crops, the box of its subject, whether it is set aside. Each change is a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlmodel import Session

from app.actions import edits
from app.actions.photo_views import PhotoView, newest_captions, views
from app.actions.photos import find
from app.database import Database
from app.tables import Caption, Photo, now
from core.dataset import captions as caption_words
from core.dataset.crops import Box
from core.errors import DataProblem, FieldProblem, Problem

TYPING_PAUSE = timedelta(seconds=60)  # edits of a caption less than this apart are one entry of its history
CROPS_AT_MOST = 8  # of a photo
SIDES = ("left", "top", "right", "bottom")
BOX_WORDS = "must be a box: left, top, right and bottom, as fractions of the photo from 0 to 1"


def change(database: Database, photo_id: int, given: Mapping[str, Any]) -> PhotoView:
    """Write the fields that are given, as one step:

        caption   text; None or "" removes it              aside     true or false
        crop      a box, the first of the crops; None for the default crop, which keeps the subject
        crops     every crop, [{"box": box}]; [] for the default one
        subject   the box of the subject; None for the one that was found
        typing    true: this continues the caption's change of a moment ago, and the step that it was

    A box is {"left", "top", "right", "bottom"} or [left, top, right, bottom].

    Raises NotFound; DataProblem, naming every field that cannot be used.
    """
    wanted = dict(given)
    typing = wanted.pop("typing", False)
    values, problems = read_fields(wanted)
    if not isinstance(typing, bool):
        problems.append(FieldProblem("typing", f"is {typing!r}; it must be true or false"))
    if {"crop", "crops"} <= wanted.keys():
        problems.append(FieldProblem("crop", "is the first of crops; give one of the two"))
    if problems:
        raise DataProblem("This change of the photo needs another look.", problems)
    with database.write() as session:
        row = find(session, photo_id)
        key = f"caption {photo_id}" if typing and values.keys() == {"caption"} else ""
        with edits.step(session, row.project_id, _words(row, values), [photo_id], key=key):
            for field, value in values.items():
                write_field(session, row, field, value)
        return views(session, [row])[0]


def restore_caption(database: Database, photo_id: int, caption_id: int) -> PhotoView:
    """Write a caption of the photo's history again, as a step. Raises NotFound, DataProblem."""
    with database.write() as session:
        row = find(session, photo_id)
        caption = session.get(Caption, caption_id)
        if caption is None or caption.photo_id != photo_id:
            problem = FieldProblem("caption_id", f"is {caption_id}; {row.name} has had no such caption")
            raise DataProblem("This caption cannot be restored.", [problem])
        with edits.step(session, row.project_id, f"an earlier caption of {row.name}", [photo_id]):
            write_caption(session, photo_id, caption.text, caption.origin)
        return views(session, [row])[0]


def read_fields(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[FieldProblem]]:
    """The values of the fields in `READERS`, and the problem of each that cannot be read, or is not among them."""
    values: dict[str, Any] = {}
    problems: list[FieldProblem] = []
    for field, value in given.items():
        if field not in READERS:
            problems.append(FieldProblem(field, f"cannot be changed; it can be {', '.join(READERS)}"))
            continue
        try:
            values[field] = READERS[field](value)
        except Problem as problem:
            problems.append(FieldProblem(field, problem.message))
    return values, problems


def write_field(session: Session, row: Photo, field: str, value: Any) -> None:
    """Write one value of `read_fields`, within a step."""
    match field:
        case "caption":
            write_caption(session, int(row.id or 0), value, "user")
        case "crop":
            rest = row.crops[1:]
            row.crops = [value, *rest] if value is not None else [WHOLE_JSON, *rest] if rest else []
        case "crops":
            row.crops = value
        case "aside":
            row.aside = value
        case "subject":
            row.subject = value
        case "mask":
            row.mask = row.mask_box = value
    session.add(row)


def write_caption(session: Session, photo_id: int, text: str, origin: str) -> None:
    """Add a caption, unless the newest one is equal; an edit within `TYPING_PAUSE` replaces the newest."""
    newest = newest_captions(session, [photo_id]).get(photo_id)
    if (newest.text if newest is not None else "") == text:
        return
    if newest is not None and newest.origin == origin == "user" and now() - newest.at < TYPING_PAUSE:
        newest.text, newest.at = text, now()
        session.add(newest)
    else:
        session.add(Caption(photo_id=photo_id, text=text, origin=origin))
    session.flush()


def read_caption(caption: Any) -> str:
    """One line of text. Raises DataProblem, whose message continues "The caption"."""
    if caption is not None and not isinstance(caption, str):
        raise DataProblem(f"is {caption!r}; it must be text")
    text = " ".join((caption or "").split())
    if len(text) > caption_words.CHARACTERS_AT_MOST:
        raise DataProblem(f"has {len(text)} characters; at most {caption_words.CHARACTERS_AT_MOST}")
    return text


def read_box(given: Any) -> Box:
    """A box in either form. Raises DataProblem, whose message continues the field's name."""
    sides = given
    if isinstance(given, Mapping):
        sides = [given.get(side) for side in SIDES]
    if not isinstance(sides, Sequence) or len(sides) != len(SIDES):
        raise DataProblem(BOX_WORDS)
    if any(isinstance(side, bool) or not isinstance(side, int | float) for side in sides):
        raise DataProblem(BOX_WORDS)
    try:
        return Box(*(float(side) for side in sides))
    except DataProblem as problem:
        raise DataProblem(f"{BOX_WORDS}. {problem.message}") from None


def box_json(box: Box) -> dict[str, float]:
    """A crop as the database and JSON have it."""
    return {"left": box.left, "top": box.top, "right": box.right, "bottom": box.bottom}


def _read_crop(given: Any) -> dict[str, float] | None:
    return None if given is None else box_json(read_box(given))


def _read_crops(given: Any) -> list[dict[str, float]]:
    if given is None:
        return []
    if not isinstance(given, list) or len(given) > CROPS_AT_MOST:
        raise DataProblem(f"must be a list of at most {CROPS_AT_MOST} boxes")
    found = []
    for place, each in enumerate(given):
        inner = each["box"] if isinstance(each, Mapping) and "box" in each else each
        try:
            found.append(box_json(read_box(inner)))
        except DataProblem as problem:
            raise DataProblem(f"has as its number {place + 1} what {problem.message}") from None
    if any(each in found[:place] for place, each in enumerate(found)):
        raise DataProblem("has the same box twice; each is a training example of its own")
    return found


def _read_aside(given: Any) -> bool:
    if not isinstance(given, bool):
        raise DataProblem(f"is {given!r}; it must be true or false")
    return given


def _read_subject(given: Any) -> list[float] | None:
    if given is None:
        return None
    box = read_box(given)
    return [box.left, box.top, box.right, box.bottom]


READERS: dict[str, Callable[[Any], Any]] = {
    "caption": read_caption,
    "crop": _read_crop,
    "crops": _read_crops,
    "aside": _read_aside,
    "subject": _read_subject,
}
WHOLE_JSON = box_json(Box(0.0, 0.0, 1.0, 1.0))


def _words(row: Photo, values: Mapping[str, Any]) -> str:
    if values.keys() == {"aside"}:
        return f"{row.name} set aside" if values["aside"] else f"{row.name} taken back"
    names = {"caption": "caption", "crop": "crop", "crops": "crops", "subject": "subject's box", "aside": "place"}
    what = " and ".join(names[field] for field in values)
    return f"the {what} of {row.name}"
