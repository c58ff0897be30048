"""Stopping at step k and resuming equals never stopping, every tensor bit for bit; also after SIGKILL."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from core.models.load import load_family
from core.training import checkpoint
from core.training.events import Finished, Note, Request, Sampled, Stepped
from core.training.update import global_norm
from tests.core.subjects import of_kind, photo_folder, rewrite_state, training

pytestmark = pytest.mark.slow

KNOBS = {
    "steps": 8, "save_every": 3, "accumulate": 2, "batch_size": 2, "flip": True, "caption_dropout": 0.3,
    "clip_norm": 0.05,  # a limit that every step meets, or the order of the sum behind it would not show
}  # fmt: skip


def assert_same(one: Path, other: Path, step: int) -> None:
    first, second = (checkpoint.load(run / "checkpoints" / str(step)) for run in (one, other))
    one_kept, other_kept = first.optimizer_state, second.optimizer_state
    assert one_kept.tensors.keys() == other_kept.tensors.keys()
    pairs = [(first.parameters, second.parameters), (one_kept.numbers, other_kept.numbers)]
    pairs += [(one_kept.tensors[group], other_kept.tensors[group]) for group in one_kept.tensors]
    for ours, theirs in pairs:
        assert ours.keys() == theirs.keys()
        assert all(mx.array_equal(ours[name], theirs[name]) for name in ours)
    assert len(first.losses) == step
    assert (first.losses, first.subject_losses) == (second.losses, second.subject_losses)
    assert first.next_example == second.next_example
    files = [(run / "checkpoints" / str(step) / "adapter.safetensors") for run in (one, other)]
    tensors = [mx.load(str(path)) for path in files]
    assert all(mx.array_equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


@pytest.fixture(scope="module")
def never_stopped(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with KNOBS alone that was not stopped."""
    place = tmp_path_factory.mktemp("whole")
    list(training(load_family(model_folder), photo_folder(place / "photos"), place / "whole", **KNOBS))
    return place / "whole"


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_wherever_a_run_is_stopped_resuming_equals_never_stopping(
    model_folder: Path, photos: Path, tmp_path: Path, never_stopped: Path, stop_at: int
) -> None:
    stopped_at(stop_at, model_folder, photos, tmp_path / "parts", **KNOBS)
    list(training(load_family(model_folder), photos, tmp_path / "parts", resume=True, **KNOBS))
    assert_same(never_stopped, tmp_path / "parts", 8)


@pytest.mark.parametrize(
    "more",
    [
        {"activations": "none"},
        {"ema_decay": 0.9},
        {"optimizer": "adafactor", "ema_decay": 0.9},
        {"optimizer": "adafactor", "ranks": "attention=3, *.proj_out=1:4"},
        {"optimizer": "lion", "ema_decay": 0.9, "class_pictures": 2, "held_out": "1", "class_preservation": 0.5},
        {"optimizer": "lion", "schedule": "cosine_restarts", "ranks": "attention=3, *.proj_out=1:4"},
        {"optimizer": "prodigy", "learning_rate": 1, "schedule": "linear", "ema_decay": 0.5},
    ],
)
def test_stopping_and_resuming_equals_never_stopping(
    model_folder: Path, photos: Path, tmp_path: Path, more: dict
) -> None:
    knobs = KNOBS | more
    list(training(load_family(model_folder), photos, tmp_path / "whole", **knobs))
    stopped_at(5, model_folder, photos, tmp_path / "parts", **knobs)
    list(training(load_family(model_folder), photos, tmp_path / "parts", resume=True, **knobs))
    assert_same(tmp_path / "whole", tmp_path / "parts", 8)


def stopped_at(step: int, model: Path, photos: Path, out: Path, **knobs: Any) -> None:
    run = training(load_family(model), photos, out, **knobs)
    progress = next(run)
    while not isinstance(progress, Finished):
        progress = run.send(Request.STOP if isinstance(progress, Stepped) and progress.step == step else None)
    assert progress.stopped


def test_a_run_that_ended_while_it_drew_its_last_samples_draws_them_when_resumed(
    model_folder: Path, photos: Path, tmp_path: Path
) -> None:
    knobs = {"steps": 2, "sample_every": 2}
    list(training(load_family(model_folder), photos, tmp_path, **knobs))
    for picture in (tmp_path / "samples").glob("000002-*.png"):
        picture.unlink()
    progress = list(training(load_family(model_folder), photos, tmp_path, resume=True, **knobs))
    assert {sample.step for sample in of_kind(iter(progress), Sampled)} == {2}
    assert of_kind(iter(progress), Stepped) == []
    assert not of_kind(iter(progress), Finished)[0].stopped


def resumed(model: Path, photos: Path, out: Path, **knobs: Any) -> list[str]:
    """Go on to the end; what was noted of kept activations."""
    notes = of_kind(training(load_family(model), photos, out, resume=True, **knobs), Note)
    return [note.text for note in notes if "keep their activations" in note.text]


@pytest.mark.parametrize(("then", "now", "kept"), [("as_fit", "none", 0), ("none", "all", 4)])
def test_a_run_goes_on_with_other_kept_activations_to_the_last_digits(
    model_folder: Path, photos: Path, tmp_path: Path, then: str, now: str, kept: int
) -> None:
    list(training(load_family(model_folder), photos, tmp_path / "whole", activations=then, **KNOBS))
    stopped_at(4, model_folder, photos, tmp_path / "parts", activations=then, **KNOBS)
    notes = resumed(model_folder, photos, tmp_path / "parts", activations=now, **KNOBS)
    assert notes == [
        f"From here on {kept} of 4 blocks keep their activations, where {4 - kept} did before: the last digits can "
        "differ from those of a run that was never stopped."
    ]
    whole, parts = (checkpoint.load(tmp_path / name / "checkpoints" / "8") for name in ("whole", "parts"))
    assert (parts.kept, parts.config["activations"]) == (kept, now)
    assert whole.losses == pytest.approx(parts.losses, rel=1e-5)
    assert whole.losses[:4] == parts.losses[:4]
    apart = {name: value - parts.parameters[name] for name, value in whole.parameters.items()}
    assert global_norm(apart).item() <= 1e-4 * global_norm(whole.parameters).item()


def test_what_was_kept_stays_so_unless_there_is_less_memory(
    model_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def has_room_for(blocks: int) -> None:
        monkeypatch.setattr("core.estimate.memory.kept_blocks", lambda *_: blocks)

    has_room_for(2)
    list(training(load_family(model_folder), photos, tmp_path / "whole", **KNOBS))
    stopped_at(4, model_folder, photos, tmp_path / "parts", **KNOBS)
    for name in ("smaller", "older"):
        shutil.copytree(tmp_path / "parts", tmp_path / name)
    has_room_for(4)
    assert resumed(model_folder, photos, tmp_path / "parts", **KNOBS) == []
    assert_same(tmp_path / "whole", tmp_path / "parts", 8)
    assert checkpoint.load(tmp_path / "parts" / "checkpoints" / "8").kept == 2
    has_room_for(1)
    (note,) = resumed(model_folder, photos, tmp_path / "smaller", **KNOBS)
    assert "1 of 4 blocks keep their activations, where 2 did before" in note
    assert checkpoint.load(tmp_path / "smaller" / "checkpoints" / "8").kept == 1
    # From before anybody asked what there is memory for.
    older = tmp_path / "older" / "checkpoints" / "4"
    rewrite_state(older, lambda table: (table.pop("kept"), table["config"].pop("activations")))
    assert resumed(model_folder, photos, tmp_path / "older", **KNOBS) == []
    assert checkpoint.load(tmp_path / "older" / "checkpoints" / "8").kept is None


CHILD = """
import sys, time
from pathlib import Path
from core.device import backend
backend.prepare()
from core.models.load import load_family
from core.training import checkpoint
from core.training.events import Stepped
from tests.core.subjects import training
from tests.core.test_resume import KNOBS
model, photos, out = map(Path, sys.argv[1:])
for progress in training(load_family(model), photos, out, **KNOBS):
    if isinstance(progress, Stepped):
        while progress.step == 5 and not checkpoint.steps_saved(out):
            time.sleep(0.01)  # it is written beside the steps
        print(progress.step, flush=True)
        if progress.step == 5:
            sys.stdin.read()
"""


@pytest.mark.slow
def test_a_killed_run_resumes_from_its_last_checkpoint(
    model_folder: Path, photos: Path, tmp_path: Path, never_stopped: Path
) -> None:
    command = [sys.executable, "-c", CHILD, str(model_folder), str(photos), str(tmp_path / "killed")]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], env=os.environ
    )
    try:
        deadline = time.monotonic() + 60
        while child.stdout.readline().strip() != "5":
            assert time.monotonic() < deadline
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    finally:
        child.kill()
        child.stdin.close()
        child.stdout.close()
    assert checkpoint.steps_saved(tmp_path / "killed") == [3]
    list(training(load_family(model_folder), photos, tmp_path / "killed", resume=True, **KNOBS))
    assert_same(never_stopped, tmp_path / "killed", 8)
