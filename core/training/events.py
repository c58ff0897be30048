"""What a training run says while it goes, and what its caller may request.

`train` yields one of these at a time. The caller answers with `send(request)`, or `next` when it requests nothing; it drops
the run by closing the generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, auto
from pathlib import Path
from typing import Any

from core.training.diagnosis import Verdict


class Request(Flag):
    """What the caller would like next; they can be combined."""

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
    """The run goes on from this checkpoint; whatever was shown of later steps is void. Step 0: from the beginning."""

    step: int


@dataclass(frozen=True, slots=True)
class Stepped:
    """One optimizer step is done."""

    step: int
    loss: float
    subject_loss: float  # without the class pictures' term; not finite where `loss` is not
    learning_rate: float
    gradient_norm: float
    counted: bool  # False: the loss was not finite and the step changed nothing
    seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Scored:
    """How the run does on fixed photos at fixed noise, relative to the untouched base: 0.86 is 14% better.

    Photos are named by their place among the run's.
    """

    step: int
    relative: float  # over all photos and bands
    bands: tuple[float, ...]  # by band of noise, from little to much
    held_out: dict[int, float]  # by held-out photo; empty where none is, and the photo scored is one that is trained on
    loss: float  # behind `relative`, as comparable with a training loss as can be
    learned: dict[int, float]  # training loss by photo, relative to the other photos': 1.4 is 40% above theirs
    verdict: Verdict  # what this and all scores before it mean


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
    """A picture of the class by the untouched base is there: drawn just now, or kept from an earlier run."""

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
    """The last thing a run says: it reached its last step, or was asked to stop."""

    step: int
    stopped: bool
    adapter: Path | None  # the last checkpoint's file; None when the run was stopped before its first step
    final_loss: float | None  # mean of the last steps (up to 20)
    held_out_loss: float | None  # the last score's; None when no photo is held out
    seconds: float  # spent in this call
    peak_memory_bytes: int


Progress = Phase | Note | Resumed | Stepped | Scored | Sampled | ClassPicture | Saved | Finished
