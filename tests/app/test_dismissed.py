"""The failure of a drawing is shown until somebody dismisses it, which can be undone."""

from __future__ import annotations

from starlette.testclient import TestClient

from app.jobs import store
from app.jobs.process import ProcessName
from app.jobs.states import Lane, State
from tests.app.conftest import problem_of


def test_a_failed_drawing_is_dismissed_and_comes_back_when_it_fails_again(client: TestClient) -> None:
    database = client.app.state.database  # type: ignore[attr-defined]
    job = client.post("/api/pictures", json={"prompt": "a can in the rain"}).json()["job_id"]

    def fail() -> None:
        claim = store.claim(database, Lane.MEMORY, ProcessName.own())
        assert claim is not None
        store.end(database, claim, State.FAILED, error={"code": "picture", "message": "The picture is not finite."})

    def dismiss(dismissed: bool = True) -> str:
        """The page afterwards."""
        answer = client.post(f"/api/jobs/{job}/dismiss", json={"dismissed": dismissed})
        assert answer.json()["state"] == "failed"
        return client.get("/pictures").text

    words = problem_of(client.post(f"/api/jobs/{job}/dismiss"), 409)["message"]
    assert words == "Only the failure of a job can be dismissed, and this one has not failed."
    fail()
    assert "The picture is not finite." in client.get("/pictures").text
    assert "a can in the rain" not in dismiss()
    assert "The picture is not finite." in dismiss(False)
    dismiss()
    client.post(f"/api/jobs/{job}/retry")
    fail()
    assert "The picture is not finite." in client.get("/pictures").text
    problem_of(client.post("/api/jobs/99/dismiss"), 404)
