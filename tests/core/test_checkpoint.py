"""Checkpoints are whole or absent, and damage is named."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core import files
from core.errors import ConfigProblem, DiskProblem, TrainingProblem
from core.models.base import Family
from core.models.load import load_family
from core.training import checkpoint
from core.training.events import Finished, Note, Request, Resumed, Saved, Stepped
from tests.core.subjects import of_kind, photo_folder, picture, rewrite_state, training
from tests.tiny import make_model_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and the cache beside it."""
    place = tmp_path_factory.mktemp("trained")
    list(training(load_family(model_folder), photo_folder(place / "photos"), place / "run"))
    return place


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    for name in ("run", "cache"):
        shutil.copytree(trained / name, tmp_path / name)
    return tmp_path / "run"


def test_a_checkpoint_holds_three_files_and_nothing_else(run: Path) -> None:
    assert checkpoint.steps_saved(run) == [2, 4]
    names = {path.name for path in (run / "checkpoints" / "4").iterdir()}
    assert names == {"adapter.safetensors", "optimizer.safetensors", "state.json"}
    state = checkpoint.load(run / "checkpoints" / "4")
    assert (state.step, state.next_example, len(state.losses)) == (4, 4, 4)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(run: Path, family: Family, photos: Path) -> None:
    path = run / "checkpoints" / "4" / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    said = list(training(family, photos, run, resume=True))
    notes = [each for each in said if isinstance(each, Note)]
    assert "Checkpoint 4 is damaged: optimizer.safetensors is not what was written" in notes[0].text
    assert [each.step for each in said if isinstance(each, Resumed)] == [2]
    assert [each.step for each in said if isinstance(each, Saved)] == [4]


def test_each_damaged_checkpoint_is_named_and_the_one_that_is_used_once(
    run: Path, family: Family, photos: Path
) -> None:
    list(training(family, photos, run, resume=True, steps=6))
    for step in (4, 6):
        (run / "checkpoints" / str(step) / "optimizer.safetensors").unlink()
    warnings = [
        each.text for each in training(family, photos, run, resume=True, steps=6)
        if isinstance(each, Note) and each.level == "warning"
    ]  # fmt: skip
    assert [text[:23] for text in warnings[:2]] == ["Checkpoint 6 is damaged", "Checkpoint 4 is damaged"]
    assert warnings[2:] == ["Checkpoint 2 is used instead."]


def test_a_checkpoint_of_another_version_is_an_error_and_stays_where_it_is(
    run: Path, family: Family, photos: Path
) -> None:
    rewrite_state(run / "checkpoints" / "4", lambda table: table.update(format=2))
    with pytest.raises(TrainingProblem, match="Checkpoint 4 was written by another version of Likeness"):
        list(training(family, photos, run, resume=True))
    assert checkpoint.steps_saved(run) == [2, 4]


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), TrainingProblem, "Checkpoint 4 could not be read"),
        (OSError(errno.EMFILE, "Too many open files"), TrainingProblem, "Checkpoint 4 could not be read"),
        (RuntimeError("[malloc] Unable to allocate 100 bytes."), RuntimeError, "Unable to allocate"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_now_is_not_taken_for_damaged(
    run: Path,
    family: Family,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    raised: type[Exception],
    words: str,
) -> None:
    exact = files.sha256_of

    def refused(path: Path) -> str:
        if path.parent.name == "4":
            raise error
        return exact(path)

    monkeypatch.setattr(files, "sha256_of", refused)
    with pytest.raises(raised, match=words):
        list(training(family, photos, run, resume=True))
    assert checkpoint.steps_saved(run) == [2, 4]


def test_a_run_that_goes_on_from_before_a_damaged_checkpoint_sets_that_aside(
    family: Family, run: Path, photos: Path
) -> None:
    path = run / "checkpoints" / "4" / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:-10] + bytes(10))
    damaged = path.read_bytes()
    going = training(family, photos, run, resume=True, steps=20, save_every=5)
    said: list[object] = [next(going)]
    while not isinstance(said[-1], Finished):
        last = said[-1]
        said.append(going.send(Request.STOP if isinstance(last, Stepped) and last.step == 3 else None))
    assert said[-1].adapter == run / "checkpoints" / "3" / "adapter.safetensors"
    assert [each.step for each in said if isinstance(each, Saved)] == [3]
    assert checkpoint.steps_saved(run) == [2, 3]
    assert (run / "checkpoints" / "damaged-4" / "adapter.safetensors").read_bytes() == damaged


def test_a_run_that_may_not_go_on_leaves_a_damaged_checkpoint_where_it_is(
    run: Path, family: Family, photos: Path
) -> None:
    (run / "checkpoints" / "4" / "state.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigProblem, match="rank: was 2 and is now 8"):
        list(training(family, photos, run, resume=True, rank=8))
    assert checkpoint.steps_saved(run) == [2, 4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.update(step=3), "state.json is that of step 3"),
        (lambda table: table.update(step="4"), "'step' in state.json is '4'"),
        (lambda table: table.update(photo_losses=[]), "'photo_losses' in state.json is '[]'"),
        (lambda table: table.update(photo_losses={"0": [1]}), "'photo_losses' in state.json should hold numbers"),
        (lambda table: table.update(losses=["low"]), "'losses' in state.json should hold numbers"),
        (lambda table: table.update(subject_losses=["low"]), "'subject_losses' in state.json should hold numbers"),
        (lambda table: table.update(scores=[[2, 3]]), "'scores' in state.json should hold numbers"),
        (lambda table: table.update(scores=[2]), "is damaged"),
        (lambda table: table.update(config=None), "'config' in state.json is 'None'"),
        (lambda table: table.update(kept="all"), "'kept' in state.json is 'all'"),
        (lambda table: table.update(files={}), "adapter.safetensors is not what was written"),
        (lambda table: table.pop("seconds"), "state.json has no 'seconds'"),
        (lambda table: table.update(format=2), "was written by another version of Likeness"),
    ],
)
def test_whatever_is_wrong_in_an_old_state_is_a_sentence(
    run: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    rewrite_state(run / "checkpoints" / "4", change)
    with pytest.raises(TrainingProblem, match=re.escape(words)):
        checkpoint.load(run / "checkpoints" / "4")


def test_a_state_that_was_changed_is_known_by_its_hash(run: Path) -> None:
    path = run / "checkpoints" / "4" / "state.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"bad_steps_in_a_row": 0', '"bad_steps_in_a_row": 2'), encoding="utf-8")
    with pytest.raises(TrainingProblem, match=r"Checkpoint 4 is damaged: state\.json is not what was written"):
        checkpoint.load(path.parent)
    for content in ("[]", "{", "null"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(TrainingProblem, match="Checkpoint 4 is damaged"):
            checkpoint.load(path.parent)


def test_a_run_with_only_damaged_checkpoints_is_a_sentence(run: Path, family: Family, photos: Path) -> None:
    for step in (2, 4):
        (run / "checkpoints" / str(step) / "state.json").write_text("{", encoding="utf-8")
    with pytest.raises(TrainingProblem, match="None of this run's checkpoints can be read"):
        list(training(family, photos, run, resume=True))


def test_resuming_without_a_checkpoint_begins_at_the_start(family: Family, photos: Path, tmp_path: Path) -> None:
    said = list(training(family, photos, tmp_path / "run", resume=True))
    assert [each.step for each in said if isinstance(each, Resumed)] == [0]


def test_a_resumed_run_keeps_its_settings_and_photos(run: Path, family: Family, photos: Path) -> None:
    with pytest.raises(ConfigProblem, match=r"rank: was 2 and is now 8"):
        list(training(family, photos, run, resume=True, rank=8))
    with pytest.raises(ConfigProblem, match="steps: is 3, and 4 are done already"):
        list(training(family, photos, run, resume=True, steps=3))
    picture(7).save(photos / "new.png")
    with pytest.raises(TrainingProblem, match="photos, crops, masks, captions or words have changed"):
        list(training(family, photos, run, resume=True, steps=6))


def test_a_run_does_not_go_on_with_another_base_model(run: Path, photos: Path, tmp_path: Path) -> None:
    other = load_family(make_model_folder(tmp_path / "other", seed=9))
    with pytest.raises(TrainingProblem, match="base model's files have changed"):
        list(training(other, photos, run, resume=True, steps=6))
    assert checkpoint.steps_saved(run) == [2, 4]


def test_a_resumed_run_keeps_the_precision_of_its_base(run: Path, family: Family, photos: Path) -> None:
    with pytest.raises(ConfigProblem, match=r"base_precision: was full and is now 4-bit"):
        list(training(family, photos, run, resume=True, steps=6, base_precision="4-bit"))


def test_a_checkpoint_older_than_a_knob_had_the_knobs_default(run: Path, family: Family, photos: Path) -> None:
    rewrite_state(run / "checkpoints" / "4", lambda table: table["config"].pop("base_precision"))
    with pytest.raises(ConfigProblem, match=r"base_precision: was full and is now 8-bit"):
        list(training(family, photos, run, resume=True, steps=6, base_precision="8-bit"))
    said = of_kind(training(family, photos, run, resume=True, steps=6), Saved)
    assert [each.step for each in said] == [6]


def test_a_finished_run_goes_on_with_more_steps(run: Path, family: Family, photos: Path) -> None:
    said = of_kind(training(family, photos, run, resume=True, steps=6), Saved)
    assert [each.step for each in said] == [6]


def test_a_new_run_in_an_old_folder_begins_clean(run: Path, family: Family, photos: Path) -> None:
    list(training(family, photos, run, steps=1))
    assert checkpoint.steps_saved(run) == [1]


def test_a_full_disk_leaves_the_checkpoint_before_and_nothing_half_written(
    run: Path, family: Family, photos: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    going = training(family, photos, run, resume=True, steps=6)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, before[1]))  # as if the disk had this much room
    try:
        with pytest.raises(DiskProblem, match="could not be written"):
            list(going)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint.steps_saved(run) == [2, 4]
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"2", "4"}
    assert of_kind(training(family, photos, run, resume=True, steps=6), Saved)[0].step == 6


def test_what_a_killed_run_left_half_written_is_gone_when_the_next_one_begins(
    run: Path, family: Family, photos: Path
) -> None:
    half = run / "checkpoints" / ".part-abc"
    half.mkdir()
    (half / "adapter.safetensors").write_bytes(b"half")
    (run / "samples").mkdir()
    (run / "samples" / ".part-abc.png").write_bytes(b"half")
    (run / ".part-abc.json").write_bytes(b"half")
    old = run / "checkpoints" / ".old-abc"  # killed between the renames that put a folder in the place of another
    old.mkdir()
    (run / "checkpoints" / "4").rename(old / "4")
    said = list(training(family, photos, run, resume=True))
    assert [each.step for each in said if isinstance(each, Resumed)] == [4]
    assert not [path for path in run.rglob("*") if path.name.startswith(".")]


def test_a_folder_replaces_the_one_before_it_whole(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with files.atomic_folder(tmp_path / "there") as folder:
            (folder / text).write_text(text, encoding="utf-8")
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "new"]


def test_a_file_that_could_not_be_finished_is_not_there(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "old")

    def break_off() -> None:
        with files.atomic_file(tmp_path / "a.txt") as part:
            part.write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("links", [True, False], ids=["APFS", "exFAT"])
def test_a_new_file_takes_no_name_that_is_there(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    if not links:
        monkeypatch.setattr(os, "link", refuse)  # as file systems without hard links do
    with files.new_file(tmp_path / "a.txt") as part:
        part.write_text("first")
    with pytest.raises(FileExistsError), files.new_file(tmp_path / "a.txt") as part:
        part.write_text("second")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "first")]
