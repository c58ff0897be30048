"""Several processes train one adapter: real ones, started by mlx.launch, connected by its ring on this computer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from core.distributed.hosts import NAMES
from core.models.base import Family
from core.training import checkpoint
from core.training.update import global_norm
from tests.core.subjects import TINY_RUN, training
from tests.tiny import make_model_folder

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LAUNCH = str(Path(sysconfig.get_path("scripts"), "mlx.launch"))
TRAIN = [sys.executable, "-m", "app.cli", "train"]
IMPATIENT = """
from core.distributed import channel
channel.SILENCE_SECONDS = 6.0  # set before others import it
from app.cli import main
main()
"""
ENDED_WITHIN = 30.0  # seconds after a machine is lost
EXACT = 1e-5  # norm of the difference against the adapter's own
SSH = 'exec bash -c "${@: -1}"'  # in the place of ssh: the command that it would run elsewhere runs here
HERE = {"ips": ["127.0.0.1"]}
MINI = {"ssh": "mini.local", **HERE}
Start = Callable[..., "Started"]


class Started:
    """A command that trains, with everything that it started."""

    def __init__(self, command: list[str], folder: Path, ssh: Path | None) -> None:
        self.words = folder / "words.txt"
        self.out = folder / "out"
        with self.words.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                cwd=ROOT,
                env={**os.environ, "LIKENESS_HOME": str(folder / "home"), "OPENBLAS_NUM_THREADS": "1"}
                | ({"PATH": f"{ssh}:{os.environ['PATH']}"} if ssh else {}),
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.words.read_text(errors="replace")

    @property
    def answer(self) -> dict:
        """The last line that is an object."""
        return json.loads(next(line for line in reversed(self.said.splitlines()) if line.startswith("{")))

    def members(self) -> dict[int, psutil.Process]:
        """The processes of a group by rank."""
        found = {}
        for each in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error, KeyError):
                found[int(each.environ()["MLX_RANK"])] = each
        return found

    def until(self, condition: Callable[[], bool], seconds: float = 90.0) -> float:
        """How long it took. The whole of what was said goes into the failure."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < seconds, self.said
            time.sleep(0.05)
        return time.monotonic() - began

    def until_step(self, step: int) -> None:
        self.until(lambda: checkpoint.steps_saved(self.out)[-1:] >= [step] or self.process.poll() is not None)
        assert self.process.poll() is None, self.said

    def until_ended(self, seconds: float = 90.0) -> int:
        self.until(lambda: self.process.poll() is not None, seconds)
        return int(self.process.returncode)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a command; whatever it leaves behind is ended after the test."""
    started: list[Started] = []

    def begin(command: list[object], ssh: Path | None = None) -> Started:
        started.append(Started([str(word) for word in command], tmp_path, ssh))
        return started[-1]

    yield begin
    for each in started:
        with suppress(psutil.Error):
            for process in [*psutil.Process(each.process.pid).children(recursive=True), each.process]:
                process.kill()
        each.process.kill()
        each.process.wait()
        each.process.stdin.close()


@pytest.fixture
def words(model_folder: Path, photos: Path, tmp_path: Path) -> Callable[..., list[object]]:
    """What follows `likeness train`."""

    def of(**knobs: object) -> list[object]:
        file = tmp_path / "knobs.json"
        file.write_text(json.dumps({**TINY_RUN, "steps": 8, **knobs}), encoding="utf-8")
        subject = ["--trigger", "sks", "--class-word", "can", "--model", model_folder, "--config", file, "--json"]
        return [photos, "--out", tmp_path / "out", *subject]

    return of


def hosts_file(folder: Path, ssh: str, content: object) -> Path:
    """A hosts file in `folder`, and beside it what is run as ssh."""
    (folder / "ssh").write_text(f"#!/bin/bash\n{ssh}\n", encoding="utf-8")
    (folder / "ssh").chmod(0o755)
    (folder / "hosts.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "hosts.json"


def free_port() -> int:
    """One with free ones beside it, most likely."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return 20_000 + server.getsockname()[1] % 12_000


def launched(words: list[object], train: list[str] = TRAIN) -> list[object]:
    return [LAUNCH, "-n", 2, "--backend", "ring", "--starting-port", free_port(), "--", *train, *words]


def difference(one: Path, other: Path, step: int, of: str = "") -> float:
    """Of two runs' adapters, or of their factors of this name, against the size of one."""
    first, second = (checkpoint.load(run / "checkpoints" / str(step)).parameters for run in (one, other))
    assert first.keys() == second.keys()
    names = [name for name in first if name.endswith(of)]
    apart = global_norm({name: first[name] - second[name] for name in names})
    return (apart / global_norm({name: first[name] for name in names})).item()


@pytest.mark.parametrize(
    "knobs",
    [
        {"optimizer": "adafactor", "ranks": "attention=3", "class_pictures": 2, "held_out": "1", "score_every": 3},
        {"optimizer": "lion", "activations": "none", "trigger_dropout": 0.5, "flip": True, "accumulate": 2},
        {"optimizer": "prodigy", "learning_rate": 1, "ema_decay": 0.9, "sample_prompts": (), "class_preservation": 0.5},
    ],
    ids=lambda knobs: knobs["optimizer"],
)
def test_two_processes_with_batch_1_are_one_with_batch_2(
    start: Start,
    words: Callable[..., list[object]],
    family: Family,
    photos: Path,
    tmp_path: Path,
    knobs: dict[str, object],
) -> None:
    list(training(family, photos, tmp_path / "alone", steps=8, batch_size=2, **knobs))
    two = start(launched(words(batch_size=1, **knobs)))
    assert two.until_ended() == 0, two.said
    assert difference(tmp_path / "alone", two.out, 8) <= EXACT
    assert difference(tmp_path / "alone", two.out, 8, "lora_B") <= EXACT  # which begin at zero: all of it was learned
    whole, shared = (checkpoint.load(run / "checkpoints" / "8") for run in (tmp_path / "alone", two.out))
    assert whole.losses == pytest.approx(shared.losses, rel=1e-5)
    assert whole.next_example == shared.next_example == 16 * knobs.get("accumulate", 1)
    by_photo = [each.photo_losses.cells for each in (whole, shared)]
    cells = [np.array([rows[photo] for photo in sorted(rows)]) for rows in by_photo]
    assert cells[0][..., 0].sum() == whole.next_example
    assert np.allclose(*cells, rtol=1e-5)
    scores = [np.array([losses for _, losses in each.scores], dtype=float) for each in (whole, shared)]
    assert [step for step, _ in whole.scores] == [step for step, _ in shared.scores]
    assert np.allclose(*scores, rtol=1e-4)
    assert two.answer["steps"] == 8
    assert "Each step is shared by 2 machines." in two.said
    assert two.said.count("Done at step 8") == 1  # only the first one speaks


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_machine_ends_the_run_with_its_state_saved_and_its_name_said(
    start: Start, words: Callable[..., list[object]], how: signal.Signals, tmp_path: Path
) -> None:
    hosts = hosts_file(tmp_path, SSH, [{"ssh": "studio.local", **HERE}, MINI])
    train = [sys.executable, "-c", IMPATIENT, "train"]
    run = start([*train, *words(steps=100_000, save_every=5), "--hosts", hosts], ssh=tmp_path)
    run.until_step(5)
    lost = run.members()[1]
    lost.send_signal(how)
    try:
        assert run.until_ended(ENDED_WITHIN) == 1
    finally:
        with suppress(psutil.Error):
            lost.kill()
    error = run.answer["error"]
    assert error["code"] == "training"
    assert "mini.local (machine 2 of 2) is gone" in error["message"]
    newest = checkpoint.newest(run.out)[0]
    assert f"Step {newest.step} is saved." in error["message"]
    assert len(newest.losses) == newest.step

    # Whoever is left goes on alone, taking the turns of both.
    more = newest.step + 2
    again = start([*TRAIN, *words(steps=more, save_every=5), "--resume"])
    assert again.until_ended() == 0, again.said
    assert f"goes on from step {newest.step}" in again.said
    assert checkpoint.newest(run.out)[0].step == more


def test_the_others_end_when_the_first_machine_is_lost(
    start: Start, words: Callable[..., list[object]], tmp_path: Path
) -> None:
    impatient = tmp_path / "train.py"  # mlx.launch takes no program of several lines
    impatient.write_text(IMPATIENT, encoding="utf-8")
    run = start(launched(words(steps=100_000, save_every=5), [sys.executable, str(impatient), "train"]))
    run.until_step(5)
    members = run.members()
    members[0].send_signal(signal.SIGSTOP)  # killed, mlx.launch would end the others itself
    try:
        run.until(lambda: not members[1].is_running() or members[1].status() == psutil.STATUS_ZOMBIE, ENDED_WITHIN)
    finally:
        members[0].kill()
    assert checkpoint.newest(run.out)[0].step >= 5


MEETS = """
import sys, time
from core.device import backend
backend.prepare()
from core.distributed import channel, process_group, rendezvous
channel.SILENCE_SECONDS, process_group.CONNECT_SECONDS = 4.0, 2.0
found = rendezvous.Rendezvous.from_environment()
if found.rank:
    rendezvous.join_coordinator(found)
    print("welcome", flush=True)
    time.sleep(60)  # MLX is never called to connect
try:
    process_group.init_process_group(found)
except process_group.MachineLost as lost:
    print(lost)
"""


@pytest.mark.parametrize(
    ("how", "words"), [(signal.SIGKILL, "its process ended."), (signal.SIGSTOP, "it sent nothing for 4 s.")]
)
def test_a_machine_that_is_lost_before_mlx_has_connected_it_is_named(
    tmp_path: Path, how: signal.Signals, words: str
) -> None:
    port = free_port()
    (tmp_path / "ring.json").write_text(json.dumps([[f"127.0.0.1:{port}"], [f"127.0.0.1:{port + 1}"]]))
    env = {**os.environ, "MLX_HOSTFILE": str(tmp_path / "ring.json"), NAMES: "studio.local,mini.local"}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", MEETS], env=env | {"MLX_RANK": rank}, cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for rank in "01"
    )
    try:
        assert second.stdout.readline() == "welcome\n"
        second.send_signal(how)
        assert first.communicate(timeout=ENDED_WITHIN)[0] == f"mini.local (machine 2 of 2) is gone: {words}\n"
        assert first.returncode == 0
    finally:
        for each in (first, second):
            each.kill()
            each.wait()
            each.stdout.close()


def test_nothing_is_left_behind_however_the_run_is_lost_and_mlx_launch_waits_without_work(
    start: Start, words: Callable[..., list[object]], tmp_path: Path
) -> None:
    hosts = hosts_file(tmp_path, SSH, [{"ssh": "studio.local", **HERE}, MINI])
    run = start([*TRAIN, *words(steps=100_000, save_every=5), "--hosts", hosts], ssh=tmp_path)
    run.until_step(5)
    others = psutil.Process(run.process.pid).children(recursive=True)
    launch = next(each for each in others if "mlx._distributed_utils" in " ".join(each.cmdline()))
    before, began = sum(launch.cpu_times()[:2]), time.monotonic()
    run.until_step(50)
    assert sum(launch.cpu_times()[:2]) - before < 0.1 * (time.monotonic() - began)

    run.process.kill()
    run.until(lambda: not psutil.wait_procs(others, timeout=0)[1], ENDED_WITHIN)


def test_alone_a_machine_takes_the_turns_of_all(family: Family, photos: Path, tmp_path: Path) -> None:
    list(training(family, photos, tmp_path / "whole", steps=4, batch_size=2))
    list(training(family, photos, tmp_path / "turns", steps=4, batch_size=1, machines=2))
    assert difference(tmp_path / "whole", tmp_path / "turns", 4) <= EXACT


def test_a_stop_ends_all_after_the_same_step_and_they_resume_together(
    start: Start, words: Callable[..., list[object]], family: Family, photos: Path, tmp_path: Path
) -> None:
    run = start(launched(words(steps=100_000, save_every=2, schedule="constant")))
    run.until_step(4)
    run.members()[0].send_signal(signal.SIGINT)
    run.until_ended()
    stopped = run.answer
    assert stopped["stopped"]
    assert checkpoint.steps_saved(run.out)[-1] == stopped["steps"]

    more = stopped["steps"] + 3
    again = start([*launched(words(steps=more, schedule="constant")), "--resume"])
    again.until_ended()
    assert again.answer["steps"] == more, again.said
    list(training(family, photos, tmp_path / "alone", steps=more, batch_size=2, schedule="constant"))
    assert difference(tmp_path / "alone", again.out, more) <= EXACT


@pytest.mark.parametrize(
    ("ssh", "why"),
    [
        ("exit 255", "cannot be reached by ssh; `ssh mini.local true` in a terminal must work without a question"),
        (SSH, "its tiny is not the one that the first machine has; copy that one"),
    ],
)
def test_a_machine_that_cannot_take_part_is_named_with_the_reason(
    start: Start, words: Callable[..., list[object]], model_folder: Path, tmp_path: Path, ssh: str, why: str
) -> None:
    shutil.copytree(model_folder, tmp_path / "home" / "models" / "tiny")
    make_model_folder(tmp_path / "theirs" / "models" / "tiny", seed=1)
    theirs = [f"LIKENESS_HOME={tmp_path / 'theirs'}"]
    hosts = hosts_file(tmp_path, ssh, {"hosts": [{"ssh": "studio.local", **HERE}, MINI], "envs": theirs})
    run = start([*TRAIN, *words(), "--model", "tiny", "--hosts", hosts], ssh=tmp_path)
    assert run.until_ended() == 1
    assert run.answer["error"]["message"].startswith("mini.local (machine 2 of 2)")
    assert why in run.answer["error"]["message"]
    assert not checkpoint.steps_saved(run.out)
