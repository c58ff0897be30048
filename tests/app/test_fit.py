"""Whether a run fits into this computer, as the interface and the new-run page say it."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from app.actions.estimate import FORWARD_SHARE
from core.device.hardware import Computer

WORDS = {"name": "My can", "trigger": "sks", "class_word": "can"}


@pytest.fixture
def project(client: TestClient) -> int:
    return int(client.post("/api/projects", json=WORDS).json()["id"])


def test_a_suggestion_says_whether_memory_suffices_and_offers_what_does(
    client: TestClient, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(**knobs: object) -> dict[str, Any]:
        return client.get(f"/api/projects/{project}/suggestion", params={"model": "pocket", **knobs}).json()["fit"]

    here = asked()
    assert here["fits"]
    assert 0 < here["memory"] < here["memory_there"]
    small = Computer("cpu", memory=700 * 2**20, disk=10 * 2**30)
    monkeypatch.setattr("app.actions.estimate.this_computer", lambda home: small)
    large = asked(side_px=512, batch_size=4, activations="all")
    assert not large["fits"]
    assert "while training" in large["sentence"]
    assert large["offer"]["activations"] == "as_fit"
    assert asked(**{"side_px": 512, "batch_size": 4, **large["offer"]})["fits"]


def test_the_time_that_a_run_takes_has_its_scores_in_it(client: TestClient, project: int) -> None:
    def asked(**knobs: object) -> dict[str, Any]:
        knobs = {"model": "pocket", "sample_every": 0, "steps": 100, "batch_size": 1, "score_draws": 1, **knobs}
        return client.get(f"/api/projects/{project}/suggestion", params=knobs).json()

    def seconds(**knobs: object) -> float:
        return asked(**knobs)["seconds"]

    rarely, often = seconds(score_every=100), seconds(score_every=2)
    evaluations = 49 * 4  # of one photo in four bands, each a part of a step
    assert often - rarely == pytest.approx(evaluations * FORWARD_SHARE * asked()["seconds_per_step"])
    assert seconds(held_out="3", score_every=2) - rarely > 3 * (often - rarely)
    assert seconds(held_out="none", score_every=2) == often
    assert seconds(score_draws=2, score_every=2) - rarely > 2 * (often - rarely)
