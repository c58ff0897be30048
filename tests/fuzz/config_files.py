"""Files for --config, and the config.json of a run: settings that hold, or a Problem that names each wrong one."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from app.terminal import config_file, training
from core import strict_json
from core.config.resolve import examine, resolve
from core.config.train import knobs
from core.errors import ConfigProblem, DataProblem, Problem
from core.estimate.architecture import Architecture
from core.hub.catalog import POCKET_FOLDER
from core.training.check import settings_problems

WORDS = [
    "300", "on", "1e-4", "auto", "nan", "1e999", "0x10", "512 768", "*.attn.*=4", "lion", "\u0663", "1_0", "1,5",
    "1.000", "a {tigger}", "{", "mlp=4:2, *=1", "a.jpg, b.jpg", "transformer_blocks.0.*",
]  # fmt: skip
VALUE = st.recursive(
    st.sampled_from([None, True, 0, -1, 2**70, 1e-4, 1e300])
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "x"]), inner, max_size=2),
    max_leaves=3,
)
TABLE = st.dictionaries(st.sampled_from(sorted(knobs())) | st.text(max_size=5), VALUE, max_size=4)
SUBJECT = st.fixed_dictionaries({}, optional={"trigger": VALUE, "class_word": VALUE}) | VALUE
STORED = st.builds(
    lambda table, more: {name: {"value": value, "source": "user"} for name, value in table.items()} | more,
    TABLE,
    st.fixed_dictionaries({}, optional={"_subject": SUBJECT, "_start_from": VALUE}),
)


def _encoded(table: Any, how: str) -> bytes:
    text = json.dumps(table, ensure_ascii=how == "ascii")
    if how == "deep":
        text = '{"rank":' * 3000 + text + "}" * 3000
    return text.encode("utf-8-sig" if how == "bom" else "utf-16" if how == "utf-16" else "utf-8", "replace")


DATA: st.SearchStrategy[bytes] = st.one_of(
    st.builds(_encoded, TABLE | STORED, st.sampled_from(["ascii", "utf-8", "bom"])),
    st.builds(_encoded, TABLE | VALUE, st.sampled_from(["utf-16", "deep", "ascii"])),
    st.binary(max_size=100),
    st.text(st.sampled_from('{}[]":, 0123456789eE.-+NaInfity\\ud8'), max_size=40).map(str.encode),
)


@cache
def _pocket() -> Architecture:
    return Architecture.of(POCKET_FOLDER)


@cache
def _folder() -> Path:
    """One for all executions: making and removing folders takes longer than the rest."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def check(content: bytes) -> None:
    """One execution."""
    path = _folder() / "config.json"
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
