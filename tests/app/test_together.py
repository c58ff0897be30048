"""Runs together: compared, in a queue that says when, told of by an event stream of states, and as one file."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from pathlib import Path

import pytest
from PIL import Image
from sqlmodel import select
from starlette.testclient import TestClient

from app import events
from app.actions import photos, projects, run_setup, runs
from app.database import Database
from app.events import EventFilter
from app.home import Home
from app.jobs import store
from app.jobs.states import Kind, State
from app.main import create_app
from app.pages.report_chart import nice, smoothed
from app.tables import Event, Job, Run, now
from core import files
from core.pocket import assets
from tests import run_states
from tests.app.conftest import problem_of

NAMES = ("done", "no_samples", "running", "one_prompt", "waiting", "removed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """A home with runs of two projects: those of tests/run_states.py, and one of another subject."""
    home = tmp_path_factory.mktemp("together") / "home"
    found = run_states.make(home, [scene for scene in run_states.SCENES if scene.name in NAMES])
    database = Database(Home(home))
    project = projects.create(database, "Miso", "zwx", "cat").id
    photo = sorted(assets.EXAMPLES.glob("*.jpg"))[0]
    upload = database.home.uploads / "secret name.jpg"
    upload.write_bytes(photo.read_bytes())
    photos.add(database, project, "secret name.jpg", upload, files.sha256_of(upload), batch="states")
    knobs = {"model": "pocket", "steps": 50, "rank": 4, "sample_prompts": list(run_states.PROMPTS[:1])}
    keep_responding(database, [found["running"], found["one_prompt"]])
    found["other"] = run_setup.create(database, project, knobs, "Small").id
    database.close()
    return home, found


def keep_responding(database: Database, run_ids: list[int]) -> None:
    """Nobody executes these runs: their next heartbeat is far away."""
    with database.write() as session:
        for number in run_ids:
            job = session.get_one(Job, session.get_one(Run, number).job_id)
            job.heartbeat_at = now() + timedelta(hours=1)
            session.add(job)


@pytest.fixture
def ids(made: tuple[Path, dict[str, int]]) -> dict[str, int]:
    return made[1]


@pytest.fixture(scope="module")
def studio(made: tuple[Path, dict[str, int]]) -> Iterator[TestClient]:
    with TestClient(create_app(made[0], with_jobs=False), base_url="http://127.0.0.1") as one:
        yield one


@pytest.fixture
def database(studio: TestClient) -> Database:
    found = studio.app.state.database  # type: ignore[attr-defined]
    assert isinstance(found, Database)
    return found


# ---- compared --------------------------------------------------------------------------------------------------------


def test_runs_are_compared_by_what_differs_their_curves_and_samples_by_prompt(
    studio: TestClient, ids: dict[str, int]
) -> None:
    chosen = [ids[name] for name in ("done", "one_prompt", "no_samples")]
    found = studio.get(f"/api/runs/compare?ids={','.join(map(str, chosen))}&points=50").json()
    assert [run["id"] for run in found["runs"]] == chosen
    done, _, unscored = found["runs"]
    assert (done["suggested"], done["steps"], done["checkpoints"]) == (200, 400, [100, 200, 300, 400])
    assert done["words"].startswith("Best: step 200")
    assert unscored["suggested"] is None
    assert len(done["curves"]["loss"]) <= 50
    assert done["curves"]["held_out"][0] == [0, 1.0]
    assert unscored["curves"]["held_out"] == []
    rows = {row["label"]: row for row in found["settings"]}
    assert rows["Sample prompts"]["differs"]
    assert rows["Held-out photos"]["values"] == ["1", "1", "none"]
    assert not rows["Rank"]["differs"]
    assert not rows["Photos"]["differs"]
    plain, beach = found["prompts"]
    assert plain["text"] == "a photo of sks toy"
    assert {each["run_id"] for each in plain["samples"]} == set(chosen[:2])
    assert {each["run_id"] for each in beach["samples"]} == {chosen[0]}
    assert [each["step"] for each in plain["samples"]] == sorted(each["step"] for each in plain["samples"])


def test_a_prompt_of_two_projects_is_one_prompt_though_each_calls_its_subject_otherwise(
    studio: TestClient, ids: dict[str, int]
) -> None:
    found = studio.get(f"/api/runs/compare?ids={ids['done']},{ids['other']}").json()
    rows = {row["label"]: row["values"] for row in found["settings"] if row["differs"]}
    assert rows["Project"] == ["Pip", "Miso"]
    assert rows["In prompts"] == ["sks toy", "zwx cat"]
    assert rows["Rank"] == ["16", "4"]
    assert rows["Steps"] == ["400 steps", "50 steps"]
    page = studio.get(f"/runs/compare?ids={ids['done']}&ids={ids['other']}").text
    assert "Pip: Run" in page
    assert "Miso: Small" in page


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1", "The list of runs lists 1 run; 2 to 6 can be compared."),
        ("1,1", "The list of runs lists 1 run; 2 to 6 can be compared."),
        ("", "The list of runs lists 0 runs; 2 to 6 can be compared."),
        ("1,2,3,4,5,6,7", "The list of runs lists 7 runs; 2 to 6 can be compared."),
        ("1,two", "The list of runs has 'two'; it lists the numbers of runs, such as 1,2."),
        ("1,²", "The list of runs has '²'; it lists the numbers of runs, such as 1,2."),
    ],
)
def test_a_list_that_cannot_be_compared_is_refused_in_words(studio: TestClient, text: str, words: str) -> None:
    assert problem_of(studio.get("/api/runs/compare", params={"ids": text}), 422)["message"] == words
    page = studio.get("/runs/compare", params={"ids": text} if text else {}, headers={"accept": "text/html"})
    assert (page.status_code, unescape(words) in unescape(page.text)) == (422, True)


def test_runs_that_are_gone_are_named_and_the_page_shows_the_others(studio: TestClient, ids: dict[str, int]) -> None:
    one, other = ids["done"], ids["running"]
    error = problem_of(studio.get(f"/api/runs/compare?ids={one},98,99"), 404)
    assert error["message"] == "There are no runs 98 and 99; they were deleted, or never made."
    page = studio.get(f"/runs/compare?ids={one},99,{other}").text
    assert "1 run of this address was deleted" in page
    assert "2 runs beside one another" in page
    alone = studio.get(f"/runs/compare?ids={one},99", headers={"accept": "text/html"})
    assert alone.status_code == 404
    assert "There is no run 99" in alone.text


# ---- when ------------------------------------------------------------------------------------------------------------


def test_what_waits_is_done_after_what_runs_before_it(studio: TestClient, ids: dict[str, int]) -> None:
    found = {each["job_id"]: each for each in studio.get("/api/jobs/forecast").json()}
    job = {
        name: studio.get(f"/api/runs/{ids[name]}").json()["job_id"] for name in ("running", "waiting", "other", "done")
    }
    assert found[job["running"]]["done_in"] == found[job["running"]]["seconds_left"]
    assert 40 < found[job["running"]]["seconds_left"] < 160  # 88 steps at a second each, and samples
    waiting, other = found[job["waiting"]], found[job["other"]]
    assert waiting["done_in"] > waiting["seconds_left"] > 0
    assert other["done_in"] == pytest.approx(waiting["done_in"] + other["seconds_left"])
    assert job["done"] not in found


def test_nobody_knows_when_a_job_is_done_that_does_not_respond(
    studio: TestClient, database: Database, ids: dict[str, int]
) -> None:
    with database.write() as session:
        job = session.get_one(Job, session.get_one(Run, ids["one_prompt"]).job_id)
        job.heartbeat_at = now() - timedelta(minutes=1)
        session.add(job)
        number = job.id
    found = {each["job_id"]: each for each in studio.get("/api/jobs/forecast").json()}
    assert found[number] == {"job_id": number, "seconds_left": None, "done_in": None}
    assert all(each["done_in"] is None for each in studio.get("/api/jobs/forecast").json()[2:])
    keep_responding(database, [ids["one_prompt"]])


def test_the_queue_says_when_each_job_is_done_and_shows_what_it_draws(studio: TestClient, ids: dict[str, int]) -> None:
    page = studio.get("/queue").text
    lines = {int(found[1]): found[0] for found in re.finditer(r'<li data-job="(\d+)".*?</li>', page, re.DOTALL)}
    detail = studio.get(f"/api/runs/{ids['running']}").json()
    running = lines[detail["job_id"]]
    assert detail["cover_url"] in running
    assert 'data-done-in="' in running
    again = f"/projects/{detail['project_id']}/train?again={ids['running']}"
    assert again in running
    assert studio.get(again).status_code == 200
    waiting = lines[studio.get(f"/api/runs/{ids['other']}").json()["job_id"]]
    assert "/thumb?v=" in waiting  # it has drawn nothing yet: the first photo of its project
    assert "data-grip" in waiting
    assert "data-grip" not in running


def test_another_job_takes_as_long_as_its_like_took_and_one_of_an_unknown_kind_stops_the_forecast(
    database: Database, studio: TestClient
) -> None:
    with database.write() as session:
        queued = store.enqueue(session, Kind.SAMPLE, {"model": "pocket"}, steps=4)
        unknown = store.enqueue(session, Kind.CAPTION, {}, steps=4)
        last = store.enqueue(session, Kind.SAMPLE, {"model": "pocket"}, steps=4)
        ids = [int(each.id or 0) for each in (queued, unknown, last)]
        for seconds in (10, 20, 30):
            job = Job(kind=Kind.SAMPLE, lane=Kind.SAMPLE.lane, state=State.SUCCEEDED, attempt=1, steps=2)
            job.params, job.ended_at = {"model": "pocket"}, now()
            job.started_at = job.ended_at.fromtimestamp(job.ended_at.timestamp() - seconds, job.ended_at.tzinfo)
            session.add(job)
    found = {each["job_id"]: each for each in studio.get("/api/jobs/forecast").json()}
    assert found[ids[0]]["seconds_left"] == pytest.approx(4 * 10.0)
    assert found[ids[1]] == {"job_id": ids[1], "seconds_left": None, "done_in": None}
    assert found[ids[2]]["seconds_left"] is not None
    assert found[ids[2]]["done_in"] is None
    for number in ids:
        studio.post(f"/api/jobs/{number}/stop")


def test_a_job_that_reports_its_parts_is_done_at_their_rate(database: Database, studio: TestClient) -> None:
    with database.write() as session:
        job = Job(kind=Kind.DOWNLOAD, lane=Kind.DOWNLOAD.lane, state=State.RUNNING, attempt=1, heartbeat_at=now())
        session.add(job)
        session.flush()
        number, began = int(job.id or 0), now()
        for place, done in enumerate((500, 600, 700)):
            at = began.fromtimestamp(began.timestamp() + 2 * place, began.tzinfo)
            payload = {"name": "downloading", "done": done, "of": 1000}
            session.add(Event(job_id=number, attempt=1, kind="phase", payload=payload, at=at))
    found = {each["job_id"]: each for each in studio.get("/api/jobs/forecast").json()}
    assert found[number]["seconds_left"] == pytest.approx(300 / 50)
    with database.write() as session:
        session.delete(session.get_one(Job, number))


# ---- states alone ----------------------------------------------------------------------------------------------------


def test_a_stream_of_one_kind_passes_over_the_others_once(database: Database, ids: dict[str, int]) -> None:
    with database.read() as session:
        newest = events.newest_id(session)
        state = session.exec(select(Event).where(Event.kind == "state")).first()
    assert state is not None
    batch = events.batch_after(database, EventFilter(kinds=("log",)), 0)
    assert {row["kind"] for row in batch.rows} == {"log"}
    assert batch.until == newest > batch.rows[-1]["id"]
    first = events.batch_after(database, EventFilter(kinds=("state",)), 0, limit=1)
    assert first.until == first.rows[0]["id"] == state.id


# ---- as one file -----------------------------------------------------------------------------------------------------


def test_a_report_is_one_file_that_asks_for_nothing(studio: TestClient, ids: dict[str, int]) -> None:
    answer = studio.get(f"/api/runs/{ids['done']}/report")
    assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''Pip-")
    assert answer.headers["content-disposition"].endswith("-report.html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    html = answer.text
    assert not re.search(r"(?:src|href)=\"(?!data:)", html)
    assert not re.search(r"<script|@import|url\(|https?:", html)
    assert "Best: step 200" in html
    assert html.count("<polyline") == 3  # each step, smoothed, held out
    assert "Samples of step 200" in html
    sources = re.findall(r'src="data:image/webp;base64,([^"]+)"', html)
    assert len(sources) == 2 + 2 * 9
    sizes = set()
    for source in sources:
        with Image.open(io.BytesIO(base64.b64decode(source))) as picture:
            sizes.add(picture.size)
            assert not picture.getexif()
    assert sizes == {(256, 256), (192, 192)}
    assert len(html) < 6 * 2**20


def test_the_photos_are_in_a_report_only_where_they_are_asked_for(
    studio: TestClient, database: Database, ids: dict[str, int]
) -> None:
    with database.write() as session:
        run = session.get_one(Run, ids["other"])
        run.config = run.config | {"held_out": {"value": "secret name.jpg", "source": "user"}}
        session.add(run)
    private = studio.get(f"/api/runs/{ids['other']}/report").text
    assert "secret" not in private
    assert "1 photo" in private
    assert "<img" not in private
    open_to_all = studio.get(f"/api/runs/{ids['other']}/report?photos=true").text
    assert open_to_all.count("<img") == 1
    assert "secret name.jpg" in open_to_all
    problem_of(studio.get("/api/runs/99/report"), 404)


@pytest.mark.parametrize("name", ["waiting", "removed", "no_samples", "running"])
def test_a_run_in_any_state_has_a_report(studio: TestClient, ids: dict[str, int], name: str) -> None:
    html = studio.get(f"/api/runs/{ids[name]}/report?photos=true").text
    assert '<h2 id="settings">Settings</h2>' in html
    assert html.count("<img") >= 8


def test_names_are_written_as_text_in_a_report(studio: TestClient, database: Database, ids: dict[str, int]) -> None:
    runs.rename(database, ids["removed"], "<b>&'\"")
    assert "<h1>&lt;b&gt;&amp;" in studio.get(f"/api/runs/{ids['removed']}/report").text


def test_the_chart_of_a_report_has_round_numbers_and_the_smoothing_of_the_run_page() -> None:
    assert nice(0, 400) == [0, 100, 200, 300, 400]
    assert nice(0.84, 1.0) == pytest.approx([0.85, 0.9, 0.95, 1.0])
    assert smoothed([(1, 1.0), (2, 1.0)]) == [(1, pytest.approx(1.0)), (2, pytest.approx(1.0))]
    assert smoothed([(1, 0.0), (2, 1.0)], 0.5)[1] == (2, pytest.approx(2 / 3))
