"""Checkpoints are whole or absent, and damage is named."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from core import files
from core.errors import ConfigProblem, DiskProblem, TrainingProblem
from core.models.base import Family
from core.models.load import load_family
from core.training import checkpoint
from core.training.progress import Note, Resumed, Saved
from tests.core.subjects import of_kind, picture, training
from tests.tiny import make_model_folder


@pytest.fixture
def run(family: Family, photos: Path, tmp_path: Path) -> Path:
    list(training(family, photos, tmp_path / "run"))
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
    with pytest.raises(TrainingProblem, match="photos, crops, captions or words have changed"):
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
    path = run / "checkpoints" / "4" / "state.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    del table["config"]["base_precision"]
    path.write_text(json.dumps(table), encoding="utf-8")
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


def test_a_folder_replaces_the_one_before_it_whole(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with files.folder_written_whole(tmp_path / "there") as folder:
            (folder / text).write_text(text, encoding="utf-8")
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "new"]


def test_a_file_that_could_not_be_finished_is_not_there(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "old")

    def break_off() -> None:
        with files.written_whole(tmp_path / "a.txt") as part:
            part.write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "old"
