"""The events of a training run, and the requests of its caller.

`train` yields one event at a time. The caller continues with `send(request)`, or with `next` if it requests nothing,
and abandons the run by closing the generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, auto
from pathlib import Path
from typing import Any

from core.training.diagnosis import Diagnosis
from core.training.likeness import Drawn


class Request(Flag):
    """What the caller wants next; a set of flags."""

    NONE = 0
    STOP = auto()  #: the step under way is finished; save and end
    SAVE = auto()  #: write a checkpoint now
    SAMPLE = auto()  #: draw the sample pictures now


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of work other than steps: "encoding photos", 3 of 12."""

    name: str
    done: int
    of: int


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence for the log."""

    text: str
    level: str = "info"  # or "warning"


@dataclass(frozen=True, slots=True)
class Resumed:
    """The run continues from this checkpoint; events of later steps are void. Step 0: from the beginning."""

    step: int


@dataclass(frozen=True, slots=True)
class Stepped:
    """One optimizer step is done."""

    step: int
    loss: float
    subject_loss: float  # without the class pictures' term; not finite if `loss` is not
    learning_rate: float
    gradient_norm: float
    counted: bool  # False: loss or gradient norm was not finite and the step was not applied
    seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Scored:
    """The loss on fixed photos at fixed noise, relative to the untouched base: 0.86 is 14% better.

    Photos are numbered by their place among the run's examples.
    """

    step: int
    relative: float  # over all photos and bands
    bands: tuple[float, ...]  # by band of noise, from little to much
    held_out: dict[int, float]  # by held-out photo; empty if the photo scored is trained on
    loss: float  # the loss itself, comparable with a training loss
    learned: dict[int, float]  # training loss by photo, relative to the other photos: 1.4 is 40% above theirs
    diagnosis: Diagnosis  # of this and all earlier scores


@dataclass(frozen=True, slots=True)
class Measured:
    """The pictures of a step were measured: its samples, and others that were drawn for that."""

    step: int
    drawn: Drawn


@dataclass(frozen=True, slots=True)
class Sampled:
    """A sample picture was drawn and written."""

    step: int
    prompt_id: int  # its place among the run's prompts
    prompt: str
    seed: int
    adapter_strength: float
    file: Path
    width: int
    height: int
    recipe: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ClassPicture:
    """A class picture by the untouched base is ready: drawn just now, or cached by an earlier run."""

    number: int  # 0, 1, ...
    prompt: str
    seed: int
    file: Path
    width: int
    height: int
    recipe: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint is complete on disk."""

    step: int
    folder: Path
    bytes: int  # of the whole folder
    sha256: str  # of its adapter.safetensors


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event: the run reached its last step or was stopped."""

    step: int
    stopped: bool
    adapter: Path | None  # of the last checkpoint; None if the run was stopped before its first step
    final_loss: float | None  # mean of the last steps (up to 20)
    held_out_loss: float | None  # of the last score; None if no photo is held out
    seconds: float  # spent in this call
    peak_memory_bytes: int


Progress = Phase | Note | Resumed | Stepped | Scored | Measured | Sampled | ClassPicture | Saved | Finished
