"""Downloads as jobs: real processes, the hub's real client, and a local server that speaks the hub's protocol."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from starlette.testclient import TestClient

from app.database import Database
from app.jobs import store
from app.jobs.states import Kind
from core.hub.registry import KNOWN
from tests.app.conftest import Studio, until
from tests.hub import NEEDLESS, TOKEN, Hub, add_turbo, make_repository, running_hub

Start = Callable[..., Studio]
KREA, DEV = KNOWN["flux1-krea-dev"].repo, KNOWN["flux1-dev"].repo
LARGEST = "transformer/diffusion_pytorch_model-00001-of-00002.safetensors"
SECOND = "transformer/diffusion_pytorch_model-00002-of-00002.safetensors"
FILE_BYTES = 3 * 2**19  # as if the disk had no more room: enough for the database, too little for the transformer


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("hub") / "model")


@pytest.fixture
def hub(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub({KREA: repository, DEV: repository}) as one:
        monkeypatch.setenv("HF_ENDPOINT", one.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield one


def job_of(studio: Studio, job: int) -> Any:
    return studio.get(f"/api/jobs/{job}")


def ended(studio: Studio, job: int) -> Any:
    return until(lambda: (now := job_of(studio, job))["ended_at"] and now)


def model(studio: Studio, name: str = "flux1-krea-dev") -> Any:
    return next(each for each in studio.get("/api/models") if each["name"] == name)


def bytes_reported(studio: Studio, job: int) -> list[tuple[int, int]]:
    """(done, of) of every progress event, in order."""
    with closing(sqlite3.connect(studio.home / "likeness.db")) as connection:
        rows = connection.execute(
            "SELECT json_extract(payload, '$.done'), json_extract(payload, '$.of') FROM event "
            "WHERE job_id = ? AND kind = 'phase' AND json_extract(payload, '$.name') = 'downloading' ORDER BY id",
            (job,),
        )
        return rows.fetchall()


def test_a_model_is_downloaded_with_progress_by_bytes_and_can_be_used(start_studio: Start, hub: Hub) -> None:
    hub.seconds_a_block = 0.03
    studio = start_studio()
    before = model(studio)
    assert (before["on_disk"], before["folder"], before["download"]) == (False, None, None)
    job = studio.post("/api/models/flux1-krea-dev/download")["job_id"]
    done = ended(studio, job)
    assert done["state"] == "succeeded", done["error"]
    total = hub.total(KREA, list(set(hub.files(KREA)) - NEEDLESS))
    reported = bytes_reported(studio, job)
    assert reported[-1] == (total, total)
    assert len(reported) >= 4
    assert [each for each, _ in reported] == sorted(each for each, _ in reported)
    assert (done["step"], done["steps"], done["model"]) == (total, total, "flux1-krea-dev")

    now = model(studio)
    assert (now["usable"], now["trouble"], now["bytes_here"]) == (True, "", 0)
    assert Path(now["folder"]).is_relative_to(os.environ["HF_HOME"])
    again = studio.http.post("/api/models/flux1-krea-dev/download")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    request = {"model": "flux1-krea-dev", "prompt": "a can", "seed": 1, "steps": 1, "width": 64, "height": 64}
    picture = studio.post("/api/pictures", request)["job_id"]
    assert ended(studio, picture)["state"] == "succeeded"


def test_the_assistant_of_a_model_that_is_here_is_offered_and_fetched(
    start_studio: Start, hub: Hub, tmp_path: Path
) -> None:
    turbo = KNOWN["z-image-turbo"]
    add_turbo(hub, turbo, tmp_path / "repositories")
    studio = start_studio()
    shutil.copytree(hub.repositories[turbo.repo], studio.home / "models" / turbo.name)
    now = model(studio, turbo.name)
    assert (now["usable"], now["lacks_assistant"]) == (True, True)
    offer = "Download its training assistant"
    assert offer in studio.http.get("/models").text
    job = studio.post(f"/api/models/{turbo.name}/download")["job_id"]
    assert ended(studio, job)["state"] == "succeeded"
    assert not [each for each in hub.asked if turbo.repo in each.path]
    now = model(studio, turbo.name)
    assert (now["usable"], now["lacks_assistant"]) == (True, False)
    assert offer not in studio.http.get("/models").text
    assert studio.http.post(f"/api/models/{turbo.name}/download").status_code == 409


def test_stop_takes_about_a_second_even_when_the_server_says_nothing(
    start_studio: Start, hub: Hub, repository: Path
) -> None:
    hub.silent_at[LARGEST] = 65_536
    studio = start_studio()
    job = studio.post("/api/models/flux1-krea-dev/download")["job_id"]
    until(lambda: hub.sent.get(LARGEST, 0) >= 65_536)
    assert studio.post("/api/models/flux1-krea-dev/download")["job_id"] == job, "one download of a model at a time"
    began = time.monotonic()
    studio.post(f"/api/jobs/{job}/stop")
    assert ended(studio, job)["state"] == "stopped"
    assert time.monotonic() - began < 5, "a heartbeat, and what a busy machine adds"
    now = model(studio)
    assert not now["on_disk"]
    assert now["bytes_here"] >= 65_536
    assert studio.http.post("/api/pictures", json={"model": "flux1-krea-dev", "prompt": "a can"}).status_code == 422

    hub.silent_at.clear()
    more = studio.post("/api/models/flux1-krea-dev/download")["job_id"]
    assert more != job
    assert ended(studio, more)["state"] == "succeeded"
    assert hub.sent[LARGEST] == (repository / LARGEST).stat().st_size, "what had arrived was not fetched again"


def test_a_killed_process_and_a_closed_studio_go_on_by_themselves(
    start_studio: Start, hub: Hub, repository: Path
) -> None:
    hub.silent_at[LARGEST] = 65_536
    studio = start_studio()
    job = studio.post("/api/models/flux1-krea-dev/download")["job_id"]
    until(lambda: hub.sent.get(LARGEST, 0) >= 65_536)
    hub.silent_at[LARGEST] = 131_072
    os.kill(studio.job_pid(job), signal.SIGKILL)
    until(lambda: hub.sent.get(LARGEST, 0) >= 131_072)
    hub.silent_at.clear()
    began = time.monotonic()
    assert studio.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 10

    again = start_studio()
    assert ended(again, job)["state"] == "succeeded"
    assert hub.sent[LARGEST] == (repository / LARGEST).stat().st_size


def test_a_gated_model_ends_in_what_to_do_and_the_token_is_seen_nowhere(
    start_studio: Start, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.gated.add(DEV)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_DEBUG", "1")  # the client's own log at its most talkative
    studio = start_studio()
    job = studio.post("/api/models/flux1-dev/download")["job_id"]
    failed = ended(studio, job)
    assert (failed["state"], failed["error"]["code"]) == ("failed", "gated")
    assert f"Open {hub.url}/{DEV} in a browser" in failed["error"]["message"]
    page = studio.http.get("/models", headers={"Accept": "text/html"}).text
    assert "in a browser, sign in, and accept FLUX.1 [dev] Non-Commercial License" in page
    assert f'href="{hub.url}/{DEV}"' in page
    assert "Try again" in page

    hub.welcome.add(TOKEN)
    assert ended(studio, studio.post("/api/models/flux1-dev/download")["job_id"])["state"] == "succeeded"
    assert {each.authorization for each in hub.asked if "/resolve/" in each.path} == {f"Bearer {TOKEN}"}
    answers = [studio.http.get(path).text for path in ("/models", "/queue", "/settings", "/api/models", "/api/jobs")]
    studio.end()
    said = studio.process.stderr.read() if studio.process.stderr else b""
    places = [path for root in (studio.home, tmp_path / "hf") for path in root.rglob("*") if path.is_file()]
    assert {"likeness.db", f"job-{job}.txt"} <= {path.name for path in places}
    assert [path for path in places if TOKEN.encode() in path.read_bytes()] == []
    assert not [text for text in (*answers, said.decode()) if TOKEN in text]


def test_a_wrong_hash_and_a_missing_repository_end_in_words(start_studio: Start, hub: Hub) -> None:
    hub.damaged.add(LARGEST)
    del hub.repositories[DEV]
    studio = start_studio()
    jobs = [studio.post(f"/api/models/{name}/download")["job_id"] for name in ("flux1-krea-dev", "flux1-dev")]
    damaged, missing = (ended(studio, job) for job in jobs)
    assert "arrived damaged: its hash is" in damaged["error"]["message"]
    assert f"{hub.url}/{DEV} does not exist" in missing["error"]["message"]
    assert {each["error"]["code"] for each in (damaged, missing)} == {"download"}
    assert not model(studio)["usable"]
    hub.damaged.clear()
    assert studio.post(f"/api/jobs/{damaged['id']}/retry")["state"] == "queued"
    assert ended(studio, damaged["id"])["state"] == "succeeded"


def test_a_full_disk_is_a_sentence_and_what_has_arrived_is_kept(start_studio: Start, hub: Hub, tmp_path: Path) -> None:
    large = make_repository(tmp_path / "large")
    mx.save_safetensors(str(large / LARGEST), {"a": mx.zeros((2 * FILE_BYTES,), mx.uint8)})
    hub.repositories[KREA] = large
    limit = f"import os, resource as r, sys; r.setrlimit(r.RLIMIT_FSIZE, ({FILE_BYTES}, r.RLIM_INFINITY)); "
    studio = start_studio([sys.executable, "-c", limit + "os.execv(sys.argv[1], sys.argv[1:])"])
    failed = ended(studio, studio.post("/api/models/flux1-krea-dev/download")["job_id"])
    assert failed["error"]["code"] == "disk", failed["error"]
    assert "could not be written" in failed["error"]["message"]
    assert not model(studio)["on_disk"]
    studio.end()

    roomy = start_studio()
    assert ended(roomy, roomy.post("/api/models/flux1-krea-dev/download")["job_id"])["state"] == "succeeded"
    begins = [each.begin for each in hub.asked if "sha256=" in each.path and LARGEST in each.path]
    assert begins == [0, FILE_BYTES]


def test_too_little_room_is_reported_with_the_numbers_before_it_begins(start_studio: Start, hub: Hub) -> None:
    hub.claimed[SECOND] = 10**16
    studio = start_studio()
    failed = ended(studio, studio.post("/api/models/flux1-krea-dev/download")["job_id"])
    assert failed["error"]["code"] == "disk"
    assert "FLUX.1 Krea dev needs 10000 TB" in failed["error"]["message"]
    assert "are free in" in failed["error"]["message"]
    assert sum(hub.sent.values()) < 1000


def test_what_cannot_be_downloaded_says_why(
    client: TestClient, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKENESS_MODELS", str(models_folder))
    monkeypatch.setattr("core.hub.catalog.PIPELINES", {"FluxPipeline": "flux1"})
    answers = {name: client.post(f"/api/models/{name}/download") for name in ("pocket", "tiny", "z-image", "nonesuch")}
    said = {name: (each.status_code, each.json()["error"]["message"]) for name, each in answers.items()}
    assert said["pocket"] == (409, "Pocket is on this computer already.")
    assert said["tiny"] == (409, "Tiny is on this computer already.")
    assert said["z-image"] == (409, "This version of Likeness cannot load Z-Image yet.")
    assert said["nonesuch"][0] == 404
    page = client.get("/models", headers={"Accept": "text/html"}).text
    assert "Not for this version" in page
    assert 'data-download="z-image"' not in page
    assert 'data-download="flux1-krea-dev"' in page


def test_a_download_is_shown_on_its_card_and_in_the_queue(client: TestClient, database: Database) -> None:
    job = client.post("/api/models/flux1-krea-dev/download").json()["job_id"]
    shown = client.get("/models", headers={"Accept": "text/html"}).text
    assert f'data-stop="{job}"' in shown
    assert 'data-download="flux1-krea-dev"' not in shown
    assert "Download: FLUX.1 Krea dev" in client.get("/queue", headers={"Accept": "text/html"}).text
    with database.read() as session:
        assert store.get(session, job).kind is Kind.DOWNLOAD
    assert client.post(f"/api/jobs/{job}/stop").json() == {"state": "cancelled"}
    assert 'data-download="flux1-krea-dev"' in client.get("/models", headers={"Accept": "text/html"}).text
