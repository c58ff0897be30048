"""The message of a job that failed gives advice that works."""

from __future__ import annotations

import pytest

from app.jobs.states import Kind
from app.worker.outcome import explained
from core.config.train import knobs
from core.training.checkpoint import MAY_CHANGE


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[malloc] Unable to allocate 34359738368 bytes."),
        RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory (00000008)"),
        RuntimeError("cudaMallocAsync(&data, size, stream) failed: out of memory"),
    ],
)
def test_a_run_without_enough_memory_names_settings_that_a_resume_can_change(error: Exception) -> None:
    problem = explained(error, Kind.TRAIN)
    assert problem.code == "memory"
    before, _, after = problem.message.partition("resume with changes")
    assert "close other programs, then resume" in before.lower()
    may, _, needs_a_new_run = after.partition(". ")
    assert knobs()["activations"].label.lower() in may
    assert "activations" in MAY_CHANGE
    assert needs_a_new_run == "A smaller picture size or batch needs a new run."
    assert not {"side_px", "batch_size"} & set(MAY_CHANGE)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.TRAIN])
def test_other_jobs_do_not_advise_to_resume(kind: Kind) -> None:
    message = explained(MemoryError(), kind).message
    assert "not enough memory" in message
    assert "Close other programs" in message
    assert "resume" not in message
    assert ("smaller picture" in message) == (kind is Kind.SAMPLE)
