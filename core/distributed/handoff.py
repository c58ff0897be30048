"""What the first machine of a group gives the others, so that they need neither the photos nor the run's folder.

    charge      the settings, the base's hashes, and the files of the checkpoint or adapter that the run begins with
    examples    photos, captions and class pictures as the network reads them

The base model is the one thing that has to be on every machine; that it is the same is checked by its hashes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from core.config.resolve import resolve
from core.config.train import TrainConfig
from core.distributed import parcel
from core.distributed.process_group import Group
from core.models.base import Family
from core.training.checkpoint import State
from core.training.encode import Material


@dataclass(frozen=True, slots=True)
class Handoff:
    """What a peer is to do."""

    config: TrainConfig  # the run's, without sample pictures and held-out photos
    base: dict[str, str]  # hashes of the transformer, and of its training assistant if it has one
    folder: Path  # the peer's own, with the checkpoint to go on from, if any
    resume: bool
    start_from: Path | None


def give(
    group: Group, config: TrainConfig, family: Family, folder: Path, state: State | None, start_from: Path | None
) -> None:
    """Tell the peers what is trained, and what it begins with."""
    if group.size == 1:
        return
    files: list[Path] = []
    if state is not None:
        files = sorted((folder / "checkpoints" / str(state.step)).iterdir())
    elif start_from is not None:
        files = [start_from]
    contents = [file.read_bytes() for file in files]
    group.hand_out(
        "charge",
        b"".join(contents),
        config=asdict(config),
        base=base_of(family),
        step=None if state is None else state.step,
        files=[[file.name, len(content)] for file, content in zip(files, contents, strict=True)],
    )


def take(group: Group, folder: Path) -> Handoff:
    """Receive it into an empty folder. Raises MachineLost, ConfigProblem."""
    told, body = group.receive("charge")
    resume = told["step"] is not None
    inside = folder / "checkpoints" / str(int(told["step"])) if resume else folder
    inside.mkdir(parents=True, exist_ok=True)
    start, files = 0, []
    for name, size in told["files"]:
        files.append(inside / Path(name).name)
        files[-1].write_bytes(body[start : start + size])
        start += size
    config = replace(resolve(told["config"]).config, sample_every=0, sample_prompts=(), held_out="none")
    return Handoff(config, dict(told["base"]), folder, resume, files[0] if files and not resume else None)


def base_of(family: Family) -> dict[str, str]:
    """What has to be the same on every machine, by part."""
    return {part: family.hashes[part] for part in ("transformer", "assistant") if part in family.hashes}


def give_examples(group: Group, material: Material | None) -> None:
    """Send the peers what is trained on; None when the run stops before its first step."""
    if group.size == 1:
        return
    if material is None:
        group.hand_out("examples", outline=None)
    else:
        outline, body = parcel.pack(replace(material, held=[], texts={"": material.texts[""]}))
        group.hand_out("examples", body, outline=outline)


def take_examples(group: Group) -> Material | None:
    """Receive what is trained on; None when the run stops. Raises MachineLost."""
    told, body = group.receive("examples")
    return parcel.unpack(told["outline"], body) if told["outline"] is not None else None
