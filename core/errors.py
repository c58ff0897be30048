"""The errors that users see, as a class tree. Every message is shown unchanged.

    Problem              an error that a user can act on; has a `code`, a `message`, and `problems` by field
    + ConfigProblem      a knob is out of range                  code "config"
    + DataProblem        the photos or the captions              code "data"
    + ModelProblem       a model folder is incomplete            code "model"
    + AdapterProblem     a LoRA file does not fit                code "adapter"
    + CaptionerProblem   the captioning server failed            code "captioner"
    + DownloadProblem    a model could not be downloaded         code "download"
      + GatedProblem     its owner requires a licence first      code "gated"
    + PictureProblem     a picture is not finite                 code "picture"
    + DiskProblem        no space or permission to write         code "disk"
    + TrainingProblem    the run cannot continue                 code "training"
    + OutOfMemory        too little memory                       code "memory"
    + GpuProblem         the GPU failed, or is in use            code "gpu"

A bug stays a plain exception, with a traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One error: the field (a knob, a file name, a tensor) and a message that continues its name."""

    field: str
    message: str


class Problem(Exception):
    """An error that the user can act on; the message says what is wrong and what to do."""

    code = "problem"

    def __init__(self, message: str, problems: Sequence[FieldProblem] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.problems = list(problems)

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {p.field}: {p.message}" for p in self.problems)])


class ConfigProblem(Problem):
    """Knobs are out of range or of the wrong type; `problems` names each one."""

    code = "config"


class DataProblem(Problem):
    """A photo or a caption cannot be used; `problems` names each file."""

    code = "data"


class ModelProblem(Problem):
    """A model folder is missing, incomplete or of an unknown architecture; `problems` names each tensor or file."""

    code = "model"


class AdapterProblem(Problem):
    """A LoRA file is broken, empty, or made for another model."""

    code = "adapter"


class CaptionerProblem(Problem):
    """The vision model that writes captions is unavailable or gave no usable answer."""

    code = "captioner"


class DownloadProblem(Problem):
    """A model could not be downloaded; a new attempt continues with what has arrived."""

    code = "download"


class GatedProblem(DownloadProblem):
    """The model requires an accepted licence and a Hugging Face token."""

    code = "gated"


class PictureProblem(Problem):
    """A picture has pixels that are not finite; the message names the adapters that it was drawn with."""

    code = "picture"


class DiskProblem(Problem):
    """The disk is full or read-only; the old content is still there, nothing of the new one is."""

    code = "disk"


class TrainingProblem(Problem):
    """The run cannot continue, for example after several steps in a row with a loss that is not finite."""

    code = "training"


class OutOfMemory(Problem):
    """The computer has too little memory for this."""

    code = "memory"


class GpuProblem(Problem):
    """The GPU could not finish a computation, or another process uses it."""

    code = "gpu"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is an out-of-memory error of Python, of a library, or of MLX on a GPU.

    On a CPU MLX raises none: the system kills the process.
    """
    if isinstance(error, MemoryError):
        return True
    message = str(error).lower()
    return any(each in message for each in ("out of memory", "insufficient memory", "malloc", "unable to allocate"))


@contextmanager
def disk_errors_as_problem(path: Path) -> Iterator[None]:
    """Turn the system's errors "no space", "quota", "read-only" ... into a `DiskProblem` that names `path`."""
    reasons = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "your disk quota is used up",
        errno.EROFS: "the disk is read-only",
        errno.EACCES: "writing to this folder is not permitted",
        errno.EFBIG: "the file would be larger than this disk or account allows",
    }
    try:
        yield
    except OSError as error:
        reason = reasons.get(error.errno or 0)
        if reason is None:
            raise
        raise DiskProblem(f"{path} could not be written: {reason}. Make room, then resume.") from error
