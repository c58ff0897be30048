"""How a run ends: at its last step, when it is asked to, or because it cannot go on.

    ends            Finished: how far it came, its newest adapter, the loss of its last steps
    cannot go on    a sentence that says what happened, what became of the last whole step, and what to do

A step whose loss is not a number changes nothing (update.py). One is bad luck; several in a row will not end by
themselves. Those that ended a run are counted no more: whoever resumes it has read of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.config.train import TrainConfig
from core.errors import DiskProblem, Problem, TrainingProblem
from core.training import checkpoint, validation
from core.training.checkpoint import State
from core.training.events import Finished, Stepped

BAD_STEPS_AT_MOST = 3  # in a row; the last of them ends the run, which has had one more chance than bad luck needs
LOSSES_AVERAGED = 20  # a single step's loss says more about its sigma than about the adapter


class BadSteps(TrainingProblem):
    """The loss was not a number too often in a row."""


def check_losses(state: State, stepped: Stepped) -> None:
    """Raise BadSteps when the step that was just taken is one too many of them."""
    if state.bad_steps_in_a_row >= BAD_STEPS_AT_MOST:
        raise BadSteps(
            f"The loss was not a number in {BAD_STEPS_AT_MOST} steps in a row, the last at step {stepped.step}."
            " The adapter is as it was before them."
        )


def count_anew(state: State) -> None:
    """Let a run that goes on from this state have as many bad steps as one that never had any."""
    if state.bad_steps_in_a_row >= BAD_STEPS_AT_MOST:
        state.bad_steps_in_a_row = 0


@contextmanager
def said_with(problem: TrainingProblem, folder: Path, state: State | None, advice: str) -> Iterator[None]:
    """While the block saves the state of a run that cannot go on; afterwards `problem` is raised, with all there is.

    Raises DiskProblem when the state could not be saved, else TrainingProblem.
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
    raise TrainingProblem(f"{words} {advice}") from problem


def finished(
    state: State | None, config: TrainConfig, folder: Path, *, seconds: float, peak_memory_bytes: int, held: bool
) -> Finished:
    """What there is to say of a run at its end. `state` is None when it ended before there was an adapter."""
    step, losses = (state.step, state.losses) if state is not None else (0, [])
    recent = [loss for loss in losses if loss is not None][-LOSSES_AVERAGED:]
    saved = checkpoint.steps_saved(folder)
    return Finished(
        step=step,
        stopped=step < config.steps,
        adapter=folder / "checkpoints" / str(saved[-1]) / checkpoint.ADAPTER if saved else None,
        final_loss=sum(recent) / len(recent) if recent else None,
        held_out_loss=validation.loss_of(state) if held and state is not None else None,
        seconds=seconds,
        peak_memory_bytes=peak_memory_bytes,
    )
