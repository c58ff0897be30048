"""What the first machine sends the others, as bytes: photos and captions as the network reads them.

    value  ->  (outline, body)       outline: JSON with a number in the place of each array     body: safetensors

An array that occurs several times, such as the conditioning of photos with the same caption, is sent once. Only the
dataclasses of `KINDS` are made of what arrives: what a peer sends can be wrong, but it cannot run anything.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from core.dataset.batches import Encoded
from core.models.base import Grid
from core.training.encode import Material

KINDS: Mapping[str, type] = {kind.__name__: kind for kind in (Material, Encoded, Grid)}


def pack(value: Any) -> tuple[Any, bytes]:
    """Dictionaries, lists, the dataclasses of `KINDS` and what JSON knows, with arrays anywhere."""
    arrays: list[mx.array] = []
    numbers: dict[int, int] = {}

    def outlined(part: Any) -> Any:
        if isinstance(part, mx.array):
            if id(part) not in numbers:
                numbers[id(part)] = len(arrays)
                arrays.append(part)
            return {"array": numbers[id(part)]}
        if type(part).__name__ in KINDS:
            fields = {field.name: outlined(getattr(part, field.name)) for field in dataclasses.fields(part)}
            return {"made": type(part).__name__, "of": fields}
        if isinstance(part, Mapping):
            return {"table": {name: outlined(each) for name, each in part.items()}}
        if isinstance(part, list | tuple):
            return [outlined(each) for each in part]
        return part

    outline = outlined(value)
    body = io.BytesIO()
    mx.save_safetensors(body, {str(number): array for number, array in enumerate(arrays)})
    return outline, body.getvalue()


def unpack(outline: Any, body: bytes) -> Any:
    """The inverse of `pack`, evaluated; a tuple comes back as a list."""
    arrays = mx.load(io.BytesIO(body), format="safetensors")
    mx.eval(arrays)

    def filled(part: Any) -> Any:
        if isinstance(part, list):
            return [filled(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "array" in part:
            return arrays[str(part["array"])]
        if "made" in part:
            return KINDS[part["made"]](**{name: filled(each) for name, each in part["of"].items()})
        return {name: filled(each) for name, each in part["table"].items()}

    return filled(outline)
