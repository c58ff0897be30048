"""What rank 0 sends its peers, so that they need neither the photos nor the run folder.

    start       the settings, the base model's hashes, and the files of the checkpoint or adapter to begin with
    examples    photos, captions and class pictures, encoded

Every machine needs the base model itself; the hashes check that it is the same. Examples are sent as

    value  ->  (outline, body)       outline: JSON with a number in place of each array     body: safetensors

An array that occurs several times, such as the conditioning of photos with the same caption, is sent once. Only the
dataclasses in `KINDS` are constructed from a message: a peer's message can be wrong, but it cannot run anything.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx

from core.adapters import peft_config
from core.config.resolve import resolve
from core.config.train import TrainConfig
from core.dataset.batches import Encoded
from core.models.base import Family, Grid
from core.numerics.arrays import load_tensors
from core.training.encode import Material
from core.training.group import Start

KINDS: Mapping[str, type] = {kind.__name__: kind for kind in (Material, Encoded, Grid)}


class Messages(Protocol):
    """The connections between rank 0 and its peers."""

    def send_to_peers(self, kind: str, body: bytes = b"", **header: Any) -> None:
        """On rank 0: send a message to every peer."""

    def receive(self, kind: str) -> tuple[dict[str, Any], bytes]:
        """On a peer: the header and body of rank 0's next message, which must be of this kind. Raises MachineLost."""


@dataclass(frozen=True, slots=True)
class Handoff:
    """What a peer trains."""

    config: TrainConfig  # the run's, without sample pictures and held-out photos
    base: dict[str, str]  # hashes of the transformer, and of its training assistant if it has one
    folder: Path  # the peer's own, with the checkpoint to resume from, if any
    resume: bool
    start_from: Path | None


def send_start(messages: Messages, start: Start) -> None:
    """Send what is trained and what it begins with."""
    files: list[Path] = []
    if start.state is not None:
        files = sorted((start.folder / "checkpoints" / str(start.state.step)).iterdir())
    elif start.start_from is not None:
        files = peft_config.files_of(start.start_from)
    contents = [file.read_bytes() for file in files]
    messages.send_to_peers(
        "start",
        b"".join(contents),
        config=asdict(start.config),
        base=base_of(start.family),
        step=None if start.state is None else start.state.step,
        files=[[file.name, len(content)] for file, content in zip(files, contents, strict=True)],
    )


def receive_start(messages: Messages, folder: Path) -> Handoff:
    """Receive rank 0's `send_start` into an empty folder. Raises MachineLost, ConfigProblem."""
    header, body = messages.receive("start")
    resume = header["step"] is not None
    inside = folder / "checkpoints" / str(int(header["step"])) if resume else folder
    inside.mkdir(parents=True, exist_ok=True)
    offset, files = 0, []
    for name, size in header["files"]:
        files.append(inside / Path(name).name)
        files[-1].write_bytes(body[offset : offset + size])
        offset += size
    config = replace(resolve(header["config"]).config, sample_every=0, sample_prompts=(), held_out="none")
    return Handoff(config, dict(header["base"]), folder, resume, files[0] if files and not resume else None)


def base_of(family: Family) -> dict[str, str]:
    """The hashes, by part, that must be the same on every machine."""
    return {part: family.hashes[part] for part in ("transformer", "assistant") if part in family.hashes}


def send_examples(messages: Messages, material: Material | None) -> None:
    """Send the encoded examples; None when the run stops before its first step."""
    if material is None:
        messages.send_to_peers("examples", outline=None)
    else:
        outline, body = pack(replace(material, held=[], texts={"": material.texts[""]}))
        messages.send_to_peers("examples", body, outline=outline)


def receive_examples(messages: Messages) -> Material | None:
    """Receive rank 0's `send_examples`. Raises MachineLost."""
    header, body = messages.receive("examples")
    if header["outline"] is None:
        return None
    material = unpack(header["outline"], body)
    if not isinstance(material, Material):
        raise TypeError(f"rank 0 sent {type(material).__name__} in place of the examples")
    return material


def pack(value: Any) -> tuple[Any, bytes]:
    """Serialise dictionaries, lists, the dataclasses in `KINDS` and JSON values, with arrays anywhere."""
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
    arrays = load_tensors(io.BytesIO(body))
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
