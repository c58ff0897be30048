"""Checkpoints: a complete state of a run, written whole or not at all.

    <run>/checkpoints/<step>/   adapter.safetensors     the portable file (bfloat16), for drawing and for download
                                optimizer.safetensors   exact float32 master weights, and what the optimizer
                                                        remembers: m, v, n for AdamW
                                state.json              step, data order, settings, hashes, losses; written last

A folder is filled under a temporary name, flushed and renamed. state.json holds the SHA-256 of the other two and of all
else that it says itself, so a damaged checkpoint is known, named, and the one before it is taken; when a run goes on
from that, the damaged one is set aside as damaged-<step>.

A thread of its own writes it (background_writer.py), while the next gradient is worked out; the update after that waits until the
tensors are in the files. Hashing and flushing, as slow as the disk, nobody waits for.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import mlx.core as mx

from core import files, safetensors_file
from core.adapters import file as adapter_file
from core.config.resolve import OLD_DEFAULTS
from core.config.train import TrainConfig
from core.dataset.examples import Example
from core.errors import ConfigProblem, FieldProblem, TrainingProblem, disk_errors_as_problem
from core.training.diagnosis import LOSSES_AVERAGED
from core.training.events import Saved
from core.training.optimizers import Remembered, Tensors
from core.training.photo_losses import PhotoLosses

FORMAT = 1
ADAPTER, OPTIMIZER, STATE = "adapter.safetensors", "optimizer.safetensors", "state.json"
MAY_CHANGE = (
    "steps", "score_every", "sample_every", "sample_prompts", "sample_seed", "sample_steps", "sample_guidance",
    "save_every", "activations",
)  # fmt: skip
"""Knobs that a resumed run may change; the others are what its weights were trained with."""
FOLDERS = ("checkpoints", "samples", "class_pictures")  # of a run
HELD = {
    "step": int, "next_example": int, "config": dict, "data_hash": str, "model_hashes": dict, "files": dict,
    "losses": list, "bad_steps_in_a_row": int, "seconds": int | float,
}  # fmt: skip
SOMETIMES_HELD = {"start": str, "base_losses": list, "scores": list, "photo_losses": dict, "kept": int | None}
"""What state.json says, by its kind; checkpoints of earlier versions have less."""

Losses = list[list[float | None]]
"""Of the held-out photos, by photo, then by band; None where a loss was not finite. JSON, as state.json holds it."""


@dataclass(slots=True)
class State:
    """All that a run needs, besides its photos and its base model, to go on as if it had never stopped."""

    step: int
    parameters: Tensors
    remembered: Remembered
    config: dict[str, Any]
    data_hash: str
    model_hashes: dict[str, str]
    next_example: int  # the global index of the first example of the next step
    start: str = ""  # SHA-256 of the adapter file that the run began with; empty when it began afresh
    losses: list[float | None] = field(default_factory=list)  # of every step; None where it was not finite
    subject_losses: list[float | None] = field(default_factory=list)  # of the newest steps, without class pictures
    base_losses: Losses = field(default_factory=list)  # of the held-out photos, before the first step
    scores: list[tuple[int, Losses]] = field(default_factory=list)  # of the held-out photos, by step
    photo_losses: PhotoLosses = field(default_factory=PhotoLosses)
    bad_steps_in_a_row: int = 0
    kept: int | None = None  # how many blocks keep their activations; None is all of them
    seconds: float = 0.0  # trained so far


class Snapshot:
    """The state of a run as it is now, on its way to checkpoints/<step>.

    Until `copied` is set it holds the tensors themselves, not copies, so that an update takes other memory for the new
    ones. The rest is plain values, and copies.
    """

    def __init__(self, run: Path, state: State, adapter: Tensors, metadata: Mapping[str, str]) -> None:
        """`adapter` is what its file is to hold."""
        self.copied = Event()
        self._target, self._metadata = run / "checkpoints" / str(state.step), metadata
        tensors = {f"w.{name}": value for name, value in state.parameters.items()}
        for group, values in state.remembered.tensors.items():
            tensors |= {f"{group}.{name}": value for name, value in values.items()}
        tensors |= {name: value.reshape(1) for name, value in state.remembered.numbers.items()}
        self._contents = {ADAPTER: adapter_file.contents_of(adapter), OPTIMIZER: adapter_file.contents_of(tensors)}
        table = {
            "format": FORMAT,
            "step": state.step,
            "next_example": state.next_example,
            "config": state.config,
            "config_hash": config_hash(state.config),
            "data_hash": state.data_hash,
            "model_hashes": state.model_hashes,
            "versions": {"mlx": mx.__version__, "python": platform.python_version()},
            "seed": state.config["seed"],
            "start": state.start,
            "bad_steps_in_a_row": state.bad_steps_in_a_row,
            "seconds": state.seconds,
            "kept": state.kept,
            "losses": state.losses,
            "subject_losses": state.subject_losses,
            "base_losses": state.base_losses,
            "scores": state.scores,
            "photo_losses": state.photo_losses.as_json(),
        }
        self._table = deepcopy(table)  # the run goes on with these lists

    def write(self) -> Saved:
        """Write the checkpoint, whole or not at all; any thread can do it.

        Raises DiskProblem, and AdapterProblem when the adapter that is read back differs.
        """
        try:
            with files.atomic_folder(self._target) as folder:
                self._copy(folder)
                self.copied.set()
                hashes = {name: files.sha256_of(folder / name) for name in (ADAPTER, OPTIMIZER)}
                table = self._table | {"files": hashes}
                (folder / STATE).write_text(json.dumps(table | {"sha256": _hash_of(table)}), encoding="utf-8")
                size = sum(each.stat().st_size for each in folder.iterdir())
        finally:
            self.copied.set()
        return Saved(int(self._target.name), self._target, size, hashes[ADAPTER])

    def _copy(self, folder: Path) -> None:
        """The tensors into files, after which they are let go."""
        contents, self._contents = self._contents, {}
        adapter_file.fill(folder / ADAPTER, contents[ADAPTER], self._metadata, ADAPTER)
        safetensors_file.write(folder / OPTIMIZER, contents[OPTIMIZER], {})


def steps_saved(run: Path) -> list[int]:
    """The steps that have a checkpoint folder, whole or not, rising."""
    folder = run / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal()) if folder.is_dir() else []


def is_newest(run: Path, step: int) -> bool:
    """Whether this step is the last that has a checkpoint folder."""
    return steps_saved(run)[-1:] == [step]


def newest(run: Path) -> tuple[State | None, list[str]]:
    """The newest whole checkpoint of a run, and a sentence for each newer one that is damaged.

    (None, []) when there are none. Raises TrainingProblem when there are some and all are damaged.
    """
    sentences = []
    for step in reversed(steps_saved(run)):
        folder = run / "checkpoints" / str(step)
        try:
            return load(folder), sentences
        except TrainingProblem as problem:
            sentences.append(problem.message)
    if sentences:
        problems = [FieldProblem("checkpoint", sentence) for sentence in sentences]
        raise TrainingProblem("None of this run's checkpoints can be read; start it anew.", problems)
    return None, []


def load(folder: Path) -> State:
    """Read one checkpoint. Raises TrainingProblem with what is damaged, whatever that is."""
    name = f"checkpoint {folder.name}"
    try:
        table = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if not isinstance(table, dict):
            raise ValueError(f"{STATE} is not a table")
        if table.get("format", FORMAT) != FORMAT:
            raise TrainingProblem(f"{name} was written by another version of Likeness (format {table['format']}).")
        own = table.pop("sha256", None)  # checkpoints of earlier versions have none
        if own not in (None, _hash_of(table)):
            raise ValueError(f"{STATE} is not what was written")
        _check_kinds(table)
        if str(table["step"]) != folder.name:
            raise ValueError(f"{STATE} is that of step {table['step']}")
        for file in (ADAPTER, OPTIMIZER):
            if files.sha256_of(folder / file) != table["files"].get(file):
                raise ValueError(f"{file} is not what was written")
        tensors = mx.load(str(folder / OPTIMIZER))
        mx.eval(tensors)
        groups: dict[str, Tensors] = {}
        numbers: Tensors = {}
        for key, value in tensors.items():
            group, _, parameter = key.partition(".")
            if parameter:
                groups.setdefault(group, {})[parameter] = value
            else:
                numbers[key] = value.reshape(())
        return State(
            step=table["step"],
            parameters=groups.pop("w"),
            remembered=Remembered(groups, numbers),
            config=table["config"],
            data_hash=table["data_hash"],
            model_hashes=table["model_hashes"],
            next_example=table["next_example"],
            start=table.get("start", ""),  # checkpoints of earlier versions have none
            losses=table["losses"],
            subject_losses=table.get("subject_losses", table["losses"][-LOSSES_AVERAGED:]),
            base_losses=table.get("base_losses", []),
            scores=[(step, losses) for step, losses in table.get("scores", [])],
            photo_losses=PhotoLosses.from_json(table.get("photo_losses", {})),
            bad_steps_in_a_row=table["bad_steps_in_a_row"],
            seconds=table["seconds"],
            kept=table.get("kept"),
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise TrainingProblem(f"{name} is damaged: {error}.") from error


def set_aside_after(run: Path, step: int) -> None:
    """Move what `newest` passed over out of the way of a run that goes on from `step`; it may be of use to somebody.

    Raises DiskProblem.
    """
    for later in (each for each in steps_saved(run) if each > step):
        folder = run / "checkpoints" / str(later)
        aside = folder.with_name(f"damaged-{later}")
        with disk_errors_as_problem(aside):
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)


def check_same_run(
    state: State, config: TrainConfig, data_hash: str, model_hashes: Mapping[str, str], start: str
) -> None:
    """Raise unless a resumed run has the settings, photos, captions, base model and start that it began with.

    Raises ConfigProblem naming each knob that changed, TrainingProblem for photos or model.
    """
    now, defaults = (json.loads(json.dumps(asdict(each))) for each in (config, TrainConfig()))
    then = defaults | OLD_DEFAULTS | state.config  # a checkpoint may be older than a knob
    changed = [name for name in now if name not in MAY_CHANGE and now[name] != then[name]]
    if changed:
        problems = [FieldProblem(name, f"was {then[name]} and is now {now[name]}") for name in changed]
        raise ConfigProblem("A run goes on with the settings it began with; start a new one to change these.", problems)
    if config.steps < state.step:
        problem = FieldProblem("steps", f"is {config.steps}, and {state.step} are done already")
        raise ConfigProblem("Some settings need another look.", [problem])
    if data_hash != state.data_hash:
        raise TrainingProblem(
            "The photos, crops, captions or words have changed since this run began; start a new run."
        )
    if start != state.start:
        problem = FieldProblem("start_from", "is another adapter file than the run began with")
        raise ConfigProblem(
            "A run goes on from its own checkpoint; start a new one to begin with this adapter.", [problem]
        )
    if dict(model_hashes) != state.model_hashes:
        raise TrainingProblem("The base model's files have changed since this run began; start a new run.")


def data_hash_of(examples: Sequence[Example], words: Sequence[str]) -> str:
    """The hash of photos, crops and captions, and of the words that more is made of."""
    items: list[Any] = [
        [e.sha256, e.caption, [e.box.left, e.box.top, e.box.right, e.box.bottom] if e.box else None] for e in examples
    ]
    return hashlib.sha256(json.dumps([*items, *words]).encode()).hexdigest()


def config_hash(config: Mapping[str, Any]) -> str:
    """A hash of the knobs that a run keeps for life."""
    kept = {name: value for name, value in config.items() if name not in MAY_CHANGE}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def clear(run: Path) -> None:
    """Remove what an earlier run left in this folder, before a new one starts in it."""
    for name in FOLDERS:
        shutil.rmtree(run / name, ignore_errors=True)


def remove_partial_writes(run: Path) -> None:
    """Remove what a process that was killed left half-written in this folder. Raises DiskProblem."""
    for folder in (run, *(run / name for name in FOLDERS)):
        files.remove_partial_writes(folder)


def _hash_of(table: Mapping[str, Any]) -> str:
    """Of all that state.json says: JSON gives every digit and the order back."""
    return hashlib.sha256(json.dumps(table).encode()).hexdigest()


def _check_kinds(table: Mapping[str, Any]) -> None:
    """Raise ValueError unless state.json holds what it should. Nothing else protects one of before it had a hash."""
    for name, kind in (HELD | SOMETIMES_HELD).items():
        if name in HELD and name not in table:
            raise ValueError(f"{STATE} has no {name!r}")
        if name in table and not isinstance(table[name], kind):
            raise ValueError(f"{name!r} in {STATE} is {str(table[name])[:40]!r}")
    losses = {
        "losses": _are_losses(table["losses"], 1),
        "base_losses": _are_losses(table.get("base_losses", []), 2),
        "scores": all(_are_losses(losses, 2) for _, losses in table.get("scores", [])),
        "photo_losses": all(_are_losses(rows, 2) for rows in table.get("photo_losses", {}).values()),
    }
    wrong = [repr(name) for name, fine in losses.items() if not fine]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} in {STATE} should hold numbers")


def _are_losses(value: Any, depth: int) -> bool:
    """Whether these are lists of lists, so deep, of numbers, or of None where one was not finite."""
    if depth:
        return isinstance(value, list) and all(_are_losses(each, depth - 1) for each in value)
    return value is None or isinstance(value, int | float)
