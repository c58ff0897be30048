"""`likeness models`: the Models page as lines of text; and the folders in which the command line looks for models."""

from __future__ import annotations

import json
import sqlite3
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app import settings, wording
from app.home import Home
from core.estimate import requirements
from core.hub import analysis_models, catalog
from core.hub import cache as hub_cache

WIDTH = 100
INDENT = " " * 21


def model_folders(root: Path) -> tuple[Path, ...]:
    """The models folder of a home, and the folders that its settings name. Creates no home."""
    home = Home(root)
    text = ""
    if home.database.is_file():
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"{home.database.as_uri()}?mode=ro", uri=True)) as connection,
        ):
            row = connection.execute("SELECT value FROM setting WHERE key = 'model_folders'").fetchone()
            text = json.loads(row[0]) if row and row[0] else ""
    return (home.models, *settings.folders_of(text))


def describe_models(root: Path) -> list[dict[str, Any]]:
    """Every model as JSON for programs; sizes in bytes."""
    return [_describe(entry, root) for entry in catalog.models(model_folders(root)).values()]


def describe_analysis_models(root: Path) -> list[dict[str, Any]]:
    """The models that look at photos, as JSON for programs; sizes in bytes."""
    folders = model_folders(root)
    found = []
    for model in analysis_models.ANALYSIS_MODELS.values():
        folder = analysis_models.place_of(model, folders).complete
        found.append({
            "name": model.name,
            "title": model.title,
            "what_for": model.what_for,
            "licence": model.terms[0],
            "on_disk": folder is not None,
            "folder": str(folder) if folder else None,
            "download_bytes": model.download_bytes,
            "page": model.page,
        })  # fmt: skip
    return found


def format_analysis_models(models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """`describe_analysis_models` as lines for people."""
    for each in models:
        size = wording.size(each["download_bytes"])
        where = f"on disk: {each['folder']}" if each["on_disk"] else f"not on disk; a download of {size}"
        text = f"{each['name']:<20} {each['title']}: {each['what_for']}"
        yield from textwrap.wrap(text, WIDTH, subsequent_indent=INDENT)
        yield f"{INDENT}{where}; licence: {each['licence']}"


def format_models(models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """`describe_models` as lines for people."""
    for each in models:
        where = f"on disk, {wording.size(each['bytes'])}: {each['folder']}" if each["on_disk"] else "not on disk"
        if not each["on_disk"] and each["download_bytes"]:
            where += f"; a download of {wording.size(each['download_bytes'])}"
            where += f", of which {wording.size(each['bytes'])} are here" if each["bytes"] else ""
        yield f"{each['name']:<20} {each['title']}: {each['what_for']}"
        yield f"{INDENT}{where}"
        if each["trouble"]:
            yield from textwrap.wrap(each["trouble"], WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
        if each["gated"] and not each["on_disk"]:
            yield f"{INDENT}first accept {each['gated']}: {each['page']}"
        if each["needs"]:
            purpose, sentence = each["needs"]["purpose"], each["needs"]["sentence"]
            yield f"{INDENT}{purpose} on this computer: {sentence[0].lower()}{sentence[1:]}"
        yield f"{INDENT}draws {each['side_px']} x {each['side_px']} px; licence: {each['licence']}"
        if each["commercial"]:
            yield from textwrap.wrap(each["commercial"], WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
    yield "The studio's Models page downloads them. A folder in diffusers' layout can be used instead: --model FOLDER"


def _describe(entry: catalog.Entry, root: Path) -> dict[str, Any]:
    known, needs = entry.known, requirements.here(entry, root)
    size = 0
    if entry.on_disk and entry.folder is not None:
        size = sum(path.stat().st_size for path in entry.folder.rglob("*.safetensors"))
    elif known is not None:
        size = hub_cache.bytes_here(known.repo)
    return {
        "name": entry.name,
        "title": entry.title,
        "what_for": entry.what_for,
        "licence": entry.licence,
        "commercial": entry.commercial,
        "on_disk": entry.on_disk,
        "usable": entry.usable,
        "trains": entry.trains,
        "draws_with": entry.draws_with,
        "trouble": entry.trouble,
        "folder": str(entry.folder) if entry.folder is not None else None,
        "bytes": size,
        "download_bytes": known.download_bytes if known else None,
        "parameters": dict(known.parameters) if known else None,
        "page": known.page if known else None,
        "gated": known.gated if known else "",
        "side_px": entry.drawing.get("side_px"),
        "needs": asdict(needs) if needs else None,
        "defaults": dict(entry.defaults),
        "drawing": dict(entry.drawing),
    }
