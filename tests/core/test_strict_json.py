"""JSON as the standard has it: what Python reads and writes beyond it never gets in or out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from app.terminal import config_file, training
from core import files, strict_json
from core.errors import ConfigProblem, DataProblem


def test_a_byte_order_mark_is_skipped() -> None:
    assert strict_json.loads(b'\xef\xbb\xbf{"rank": 8}') == {"rank": 8}
    assert strict_json.loads("\ufeff[1.5]") == [1.5]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff\xfe{\x00}\x00", "is not UTF-8 text"),
        (b"{'rank': 8}", "is not JSON"),
        (b"", "is not JSON"),
        (b"[" * 20_000 + b"]" * 20_000, "is nested more than 100 deep"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "is nested more than 100 deep"),
        (b'{"rank": NaN}', "has NaN, which is not a number in JSON"),
        (b"[-Infinity]", "has -Infinity"),
        (b"[1e999]", "has 1e999, which is too large a number"),
        (b"[" + b"9" * 5000 + b"]", "too large a number"),
        (b'["\\ud83d"]', "has half a character"),
    ],
)
def test_what_is_not_json_is_a_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        strict_json.loads(content)


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    content = {"loss": math.nan, "all": (1, math.inf, [-math.inf]), "n": 2.5}
    assert json.loads(strict_json.dumps(content)) == {"loss": None, "all": [1, None, [None]], "n": 2.5}
    files.write_json(tmp_path / "a.json", content)
    assert "NaN" not in (tmp_path / "a.json").read_text()


def test_a_config_file_is_read_whoever_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'\xef\xbb\xbf{"rank": {"value": 8, "source": "user"}, "steps": "5", "_subject": {}}')
    assert config_file.read(path) == {"rank": 8, "steps": "5"}
    for content, sentence in [
        (b"[" * 20_000, "nested"),
        (b"[]", "must hold a JSON object"),
        (b'{"a": NaN}', "has NaN"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ConfigProblem, match=sentence):
            config_file.read(path)


@pytest.mark.parametrize(
    "content", ["[" * 20_000, "{}", "[]", '{"_subject": {"trigger": "a", "class_word": "b"}, "rank": 1}']
)
def test_a_run_whose_settings_cannot_be_read_is_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(DataProblem, match="cannot be read"):
        training.load_stored(tmp_path)
