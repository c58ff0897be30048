"""Numbers as somebody types them are read by one rule: in a drawing, in a run that goes on, in a pick of photos."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from app.jobs import store
from app.jobs.process import ProcessName
from app.jobs.states import Lane
from app.tables import Checkpoint, Job
from core.config import drawing_limits
from tests.app.conftest import picture, problem_of, put

PROMPT = {"prompt": "a can"}


def sentences(client: TestClient, **numbers: object) -> dict[str, str]:
    """What is wrong with a drawing of these numbers, by field."""
    error = problem_of(client.post("/api/pictures", json=PROMPT | numbers), 422)
    return {each["field"]: each["message"] for each in error["problems"]}


def test_a_drawing_refuses_numbers_that_can_be_read_in_two_ways(client: TestClient) -> None:
    found = sentences(
        client, steps="1.000", seed="1 000", guidance="3,5", width="1,024", height="64.5",
        adapters=[{"id": 1, "strength": "0,5"}],
    )  # fmt: skip
    assert found == {
        "steps": "is '1.000'; write it without separators: 1000",
        "seed": "is '1 000'; write it without separators: 1000",
        "guidance": "is '3,5'; write decimals with a point: 3.5",
        "width": "is '1,024'; write it without separators: 1024",
        "height": "is '64.5'; it must be a whole number 64 to 2048",
        "adapters.0": "has the strength '0,5'; write decimals with a point: 0.5",
    }
    assert sentences(client, steps="many", count=1.5, guidance=30) == {
        "steps": "is 'many'; it must be a number 1 to 200",
        "count": "is 1.5; it must be a whole number 1 to 16",
        "guidance": "is 30; it can be 0 to 20",
    }


def test_a_drawing_takes_numbers_as_text(client: TestClient) -> None:
    typed = {"steps": "12", "seed": "7", "guidance": "3.50", "width": "128", "height": 64}
    job = client.post("/api/pictures", json=PROMPT | typed).json()["job_id"]
    with client.app.state.database.read() as session:  # type: ignore[attr-defined]
        params = session.get(Job, job).params
    drawn = {name: params[name] for name in ("steps", "seed", "guidance", "width", "height", "count")}
    assert drawn == {"steps": 12, "seed": 7, "guidance": 3.5, "width": 128, "height": 64, "count": 1}
    assert not any(isinstance(params[name], str) for name in typed)


@pytest.mark.parametrize("given", ["nan", "inf", "-Infinity", None, [], True, 10**400])
def test_what_is_no_number_has_no_value(given: object) -> None:
    assert "must be a number" in drawing_limits.read("strength", given)[1]


def test_the_steps_of_a_run_that_goes_on_are_checked_before_it_does(client: TestClient, project: int) -> None:
    put(client, project, "red.png", picture())
    run = client.post(f"/api/projects/{project}/runs", json={"steps": 7}).json()["id"]
    claim = store.claim(client.app.state.database, Lane.MEMORY, ProcessName.own())  # type: ignore[attr-defined]
    assert claim is not None
    with client.app.state.database.write() as session:  # type: ignore[attr-defined]
        session.add(Checkpoint(run_id=run, step=5, folder="", bytes=0, sha256=""))

    def problems(**body: object) -> list[tuple[str, str]]:
        found = client.post(f"/api/runs/{run}/resume/check", json=body).json()["problems"]
        return [(each["field"], each["message"]) for each in found]

    before = client.get(f"/api/runs/{run}").json()
    assert problems(steps="1.000") == [("steps", "is '1.000'; write it without separators: 1000")]
    assert problems(steps="3") == [("steps", "is 3, and 5 are done; to go on, the run needs more")]
    assert problems(steps="x", activations="some") == [
        ("steps", "is 'x'; it must be a number 1 to 100000 steps"),
        ("activations", "is 'some'; it can be as_fit, all or none"),
    ]
    assert problems(steps="12", activations="all") == problems() == []
    assert client.get(f"/api/runs/{run}").json() == before
    problem_of(client.post("/api/runs/99/resume/check", json={}), 404)
