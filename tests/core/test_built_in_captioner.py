"""The built-in captioner: an environment of its own by real pip, and a real server that ends with its job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from core.captioners import built_in, environment
from core.captioners.base import Unreachable
from core.captioners.environment import Environment
from core.captioners.platforms import Machine, why_not
from core.errors import CaptionerProblem
from core.hub.caption_model import MODEL
from tests.mlx_vlm import MAC, PID_FILE, make_repository, make_wheel, package_index

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "Describe this photo. Call the subject 'sks can'."


def nothing(*_: object) -> None:
    return


def until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "this did not become true in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def written() -> list[str]:
    """What the installation reported."""
    return []


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, written: list[str]) -> Environment:
    folder = tmp_path_factory.mktemp("vlm")
    make_wheel(folder / "index")
    made = Environment(folder / "home" / "captioner")
    with package_index(folder / "index"):
        made.install(written.append, nothing, nothing)
    return made


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (200, 100), "teal").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def pid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """The process id of the server; whatever is left of it at the end of the test is killed."""
    file = tmp_path / "pid"
    monkeypatch.setenv(PID_FILE, str(file))

    def found() -> int:
        until(lambda: file.exists() and file.read_text())
        return int(file.read_text())

    yield found
    if file.exists() and psutil.pid_exists(int(file.read_text())):
        os.kill(int(file.read_text()), signal.SIGKILL)


def start(installed: Environment, folder: Path, check: Callable[[], None] = nothing) -> built_in.BuiltInCaptioner:
    return built_in.started(installed, folder, MODEL.title, PROMPT, check=check, log=nothing)


@pytest.mark.slow
def test_it_is_installed_into_an_environment_that_does_not_see_ours(installed: Environment, written: list[str]) -> None:
    assert installed.installed
    assert 0 < installed.bytes < 1_000_000
    assert written == ["finding mlx-vlm", "unpacking 1 package"]
    code = "from importlib.util import find_spec as f; import mlx_vlm as m; print(m.__version__, f('mlx'), f('core'))"
    environment_of_a_job = {**os.environ, "PYTHONPATH": ""}
    run = [str(installed.python), "-c", code]
    answer = subprocess.run(run, capture_output=True, text=True, cwd="/", env=environment_of_a_job, check=True)
    assert answer.stdout.split() == [environment.VERSION, "None", "None"]


@pytest.mark.slow
def test_it_describes_a_photo_offline_and_nothing_is_left_running(
    installed: Environment, photo: Path, pid: Callable[[], int]
) -> None:
    folder = make_repository(photo.parent / "model")
    with start(installed, folder) as captioner:
        assert captioner.caption(photo) == "A photo of sks can, 200 by 100, seen offline."
        assert captioner.origin == MODEL.title
        assert psutil.pid_exists(pid())
    assert not psutil.pid_exists(pid())


HOLDING = """
import sys, time
from pathlib import Path
from core.captioners import built_in
from core.captioners.environment import Environment
with built_in.started(Environment(Path(sys.argv[1])), Path(sys.argv[2]), "", "", check=int, log=len):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_the_server_ends_with_a_job_that_is_killed(installed: Environment, photo: Path, pid: Callable[[], int]) -> None:
    folder = make_repository(photo.parent / "model")
    command = [sys.executable, "-c", HOLDING, str(installed.folder), str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
        server = psutil.Process(pid())
        job.kill()
    until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "seconds", "words"),
    [
        (
            "broken",
            60.0,
            "could not start. Its last words: ValueError: Model type broken not supported. RuntimeError: 400: Failed",
        ),
        ("hangs", 0.5, "did not load its model within 0 s."),
    ],
)
def test_a_server_that_does_not_start_is_a_sentence_with_its_last_words(
    installed: Environment, photo: Path, pid: Callable[[], int], monkeypatch: pytest.MonkeyPatch,
    kind: str, seconds: float, words: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(built_in, "START_SECONDS", seconds)
    folder = make_repository(photo.parent / "model", kind)
    with pytest.raises(CaptionerProblem) as caught, start(installed, folder):
        pass
    assert words in caught.value.message
    assert not [each for each in ("File ", "Traceback", "During", "INFO") if each in caught.value.message]
    assert not psutil.pid_exists(pid())


@pytest.mark.slow
def test_a_server_that_ends_while_it_is_asked_ends_the_job_with_its_last_words(
    installed: Environment, photo: Path
) -> None:
    folder = make_repository(photo.parent / "model", "dies")
    with start(installed, folder) as captioner, pytest.raises(Unreachable, match="RuntimeError: out of luck"):
        captioner.caption(photo)


class Stopped(Exception):
    pass


def stop() -> None:
    raise Stopped


@pytest.mark.slow
def test_a_stop_while_the_model_is_loaded_ends_the_server(
    installed: Environment, photo: Path, pid: Callable[[], int]
) -> None:
    folder = make_repository(photo.parent / "model", "hangs")
    with pytest.raises(Stopped), start(installed, folder, lambda: None if not pid() else stop()):
        pass
    assert not psutil.pid_exists(pid())


@pytest.mark.slow
def test_a_stop_ends_pip_and_leaves_nothing(tmp_path: Path) -> None:
    make_wheel(tmp_path / "index")
    half = Environment(tmp_path / "captioner")
    with package_index(tmp_path / "index"), pytest.raises(Stopped):
        half.install(nothing, stop, nothing)
    assert not half.folder.exists()
    assert not [each for each in psutil.Process().children(recursive=True) if str(half.folder) in each.cmdline()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "0.7.10 could not be installed. pip: Could not find a version"),
        ({"PIP_NO_INDEX": "0", "PIP_INDEX_URL": "http://me:secret@127.0.0.1:9/simple", "PIP_RETRIES": "1"},
         "The package index could not be reached; go online, then try again. pip: Could not find a version"),
    ],
    ids=["refused", "offline"],
)  # fmt: skip
def test_where_pip_fails_its_reason_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    (tmp_path / "index").mkdir()
    lines: list[str] = []
    none = Environment(tmp_path / "captioner")
    with package_index(tmp_path / "index"):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(CaptionerProblem) as caught:
            none.install(nothing, nothing, lines.append)
    assert words in caught.value.message
    assert "No matching distribution found for mlx-vlm==0.7.10" in caught.value.message
    assert "secret" not in " ".join([caught.value.message, *lines])
    assert not none.folder.exists()


def test_what_was_not_completed_is_not_taken_for_an_installation(tmp_path: Path) -> None:
    half = Environment(tmp_path / "captioner")
    assert (half.half_made, half.installed) == (False, False)
    half.python.parent.mkdir(parents=True)
    half.python.write_text("")
    assert half.half_made
    (half.folder / "installed.json").write_text('{"version": "0.6.0", "bytes": 12}')
    assert (half.half_made, half.installed, half.bytes) == (False, False, 12)
    assert half.remove() > 0
    assert not half.folder.exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Collecting huggingface-hub>=1.0 (from mlx-vlm==0.7.10)", "finding huggingface-hub"),
        ("Processing ./wheels/mlx_vlm-0.7.10-py3-none-any.whl", "finding mlx-vlm"),
        ("  Downloading opencv_python-5.0-cp37-abi3-macosx_13_0_arm64.whl (32 MB)", "downloading opencv-python, 32 MB"),
        ("Installing collected packages: a, b, c", "unpacking 3 packages"),
        ("Requirement already satisfied: pip", ""),
    ],
)  # fmt: skip
def test_what_pip_does_is_told_in_words(line: str, words: str) -> None:
    assert environment.words_of(line) == words


GIB = 2**30


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (MAC, ""),
        (Machine("Darwin", "arm64", "14.0", "metal", 6 * GIB), ""),
        (Machine("Linux", "x86_64", "", "cuda", 24 * GIB), ""),
        (Machine("Darwin", "arm64", "13.6.1", "metal", 12 * GIB), "macOS 14 or newer; this Mac has 13.6.1"),
        (Machine("Darwin", "x86_64", "15.5", "cpu", 24 * GIB), "a Mac with Apple silicon; this one has x86_64"),
        (Machine("Darwin", "arm64", "15.5", "metal", 5 * GIB), "5.8 GB of memory; this Mac gives its GPU 5.0 GB"),
        (Machine("Linux", "x86_64", "", "cuda", 4 * GIB), "5.8 GB of memory; there are 4.0 GB"),
        (Machine("Linux", "x86_64", "", "cpu", 64 * GIB), "an NVIDIA card"),
        (Machine("FreeBSD", "amd64", "", "cpu", 64 * GIB), "macOS and Linux, not on FreeBSD"),
    ],
    ids=lambda value: (
        "-".join(map(str, (value.system, value.processor, value.macos, value.device)))
        if isinstance(value, Machine)
        else None
    ),
)
def test_it_is_offered_only_where_it_can_run(machine: Machine, words: str) -> None:
    sentence = why_not(machine, MODEL.memory_bytes)
    assert words in sentence
    assert bool(sentence) == bool(words)
