"""Checkpoints: the complete state of a run, written atomically.

    <run>/checkpoints/<step>/   adapter.safetensors     the portable file (bfloat16), for drawing and for download
                                optimizer.safetensors   exact float32 weights and the optimizer state: m, v, n for
                                                        AdamW
                                state.json              step, data order, settings, hashes, losses; written last

A folder is filled under a temporary name, flushed and renamed. state.json holds the SHA-256 of the other two files and
of its own contents. So a damaged checkpoint is recognised and named, and the newest intact one is used; when the run
continues, the damaged ones are renamed to damaged-<step>. A checkpoint that cannot be read for another reason (another
version's format, permission) is an error, and stays as it is.

The background writer (background_writer.py) writes it while the next gradient is computed. The update after that waits
until the tensors are in the files; nothing waits for the hashing and flushing.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import mlx.core as mx

from core import files, safetensors_file
from core.adapters import file as adapter_file
from core.device import backend
from core.errors import FieldProblem, TrainingProblem, disk_errors_as_problem, is_out_of_memory
from core.numerics.arrays import load_tensors
from core.training.diagnosis import LOSSES_AVERAGED
from core.training.events import Saved
from core.training.optimizers import OptimizerState, Tensors
from core.training.photo_losses import PhotoLosses
from core.training.schedule import Part

FORMAT = 1
ADAPTER, OPTIMIZER, STATE = "adapter.safetensors", "optimizer.safetensors", "state.json"
MAY_CHANGE = (
    "steps", "score_every", "sample_every", "sample_prompts", "sample_seed", "sample_steps", "sample_guidance",
    "save_every", "activations", "judged_seeds", "class_folder",
)  # fmt: skip
"""Knobs that a resumed run may change; the others affect the weights. Class pictures may move: their hashes may not
change (identity.py)."""
FOLDERS = ("checkpoints", "samples", "class_pictures")  # of a run
REQUIRED_FIELDS = {
    "step": int, "next_example": int, "config": dict, "data_hash": str, "model_hashes": dict, "files": dict,
    "losses": list, "bad_steps_in_a_row": int, "seconds": int | float,
}  # fmt: skip
LATER_FIELDS = {
    "start": str, "subject_losses": list, "base_losses": list, "scores": list, "photo_losses": dict,
    "kept": int | None, "parts": list, "shift": str,
}  # fmt: skip
"""The fields of state.json by type; checkpoints of earlier versions lack the later ones."""

TRAINING, DRAWING = "training", "drawing"
"""State.shift: `Family.training_shift`, or `drawing_shift`, which runs of earlier versions began with."""

Losses = list[list[float | None]]
"""Of the scored photos, by photo, then by band (an interval of sigma); None where not finite. As in state.json."""


class DamagedCheckpoint(TrainingProblem):
    """The files of a checkpoint are missing, do not match their hashes, or do not parse."""


@dataclass(slots=True)
class State:
    """Everything that a run needs, besides its photos and its base model, to continue as if it had never stopped."""

    step: int
    parameters: Tensors
    optimizer_state: OptimizerState
    config: dict[str, Any]
    data_hash: str
    model_hashes: dict[str, str]
    next_example: int  # the global index of the first example of the next step
    start_hash: str = ""  # SHA-256 of the adapter file that the run began with; empty if none
    losses: list[float | None] = field(default_factory=list)  # of every step; None where not finite
    subject_losses: list[float | None] = field(default_factory=list)  # of the newest steps, without class pictures
    base_losses: Losses = field(default_factory=list)  # of the scored photos, before the first step
    scores: list[tuple[int, Losses]] = field(default_factory=list)  # of the scored photos, by step
    photo_losses: PhotoLosses = field(default_factory=PhotoLosses)
    bad_steps_in_a_row: int = 0
    kept: int | None = None  # how many blocks keep their activations; None is all. Fixed per run: it changes rounding
    seconds: float = 0.0  # trained so far
    parts: list[Part] = field(default_factory=list)  # those before `config` had its number of steps
    shift: str = TRAINING  # which shift of the family the draw "model_shift" has in this run, from its first step on


class Snapshot:
    """The state of a run at one step, to be written to checkpoints/<step>.

    It holds the tensors themselves, not copies, until `copied` is set. Holding a reference prevents donation, so the
    snapshot is safe. The update still waits for `copied`; otherwise old and new weights would both be in memory. The
    rest is copied.
    """

    def __init__(self, run: Path, state: State, adapter: Tensors, metadata: Mapping[str, str]) -> None:
        """`adapter` holds the tensors of the portable file."""
        self.copied = Event()
        self._target, self._metadata = run / "checkpoints" / str(state.step), metadata
        tensors = {f"w.{name}": value for name, value in state.parameters.items()}
        for group, values in state.optimizer_state.tensors.items():
            tensors |= {f"{group}.{name}": value for name, value in values.items()}
        tensors |= {name: value.reshape(1) for name, value in state.optimizer_state.numbers.items()}
        self._contents = {ADAPTER: adapter_file.contents_of(adapter), OPTIMIZER: adapter_file.contents_of(tensors)}
        table = {
            "format": FORMAT,
            "step": state.step,
            "next_example": state.next_example,
            "config": state.config,
            "config_hash": config_hash(state.config),  # this, "versions" and "seed": for people and tools, not read
            "data_hash": state.data_hash,
            "model_hashes": state.model_hashes,
            "versions": {"mlx": backend.describe()["mlx"], "python": platform.python_version()},
            "seed": state.config["seed"],
            "start": state.start_hash,
            "bad_steps_in_a_row": state.bad_steps_in_a_row,
            "seconds": state.seconds,
            "kept": state.kept,
            "parts": state.parts,
            "shift": state.shift,
            "losses": state.losses,
            "subject_losses": state.subject_losses,
            "base_losses": state.base_losses,
            "scores": state.scores,
            "photo_losses": state.photo_losses.as_json(),
        }
        self._table = deepcopy(table)  # the run appends to these lists

    def write(self) -> Saved:
        """Write the checkpoint atomically, from any thread.

        Raises DiskProblem, and AdapterProblem if the adapter that is read back differs.
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
        """Write the tensors and drop the references to them."""
        contents, self._contents = self._contents, {}
        adapter_file.fill(folder / ADAPTER, contents[ADAPTER], self._metadata, ADAPTER)
        safetensors_file.write(folder / OPTIMIZER, contents[OPTIMIZER], {})


def steps_saved(run: Path) -> list[int]:
    """The steps that have a checkpoint folder, whole or damaged, ascending."""
    folder = run / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal()) if folder.is_dir() else []


def is_newest(run: Path, step: int) -> bool:
    """Whether this step has the newest checkpoint folder."""
    return steps_saved(run)[-1:] == [step]


def newest(run: Path) -> tuple[State | None, list[str]]:
    """The newest intact checkpoint of a run, and a sentence for each newer one that is damaged.

    (None, []) if there are none. Raises TrainingProblem if all are damaged or one cannot be read for another reason.
    """
    sentences: list[str] = []
    for step in reversed(steps_saved(run)):
        folder = run / "checkpoints" / str(step)
        try:
            return load(folder), sentences
        except DamagedCheckpoint as problem:
            sentences.append(problem.message)
    if sentences:
        problems = [FieldProblem("checkpoint", sentence) for sentence in sentences]
        raise TrainingProblem("None of this run's checkpoints can be read; start it anew.", problems)
    return None, []


def load(folder: Path) -> State:
    """Read one checkpoint.

    Raises DamagedCheckpoint, naming what is damaged; TrainingProblem if another version wrote it or the system refuses
    to read it; MemoryError or MLX's RuntimeError if it does not fit into memory.
    """
    try:
        table = _read_table(folder)
        for file in (ADAPTER, OPTIMIZER):
            if files.sha256_of(folder / file) != table["files"].get(file):
                raise ValueError(f"{file} is not what was written")
        parameters, optimizer_state = _read_tensors(folder / OPTIMIZER)
        return State(
            step=table["step"],
            parameters=parameters,
            optimizer_state=optimizer_state,
            config=table["config"],
            data_hash=table["data_hash"],
            model_hashes=table["model_hashes"],
            next_example=table["next_example"],
            start_hash=table.get(
                "start", ""
            ),  # absent in checkpoints of earlier versions, as are the others with `get`
            losses=table["losses"],
            subject_losses=table.get("subject_losses", table["losses"][-LOSSES_AVERAGED:]),
            base_losses=table.get("base_losses", []),
            scores=[(step, losses) for step, losses in table.get("scores", [])],
            photo_losses=PhotoLosses.from_json(table.get("photo_losses", {})),
            bad_steps_in_a_row=table["bad_steps_in_a_row"],
            seconds=table["seconds"],
            kept=table.get("kept"),
            parts=[(int(last), int(steps)) for last, steps in table.get("parts", [])],
            shift=table.get("shift", DRAWING),
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise DamagedCheckpoint(f"Checkpoint {folder.name} is damaged: {error}.") from error
    except OSError as error:
        raise TrainingProblem(
            f"Checkpoint {folder.name} could not be read: {error}. It was left as it is; resume when it can be read."
        ) from error


def _read_table(folder: Path) -> dict[str, Any]:
    """state.json, checked. Raises ValueError, OSError, TrainingProblem."""
    table = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if not isinstance(table, dict):
        raise ValueError(f"{STATE} is not a table")
    if table.get("format", FORMAT) != FORMAT:
        raise TrainingProblem(
            f"Checkpoint {folder.name} was written by another version of Likeness (format {table['format']}). Resume "
            "the run with that version, or start it anew."
        )
    own_hash = table.pop("sha256", None)  # absent in checkpoints of earlier versions
    if own_hash not in (None, _hash_of(table)):
        raise ValueError(f"{STATE} is not what was written")
    _check_fields(table)
    if str(table["step"]) != folder.name:
        raise ValueError(f"{STATE} is that of step {table['step']}")
    return table


def _read_tensors(path: Path) -> tuple[Tensors, OptimizerState]:
    """The weights and the optimizer state: `<group>.<parameter>` is a tensor, a name without a group a number."""
    tensors = load_tensors(path)
    mx.eval(tensors)
    groups: dict[str, Tensors] = {}
    numbers: Tensors = {}
    for key, value in tensors.items():
        group, _, parameter = key.partition(".")
        if parameter:
            groups.setdefault(group, {})[parameter] = value
        else:
            numbers[key] = value.reshape(())
    return groups.pop("w"), OptimizerState(groups, numbers)


def set_aside_after(run: Path, step: int) -> None:
    """Rename every checkpoint newer than `step`, the newest intact one, to damaged-<step>. Raises DiskProblem."""
    for later in (each for each in steps_saved(run) if each > step):
        folder = run / "checkpoints" / str(later)
        aside = folder.with_name(f"damaged-{later}")
        with disk_errors_as_problem(aside):
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)


def config_hash(config: Mapping[str, Any]) -> str:
    """A hash of the knobs that a run cannot change."""
    fixed = {name: value for name, value in config.items() if name not in MAY_CHANGE}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


def clear(run: Path) -> None:
    """Remove what an earlier run left in this folder."""
    for name in FOLDERS:
        shutil.rmtree(run / name, ignore_errors=True)


def remove_partial_writes(run: Path) -> None:
    """Remove what a killed process left half-written in this folder. Raises DiskProblem."""
    for folder in (run, *(run / name for name in FOLDERS)):
        files.remove_partial_writes(folder)


def _hash_of(table: Mapping[str, Any]) -> str:
    """A hash of the contents of state.json: JSON keeps every digit and the order."""
    return hashlib.sha256(json.dumps(table).encode()).hexdigest()


def _check_fields(table: Mapping[str, Any]) -> None:
    """Raise ValueError if a field of state.json is missing or of another type; early versions have no hash of it."""
    for name, kind in (REQUIRED_FIELDS | LATER_FIELDS).items():
        if name in REQUIRED_FIELDS and name not in table:
            raise ValueError(f"{STATE} has no {name!r}")
        if name in table and not isinstance(table[name], kind):
            raise ValueError(f"{name!r} in {STATE} is {str(table[name])[:40]!r}")
    losses = {
        "losses": _are_losses(table["losses"], 1),
        "subject_losses": _are_losses(table.get("subject_losses", []), 1),
        "base_losses": _are_losses(table.get("base_losses", []), 2),
        "scores": all(_are_losses(losses, 2) for _, losses in table.get("scores", [])),
        "photo_losses": all(_are_losses(rows, 2) for rows in table.get("photo_losses", {}).values()),
    }
    wrong = [repr(name) for name, valid in losses.items() if not valid]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} in {STATE} should hold numbers")


def _are_losses(value: Any, depth: int) -> bool:
    """Whether this is a list of lists, nested so deep, of numbers or None."""
    if depth:
        return isinstance(value, list) and all(_are_losses(each, depth - 1) for each in value)
    return value is None or isinstance(value, int | float)
