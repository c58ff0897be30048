"""What can go wrong, as a tree. Every message is shown to the user as it is.

    Problem              anything a user can read and act on; has a `code`, a `message`, and `problems` by field
    + ConfigProblem      a knob out of its range                 code "config"
    + DataProblem        the photos or the captions              code "data"
    + ModelProblem       a model folder that is missing parts    code "model"
    + AdapterProblem     a LoRA file that does not fit           code "adapter"
    + CaptionerProblem   the captioning server did not answer    code "captioner"
    + DownloadProblem    a model did not arrive whole            code "download"
      + GatedProblem     its owner asks for something first      code "gated"
    + DiskProblem        no room, or no right, to write          code "disk"
    + TrainingProblem    the run cannot go on                    code "training"
    + OutOfMemory        the computer has too little of it       code "memory"

A bug stays a bare exception: it has a traceback, not a sentence.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing that is wrong: the field (a knob, a file name, a tensor) and a sentence about it."""

    field: str
    message: str


class Problem(Exception):
    """Something the user can read and act on: what is wrong, with the value, and what to do."""

    code = "problem"

    def __init__(self, message: str, problems: Sequence[FieldProblem] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.problems = list(problems)

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {p.field}: {p.message}" for p in self.problems)])


class ConfigProblem(Problem):
    """A knob is out of its range or of the wrong kind; `problems` names each one."""

    code = "config"


class DataProblem(Problem):
    """A photo or a caption cannot be used; `problems` names each file."""

    code = "data"


class ModelProblem(Problem):
    """A model folder is missing, incomplete, or of a shape we do not know; `problems` names each tensor or file."""

    code = "model"


class AdapterProblem(Problem):
    """A LoRA file is broken, empty, or made for another model."""

    code = "adapter"


class CaptionerProblem(Problem):
    """The vision model that should write captions is not there or gave no usable answer."""

    code = "captioner"


class DownloadProblem(Problem):
    """A model could not be downloaded; what has arrived is kept, and trying again goes on from there."""

    code = "download"


class GatedProblem(DownloadProblem):
    """The model is handed out only to people who have accepted its licence, and who say who they are with a token."""

    code = "gated"


class DiskProblem(Problem):
    """The disk is full or read-only; what was being written is not there, what was there before still is."""

    code = "disk"


class TrainingProblem(Problem):
    """The run cannot go on, for example after several steps in a row with a loss that is not a number."""

    code = "training"


class OutOfMemory(Problem):
    """The computer has too little memory for this."""

    code = "memory"


def lacks_memory(error: BaseException) -> bool:
    """Whether this is Python, MLX on a card or a Mac, or a library saying that there is no memory left.

    On a CPU MLX does not say it: the process ends.
    """
    words = str(error).lower()
    told = any(each in words for each in ("out of memory", "insufficient memory", "malloc", "unable to allocate"))
    return isinstance(error, MemoryError) or told


@contextmanager
def disk_trouble_as_sentence(path: Path) -> Iterator[None]:
    """Turn the operating system's "no space", "quota" and "read-only" into a `DiskProblem` that names `path`."""
    reasons = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "your disk quota is used up",
        errno.EROFS: "the disk is read-only",
        errno.EACCES: "this folder may not be written to",
        errno.EFBIG: "the file would be larger than this disk or account allows",
    }
    try:
        yield
    except OSError as error:
        reason = reasons.get(error.errno or 0)
        if reason is None:
            raise
        raise DiskProblem(f"{path} could not be written: {reason}. Make room, then resume.") from error
