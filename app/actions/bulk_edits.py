"""One change of many photos: checked as a whole, written as one step that can be undone.

{"photos": [1, 2], "set": {...}}
    caption | captions | find, replace      the caption of all | {id: text} | words replaced within each
    prefix, suffix                          before and after each caption
    aside, deleted                          true or false | true
    crop                                    "subject": a crop that keeps it | a box | null, the default crop
    crops                                   {id: [{"box": box}]}: every crop of a photo
    subject, mask                           null: what you drew is removed, what was found counts again
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, col, select

from app.actions import edits, projects, training_shape
from app.actions.edits import Done
from app.actions.photo_changes import box_json, read_caption, read_fields, write_field
from app.actions.photo_views import PhotoView, found_subjects, newest_captions, subject_view, views
from app.database import Database
from app.settings import value_of
from app.tables import Caption, Photo, Project, Subject
from app.wording import plural
from core.config.train import TrainConfig
from core.dataset import buckets
from core.dataset.captions import fill
from core.dataset.crops import Box
from core.dataset.subject_crops import subject_crop
from core.errors import DataProblem, FieldProblem, Problem

CAPTION_KEYS = ("caption", "captions", "find")  # one of them at most
KEYS = (
    *CAPTION_KEYS,
    "replace",
    "whole_words",
    "any_case",
    "prefix",
    "suffix",
    "aside",
    "deleted",
    "crop",
    "crops",
    "subject",
    "mask",
)
PLURALS = {"box": "boxes", "crops": "crops"}
BY_PHOTO = {"captions": "texts", "crops": "lists of boxes"}  # keys whose value is an object by photo id
NO_SPACE_BEFORE = tuple(",.;:!?")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A photo that stays as it is, and why."""

    photo: int
    name: str
    words: str


@dataclass(frozen=True, slots=True)
class Edited:
    """What a change of many photos did, or with `preview` would do."""

    done: str
    changed: list[int]  # ids
    captions: list[dict[str, Any]]  # [{"photo", "before", "after"}] of those whose caption changes
    left_out: list[LeftOut]
    photos: list[PhotoView]  # as they are now; without those that were deleted
    undo: str | None
    redo: str | None


@dataclass
class Plan:
    """The new values by photo, before anything is written."""

    rows: list[Photo]
    values: dict[int, dict[str, Any]] = field(default_factory=dict)
    captions: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    problems: list[FieldProblem] = field(default_factory=list)

    def set(self, row: Photo, name: str, value: Any) -> None:
        self.values.setdefault(int(row.id or 0), {})[name] = value

    def leave_out(self, row: Photo, words: str) -> None:
        self.left_out.append(LeftOut(int(row.id or 0), row.name, words))


def apply(database: Database, project_id: int, photo_ids: Any, given: Any, *, preview: bool = False) -> Edited:
    """Change these photos, or with `preview` say what would change.

    Raises NotFound; DataProblem naming everything that is wrong: photos, fields, captions that grow too long.
    """
    to_subject = isinstance(given, Mapping) and given.get("crop") == "subject"
    config = training_shape.config_of(database, project_id) if to_subject else TrainConfig()
    with database.write() as session:
        project = projects.find(session, project_id)
        rows, problems = _chosen(session, project_id, photo_ids)
        problems += _wrong_keys(given)
        if problems:
            raise _refused(problems)
        plan = Plan(rows)
        _plan_captions(session, project, plan, given)
        _plan_fields(session, plan, given, config)
        if plan.problems:
            raise _refused(plan.problems)
        if not preview:
            with edits.step(session, project_id, _words(plan, given), [int(row.id or 0) for row in rows]):
                _write(session, plan, deleted=bool(given.get("deleted")))
        now = edits.state(session, project_id)
        left = [row for row in rows if preview or not given.get("deleted")]
        return _edited(plan, given, views(session, left), now)


def _edited(plan: Plan, given: Mapping[str, Any], photos: list[PhotoView], now: Done) -> Edited:
    words = _words(plan, given)
    changed = sorted(plan.values)
    return Edited(f"{words[0].upper()}{words[1:]}.", changed, plan.captions, plan.left_out, photos, now.undo, now.redo)


def _chosen(session: Session, project_id: int, photo_ids: Any) -> tuple[list[Photo], list[FieldProblem]]:
    """The photos by id in the order given, and the problem of each that is not in the project."""
    if not isinstance(photo_ids, list) or not photo_ids:
        return [], [FieldProblem("photos", "must be a list of ids, with one at least")]
    odd = [each for each in photo_ids if type(each) is not int]
    if odd:
        return [], [FieldProblem("photos", f"has {each!r} in it; ids are whole numbers") for each in odd]
    ids = list(dict.fromkeys(photo_ids))
    chosen = select(Photo).where(Photo.project_id == project_id, col(Photo.id).in_(ids))
    rows = {row.id: row for row in session.exec(chosen)}
    missing = [
        FieldProblem("photos", f"has {each} in it, which is no photo of this project")
        for each in ids
        if each not in rows
    ]
    return [rows[each] for each in ids if each in rows], missing


def _wrong_keys(given: Any) -> list[FieldProblem]:
    """What is wrong with the keys of `set`, and with values of the wrong kind."""
    if not isinstance(given, Mapping) or not given:
        return [FieldProblem("set", f"must be an object with at least one of {', '.join(KEYS)}")]
    problems = [FieldProblem(key, f"is not known; it can be {', '.join(KEYS)}") for key in given if key not in KEYS]
    texts = {key: given[key] for key in ("find", "replace", "prefix", "suffix") if key in given}
    problems += [
        FieldProblem(key, f"is {value!r}; it must be text")
        for key, value in texts.items()
        if not isinstance(value, str)
    ]
    if texts.get("find") == "":
        problems.append(FieldProblem("find", "is empty; give the words to replace"))
    if sum(key in given for key in CAPTION_KEYS) > 1:
        problems.append(FieldProblem("caption", f"give one of {', '.join(CAPTION_KEYS)}"))
    if ("find" in given) != ("replace" in given):
        lacking = "replace" if "find" in given else "find"
        problems.append(FieldProblem(lacking, "is missing; find and replace come together"))
    for key in ("whole_words", "any_case", "aside", "deleted"):
        if key in given and not isinstance(given[key], bool):
            problems.append(FieldProblem(key, f"is {given[key]!r}; it must be true or false"))
    if given.get("deleted") is False:
        problems.append(FieldProblem("deleted", "is false; deleted photos come back by undo"))
    if given.get("deleted") and len(given) > 1:
        problems.append(FieldProblem("deleted", "goes with no other change"))
    problems += [
        FieldProblem(key, f"must be an object of {what} by photo id")
        for key, what in BY_PHOTO.items()
        if key in given and not isinstance(given[key], Mapping)
    ]
    if {"crop", "crops"} <= given.keys():
        problems.append(FieldProblem("crop", "is the first of crops; give one of the two"))
    problems += [
        FieldProblem(key, "can only be null here; draw it on each photo")
        for key in ("subject", "mask")
        if given.get(key) is not None
    ]
    return problems


def _plan_captions(session: Session, project: Project, plan: Plan, given: Mapping[str, Any]) -> None:
    if not given.keys() & {*CAPTION_KEYS, "prefix", "suffix"}:
        return
    ids = [int(row.id or 0) for row in plan.rows]
    newest = newest_captions(session, ids)
    template = fill(value_of(session, "caption_template"), project.trigger, project.class_word)
    own = given.get("captions") or {}
    plan.problems += _strangers("captions", own, ids)
    change = _caption_change(given)
    for row in plan.rows:
        number = int(row.id or 0)
        before = newest[number].text if number in newest else ""
        if "captions" in given and str(number) not in own:
            continue
        try:
            base = (
                read_caption(own[str(number)] if "captions" in given else given["caption"])
                if change is None
                else before
            )
            # A photo without a caption is trained with the template, so that is what a prefix goes before.
            text = read_caption(_framed(change(base) if change else base, given, template))
        except Problem as problem:
            plan.problems.append(FieldProblem(row.name, f"would have a caption that {problem.message}"))
            continue
        if text != before:
            plan.set(row, "caption", text)
            plan.captions.append({"photo": number, "before": before or None, "after": text or None})


def _strangers(key: str, own: Mapping[str, Any], ids: Sequence[int]) -> list[FieldProblem]:
    """The problem of each photo that an object by photo id names and that is not one of `ids`."""
    strange = [each for each in own if not (each.isdecimal() and int(each) in ids)]
    return [FieldProblem(key, f"has {each!r} in it, which is not one of the photos") for each in strange]


def _caption_change(given: Mapping[str, Any]) -> Callable[[str], str] | None:
    """From the old caption to the new one; None where the new one is given."""
    if "caption" in given or "captions" in given:
        return None
    if "find" not in given:
        return lambda text: text
    pattern = re.escape(given["find"])
    if given.get("whole_words"):
        pattern = rf"(?<!\w){pattern}(?!\w)"
    found = re.compile(pattern, re.IGNORECASE if given.get("any_case") else 0)
    return lambda text: found.sub(lambda _: given["replace"], text)


def _framed(text: str, given: Mapping[str, Any], template: str) -> str:
    """With prefix and suffix, a space between; none before a comma."""
    prefix, suffix = given.get("prefix", ""), given.get("suffix", "")
    if prefix or suffix:
        text = text or template
    if prefix:
        text = f"{prefix} {text}"
    if suffix:
        text = f"{text}{suffix}" if suffix.lstrip().startswith(NO_SPACE_BEFORE) else f"{text} {suffix}"
    return text


def _plan_fields(session: Session, plan: Plan, given: Mapping[str, Any], config: TrainConfig) -> None:
    """Everything but captions."""
    wanted = {key: given[key] for key in ("aside", "crop", "subject") if key in given}
    to_subject = wanted.get("crop") == "subject"
    if to_subject:
        del wanted["crop"]
    values, problems = read_fields(wanted)
    plan.problems += problems
    if "mask" in given:
        values["mask"] = None
    ids = [int(row.id or 0) for row in plan.rows]
    subjects = found_subjects(session, ids) if to_subject else {}
    own_crops = given.get("crops") or {}
    plan.problems += _strangers("crops", own_crops, ids)
    for row in plan.rows:
        for name, value in values.items():
            now = (row.crops[0] if row.crops else None) if name == "crop" else getattr(row, name)
            if now != value:
                plan.set(row, name, value)
        if to_subject:
            _plan_crop(plan, row, subjects.get(int(row.id or 0)), config)
        if str(row.id) in own_crops:
            _plan_crops(plan, row, own_crops[str(row.id)])
        if given.get("deleted"):
            plan.set(row, "deleted", True)
    if to_subject and not plan.values and plan.left_out:
        plan.problems += [FieldProblem(each.name, each.words) for each in plan.left_out]


def _plan_crop(plan: Plan, row: Photo, found: Subject | None, config: TrainConfig) -> None:
    """The crop that keeps the subject, in the shape in which the photo is trained."""
    box = subject_view(row, found).box
    if box is None:
        plan.leave_out(row, "has no subject that was found; draw a box around it")
        return
    bucket = buckets.of_photo(config, row.width, row.height, None)[0]
    crop = box_json(subject_crop(Box(*box), (row.width, row.height), bucket.width / bucket.height))
    if row.crops[:1] != [crop]:
        plan.set(row, "crop", crop)


def _plan_crops(plan: Plan, row: Photo, given: Any) -> None:
    values, problems = read_fields({"crops": given})
    plan.problems += [FieldProblem(f"crops of {row.name}", each.message) for each in problems]
    if not problems and row.crops != values["crops"]:
        plan.set(row, "crops", values["crops"])


def _write(session: Session, plan: Plan, *, deleted: bool) -> None:
    for row in plan.rows:
        number = int(row.id or 0)
        for name, value in plan.values.get(number, {}).items():
            if name == "caption":  # without a query for each, as one photo's change has
                session.add(Caption(photo_id=number, text=value, origin="user"))
            elif not deleted:
                write_field(session, row, name, value)
        if deleted:
            session.delete(row)


def _words(plan: Plan, given: Mapping[str, Any]) -> str:
    """The step, in words: "3 photos set aside", "captions of 12 photos"."""
    changed = [row for row in plan.rows if int(row.id or 0) in plan.values]
    if not changed:
        return "no photo needed this change"
    one = len(changed) == 1
    which = changed[0].name if one else plural(len(changed), "photo")
    if given.get("deleted"):
        return f"{which} deleted"
    if given.keys() == {"aside"}:
        return f"{which} set aside" if given["aside"] else f"{which} taken back"
    names = {"aside": "place", "crop": "crop", "crops": "crops", "subject": "box", "mask": "mask"}
    kinds = ["caption"] if given.keys() & {*CAPTION_KEYS, "prefix", "suffix"} else []
    kinds += [word for key, word in names.items() if key in given]
    what = " and ".join(word if one else PLURALS.get(word, f"{word}s") for word in kinds)
    return f"{'the ' if one else ''}{what} of {which}"


def _refused(problems: Sequence[FieldProblem]) -> DataProblem:
    return DataProblem("Nothing was changed: this change needs another look.", problems)
