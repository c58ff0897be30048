"""Files are finished beside the steps: no step waits for the disk, and nothing is lost or overwritten."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from core import files
from core.adapters import file as adapter_file
from core.device import backend
from core.errors import DiskProblem, TrainingProblem
from core.models.base import Family
from core.training import checkpoint
from core.training.background_writer import Writer
from core.training.events import Finished, Note, Sampled, Saved, Stepped
from core.training.step import Step
from tests.core.subjects import training
from tests.core.test_resume import assert_same

PATIENCE = 30.0  # seconds, for a thread that should have come by


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A disk whose flushes take until the event is set, for what is written beside the steps."""
    ready, exact = threading.Event(), files.flush_file

    def flush(path: Path) -> None:
        if threading.current_thread().name.startswith("writer"):
            assert ready.wait(PATIENCE)
        exact(path)

    monkeypatch.setattr(files, "flush_file", flush)
    yield ready
    ready.set()


def kinds(said: list[Any]) -> list[tuple[str, int]]:
    return [(type(each).__name__, each.step) for each in said if isinstance(each, Stepped | Saved | Sampled)]


def test_steps_go_on_while_a_checkpoint_is_flushed_and_hear_of_it_when_it_is_whole(
    family: Family, photos: Path, tmp_path: Path, slow_disk: threading.Event
) -> None:
    run, said = training(family, photos, tmp_path / "run", steps=5, save_every=2), []
    for progress in run:
        said.append(progress)
        if isinstance(progress, Stepped) and progress.step == 3:
            assert checkpoint.steps_saved(tmp_path / "run") == []
            slow_disk.set()
    assert kinds(said).index(("Saved", 2)) > kinds(said).index(("Stepped", 3))
    assert [step for kind, step in kinds(said) if kind == "Saved"] == [2, 4, 5]
    assert isinstance(said[-1], Finished)


@pytest.mark.slow
@pytest.mark.parametrize("own_memory", [False, True])
def test_a_step_does_not_write_over_what_is_still_to_be_copied(
    family: Family, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_memory: bool
) -> None:
    list(training(family, photos, tmp_path / "one", steps=3, ema_decay=0.9))
    there, exact, submit = threading.Event(), adapter_file.fill, Step.submit

    def fill(*content: Any) -> None:
        assert there.wait(PATIENCE)
        exact(*content)

    def noted(step: Step, number: int, batches: Any, before_update: Any) -> None:
        def at_the_update() -> None:
            if not own_memory:
                there.set()  # only now: the gradient was not waited with
            before_update()

        submit(step, number, batches, at_the_update)

    monkeypatch.setattr(adapter_file, "fill", fill)
    monkeypatch.setattr(Step, "submit", noted)
    prepared = backend.prepare()
    policy = replace(prepared.policy, runs_ahead=True, own_memory=own_memory)
    monkeypatch.setattr(backend, "prepare", lambda: replace(prepared, policy=policy))
    for progress in training(family, photos, tmp_path / "two", steps=3, ema_decay=0.9):
        if isinstance(progress, Stepped) and progress.step == 3:
            there.set()  # the update was not waited with either, where the card's memory is its own
    assert_same(tmp_path / "one", tmp_path / "two", 2)


def test_no_two_checkpoints_are_on_their_way(
    family: Family, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way: list[int] = []
    exact = checkpoint.Snapshot.write

    def write(snapshot: checkpoint.Snapshot) -> Saved:
        under_way.append(1)
        assert len(under_way) == 1
        saved = exact(snapshot)
        under_way.pop()
        return saved

    monkeypatch.setattr(checkpoint.Snapshot, "write", write)
    said = list(training(family, photos, tmp_path / "run", steps=6, save_every=1))
    assert [step for kind, step in kinds(said) if kind == "Saved"] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_is_dropped_leaves_the_checkpoint_that_was_being_written_whole(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    run = training(family, photos, tmp_path / "run", steps=100)
    next(each for each in run if isinstance(each, Stepped) and each.step == 3)
    run.close()
    assert checkpoint.steps_saved(tmp_path / "run") == [2]
    assert checkpoint.load(tmp_path / "run" / "checkpoints" / "2").step == 2
    assert not list((tmp_path / "run").rglob(".part-*"))
    assert "writer" not in {each.name.partition("_")[0] for each in threading.enumerate()}


def test_a_checkpoint_that_became_whole_is_said_whatever_ended_the_run(
    family: Family, photos: Path, tmp_path: Path, slow_disk: threading.Event
) -> None:
    exact, calls = family.project, iter(range(100))
    family.project = lambda stream: exact(stream) * (mx.nan if next(calls) >= 6 else 1.0)  # four for the base's score
    said: list[Any] = []

    def walk(run: Any) -> None:
        for progress in run:
            said.append(progress)
            if isinstance(progress, Stepped) and progress.step == 3:
                slow_disk.set()

    with pytest.raises(TrainingProblem, match="3 steps in a row"):
        walk(training(family, photos, tmp_path / "run", steps=100, save_every=2))
    assert [step for kind, step in kinds(said) if kind == "Saved"] == checkpoint.steps_saved(tmp_path / "run")
    assert checkpoint.steps_saved(tmp_path / "run") == [2, 4, 5]


def test_a_disk_that_fails_beside_the_steps_ends_the_run_with_its_sentence(
    family: Family, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, flushed = files.flush_file, []

    def flush(path: Path) -> None:
        flushed.extend([path] if path.name == "optimizer.safetensors" else [])
        if len(flushed) > 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        exact(path)

    monkeypatch.setattr(files, "flush_file", flush)
    said: list[Any] = []
    with pytest.raises(DiskProblem, match="4 could not be written: the disk is full"):
        said += (each for each in training(family, photos, tmp_path / "run", steps=100))
    assert checkpoint.steps_saved(tmp_path / "run") == [2]
    assert kinds(said)[-1][1] < 10
    monkeypatch.undo()
    again = list(training(family, photos, tmp_path / "run", steps=6, resume=True))
    assert [step for kind, step in kinds(again) if kind == "Saved"] == [4, 6]
    assert not [each for each in again if isinstance(each, Note) and each.level == "warning"]


def test_sample_pictures_are_written_beside_what_comes_next(
    family: Family, photos: Path, tmp_path: Path, slow_disk: threading.Event
) -> None:
    knobs = {"steps": 4, "save_every": 4, "sample_every": 2, "sample_prompts": ("a can",)}
    said: list[Any] = []
    for progress in training(family, photos, tmp_path / "run", **knobs):
        said.append(progress)
        if isinstance(progress, Stepped) and progress.step == 3:
            slow_disk.set()
    order = kinds(said)
    assert order.index(("Sampled", 2)) > order.index(("Stepped", 3))
    assert [step for kind, step in order if kind == "Sampled"] == [0, 2, 4]
    assert {path.name for path in (tmp_path / "run" / "samples").iterdir()} == {
        "000000-0.png", "000002-0.png", "000004-0.png",
    }  # fmt: skip


def test_a_writer_says_things_in_their_order_and_raises_what_went_wrong() -> None:
    writer, go = Writer(), threading.Event()
    first, second = Note("first"), Note("second")
    writer.submit(lambda: (go.wait(PATIENCE), first)[1])
    writer.submit(lambda: second)
    writer.submit(lambda: 1 // 0)
    assert list(writer.completed()) == []
    go.set()
    rest = writer.drain()
    assert [next(rest), next(rest)] == [first, second]
    with pytest.raises(ZeroDivisionError):
        next(rest)
    assert list(writer.drain()) == []
    writer.close()
