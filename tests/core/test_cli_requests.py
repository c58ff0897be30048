"""`likeness train` refuses a run with wrong settings before it loads or writes anything: exit code 2, all at once."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import pytest

from core.estimate.architecture import Architecture
from core.training import checkpoint
from tests.core.test_adapter_layers import file_of
from tests.core.test_cli import knobs, likeness, object_of

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def refused(*words: object) -> dict[str, str]:
    """The sentences by field of a command that is refused with exit code 2."""
    result = likeness("train", *words, "--class-word", "can", "--json")
    assert result.exit_code == 2, result.stderr
    error = object_of(result)["error"]
    assert error["code"] == "config"
    assert all(each["message"] in result.stderr for each in error["problems"])
    return {each["field"]: each["message"] for each in error["problems"]}


def test_everything_wrong_with_a_run_is_told_at_once_and_nothing_is_written(
    model_folder: Path, photos: Path, tmp_path: Path, home: Path
) -> None:
    out = tmp_path / "out"
    wrong = {"targets": "nowhere", "ranks": "mlp=4, elsewhere=2", "held_out": 9, "rank": "1,5", "side_px": 100}
    config = knobs(tmp_path, **wrong, sample_prompts=["a {tigger}"], class_prompt="a {class}", odd=1)
    found = refused(photos, "--model", model_folder, "--out", out, "--config", config, "--steps", "1.000")
    assert found.keys() == {
        "steps", "side_px", "rank", "targets", "ranks", "class_prompt", "held_out", "sample_prompts", "odd",
    }  # fmt: skip
    assert found["steps"] == "is '1.000'; write it without separators: 1000"
    assert "{tigger}, which is not known" in found["sample_prompts"]
    assert not out.exists()
    assert not (home / "cache").exists()


def test_an_adapter_to_start_from_that_does_not_fit_is_told_with_the_rest(
    model_folder: Path, photos: Path, tmp_path: Path
) -> None:
    layers = Architecture.of(model_folder).layers
    file = file_of(tmp_path / "theirs.safetensors", {"transformer_blocks.9.attn.to_q": (32, 32)})
    words = ("--model", model_folder, "--out", tmp_path / "out", "--from", file)
    found = refused(photos, *words, "--steps", 0)
    assert found.keys() == {"steps", "--from"}
    assert "transformer_blocks.9.attn.to_q is not in this model" in found["--from"]
    file.write_bytes(b"not an adapter")
    assert "theirs.safetensors is not a complete safetensors file" in refused(photos, *words)["--from"]
    mx.save_safetensors(str(file), {next(iter(layers.sizes)): mx.ones((7, 9))})
    assert "theirs.safetensors holds no LoRA" in refused(photos, *words)["--from"]
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there_hides_no_other_problem(photos: Path, tmp_path: Path) -> None:
    found = refused(photos, "--model", "nope", "--out", tmp_path / "out", "--steps", 0)
    assert found.keys() == {"model", "steps"}
    assert found["model"].startswith("There is no model called nope.")


def test_a_folder_without_photos_and_wrong_settings_are_told_together(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    found = refused(tmp_path / "none", "--model", model_folder, "--out", tmp_path / "out", "--steps", 0)
    assert found.keys() == {"PHOTOS", "steps"}


def test_a_run_with_refused_settings_stays_as_it_was(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = (photos, "--class-word", "can", "--model", model_folder, "--out", out)
    assert likeness("train", *words, "--steps", 2, "--config", knobs(tmp_path, rank=2)).exit_code == 0
    before = json.loads((out / "config.json").read_text())
    result = likeness("train", *words, "--resume", "--config", knobs(tmp_path, targets="nowhere"))
    assert result.exit_code == 2
    assert "'nowhere' matches no layer" in result.stderr
    assert refused(photos, "--model", model_folder, "--out", out, "--steps", 0).keys() == {"--out", "steps"}
    assert json.loads((out / "config.json").read_text()) == before
    assert checkpoint.steps_saved(out) == [2]


def test_a_folder_of_class_pictures_is_named_by_its_whole_path_and_checked(
    model_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = (photos, "--model", model_folder, "--out", tmp_path / "out", "--class-images", "dogs")
    (message,) = refused(*words).values()
    assert message.startswith(f"is '{tmp_path / 'dogs'}', which is not a folder on this computer")
    (tmp_path / "dogs").mkdir()
    (tmp_path / "dogs" / "a.png").write_bytes(b"no picture")
    (message,) = refused(*words).values()
    assert "a.png" in message
    assert not (tmp_path / "out").exists()
