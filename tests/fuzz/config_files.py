"""Files for --config, and the config.json of a run: settings that hold, or a Problem that names each wrong one."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from app.terminal import config_file, training
from core import strict_json
from core.config.resolve import examine, resolve
from core.config.train import knobs
from core.errors import ConfigProblem, DataProblem, Problem
from core.estimate.architecture import Architecture
from core.hub.catalog import POCKET_FOLDER
from core.training.check import settings_problems
from tests.fuzz import scratch
from tests.fuzz.plan import Json, Plan, made_by

WORDS = [
    "300", "on", "1e-4", "auto", "nan", "1e999", "0x10", "512 768", "*.attn.*=4", "lion", "\u0663", "1_0", "1,5",
    "1.000", "a {tigger}", "{", "mlp=4:2, *=1", "a.jpg, b.jpg", "transformer_blocks.0.*",
]  # fmt: skip
SYNTAX = '{}[]":, 0123456789eE.-+NaInfity\\ud8'
SETTINGS = sorted(knobs())
WORDY = ("ranks", "targets", "sample_prompts", "held_out", "more_sides_px", "optimizer", "class_prompt")
SCALARS = (None, True, 0, -1, 2**70, 1e-4, 1e300)


def _scalar(plan: Plan) -> Any:
    kind = plan.number(8)
    if kind < 4:
        return plan.one_of(WORDS)
    return plan.one_of(SCALARS) if kind < 6 else plan.float() if kind == 6 else plan.text(5)


VALUE = Json(_scalar, lambda plan: plan.one_of(("value", "x")))


def _setting(plan: Plan) -> str:
    kind = plan.number(8)
    return plan.text(5) if kind == 7 else plan.one_of(WORDY if kind > 4 else SETTINGS)


def _table(plan: Plan) -> dict[str, Any]:
    return {_setting(plan): VALUE(plan) for _ in range(plan.number(5))}


def _subject(plan: Plan) -> Any:
    return VALUE(plan) if plan.rarely(4) else plan.chosen({"trigger": VALUE, "class_word": VALUE})


def _stored(plan: Plan) -> dict[str, Any]:
    table = {name: {"value": value, "source": "user"} for name, value in _table(plan).items()}
    return table | plan.chosen({"_subject": _subject, "_start_from": VALUE})


def _encoded(table: Any, how: str) -> bytes:
    text = json.dumps(table, ensure_ascii=how == "ascii")
    if how == "deep":
        text = '{"rank":' * 3000 + text + "}" * 3000
    return text.encode("utf-8-sig" if how == "bom" else "utf-16" if how == "utf-16" else "utf-8", "replace")


def _content(plan: Plan) -> bytes:
    kind = plan.number(8)
    if kind < 5:
        return _encoded(_stored(plan) if kind % 2 else _table(plan), plan.one_of(("ascii", "utf-8", "bom")))
    if kind == 5:
        return _encoded(VALUE(plan) if plan.number(2) else _table(plan), plan.one_of(("utf-16", "deep", "ascii")))
    if kind == 6:
        return plan.some_bytes(100)
    return "".join(plan.many(40, lambda each: each.one_of(SYNTAX))).encode()


DATA = made_by(_content, 160)


@cache
def _pocket() -> Architecture:
    return Architecture.of(POCKET_FOLDER)


def check(content: bytes) -> None:
    """One execution."""
    path = scratch.folder() / "config.json"
    path.write_bytes(content)
    try:
        table = config_file.read(path)
        for each in settings_problems(examine(table), _pocket(), ("a.jpg", "b.jpg", "c, d.jpg")):
            assert each.message
        json.loads(strict_json.dumps(resolve(table).as_json()), parse_constant=_refuse)
    except ConfigProblem as problem:
        _assert_words(problem)
    try:
        assert training.load_stored(path.parent).subject is not None
    except (ConfigProblem, DataProblem) as problem:
        _assert_words(problem)


def _assert_words(problem: Problem) -> None:
    assert problem.message.strip()
    assert all(each.message.strip() for each in problem.problems)


def _refuse(word: str) -> float:
    raise AssertionError(f"{word} reached JSON")
