"""A template uses exactly what its page declares, and asks for nothing that the studio does not serve itself."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import re
from pathlib import Path

import pytest
from jinja2 import Environment, meta, nodes

from app import pages, wording
from app.pages.render import NAV_ITEMS, Page, templates
from app.resources import folder
from core.config.train import knobs

TEMPLATES = folder("templates")
STATIC = folder("static")
EVERY_PAGE = {"frame"}
FILES_OF_THEIR_OWN = {"_report.html"}  # no pages: they are saved, and have their style within them
TAGS = re.compile(r"<[^>]+>")


def every_page() -> list[type[Page]]:
    """The page of each module of app.pages that has one."""
    found = []
    for module in pkgutil.iter_modules(pages.__path__, "app.pages."):
        for kind in vars(importlib.import_module(module.name)).values():
            if isinstance(kind, type) and issubclass(kind, Page) and kind is not Page:
                found.append(kind)
    return found


PAGES = every_page()


def names_used(environment: Environment, name: str, seen: set[str] | None = None) -> set[str]:
    """Every name a template takes from its page, through extends and include; imported macros take none."""
    seen = set() if seen is None else seen
    if name in seen:
        return set()
    seen.add(name)
    tree = environment.parse((TEMPLATES / name).read_text(encoding="utf-8"))
    own = {macro.name for macro in tree.find_all(nodes.Macro)}
    own |= {name for imported in tree.find_all(nodes.FromImport) for name in imported.names}
    used = meta.find_undeclared_variables(tree) - own
    for other in tree.find_all((nodes.Extends, nodes.Include)):
        used |= names_used(environment, other.template.value, seen)
    return used


@pytest.mark.parametrize("kind", PAGES, ids=lambda kind: kind.__name__)
def test_a_template_uses_exactly_what_its_page_declares(kind: type[Page]) -> None:
    declared = {field.name for field in dataclasses.fields(kind)}
    assert names_used(templates(), kind.template) - EVERY_PAGE == declared


@pytest.mark.parametrize("kind", PAGES, ids=lambda kind: kind.__name__)
def test_every_page_says_what_it_is(kind: type[Page]) -> None:
    assert kind.__doc__
    assert kind.here in {item.name for item in NAV_ITEMS}


def files(*endings: str) -> list[Path]:
    return [path for root in (TEMPLATES, STATIC) for path in root.rglob("*") if path.suffix in endings]


@pytest.mark.parametrize("path", files(".html"), ids=lambda path: path.name)
def test_templates_hold_no_inline_script_and_no_inline_style(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    scripts = re.findall(r"<script(?![^>]*(?:src=|application/json))", text)
    assert not scripts
    assert not [tag for tag in TAGS.findall(text) if re.search(r"\s(style|on\w+)=", tag)]
    assert "<style" not in text or path.name in FILES_OF_THEIR_OWN


@pytest.mark.parametrize("path", files(".html", ".css", ".js", ".svg"), ids=lambda path: path.name)
def test_nothing_is_fetched_from_elsewhere(path: Path) -> None:
    if "vendor" in path.parts:
        return
    text = re.sub(r"http://www\.w3\.org/\S+|http://127\.0\.0\.1\S*", "", path.read_text(encoding="utf-8"))
    assert "http://" not in text
    assert "https://" not in text


@pytest.mark.parametrize("path", files(".html"), ids=lambda path: path.name)
def test_every_file_and_icon_that_a_template_names_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    icons = (STATIC / "icons.svg").read_text(encoding="utf-8")
    for name in re.findall(r'/static/([\w./-]+?)(?:#[\w-]+)?"', text):
        assert (STATIC / name).is_file(), name
    for name in re.findall(r'icon\("(\w+)"', text):
        assert f'id="{name}"' in icons


def test_every_state_has_a_word_and_an_icon() -> None:
    icons = (STATIC / "icons.svg").read_text(encoding="utf-8")
    for state, word in wording.STATES.items():
        assert word
        assert f'id="{state.value}"' in icons


def test_scripts_get_their_words_from_the_page_and_define_none() -> None:
    words = json.loads(json.dumps(wording.SCRIPT_WORDS))
    assert words["states"] == {state.value: word for state, word in wording.STATES.items()}
    assert "{{ frame.words | tojson }}" in (TEMPLATES / "base.html").read_text(encoding="utf-8")
    for script in (STATIC / "js").rglob("*.js"):
        text = script.read_text(encoding="utf-8")
        read = set(re.findall(r"\bwording\.(?!js\b|py\b)([a-z]+)", text))
        assert read <= words.keys(), script.name
        assert wording.QUEUED not in text
        assert not re.search(r'\b(queued|cancelled): "(waiting|removed)"', text)


def test_every_template_is_of_a_page_or_shared() -> None:
    own = {kind.template for kind in PAGES}
    assert {path.name for path in files(".html") if not path.name.startswith("_")} == own | {"base.html"}


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9_140_000, "9.1 MB"), (2.5e10, "25 GB")]
)
def test_sizes_are_said_in_decimal_units(count: float, words: str) -> None:
    assert wording.size(count) == words


@pytest.mark.parametrize(
    ("value", "typed"),
    [(1e-4, "0.0001"), (16.0, "16"), (300, "300"), (True, "on"), (("a", "b"), "a\nb"), (1e-12, "1e-12")],
)
def test_a_knob_is_shown_as_it_would_be_typed(value: object, typed: str) -> None:
    assert wording.number(value) == typed


def test_the_form_shows_four_knobs_and_folds_every_other_one() -> None:
    from app.knob_fields import fields, front, groups

    drawn = fields({"steps": 250}, ())
    shown = [field.name for field in front(drawn)]
    folded = [field.name for group in groups(drawn) for field in group.knobs]
    assert len(shown) == 4
    assert sorted(shown + folded) == sorted(knobs())
    assert (drawn["steps"].value, wording.SOURCES[drawn["steps"].source]) == ("250", "from the model")
    assert all(field.sentence and field.label for field in drawn.values())
