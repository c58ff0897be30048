"""The command line as others rely on it: verbs, exit codes, messages on stderr, one JSON object on stdout."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from app.cli import cli
from app.terminal import training
from core.adapters import file as adapter_file
from core.config.resolve import resolve
from core.training import checkpoint
from tests.tiny import make_model_folder

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def likeness(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def object_of(result: Result) -> dict[str, Any]:
    return json.loads(result.stdout.splitlines()[-1])


def knobs(path: Path, **values: object) -> Path:
    file = path / "knobs.json"
    text = json.dumps({"sample_every": 0, "sample_steps": 1, **values})
    file.write_text(text, encoding="utf-8-sig")  # as some editors write it, with a byte order mark
    return file


def test_train_writes_an_adapter_and_reports_it_as_json(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "out", knobs(tmp_path, rank=2, sample_every=2)
    words = ["--trigger", "sks", "--class-word", "can", "--model", model_folder, "--config", config]
    result = likeness("train", photos, "--steps", 2, "--out", out, "--json", *words)
    assert result.exit_code == 0, result.stderr
    found = object_of(result)
    assert set(found) >= {"adapter", "steps", "final_loss", "held_out_loss", "seconds", "peak_memory_bytes"}
    assert (found["steps"], found["held_out_loss"]) == (2, None)
    assert adapter_file.read(Path(found["adapter"]), "flux1").rank == 2
    assert len(result.stdout.splitlines()) == 1
    assert "step     2 of 2" in result.stderr
    for name in ("loss.png", "samples.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 200


def test_resume_uses_the_stored_settings_of_the_run(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    likeness(
        "train", photos, "--class-word", "can", "--model", model_folder, "--steps", 2, "--out", out,
        "--config", knobs(tmp_path, rank=2),
    )  # fmt: skip
    again = likeness("train", photos, "--class-word", "can", "--model", model_folder, "--steps", 2, "--out", out)
    assert again.exit_code == 2
    assert "holds a run at step 2; add --resume" in again.stderr
    more = likeness("train", photos, "--out", out, "--resume", "--steps", 3, "--json")
    assert more.exit_code == 0, more.stderr
    assert object_of(more)["steps"] == 3
    assert "goes on from step 2" in more.stderr


def test_too_little_memory_is_a_sentence_with_settings_that_need_less(
    model_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory (00000008)")

    monkeypatch.setattr(training, "load_family", load)
    words = ["--class-word", "can", "--model", model_folder, "--out", tmp_path / "out", "--json"]
    result = likeness("train", photos, *words)
    assert result.exit_code == 1
    assert object_of(result)["error"]["code"] == "memory"
    assert '"activations": "none"' in result.stderr
    assert "--resume goes on" in result.stderr
    assert resolve({"activations": "none"}).config.activations == "none"


def test_a_resume_that_is_refused_leaves_the_run_as_it_was(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--class-word", "can", "--model", model_folder, "--steps", 2, "--config", knobs(tmp_path, rank=2)]
    assert likeness("train", photos, "--out", out, *words).exit_code == 0
    before = (out / "config.json").read_bytes()
    again = ["train", photos, "--out", out, "--resume", "--steps", 3]
    refused = likeness(*again, "--config", knobs(tmp_path, rank=8))
    assert refused.exit_code == 2
    assert "rank: was 2 and is now 8" in refused.stderr
    assert "captions or words have changed" in likeness(*again, "--class-word", "dog").stderr
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps([{"ssh": name, "ips": ["127.0.0.1"]} for name in ("here", "there")]))
    refused = likeness(*again, "--hosts", hosts)
    assert refused.exit_code == 2
    assert "--hosts: names 2 machines, and they cannot share evenly the run's 1" in " ".join(refused.stderr.split())
    assert (out / "config.json").read_bytes() == before
    more = likeness(*again, "--json")
    assert more.exit_code == 0, more.stderr
    assert object_of(more)["steps"] == 3
    assert json.loads((out / "config.json").read_text())["steps"] == {"value": 3, "source": "user"}


def test_a_run_begins_with_an_adapter_and_goes_on_without_its_file(
    model_folder: Path, photos: Path, tmp_path: Path
) -> None:
    out, config, start = tmp_path / "out", knobs(tmp_path, rank=2, targets="attention"), tmp_path / "start.safetensors"
    words = ["train", photos, "--class-word", "can", "--model", model_folder, "--steps", 1]
    first = likeness(*words, "--config", config, "--out", tmp_path / "first", "--json")
    shutil.copy(object_of(first)["adapter"], start)
    result = likeness(*words, "--from", start, "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    assert "Begins with start.safetensors" in result.stderr
    held, found = (adapter_file.read(path, "flux1").factors for path in (start, out / "adapter.safetensors"))
    assert found.keys() == held.keys()
    assert checkpoint.load(out / "checkpoints" / "1").config["rank"] == 2
    start.unlink()
    more = likeness("train", photos, "--out", out, "--resume", "--steps", 2, "--json")
    assert more.exit_code == 0, more.stderr
    assert object_of(more)["steps"] == 2
    gone = likeness(*words, "--from", start, "--out", tmp_path / "third")
    assert gone.exit_code == 2
    assert "start.safetensors is not a file" in " ".join(gone.stderr.split())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--steps", "0"], "steps: is 0 steps; it can be 1 to 100000 steps"),
        (["--steps", "many"], "steps: is 'many'; it must be a number 1 to 100000 steps"),
        (["--model", "nonesuch"], "There is no model called nonesuch"),
        (["--class-word", " "], "--class-word: is missing"),
        (["--config", "nowhere.json"], "--config: nowhere.json cannot be read"),
        (["--nonesuch"], "nonesuch"),
    ],
)
def test_wrong_use_exits_2_with_a_sentence(photos: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    result = likeness("train", photos, "--class-word", "can", "--out", tmp_path / "out", *words)
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_a_config_file_nested_too_deeply_exits_2(photos: Path, tmp_path: Path) -> None:
    deep = tmp_path / "deep.json"
    deep.write_text('{"rank": ' + "[" * 20_000 + "]" * 20_000 + "}")
    result = likeness("train", photos, "--out", tmp_path / "out", "--class-word", "can", "--config", deep)
    assert result.exit_code == 2
    assert "deep.json is nested more than 100 deep" in result.stderr


def test_every_wrong_setting_is_named_at_once(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    config = knobs(tmp_path, rank=0, colour="red", learning_rate="fast")
    words = ["--class-word", "can", "--model", model_folder, "--config", config, "--out", tmp_path / "out"]
    result = likeness("train", photos, "--json", *words)
    assert result.exit_code == 2
    error = object_of(result)["error"]
    assert error["code"] == "config"
    assert [each["field"] for each in error["problems"]] == ["rank", "learning_rate", "colour"]


def test_a_folder_without_photos_exits_1(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    words = ["--class-word", "can", "--model", model_folder, "--out", tmp_path / "out", "--json"]
    result = likeness("train", tmp_path / "empty", *words)
    assert result.exit_code == 1
    assert "has no photos in it" in result.stderr
    assert object_of(result)["error"]["code"] == "data"
    assert likeness("train", tmp_path / "nowhere", *words).exit_code == 2


def test_broken_photos_are_named_and_the_rest_is_used(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (photos / "Stray.TXT").write_text("nobody's")
    words = ["--class-word", "can", "--model", model_folder, "--config", knobs(tmp_path), "--steps", 1]
    result = likeness("train", photos, "--out", tmp_path / "out", "--json", *words)
    assert result.exit_code == 0, result.stderr
    assert "Left out: cut.jpg" in result.stderr
    assert "captions from .txt" in result.stderr or "No caption files" in result.stderr
    assert [each["field"] for each in object_of(result)["problems"]] == ["cut.jpg", "Stray.TXT"]


@pytest.mark.slow
def test_ctrl_c_finishes_the_step_saves_and_exits_130(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--class-word", "can", "--model", model_folder, "--config", knobs(tmp_path), "--out", out, "--json"]
    command = [sys.executable, "-m", "app.cli", "train", photos, "--steps", "5000", *words]
    child = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ,
    )
    deadline = time.monotonic() + 60
    while "step     1 of" not in (line := child.stderr.readline()):
        assert line, "the run ended before its first step"
        assert time.monotonic() < deadline
    child.send_signal(signal.SIGINT)
    stdout, stderr = child.communicate(timeout=60)
    assert child.returncode == 130, stderr
    found = json.loads(stdout.splitlines()[-1])
    assert found["stopped"]
    assert checkpoint.steps_saved(out) == [found["steps"]]
    assert Path(found["adapter"]).is_file()


def test_ctrl_c_before_the_first_step_is_reported_to_programs_too(
    model_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("app.terminal.training.load_family", interrupted)
    words = ["--class-word", "can", "--model", model_folder, "--out", tmp_path / "out", "--json"]
    result = likeness("train", photos, *words)
    assert (result.exit_code, object_of(result)["error"]["code"]) == (130, "stopped")


def test_sample_draws_with_and_without_an_adapter(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    config = knobs(tmp_path, rank=2, learning_rate=0.1, warmup_steps=0)
    words = ["--class-word", "can", "--model", model_folder, "--config", config, "--steps", 3]
    likeness("train", photos, "--out", tmp_path / "out", *words)
    adapter, pictures = tmp_path / "out" / "adapter.safetensors", []
    for name, more in (
        ("base", []),
        ("with", ["--adapter", adapter]),
        ("none", ["--adapter", adapter, "--strength", 0]),
    ):
        target = tmp_path / f"{name}.png"
        result = likeness("sample", "--model", model_folder, "--prompt", "sks can", "--out", target, "--json", *more)
        assert result.exit_code == 0, result.stderr
        assert object_of(result)["picture"] == str(target)
        with Image.open(target) as picture:
            pictures.append(picture.tobytes())
            assert json.loads(picture.text["recipe"])["prompt"] == "sks can"
    assert pictures[0] == pictures[2] != pictures[1]


def test_the_base_is_held_as_precisely_as_was_asked_for(photos: Path, tmp_path: Path) -> None:
    model = make_model_folder(tmp_path / "wide", heads=4)
    adapters = []
    for precision in ("full", "4-bit"):
        config, out = knobs(tmp_path, rank=2, base_precision=precision), tmp_path / precision
        words = ["--class-word", "can", "--model", model, "--config", config, "--steps", 2, "--out", out]
        assert likeness("train", photos, *words).exit_code == 0
        assert json.loads((out / "config.json").read_text())["base_precision"] == {"value": precision, "source": "user"}
        adapters.append((out / "checkpoints" / "2" / "optimizer.safetensors").read_bytes())
    assert adapters[0] != adapters[1]

    words = ["--model", model, "--prompt", "a can", "--out", tmp_path / "p.png", "--json", "--base-precision"]
    assert object_of(likeness("sample", *words, "6-bit"))["recipe"]["precision"] == "6-bit"
    wrong = likeness("sample", *words, "5-bit")
    assert wrong.exit_code == 2
    assert "base_precision: is '5-bit'; it can be full, 8-bit, 6-bit or 4-bit" in wrong.stderr


def test_sample_explains_an_adapter_that_cannot_be_read(model_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not an adapter")
    words = ["--model", model_folder, "--prompt", "a can", "--out", tmp_path / "p.png", "--adapter", broken]
    result = likeness("sample", *words)
    assert result.exit_code == 1
    assert "broken.safetensors" in result.stderr
    assert not (tmp_path / "p.png").exists()
    assert likeness("sample", "--prompt", "a can", "--out", tmp_path / "p.jpg").exit_code == 2
    assert likeness("sample", "--prompt", "a can", "--model", "nonesuch", "--out", tmp_path / "p.png").exit_code == 2


def test_models_lists_the_models() -> None:
    result = likeness("models", "--json")
    assert result.exit_code == 0
    assert object_of(result)["models"][0]["name"] == "pocket"


@pytest.mark.parametrize("verb", ["", "demo", "train", "sample", "models"])
def test_help_explains_each_verb(verb: str) -> None:
    result = likeness(*([verb] if verb else []), "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_the_command_line_itself_imports_neither_mlx_nor_a_web_server() -> None:
    code = "import sys, app.cli; print([m for m in ('mlx', 'numpy', 'fastapi', 'PIL') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_demo_writes_adapter_sheet_and_chart_and_prints_their_paths(
    model_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.hub import catalog
    from core.pocket import assets

    entry = catalog.entry_for(model_folder, "pocket")
    monkeypatch.setattr(catalog, "find", lambda name: entry)
    monkeypatch.setattr(assets, "EXAMPLES", photos)
    out = tmp_path / "demo"
    for _ in range(2):  # a demo may be run again in its folder
        result = likeness("demo", "--steps", 2, "--out", out, "--json")
        assert result.exit_code == 0, result.stderr
    found = object_of(result)
    assert adapter_file.read(Path(found["adapter"]), "flux1").factors
    for name in ("samples_picture", "loss_picture"):
        assert Path(found[name]).is_file()
        assert found[name] in result.stderr
    assert likeness("demo", "--steps", "none", "--out", out).exit_code == 2


def test_the_demo_never_overwrites_a_run_of_the_user(
    model_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, config = tmp_path / "out", knobs(tmp_path, rank=2)
    words = ["--class-word", "can", "--model", model_folder, "--config", config, "--steps", 1]
    likeness("train", photos, "--out", out, *words)
    result = likeness("demo", "--out", out)
    assert result.exit_code == 2
    assert "holds a run of yours" in result.stderr
    assert checkpoint.steps_saved(out) == [1]
