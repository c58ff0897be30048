"""Choosing among a run's checkpoints: the suggestion, the star and what follows it, the time-lapse."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from sqlmodel import col, select
from starlette.testclient import TestClient

from app.actions import progress, timelapse
from app.database import Database
from app.main import create_app
from app.tables import Event, Run, Sample
from tests import run_states
from tests.app.conftest import problem_of

NAMES = ("done", "no_samples", "starting", "stopped")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    home = tmp_path_factory.mktemp("choosing") / "home"
    return home, run_states.make(home, [scene for scene in run_states.SCENES if scene.name in NAMES])


@pytest.fixture
def runs(made: tuple[Path, dict[str, int]]) -> dict[str, int]:
    return made[1]


@pytest.fixture
def studio(made: tuple[Path, dict[str, int]]) -> Iterator[TestClient]:
    with TestClient(create_app(made[0], with_jobs=False), base_url="http://127.0.0.1") as one:
        yield one


def database_of(studio: TestClient) -> Database:
    found = studio.app.state.database  # type: ignore[attr-defined]
    assert isinstance(found, Database)
    return found


def test_the_suggestion_is_the_checkpoint_with_the_lowest_held_out_score(
    studio: TestClient, runs: dict[str, int]
) -> None:
    found = studio.get(f"/api/runs/{runs['done']}/suggestion").json()
    listed = studio.get(f"/api/runs/{runs['done']}/checkpoints").json()
    assert [each["step"] for each in listed] == [100, 200, 300, 400]
    assert min(listed, key=lambda each: each["held_out"])["step"] == found["step"] == 200
    assert found["words"].startswith("Best: step 200, ")
    assert sorted(found) == ["close_call", "reasons", "step", "words"]
    assert all(each["adapter_bytes"] == 1_700_000 and each["bytes"] > each["adapter_bytes"] for each in listed)
    assert studio.get(f"/api/runs/{runs['no_samples']}/suggestion").json()["step"] is None
    problem_of(studio.get("/api/runs/99/suggestion"), 404)


def test_what_the_pictures_show_is_listed_for_each_checkpoint_and_void_after_a_rewind(
    studio: TestClient, runs: dict[str, int]
) -> None:
    def measured(run: str) -> dict[int, list[float | None]]:
        listed = studio.get(f"/api/runs/{runs[run]}/checkpoints").json()
        names = ("likeness", "leak", "variety", "likeness_bar", "leak_bar", "variety_bar")
        return {each["step"]: [each[name] for name in names] for each in listed}

    found = measured("done")
    assert all(None not in values for values in found.values())
    likeness, leak, variety, *bars = found[400]
    assert likeness == pytest.approx(0.31 + 0.4 * (1 - math.exp(-6)))
    assert leak == pytest.approx(0.08 / (0.8 - 0.3), abs=0.01)
    assert variety < found[100][2]
    assert all(0 <= bar < 0.1 for bar in bars)
    assert set(map(tuple, measured("no_samples").values())) <= {(None,) * 6}
    with database_of(studio).write() as session:
        job = session.get_one(Run, runs["stopped"]).job_id
        before = progress.drawn(session, job)
        session.add(Event(job_id=job, attempt=2, kind="rewind", step=100, payload={"to_step": 100}))
        session.flush()
        assert [each.step for each in before] == [0, 50, 100, 150]
        assert progress.drawn(session, job) == before[:3]
        session.rollback()


def test_the_star_is_what_is_downloaded_drawn_with_and_shown_and_can_be_taken_back(
    studio: TestClient, runs: dict[str, int]
) -> None:
    run = runs["done"]

    def used() -> list[str]:
        """The step of the download, the adapter chosen on the drawing page, the picture on the home page."""
        name = studio.get(f"/api/runs/{run}/adapter").headers["content-disposition"]
        chosen = studio.get(f"/pictures?run={run}").text.split(" selected>")[1].split("<")[0]
        return [name.rpartition("-")[2].partition(".")[0], chosen.rpartition(" ")[2], step_on_home()]

    def step_on_home() -> str:
        (cover,) = [each["cover_url"] for each in studio.get("/api/runs").json() if each["id"] == run]
        with database_of(studio).read() as session:
            return str(session.get_one(Sample, int(cover.split("/")[3])).step)

    def star(step: int, starred: bool) -> list[int]:
        answer = studio.patch(f"/api/runs/{run}/checkpoints/{step}", json={"starred": starred})
        assert (answer.json()["step"], answer.json()["starred"]) == (step, starred)
        return [each["step"] for each in studio.get(f"/api/runs/{run}/checkpoints").json() if each["starred"]]

    assert used() == ["400", "400", "400"]
    assert star(300, True) == [300]
    assert star(200, True) == [200], "it goes from one to the other"
    assert used() == ["200", "200", "200"]
    assert studio.get(f"/pictures?run={run}&step=100").text.split(" selected>")[1].split("<")[0].endswith("step 100")
    assert star(200, False) == []
    assert used() == ["400", "400", "400"]
    problem_of(studio.patch(f"/api/runs/{run}/checkpoints/7", json={"starred": True}), 404)


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_the_time_lapse_has_a_frame_for_each_step_and_is_made_once(
    studio: TestClient, runs: dict[str, int], kind: str, made: tuple[Path, dict[str, int]]
) -> None:
    address = f"/api/runs/{runs['stopped']}/timelapse?format={kind}"
    answer = studio.get(address)
    assert (answer.status_code, answer.headers["content-type"]) == (200, f"image/{kind}")
    assert f'filename="Pip-Run-2-timelapse.{kind}"' in answer.headers["content-disposition"]
    with Image.open(io.BytesIO(answer.content)) as film:
        assert (film.format, film.n_frames) == (kind.upper(), 4)
        assert film.width <= timelapse.SIDE_PX
        first = film.convert("RGB").getpixel((200, 200))
        film.seek(3)
        assert film.convert("RGB").getpixel((200, 200)) != first
    (file,) = (made[0] / "runs" / str(runs["stopped"])).glob(f"timelapse-*.{kind}")
    written = file.stat().st_mtime_ns
    assert studio.get(address).content == answer.content
    assert file.stat().st_mtime_ns == written


def test_a_long_run_has_a_film_of_bounded_length_and_size(tmp_path: Path) -> None:
    Image.new("RGB", (2048, 1024), "red").save(tmp_path / "one.png")
    steps = [timelapse.FilmStep(step, (tmp_path / "one.png",) * 5) for step in range(0, 100_001, 100)]
    chosen = timelapse.chosen_steps(steps)
    assert len(chosen) == timelapse.FRAMES
    assert (chosen[0].step, chosen[-1].step) == (0, 100_000)
    (frame,) = timelapse.frames(chosen[:1], 100_000)
    assert max(frame.size) <= timelapse.SIDE_PX


def test_what_cannot_be_filmed_is_refused_in_words(studio: TestClient, runs: dict[str, int]) -> None:
    error = problem_of(studio.get(f"/api/runs/{runs['starting']}/timelapse"), 409)
    assert "samples of two steps" in error["message"]
    error = problem_of(studio.get(f"/api/runs/{runs['done']}/timelapse?format=mp4"), 422)
    assert error["problems"][0]["message"] == "is 'mp4'; it can be webp or gif"


def test_the_curves_are_those_of_the_events_at_any_length(studio: TestClient, runs: dict[str, int]) -> None:
    run = runs["stopped"]
    series = studio.get(f"/api/runs/{run}/metrics?names=loss,lr&points=20000").json()["series"]
    job = studio.get(f"/api/runs/{run}").json()["job_id"]
    with database_of(studio).read() as session:
        chosen = select(Event).where(Event.job_id == job, Event.kind == "metric").order_by(col(Event.step))
        steps = [row for row in session.exec(chosen) if "lr" in row.payload]
    for name in ("loss", "lr"):
        assert series[name] == [[row.step, row.payload[name]] for row in steps]
    assert len(studio.get(f"/api/runs/{run}/metrics?names=loss&points=50").json()["series"]["loss"]) == 50
    with database_of(studio).write() as session:
        session.add(Event(job_id=job, attempt=2, kind="rewind", step=100, payload={"to_step": 100}))
    series = studio.get(f"/api/runs/{run}/metrics?names=loss").json()["series"]
    assert series["loss"][-1][0] == 100
