"""How a run ends: at its last step, at a requested stop, or with a problem.

    Finished         the last step, the newest checkpoint's adapter, the mean loss of the last steps
    raised_after     the problem, whether the last complete step is saved, and what to do

A step whose loss or gradient norm is not finite is not applied (update.py). Three in a row end the run; resuming resets
the counter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.config.train import TrainConfig
from core.device import backend
from core.errors import DiskProblem, Problem, TrainingProblem
from core.training import checkpoint, validation
from core.training.checkpoint import State
from core.training.diagnosis import BAD_STEPS_IN_A_ROW, LOSSES_AVERAGED
from core.training.events import Finished, Stepped


class BadSteps(TrainingProblem):
    """The loss or the gradient norm was not finite too often in a row."""


def check_losses(state: State, stepped: Stepped) -> None:
    """Raise BadSteps if the step just read is the last bad one that is allowed; a later one may be in flight."""
    if state.bad_steps_in_a_row >= BAD_STEPS_IN_A_ROW:
        raise BadSteps(
            f"The loss or its gradient was not a number in {BAD_STEPS_IN_A_ROW} steps in a row, the last at step"
            f" {stepped.step}. These steps did not change the adapter."
        )


def reset_bad_steps(state: State) -> None:
    """Give a run that resumes from this state a full count of bad steps again."""
    if state.bad_steps_in_a_row >= BAD_STEPS_IN_A_ROW:
        state.bad_steps_in_a_row = 0


@contextmanager
def raised_after(problem: TrainingProblem, folder: Path, state: State | None, config: TrainConfig) -> Iterator[None]:
    """Raise `problem` after the block, which saves the state; the message says whether that worked and what to do.

    Raises DiskProblem when the disk has no room for the state, else TrainingProblem.
    """
    words = problem.message
    try:
        yield
    except DiskProblem as full:
        raise DiskProblem(f"{words} {full.message}") from problem
    except Problem as other:
        words = f"{words} {other.message}"
    if state is not None and state.step and checkpoint.is_newest(folder, state.step):
        words = f"{words} Step {state.step} is saved."
    raise TrainingProblem(f"{words} {_advice(problem, config)}") from problem


def finished(state: State | None, config: TrainConfig, folder: Path, *, seconds: float, held_out: bool) -> Finished:
    """The last event of a run. `state` is None if it was stopped before there was one."""
    step, losses = (state.step, state.losses) if state is not None else (0, [])
    recent = [loss for loss in losses if loss is not None][-LOSSES_AVERAGED:]
    saved = checkpoint.steps_saved(folder)
    return Finished(
        step=step,
        stopped=step < config.steps,
        adapter=folder / "checkpoints" / str(saved[-1]) / checkpoint.ADAPTER if saved else None,
        final_loss=sum(recent) / len(recent) if recent else None,
        held_out_loss=validation.loss_of(state) if held_out and state is not None else None,
        seconds=seconds,
        peak_memory_bytes=backend.peak_memory(),
    )


def _advice(problem: TrainingProblem, config: TrainConfig) -> str:
    if isinstance(problem, BadSteps):
        return f"Try a lower learning rate (it is {config.learning_rate:g})."
    return "Resume the run with all machines, or on fewer."
