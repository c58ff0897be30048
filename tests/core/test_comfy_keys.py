"""Every layer of our adapters is taken by ComfyUI, and goes where it belongs, by the list of tests/comfy_keys.json.

bench/comfy_keys.py made that list with ComfyUI's own key maps, at the version that it names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import pytest

from bench.comfy_keys import FORMS, MODELS
from core.adapters import diffusers, kohya
from core.adapters.key_maps import rows_with_numbers
from core.adapters.layers import ModelLayers
from core.hub.families import FAMILIES

LIST = json.loads((Path(__file__).parents[1] / "comfy_keys.json").read_text(encoding="utf-8"))
DIFFUSERS, KOHYA = FORMS


@dataclass(frozen=True)
class Place:
    """Where ComfyUI puts a change: a layer of its network, (out, in) of that, and the rows that the change has."""

    layer: str
    shape: tuple[int, int]
    first: int
    rows: int


def listed(model: str, form: str) -> dict[str, Place]:
    """The names that ComfyUI takes, without what comes before and behind a layer."""
    found: dict[str, Place] = {}
    for pattern, target in LIST["models"][model][form].items():
        layer, shape, *rows = target.split(" ")
        size_out, size_in = map(int, shape.split("x"))
        first, count = map(int, rows[1].split("+")) if rows else (0, size_out)
        numbered = re.search(r"\{(\d+)\}", pattern)
        for number in range(int(numbered[1])) if numbered else (0,):
            name = re.sub(r"\{\d+\}", str(number), pattern)
            found[name] = Place(layer.replace("{}", str(number)), (size_out, size_in), first, count)
    return found


def taken(tensors: Mapping[str, mx.array], form: str, places: Mapping[str, Place]) -> set[str]:
    """The layers of an exported file; each is in the list, and its factors have the shapes that belong there."""
    down, up = ("lora_A", "lora_B") if form == DIFFUSERS else ("lora_down", "lora_up")
    names = {key.removeprefix(form).partition(".lora_")[0] for key in tensors if key.endswith(f".{down}.weight")}
    assert names <= places.keys()
    for name in names:
        assert tensors[f"{form}{name}.{down}.weight"].shape[1] == places[name].shape[1], name
        assert tensors[f"{form}{name}.{up}.weight"].shape[0] == places[name].rows, name
    return names


@pytest.mark.parametrize("model", MODELS)
def test_every_layer_of_both_exports_is_taken_and_goes_where_it_belongs(model: str) -> None:
    family, _, config = MODELS[model]
    sizes = ModelLayers.of(family, config).sizes
    factors = {path: (mx.zeros((1, i)), mx.zeros((o, 1))) for path, (i, o) in sizes.items()}
    whole, parts = listed(model, KOHYA), listed(model, DIFFUSERS)
    fused = taken(kohya.tensors_of(factors, family), KOHYA, whole)
    if family == "flux3":  # no version up to that of the list knows its layers by diffusers' names
        assert not parts
        assert FAMILIES[family].elsewhere
    else:
        assert taken(diffusers.tensors_of(factors), DIFFUSERS, parts) == sizes.keys()
    reached = set()
    for path, (size_in, size_out) in sizes.items():
        found = rows_with_numbers(family, path)
        assert found is not None
        row, number = found
        theirs = row.theirs.format(number)
        name = theirs.replace(".", "_")
        assert whole[name] == Place(theirs, whole[name].shape, 0, whole[name].shape[0])
        reached.add(name)
        before = sum(row.rows[: [ours.format(number) for ours in row.ours].index(path)]) * size_in
        assert before + size_out <= whole[name].rows
        if parts:
            assert parts[path] == Place(theirs, whole[name].shape, before, size_out), path
    assert reached == fused
