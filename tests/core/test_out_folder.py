"""The --out folder: one process at a time, and never the photos' folder; refused before anything is written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.terminal import out_folder
from core.errors import ConfigProblem
from core.pocket import assets
from tests.core.test_cli import ROOT, likeness

HOLD = """\
import sys, time, pathlib
from app.terminal.out_folder import reserved
with reserved(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(300)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "home"))


@pytest.fixture
def holder(tmp_path: Path, photos: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses tmp_path/out."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out"), str(photos)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_folder_that_another_process_uses_is_refused_until_that_dies(
    holder: subprocess.Popen[str], model_folder: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "config.json").write_text("not to be read, nor written")
    before = contents(out)
    words = ["train", photos, "--class-word", "can", "--model", model_folder, "--steps", 1, "--out", out]
    for command in (words, [*words, "--resume"], ["demo", "--out", out, "--steps", 1]):
        result = likeness(*command)
        assert result.exit_code == 2, result.stderr
        assert f"--out: {out} is in use by another process" in result.stderr
    assert contents(out) == before

    holder.kill()
    holder.wait()
    assert (out / out_folder.LOCK).is_file()  # it had no time to remove it
    with out_folder.reserved(out, photos):
        assert contents(out) == before
    assert not (out / out_folder.LOCK).exists()


def test_two_commands_of_one_process_exclude_each_other_too(photos: Path, tmp_path: Path) -> None:
    with (
        out_folder.reserved(tmp_path / "out", photos),
        pytest.raises(ConfigProblem),
        out_folder.reserved(tmp_path / "out", photos),
    ):
        pass


@pytest.mark.parametrize("inside", [".", "..", "../photos/../.."])
def test_a_folder_that_is_or_contains_the_photos_is_refused(inside: str, photos: Path) -> None:
    out, before = photos / inside, contents(photos)
    for more in ([], ["--resume"]):
        result = likeness("train", photos, "--class-word", "can", "--steps", 1, "--out", out, *more)
        assert result.exit_code == 2
        assert "is or contains the folder of the photos; use another folder" in result.stderr
    assert contents(photos.parent).keys() == before.keys()


def test_a_link_to_the_photos_and_the_demos_own_photos_are_refused_too(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(photos)
    assert likeness("train", photos, "--class-word", "can", "--out", tmp_path / "link").exit_code == 2
    monkeypatch.setattr(assets, "EXAMPLES", photos)
    result = likeness("demo", "--out", photos, "--steps", 1)
    assert result.exit_code == 2
    assert "is or contains the folder of the photos" in result.stderr


def test_what_is_refused_for_another_reason_leaves_no_folder(photos: Path, tmp_path: Path) -> None:
    assert likeness("train", photos, "--out", tmp_path / "a" / "b").exit_code == 2  # no class word
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        result = likeness("train", photos, "--class-word", "can", "--out", out)
        assert result.exit_code == 2
        assert "is a file, or is inside one; it must be a folder" in result.stderr


def test_an_out_folder_among_the_photos_is_allowed(photos: Path) -> None:
    with out_folder.reserved(photos / "out", photos):
        assert (photos / "out").is_dir()
