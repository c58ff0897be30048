"""Training runs in real processes, with real signals, on a tiny real model."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from core.errors import AdapterProblem
from core.safetensors_file import read_header
from tests.app.conftest import Studio, until

Start = Callable[..., Studio]
FILE_BYTES = 3 * 2**19  # as if the disk had no more room: enough for the database, too little for a checkpoint


@pytest.fixture
def studio(shared_studio: Studio) -> Iterator[Studio]:
    """Nothing is trained or drawn in it before a test; pictures, runs and adapters of earlier tests are gone."""
    yield shared_studio
    for job in shared_studio.get("/api/jobs?state=queued&state=running"):
        shared_studio.post(f"/api/jobs/{job['id']}/stop", {"now": True})
    until(lambda: not shared_studio.get("/api/jobs?state=queued&state=running"))
    for kind in ("pictures", "runs"):
        for each in shared_studio.get(f"/api/{kind}"):
            assert shared_studio.http.delete(f"/api/{kind}/{each['id']}").status_code == 204


def test_a_run_trains_saves_samples_and_gives_its_adapter(studio: Studio, shared_project: int, tmp_path: Path) -> None:
    run = studio.run(shared_project, steps=4, save_every=2, sample_every=4)
    assert run["state"] == "queued"
    assert studio.http.get(f"/api/runs/{run['id']}/adapter").status_code == 409

    done = studio.until_state(run["id"], "succeeded")
    assert [each["step"] for each in done["checkpoints"]] == [2, 4]
    assert [(each["step"], each["prompt_id"]) for each in done["samples"]] == [(0, 0), (0, 1), (4, 0), (4, 1)]
    assert studio.http.get(done["samples"][0]["url"]).headers["content-type"] == "image/png"
    series = studio.get(f"/api/runs/{run['id']}/metrics?names=loss")["series"]
    assert [step for step, _ in series["loss"]] == [1, 2, 3, 4]

    answer = studio.http.get(f"/api/runs/{run['id']}/adapter")
    assert f'filename="My-can-{run["name"].replace(" ", "-")}-4.safetensors"' in answer.headers["content-disposition"]
    (tmp_path / "adapter.safetensors").write_bytes(answer.content)
    assert read_header(tmp_path / "adapter.safetensors", AdapterProblem).tensors


def test_stop_finishes_the_step_and_resume_goes_on_from_there(studio: Studio, shared_project: int) -> None:
    run = studio.run(shared_project, steps=100_000, save_every=100_000)["id"]
    studio.until_step(run, 3)
    assert studio.post(f"/api/runs/{run}/stop")["state"] == "running"
    stopped = studio.until_state(run, "stopped")
    assert [each["step"] for each in stopped["checkpoints"]] == [stopped["step"]]

    more = stopped["step"] + 3
    refused = studio.http.post(f"/api/runs/{run}/resume", json={"steps": more, "activations": "some"})
    assert (refused.status_code, refused.json()["error"]["problems"]) == (
        422, [{"field": "activations", "message": "is 'some'; it can be as_fit, all or none"}],
    )  # fmt: skip
    changes = {"steps": more, "activations": "none"}
    assert studio.post(f"/api/runs/{run}/resume", changes)["state"] == "queued"
    done = studio.until_state(run, "succeeded")
    assert done["step"] == done["steps"] == more
    assert {name: done["config"][name] for name in changes} == {
        name: {"value": value, "source": "user"} for name, value in changes.items()
    }
    assert "0 of 4 blocks keep their activations, where 4 did before" in studio.http.get(f"/api/runs/{run}/log").text
    series = studio.get(f"/api/runs/{run}/metrics?names=loss")["series"]["loss"]
    assert [step for step, _ in series] == list(range(1, more + 1))


def test_save_and_sample_now(studio: Studio, shared_project: int) -> None:
    run = studio.run(shared_project, steps=100_000, save_every=100_000)["id"]
    studio.until_step(run, 1)
    studio.post(f"/api/runs/{run}/save")
    studio.post(f"/api/runs/{run}/sample")
    until(lambda: (now := studio.get(f"/api/runs/{run}"))["checkpoints"] and len(now["samples"]) >= 2)
    studio.post(f"/api/runs/{run}/stop", {"now": True})
    studio.until_state(run, "stopped")


def test_stop_now_ends_with_the_last_checkpoint(studio: Studio, shared_project: int) -> None:
    run = studio.run(shared_project, steps=100_000, save_every=2)
    studio.until_step(run["id"], 5)
    pid = studio.job_pid(run["job_id"])
    studio.post(f"/api/runs/{run['id']}/stop", {"now": True})
    studio.until_state(run["id"], "stopped")
    until(lambda: not _alive(pid))


def test_a_killed_process_resumes_from_its_last_checkpoint(studio: Studio, shared_project: int) -> None:
    run = studio.run(shared_project, steps=400, save_every=5)
    studio.until_step(run["id"], 7)
    os.kill(studio.job_pid(run["job_id"]), signal.SIGKILL)
    until(lambda: studio.get(f"/api/jobs/{run['job_id']}")["deaths"] == 1)
    until(lambda: studio.get(f"/api/jobs/{run['job_id']}")["deaths"] == 0)  # after a checkpoint
    studio.until_state(run["id"], "running")
    studio.post(f"/api/runs/{run['id']}/stop")
    studio.until_state(run["id"], "stopped")
    log = studio.log(run["id"])
    assert "attempt 2" in log
    assert "Goes on from step " in log


def test_a_damaged_checkpoint_counts_no_more_once_the_run_went_on_from_the_one_before(
    studio: Studio, shared_project: int
) -> None:
    run = studio.run(shared_project, steps=100_000, save_every=100_000)["id"]
    studio.until_step(run, 3)
    first = studio.stop(run)
    studio.post(f"/api/runs/{run}/resume")
    studio.until_step(run, first + 3)
    second = studio.stop(run)
    damaged = studio.home / "runs" / str(run) / "checkpoints" / str(second) / "adapter.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    studio.post(f"/api/runs/{run}/resume")
    until(lambda: studio.log(run).count(f"Goes on from step {first}.") == 2)
    studio.post(f"/api/runs/{run}/stop", {"now": True})
    stopped = studio.until_state(run, "stopped")
    assert [each["step"] for each in stopped["checkpoints"]] == [first]
    assert [each["step"] for each in studio.get("/api/adapters")] == [first]
    offered = studio.http.get(f"/api/runs/{run}/adapter").headers["content-disposition"]
    assert f'filename="My-can-{stopped["name"].replace(" ", "-")}-{first}.safetensors"' in offered
    studio.post(f"/api/runs/{run}/resume", {"steps": second})  # what the damaged one had is to be learned again
    studio.until_state(run, "succeeded")
    assert [each["step"] for each in studio.get("/api/adapters")] == [first, second]


def test_a_run_whose_process_was_killed_ends_bit_for_bit_like_one_that_was_not(
    studio: Studio, shared_project: int
) -> None:
    whole = studio.run(shared_project, steps=120, save_every=20)
    studio.until_state(whole["id"], "succeeded")
    killed = studio.run(shared_project, steps=120, save_every=20)
    studio.until_step(killed["id"], 25)
    pid = studio.job_pid(killed["job_id"])
    os.kill(pid, signal.SIGSTOP)  # so that it cannot get to its end before it is killed
    step = studio.get(f"/api/runs/{killed['id']}")["step"]
    assert step < 120
    os.kill(pid, signal.SIGKILL)
    studio.until_state(killed["id"], "succeeded")
    # It may have been killed between a step and its checkpoint; then the one before counts.
    assert any(f"Goes on from step {saved}." in studio.log(killed["id"]) for saved in range(20, step + 1, 20))
    for file in ("adapter", "optimizer"):  # the adapter's bfloat16 would hide a small difference
        bits = [_tensors(studio, run["id"], 120, file) for run in (whole, killed)]
        assert bits[0].keys() == bits[1].keys()
        assert [name for name in bits[0] if bits[0][name] != bits[1][name]] == []
        assert bits[0] != _tensors(studio, whole["id"], 20, file)


def _tensors(studio: Studio, run: int, step: int, file: str) -> dict[str, bytes]:
    """The bits of every tensor in a file of a checkpoint; the metadata beside them names the time."""
    path = studio.home / "runs" / str(run) / "checkpoints" / str(step) / f"{file}.safetensors"
    header, content = read_header(path, AdapterProblem), path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    return {name: content[start + each.begin : start + each.end] for name, each in header.tensors.items()}


def test_three_deaths_without_a_checkpoint_fail_the_run_in_words(studio: Studio, shared_project: int) -> None:
    run = studio.run(shared_project, steps=100_000, save_every=100_000)
    seen: set[int] = set()
    for _ in range(3):
        pid = until(lambda: (found := studio.job_pid(run["job_id"])) not in seen and found)
        seen.add(pid)
        studio.until_state(run["id"], "running")
        os.kill(pid, signal.SIGKILL)
    failed = studio.until_state(run["id"], "failed")
    assert "killed by the system, most likely because memory ran out" in failed["error"]["message"]
    assert "died 3 times" in failed["error"]["message"]
    assert failed["can_resume"]


def test_closing_the_studio_saves_and_the_next_start_goes_on(start_studio: Start) -> None:
    studio = start_studio()
    run = studio.run(studio.project_with_photos(), steps=100_000, save_every=100_000)["id"]
    studio.until_step(run, 2)
    assert studio.end(signal.SIGTERM) == 0

    again = start_studio()
    detail = again.until_state(run, "running")
    saved = detail["checkpoints"][0]["step"]
    assert saved >= 2, "the step in hand was finished and saved"
    again.until_step(run, saved + 2)
    events = again.get(f"/api/runs/{run}/metrics?names=loss")["series"]["loss"]
    assert [step for step, _ in events] == list(range(1, len(events) + 1))
    again.post(f"/api/runs/{run}/stop", {"now": True})


def test_resuming_by_itself_can_be_turned_off(start_studio: Start) -> None:
    studio = start_studio()
    assert studio.http.patch("/api/settings", json={"resume_automatically": False}).status_code == 200
    run = studio.run(studio.project_with_photos(), steps=100_000, save_every=100_000)["id"]
    studio.until_step(run, 2)
    assert studio.end(signal.SIGHUP) == 0
    again = start_studio()
    detail = again.get(f"/api/runs/{run}")
    assert (detail["state"], detail["can_resume"]) == ("stopped", True)


def test_a_job_outlives_a_killed_server_and_the_next_one_finds_it(start_studio: Start) -> None:
    studio = start_studio()
    run = studio.run(studio.project_with_photos(), steps=100_000, save_every=100_000)
    studio.until_step(run["id"], 2)
    pid = studio.job_pid(run["job_id"])
    studio.end(signal.SIGKILL)

    again = start_studio()
    step = again.get(f"/api/runs/{run['id']}")["step"]
    again.until_step(run["id"], step + 2)
    assert again.job_pid(run["job_id"]) == pid
    again.post(f"/api/runs/{run['id']}/stop")
    again.until_state(run["id"], "stopped")


def test_two_runs_take_turns(studio: Studio, shared_project: int) -> None:
    first = studio.run(shared_project, steps=100_000, save_every=100_000)
    studio.until_step(first["id"], 1)
    second, third = (studio.run(shared_project, steps=4, seed=seed) for seed in range(2))
    studio.post(f"/api/jobs/{third['job_id']}/move", {"position": 0})
    studio.post(f"/api/runs/{first['id']}/stop")
    studio.until_state(second["id"], "succeeded")
    ended = {each["id"]: each["ended_at"] for each in studio.get(f"/api/projects/{shared_project}/runs")}
    assert ended[first["id"]] < ended[third["id"]] < ended[second["id"]]


def test_pictures_are_drawn_with_and_without_the_adapter(studio: Studio, shared_project: int) -> None:
    run = studio.run(shared_project, steps=3, learning_rate=0.05)["id"]
    studio.until_state(run, "succeeded")
    request = {"model": "tiny", "prompt": "sks can in the snow", "seed": 7, "without": True, "adapters": [{"run": run}]}
    job = studio.post("/api/pictures", request)["job_id"]
    until(lambda: studio.get(f"/api/jobs/{job}")["state"] == "succeeded")
    drawn = studio.get("/api/pictures")
    assert [(each["seed"], each["adapter_strength"]) for each in drawn] == [(7, 1.0), (7, 0.0)]
    first, second = (studio.http.get(each["url"]).content for each in drawn)
    assert first != second


def test_a_run_and_a_picture_use_the_base_precision_of_their_settings(studio: Studio, shared_project: int) -> None:
    run = studio.run(shared_project, steps=2, sample_every=2, base_precision="4-bit")["id"]
    samples = studio.until_state(run, "succeeded")["samples"]
    assert {each["recipe"]["precision"] for each in samples} == {"4-bit"}
    request = {"model": "tiny", "prompt": "sks can", "seed": 7, "adapters": [{"run": run}]}
    for more in ({}, {"base_precision": "8-bit"}):
        job = studio.post("/api/pictures", request | more)["job_id"]
        until(lambda job=job: studio.get(f"/api/jobs/{job}")["state"] == "succeeded")
    assert [each["recipe"]["precision"] for each in studio.get("/api/pictures")] == ["full", "8-bit"]


def test_a_full_disk_while_saving_is_a_sentence_and_can_be_resumed(start_studio: Start) -> None:
    limit = f"import os, resource as r, sys; r.setrlimit(r.RLIMIT_FSIZE, ({FILE_BYTES}, r.RLIM_INFINITY)); "
    studio = start_studio([sys.executable, "-c", limit + "os.execv(sys.argv[1], sys.argv[1:])"])
    run = studio.run(studio.project_with_photos(), steps=4, save_every=2, rank=256)["id"]
    failed = studio.until_state(run, "failed")
    assert failed["error"]["code"] == "disk", failed["error"]
    assert "could not be written" in failed["error"]["message"]
    assert failed["can_resume"]
    assert failed["checkpoints"] == []
    assert list((studio.home / "runs" / str(run)).rglob(".part-*")) == []
    studio.end()

    roomy = start_studio()
    roomy.post(f"/api/runs/{run}/resume")
    roomy.until_state(run, "succeeded")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_adapter_is_taken_away_brought_back_and_drawn_with(studio: Studio, shared_project: int) -> None:
    run = studio.run(shared_project, steps=3, learning_rate=0.05, ranks="*.proj_out=7")["id"]
    studio.until_state(run, "succeeded")
    assert [each["rank"] for each in studio.get("/api/adapters")] == [7]
    content = studio.http.get(f"/api/runs/{run}/adapter").content
    assert studio.http.put("/api/adapters/mine.safetensors?model=nope", content=content).status_code == 404
    brought = studio.http.put("/api/adapters/mine.safetensors?model=tiny", content=content)
    assert (brought.status_code, brought.json()["name"], brought.json()["rank"]) == (201, "mine", 7)
    assert studio.http.put("/api/adapters/again.safetensors?model=tiny", content=content).status_code == 200
    own = brought.json()["id"]
    request = {"model": "tiny", "prompt": "sks can", "seed": 7, "adapters": [{"id": own, "strength": 0.5}]}
    job = studio.post("/api/pictures", request)["job_id"]
    until(lambda: studio.get(f"/api/jobs/{job}")["state"] == "succeeded")
    assert studio.get("/api/pictures")[0]["recipe"]["adapters"][0]["strength"] == 0.5
    assert studio.http.delete(f"/api/adapters/{own}").status_code == 204
    assert studio.http.delete(f"/api/runs/{run}").status_code == 204


def test_a_second_ctrl_c_leaves_the_job_to_finish_alone(start_studio: Start) -> None:
    studio = start_studio()
    run = studio.run(studio.project_with_photos(), steps=100_000, save_every=100_000)
    studio.until_step(run["id"], 2)
    pid = studio.job_pid(run["job_id"])
    os.kill(pid, signal.SIGSTOP)  # as if a step took very long
    studio.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert studio.process.poll() is None, "the server waits for the job"
    assert studio.end(signal.SIGINT) == 0
    os.kill(pid, signal.SIGCONT)
    until(lambda: not _alive(pid))

    again = start_studio()
    assert again.get(f"/api/runs/{run['id']}")["checkpoints"], "it has saved by itself"
    again.post(f"/api/runs/{run['id']}/stop", {"now": True})


def test_a_run_is_shared_with_the_machines_of_the_hosts_file(start_studio: Start, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps([{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * 2), encoding="utf-8")
    studio = start_studio()
    project = studio.project_with_photos()
    refused = studio.http.post(f"/api/projects/{project}/runs", json={"model": "tiny", "machines": 2})
    assert "the settings name no hosts file" in refused.text
    assert 'name="machines"' not in studio.http.get(f"/projects/{project}/train").text
    assert studio.http.patch("/api/settings", json={"hosts_file": str(hosts)}).status_code == 200
    assert 'name="machines"' in studio.http.get(f"/projects/{project}/train").text

    run = studio.run(project, steps=100_000, save_every=100_000, machines=2)
    studio.until_step(run["id"], 3)
    others = [each for each in psutil.Process(studio.job_pid(run["job_id"])).children(recursive=True) if _rank(each)]
    assert len(others) == 1
    studio.post(f"/api/runs/{run['id']}/stop")
    stopped = studio.until_state(run["id"], "stopped")
    assert [each["step"] for each in stopped["checkpoints"]] == [stopped["step"]]
    until(lambda: not others[0].is_running())

    studio.post(f"/api/runs/{run['id']}/resume", {"steps": 100_000})
    studio.until_step(run["id"], stopped["step"] + 2)
    peers = psutil.Process(studio.job_pid(run["job_id"])).children(recursive=True)
    next(each for each in peers if _rank(each)).kill()
    failed = studio.until_state(run["id"], "failed")
    assert "127.0.0.1 (machine 2 of 2) is gone" in failed["error"]["message"]
    assert failed["checkpoints"][-1]["step"] == failed["step"] > stopped["step"]


def _rank(process: psutil.Process) -> int:
    """Its place in a group; 0 for the first and for whoever is in none."""
    with suppress(psutil.Error):
        return int(process.environ().get("MLX_RANK", 0))
    return 0
