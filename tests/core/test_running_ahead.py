"""On a GPU a step is submitted before the one before it is read: the same run, reported a little later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from core.device import backend
from core.errors import TrainingProblem
from core.models.base import Family
from core.training import checkpoint
from core.training.events import Finished, Request, Saved, Stepped
from core.training.group import MachineLost
from core.training.optimizers import Tensors
from core.training.step import Step
from tests.core.subjects import training
from tests.core.test_handoff import Pending

pytestmark = pytest.mark.slow


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps submitted so far, on this device used like one that runs ahead."""
    prepared = backend.prepare()
    ahead = replace(prepared, policy=replace(prepared.policy, runs_ahead=True))
    monkeypatch.setattr(backend, "prepare", lambda: ahead)
    steps, submit = [], Step.submit

    def noted(self: Step, step: int, *rest: object, **more: object) -> None:
        steps.append(step)
        submit(self, step, *rest, **more)

    monkeypatch.setattr(Step, "submit", noted)
    return steps


def test_the_next_step_is_submitted_before_the_last_is_read_except_where_something_is_due(
    family: Family, photos: Path, tmp_path: Path, submitted: list[int]
) -> None:
    run = training(family, photos, tmp_path / "run", steps=6, save_every=4, score_every=1000)
    assert [(each.step, submitted[-1]) for each in run if isinstance(each, Stepped)] == [
        (1, 2), (2, 3), (3, 4), (4, 4), (5, 6), (6, 6),
    ]  # fmt: skip


@pytest.mark.parametrize("knobs", [{"activations": "all"}, {"activations": "none", "accumulate": 2}])
def test_the_run_is_the_same_as_where_every_step_is_waited_for(
    family: Family,
    photos: Path,
    tmp_path: Path,
    submitted: list[int],
    knobs: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    knobs = {"steps": 9, "save_every": 9, "score_every": 1000} | knobs
    ahead = list(training(family, photos, tmp_path / "ahead", **knobs))
    monkeypatch.undo()
    waited = list(training(family, photos, tmp_path / "waited", **knobs))

    def reported(run: list[object]) -> list[tuple[object, ...]]:
        return [(one.step, one.loss, one.gradient_norm, one.counted) for one in run if isinstance(one, Stepped)]

    assert reported(ahead) == reported(waited)
    one, other = (checkpoint.load(tmp_path / name / "checkpoints" / "9") for name in ("ahead", "waited"))
    assert all(mx.array_equal(one.parameters[name], other.parameters[name]) for name in one.parameters)
    assert one.losses == other.losses
    assert one.photo_losses == other.photo_losses


def test_a_request_is_fulfilled_after_the_step_that_is_under_way(
    family: Family, photos: Path, tmp_path: Path, submitted: list[int]
) -> None:
    run = training(family, photos, tmp_path / "run", steps=100, save_every=50, score_every=1000)
    said: list[object] = [next(run)]
    while not isinstance(said[-1], Finished):
        last = said[-1]
        said.append(run.send(Request.STOP if isinstance(last, Stepped) and last.step == 9 else None))
    assert submitted[-1] == 10
    assert [each.step for each in said if isinstance(each, Stepped)] == list(range(1, 11))
    assert [each.step for each in said if isinstance(each, Saved)] == [10]
    assert len(checkpoint.load(tmp_path / "run" / "checkpoints" / "10").losses) == 10


def test_bad_steps_end_the_run_when_they_are_read(
    family: Family, photos: Path, tmp_path: Path, submitted: list[int]
) -> None:
    exact, calls = family.project, iter(range(100))
    family.project = lambda stream: exact(stream) * (mx.nan if next(calls) >= 10 else 1.0)
    run = training(family, photos, tmp_path / "run", steps=100, save_every=50, score_every=1000)
    with pytest.raises(TrainingProblem, match="not a number in 3 steps in a row, the last at step 9"):
        list(run)
    assert submitted[-1] == 10


def test_when_a_machine_is_lost_the_step_under_way_is_read_and_saved(
    family: Family, photos: Path, tmp_path: Path, submitted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def summed(loss: mx.array, draws: mx.array, g: Tensors) -> tuple[mx.array, mx.array, Tensors]:
        if submitted[-1] == 6:
            raise MachineLost("mini.local (machine 2 of 2) is gone: its process ended.")
        return loss, draws, g

    group = Pending()
    monkeypatch.setattr(group, "sum", summed, raising=False)
    knobs = {"steps": 100, "save_every": 50, "score_every": 1000, "machines": 2}
    run = training(family, photos, tmp_path / "run", group=group, **knobs)
    with pytest.raises(TrainingProblem, match=r"^mini\.local .* Step 5 is saved\."):
        list(run)
    assert len(checkpoint.load(tmp_path / "run" / "checkpoints" / "5").losses) == 5
