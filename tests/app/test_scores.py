"""Held-out photos in the studio: chosen in a run's settings, scored while it runs, and put into words."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.actions import progress
from app.actions.run_views import photo_scores
from app.database import Database
from app.home import Home
from app.jobs import store
from app.jobs.states import Kind
from app.tables import Event
from core.training.diagnosis import diagnose
from tests.app.conftest import Studio, picture, put

Start = Callable[..., Studio]


def test_a_run_scores_its_held_out_photos_and_says_what_that_means(start_studio: Start) -> None:
    studio = start_studio()
    project = studio.project_with_photos(5)
    names = {each["id"]: each["name"] for each in studio.get(f"/api/projects/{project}/photos")}
    run = studio.run(project, steps=60, save_every=60, held_out="1.png, 3.png", score_every=20)
    assert (run["verdict"]["kind"], run["photo_scores"]) == ("early", [])
    done = studio.until_state(run["id"], "succeeded")

    series = studio.get(f"/api/runs/{run['id']}/metrics")["series"]
    assert [step for step, _ in series["held_out"]] == [0, 2, 4, 5, 7, 10, 14, 20, 28, 40, 60]
    assert all(series[f"held_out/{band}"][0] == [0, 1.0] for band in range(4))
    assert done["verdict"]["kind"] != "early"
    assert done["verdict"]["bands"][0].startswith("High noise: ")

    by_name = {each["name"]: each for each in done["photo_scores"]}
    assert [each["held_out"] for each in done["photo_scores"]] == [False, False, False, True, True]
    assert {name for name, each in by_name.items() if each["held_out"]} == {"1.png", "3.png"}
    assert all(names[each["photo_id"]] == name and each["relative"] > 0 for name, each in by_name.items())
    assert "Held out, to score the run on and not to learn: 1.png, 3.png." in studio.log(run["id"])


def test_a_wrong_choice_of_held_out_photos_is_refused_before_a_job_is_made(
    client: TestClient, project: int, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKENESS_MODELS", str(models_folder))
    for number in range(2):
        put(client, project, f"{number}.png", picture((40 * number, 90, 200)))
    for choice, words in (("moon.png", "names 'moon.png'"), ("2", "is '2', and there are 2 photos")):
        body = {"model": "tiny", "held_out": choice, "rank": 0}
        answer = client.post(f"/api/projects/{project}/runs", json=body)
        assert answer.status_code == 422
        body |= {"rank": 4}
        (problem,) = client.post(f"/api/projects/{project}/runs", json=body).json()["error"]["problems"]
        assert problem["field"] == "held_out"
        assert problem["message"].startswith(words)
    assert client.get(f"/api/projects/{project}/runs").json() == []


def score(step: int, value: float | None, **more: float) -> tuple[str, int, dict]:
    bands = {f"held_out/{band}": value for band in range(4)}
    loss = None if value is None else 0.5 * value
    return "metric", step, {"held_out": value, "held_out_loss": loss, **bands, "held_out_photo/7": value, **more}


def steps(first: int, last: int, loss: float | None) -> list[tuple[str, int, dict]]:
    kept = {} if loss is None else {"loss": loss}
    return [("metric", step, {"lr": 1e-4, **kept}) for step in range(first, last + 1)]


def test_scores_are_read_from_events_and_what_a_rewind_made_void_is_not(tmp_path: Path) -> None:
    with closing(Database(Home(tmp_path))) as database:
        with database.write() as session:
            job = int(store.enqueue(session, Kind.TRAIN, {}).id or 0)

        def after(*events: tuple[str, int, dict]) -> progress.Scores:
            with database.write() as session:
                for kind, step, payload in events:
                    session.add(Event(job_id=job, attempt=1, kind=kind, step=step, payload=payload))
            with database.read() as session:
                return progress.scores(session, job)

        turning = [score(step, 0.8 + (step / 400 - 1) ** 2 / 5) for step in range(0, 801, 100)]
        found = after(*steps(1, 30, 0.4), *turning)
        assert (found.diagnosis.kind, found.diagnosis.since) == ("memorising", 400)
        found = after(("rewind", 400, {"to_step": 400}), score(500, 0.75, **{"photo/3": 1.5, "photo/4": 1.0}))
        assert found.diagnosis.kind == "learning"
        assert (found.held_out, found.learned) == ({7: 0.75}, {3: 1.5, 4: 1.0})
        assert after(*steps(501, 503, None)).diagnosis.kind == "diverged"
        assert after(score(600, None)).held_out == {7: math.inf}


def test_the_words_go_by_the_photos_own_loss_where_class_pictures_add_theirs(tmp_path: Path) -> None:
    def newest(steps: range, **losses: float) -> list[Event]:
        return [Event(job_id=1, attempt=1, kind="metric", step=each, payload={"lr": 1e-4, **losses}) for each in steps]

    with closing(Database(Home(tmp_path))) as database:
        with database.write() as session:
            job = int(store.enqueue(session, Kind.TRAIN, {}).id or 0)
            for kind, step, payload in [score(step, 1.0 + step / 400) for step in range(0, 401, 100)]:
                session.add(Event(job_id=job, attempt=1, kind=kind, step=step, payload=payload))
            session.add_all(newest(range(381, 401), loss=2.0, subject_loss=0.2))
        with database.read() as session:
            assert progress.scores(session, job).diagnosis.kind == "memorising"
        with database.write() as session:
            session.add_all(newest(range(401, 421), loss=2.0, subject_loss=1.6))
        with database.read() as session:
            assert progress.scores(session, job).diagnosis.kind == "diverged"
        with database.write() as session:
            session.add(Event(job_id=job, attempt=2, kind="rewind", step=400, payload={"to_step": 400}))
        with database.read() as session:
            assert progress.scores(session, job).diagnosis.kind == "memorising"  # those steps are void
        with database.write() as session:
            session.add_all(newest(range(401, 404), loss=2.0, subject_loss=0.2))
        with database.read() as session:
            assert progress.scores(session, job).diagnosis.kind == "memorising"


def test_a_photo_that_does_not_belong_to_the_others_stands_out() -> None:
    items = [{"photo_id": number, "name": f"{number}.jpg"} for number in range(6)]
    # what Pocket found after 20 steps on five photos of a dog and one of a can
    learned = dict(enumerate((0.89, 0.85, 0.89, 0.87, 1.04, 1.52)))
    found = photo_scores(items, progress.Scores(diagnose([], [], True), {}, learned))
    assert [each.name for each in found if each.outlier] == ["5.jpg"]
    assert found[0].name == "5.jpg"
    held_out = photo_scores(
        items, progress.Scores(diagnose([], [], True), {5: 3.0, 4: math.inf}, dict.fromkeys(range(4), 1.0))
    )
    assert not any(each.outlier for each in held_out)
    assert [(each.photo_id, each.relative) for each in held_out if each.held_out] == [(5, 3.0), (4, None)]
