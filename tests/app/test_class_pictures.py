"""Class pictures in the studio: on the run's page, in its time, and drawn once whatever happens to the process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.tables import Sample
from core.dataset import class_folder
from tests.app.conftest import Studio, fields, picture, until

Start = Callable[..., Studio]


@pytest.fixture
def project(client: TestClient) -> int:
    words = {"name": "My can", "trigger": "sks", "class_word": "can"}
    number = int(client.post("/api/projects", json=words).json()["id"])
    assert client.put(f"/api/projects/{number}/photos/red.png", content=picture()).status_code == 201
    return number


def test_the_time_of_a_run_counts_its_class_pictures(client: TestClient, project: int) -> None:
    def of(**knobs: int) -> dict[str, float]:
        asked = "&".join(f"{name}={value}" for name, value in ({"steps": 100, "sample_every": 0} | knobs).items())
        return client.get(f"/api/projects/{project}/suggestion?model=pocket&{asked}").json()

    none, one, many = of(), of(class_pictures=1), of(class_pictures=101)
    assert one["seconds_per_step"] == pytest.approx(2 * none["seconds_per_step"])
    each = (many["seconds"] - one["seconds"]) / 100
    # Pocket: 20 sampler steps with guidance, so 40 passes of 0.3 of a step's time on one of its two photos
    assert each == pytest.approx(40 * 0.3 * none["seconds_per_step"] / 2)


def test_the_time_of_a_run_counts_what_class_preservation_costs(client: TestClient, project: int) -> None:
    def each(**knobs: int) -> float:
        asked = "&".join(f"{name}={value}" for name, value in knobs.items())
        return client.get(f"/api/projects/{project}/suggestion?model=pocket&{asked}").json()["seconds_per_step"]

    assert each(class_preservation=1) == pytest.approx(2.3 * each())
    assert each(class_preservation=1, class_pictures=1) == pytest.approx(3.3 * each())


def test_own_class_pictures_are_checked_pinned_and_counted(client: TestClient, project: int, tmp_path: Path) -> None:
    own = tmp_path / "dogs"
    own.mkdir()
    (own / "a.png").write_bytes(picture("blue"))
    (own / "b.png").write_bytes(b"no picture")
    knobs = {"class_folder": str(own)}
    answer = client.post(f"/api/projects/{project}/runs", json=knobs | {"steps": 0})
    assert (answer.status_code, fields(answer.json()["error"])) == (422, ["steps", "class_folder"])
    assert "b.png" in answer.text
    (own / "b.png").write_bytes(picture("green"))
    run = client.post(f"/api/projects/{project}/runs", json=knobs).json()
    assert run["own_class_pictures"] == 2
    page = client.get(f"/runs/{run['id']}").text
    assert f"2 pictures of your own, from {own}, with the caption “a photo of can”." in page
    assert 'id="no-class-pictures" hidden>' in page
    pinned = [each.sha256 for each in class_folder.read(str(own), "")]
    assert class_folder.changed(pinned, class_folder.read(str(own), "")) == ""
    (own / "b.png").write_bytes(picture("yellow"))
    words = class_folder.changed(pinned, class_folder.read(str(own), ""))
    assert "has changed since this run was created (1 missing or changed, 1 new)" in words


def test_class_pictures_are_no_samples_and_no_cover(client: TestClient, project: int) -> None:
    run = client.post(f"/api/projects/{project}/runs", json={"class_pictures": 2, "sample_every": 0}).json()
    page = client.get(f"/runs/{run['id']}").text
    assert "Drawn by the untouched model for “a photo of can”" in page
    assert "They are drawn before the first step." in page
    with client.app.state.database.write() as session:  # type: ignore[attr-defined]
        words = {"job_id": run["job_id"], "run_id": run["id"], "prompt": "a photo of can", "file": "x.png"}
        session.add(Sample(**words, seed=5, width=64, height=64, prompt_id=1))
    detail = client.get(f"/api/runs/{run['id']}").json()
    assert (detail["samples"], detail["cover_url"]) == ([], None)
    assert [(each["prompt_id"], each["seed"]) for each in detail["class_pictures"]] == [(1, 5)]
    assert 'alt="Class picture 2: a photo of can"' in client.get(f"/runs/{run['id']}").text
    plain = client.post(f"/api/projects/{project}/runs", json={}).json()
    assert "Class pictures</h2>" not in client.get(f"/runs/{plain['id']}").text


def test_a_run_killed_and_stopped_among_its_class_pictures_draws_each_once(start_studio: Start) -> None:
    studio = start_studio()
    project = studio.project_with_photos()
    run = studio.run(project, steps=3, class_pictures=2000)

    def drawn(least: int) -> list[dict[str, object]]:
        return until(lambda: len(now := studio.get(f"/api/runs/{run['id']}")["class_pictures"]) >= least and now)

    drawn(3)
    os.kill(studio.job_pid(run["job_id"]), signal.SIGKILL)
    before = drawn(3)
    drawn(len(before) + 2)
    assert studio.get(f"/api/runs/{run['id']}")["step"] == 0
    studio.post(f"/api/runs/{run['id']}/stop")
    stopped = studio.until_state(run["id"], "stopped")
    assert (stopped["step"], stopped["checkpoints"], stopped["can_resume"]) == (0, [], True)
    numbers = [each["prompt_id"] for each in stopped["class_pictures"]]
    assert numbers == list(range(len(numbers)))
    assert stopped["class_pictures"][:3] == before[:3], "what was there is told once"
    assert {(each["step"], each["adapter_strength"]) for each in stopped["class_pictures"]} == {(None, 0.0)}
    assert studio.http.get(stopped["class_pictures"][0]["url"]).headers["content-type"] == "image/png"

    files = studio.home / "cache" / "class"
    times = {path.name: path.stat().st_mtime_ns for path in files.iterdir()}
    second = studio.run(project, steps=3, class_pictures=3)
    done = studio.until_state(second["id"], "succeeded")
    assert len(done["class_pictures"]) == 3
    assert times == {path.name: path.stat().st_mtime_ns for path in files.iterdir()}, "none was drawn again"
