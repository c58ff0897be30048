"""How code is written here: its words, the sizes of files, classes and functions, and the type checker's exceptions."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE = ("app", "core", "bench")
FILE_LINES, CLASS_LINES, FUNCTION_LINES = 350, 200, 50
TYPE_EXCEPTIONS = 10
LONG_CLASSES = {"TrainConfig"}  # one line a knob, and a sentence each
REPLACED = re.compile(
    "wish|told|heard|heed|settle|baked|crew|muster|parcel|follower|milestone|leanest", re.IGNORECASE
)  # CONTRIBUTING.md, "Names", says what by

PLANTED = """\
def text(number: int) -> str:
    return number

def twice(number):
    return 2 * number
def first(numbers: list[int] | None) -> int:
    return numbers[0]
"""


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def scripts_and_styles() -> list[Path]:
    files = sorted((ROOT / "static").rglob("*.[jc]s*"))
    return [path for path in files if path.suffix in (".js", ".css") and "vendor" not in path.parts]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def identifiers(path: Path) -> Iterator[str]:
    """Every name that a file gives to something or calls something by."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.arg, ast.keyword)):
            yield node.arg or ""
        elif isinstance(node, ast.alias):
            yield from (node.name, node.asname or "")
        elif isinstance(node, (ast.MatchAs, ast.MatchStar, ast.ExceptHandler)):
            yield node.name or ""
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            yield from node.names


def is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body alone, without signature and docstring."""
    body = function.body[1:] if is_docstring(function.body[0]) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_identifier_is_one_of_the_words_that_were_replaced() -> None:
    wrong = sorted(
        {
            f"{path.relative_to(ROOT)}: {name}"
            for path in python_files(*CODE)
            for name in (*identifiers(path), *path.relative_to(ROOT).with_suffix("").parts)
            if REPLACED.search(name)
        }
    )
    assert not wrong


def test_no_file_is_longer_than_one_sitting() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in [*python_files(*CODE, "tests", "docs"), *scripts_and_styles()]
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE_LINES
    }
    assert not long


def test_functions_and_classes_are_short() -> None:
    long = []
    for path in python_files(*CODE):
        for node in ast.walk(parsed(path)):
            name = f"{path.relative_to(ROOT)}: {getattr(node, 'name', '')}"
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines, most = body_lines(node), FUNCTION_LINES
            elif isinstance(node, ast.ClassDef) and node.name not in LONG_CLASSES:
                lines, most = (node.end_lineno or 0) - node.lineno + 1, CLASS_LINES
            else:
                continue
            if lines > most:
                long.append(f"{name} has {lines} lines")
    assert not long


def test_the_type_checker_is_strict_for_all_of_app_and_core_and_its_exceptions_are_few() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert settings["strict"]
    assert settings["files"] == ["app", "core"]
    ignored = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in python_files("app", "core")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(r"#\s*(?:type:\s*ignore|mypy:)", line)
    ]
    assert len(settings["overrides"]) + len(ignored) <= TYPE_EXCEPTIONS, ignored


def test_the_type_checker_finds_planted_errors(tmp_path: Path) -> None:
    file = tmp_path / "planted.py"
    file.write_text(PLANTED, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "--cache-dir", tmp_path, file]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert checked.returncode == 1, checked.stderr
    assert re.findall(r":(\d+): error: .*\[([\w-]+)\]$", checked.stdout, re.MULTILINE) == [
        ("2", "return-value"), ("4", "no-untyped-def"), ("7", "index"),
    ]  # fmt: skip


def test_tests_call_public_names_only() -> None:
    """Of our own code; the references, in tests/interop, have private parts that ours is compared with."""
    of_named_tuples = {"_replace", "_asdict"}
    wrong = []
    for path in python_files("tests"):
        if "interop" in path.parts:
            continue
        for node in ast.walk(parsed(path)):
            for name in private_names(node):
                if name not in of_named_tuples:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} reaches {name}")
    assert not wrong


def private_names(node: ast.AST) -> Iterator[str]:
    """What this reads of another object, imports from another module, or patches, by a name of one underscore."""
    if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
        names = [node.attr]
    elif isinstance(node, ast.ImportFrom):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
        patched = [
            each.value for each in node.args[:2] if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ]
        names = [each.rpartition(".")[2] for each in patched]
    else:
        return
    yield from (name for name in names if name.startswith("_") and not name.startswith("__"))
