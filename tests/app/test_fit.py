"""Whether a run fits into this computer, as the interface and the new-run page say it."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from core.computer import Computer

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
