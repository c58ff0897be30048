"""A run on a tiny model: it learns, says what it does, does what it is asked, and survives bad steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from PIL import Image

from core.adapters import file as adapter_file
from core.adapters import lora
from core.device import backend
from core.errors import ConfigProblem, DataProblem, TrainingProblem
from core.models.base import Family
from core.training import checkpoint
from core.training.events import Finished, Note, Phase, Request, Resumed, Sampled, Saved, Stepped
from core.training.step import Step
from core.training.trainer import train
from core.training.update import global_norm
from tests.core.subjects import examples, of_kind, settings, training

pytestmark = pytest.mark.slow


def test_a_run_trains_saves_samples_and_ends(family: Family, photos: Path, tmp_path: Path) -> None:
    run = list(training(family, photos, tmp_path / "run", sample_every=2))
    steps = [each for each in run if isinstance(each, Stepped)]
    assert [each.step for each in steps] == [1, 2, 3, 4]
    assert all(math.isfinite(each.loss) and each.counted and each.peak_memory_bytes > 0 for each in steps)
    assert [each.step for each in run if isinstance(each, Saved)] == [2, 4]
    drawn = [(each.step, each.prompt_id, each.seed) for each in run if isinstance(each, Sampled)]
    assert drawn == [(step, index, 42 + index) for step in (0, 2, 4) for index in (0, 1)]
    finished = run[-1]
    assert isinstance(finished, Finished)
    assert (finished.step, finished.stopped) == (4, False)
    assert finished.adapter == tmp_path / "run" / "checkpoints" / "4" / "adapter.safetensors"
    assert adapter_file.read(finished.adapter, "flux1").trigger == "sks"
    assert not list((tmp_path / "run").rglob(".part-*"))


def test_the_loss_falls_on_one_photo(family: Family, photos: Path, tmp_path: Path) -> None:
    for path in sorted(photos.iterdir())[1:]:
        path.unlink()
    run = training(family, photos, tmp_path / "run", steps=60, rank=8, batch_size=4, save_every=100)
    losses = [each.loss for each in of_kind(run, Stepped)]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_phases_are_named_and_counted(family: Family, photos: Path, tmp_path: Path) -> None:
    phases = [(p.name, p.done, p.of) for p in of_kind(training(family, photos, tmp_path / "run", steps=1), Phase)]
    assert phases[0] == ("reading captions", 0, 3)
    assert ("encoding photos", 3, 3) in phases


def test_the_encoders_are_freed_while_training(family: Family, photos: Path, tmp_path: Path) -> None:
    for progress in training(family, photos, tmp_path / "run", sample_every=2):
        if isinstance(progress, Stepped):
            assert family.loaded == {"transformer"}


def test_the_same_run_gives_the_same_adapter(family: Family, photos: Path, tmp_path: Path) -> None:
    files = [list(training(family, photos, tmp_path / name))[-1].adapter for name in ("one", "two")]
    first, second = (adapter_file.read(path, "flux1").factors for path in files)
    assert all(mx.array_equal(first[p][i], second[p][i]) for p in first for i in (0, 1))


def test_accumulation_is_a_larger_batch(family: Family, photos: Path, tmp_path: Path) -> None:
    def state(name: str, **knobs: int) -> checkpoint.State:
        list(training(family, photos, tmp_path / name, steps=2, clip_norm=0, **knobs))
        return checkpoint.load(tmp_path / name / "checkpoints" / "2")

    whole, halves = state("whole", batch_size=2), state("halves", batch_size=1, accumulate=2)
    # Adam divides by the size of the gradient, so rounding in a tiny one shows: 1% of a step of 1e-2.
    assert all(mx.allclose(whole.parameters[name], halves.parameters[name], atol=1e-4) for name in whole.parameters)
    # For the same reason the weights cannot tell a sum of gradients from their mean; the state of AdamW can.
    for group in ("m", "v"):
        ours, theirs = whole.optimizer_state.tensors[group], halves.optimizer_state.tensors[group]
        assert all(
            global_norm({"": ours[name] - theirs[name]}) <= 1e-2 * global_norm({"": ours[name]}) for name in ours
        )
    assert whole.losses == pytest.approx(halves.losses, rel=1e-4)


def test_a_stop_request_finishes_the_step_and_saves(family: Family, photos: Path, tmp_path: Path) -> None:
    run = training(family, photos, tmp_path / "run", steps=100, save_every=50)
    progress = next(run)
    while not isinstance(progress, Finished):
        progress = run.send(Request.STOP if isinstance(progress, Stepped) and progress.step == 3 else None)
    assert (progress.step, progress.stopped) == (3, True)
    assert checkpoint.steps_saved(tmp_path / "run") == [3]


def test_a_stop_request_before_the_first_step_leaves_no_checkpoint(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    run = training(family, photos, tmp_path / "run", sample_every=1)
    next(run)
    progress = run.send(Request.STOP)
    while not isinstance(progress, Finished):
        progress = next(run)
    assert (progress.step, progress.stopped, progress.adapter) == (0, True, None)


@pytest.mark.parametrize(
    ("phase", "done", "then"),
    [
        ("reading captions", 1, [("reading captions", 0), ("reading captions", 1)]),
        ("encoding photos", 2, [("encoding photos", 0), ("encoding photos", 1), ("encoding photos", 2)]),
    ],
)
def test_a_stop_request_before_the_first_step_leaves_undone_what_is_not_done_and_the_next_run_goes_on_from_there(
    family: Family, photos: Path, tmp_path: Path, phase: str, done: int, then: list[tuple[str, int]]
) -> None:
    exact, encoded = family.encode_photo, []
    family.encode_photo = lambda pixels: encoded.append(1) or exact(pixels)
    run = training(family, photos, tmp_path / "run")
    said: list[object] = [next(run)]
    while not isinstance(said[-1], Finished):
        asks = isinstance(said[-1], Phase) and (said[-1].name, said[-1].done) == (phase, done)
        said.append(run.send(Request.STOP if asks else None))
    assert [(each.name, each.done) for each in said if isinstance(each, Phase)][-len(then) :] == then
    assert not family.loaded  # neither the transformer, nor an encoder that was at work
    list(training(family, photos, tmp_path / "run", resume=True, steps=1, held_out="none"))
    assert len(encoded) == 3


def test_a_resumed_run_that_is_stopped_before_its_first_step_is_where_it_was(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    whole = list(training(family, photos, tmp_path / "run", held_out="1"))[-1]
    run = training(family, photos, tmp_path / "run", resume=True, steps=8, held_out="1")
    said: list[object] = [next(run)]
    while not isinstance(said[-1], Finished):
        said.append(run.send(Request.STOP))
    assert [type(each) for each in said] == [Resumed, Finished]
    assert (said[-1].step, said[-1].stopped, said[-1].adapter) == (4, True, whole.adapter)
    assert (said[-1].final_loss, said[-1].held_out_loss) == (whole.final_loss, whole.held_out_loss)


def test_save_and_sample_requests_are_done_after_the_step(family: Family, photos: Path, tmp_path: Path) -> None:
    run = training(family, photos, tmp_path / "run", steps=3, save_every=50)
    said: list[object] = [next(run)]
    while not isinstance(said[-1], Finished):
        last = said[-1]
        request = Request.SAVE | Request.SAMPLE if isinstance(last, Stepped) and last.step == 1 else None
        said.append(run.send(request))
    assert [each.step for each in said if isinstance(each, Saved)] == [1, 3]
    assert [each.step for each in said if isinstance(each, Sampled)] == [1, 1]


def test_a_dropped_run_leaves_the_model_as_it_was(family: Family, photos: Path, tmp_path: Path) -> None:
    run = training(family, photos, tmp_path / "run", steps=100)
    while not isinstance(next(run), Stepped):
        pass
    assert any(isinstance(module, lora.LoRALinear) for module in family.transformer.modules())
    run.close()
    assert not any(isinstance(module, lora.LoRALinear) for module in family.transformer.modules())


def test_a_run_stops_after_three_bad_steps_and_keeps_its_adapter(family: Family, photos: Path, tmp_path: Path) -> None:
    exact, calls = family.project, iter(range(100))
    family.project = lambda stream: exact(stream) * (mx.nan if next(calls) >= 6 else 1.0)  # four for the base's score
    run = training(family, photos, tmp_path / "run", steps=100)
    with pytest.raises(TrainingProblem, match="not a number in 3 steps in a row, the last at step 5"):
        list(run)
    state = checkpoint.load(tmp_path / "run" / "checkpoints" / "4")
    before = checkpoint.load(tmp_path / "run" / "checkpoints" / "2")
    assert state.bad_steps_in_a_row == 2
    assert all(mx.array_equal(state.parameters[name], before.parameters[name]) for name in state.parameters)
    assert state.optimizer_state.numbers["n"].item() == 2


def test_what_was_learned_before_bad_steps_is_saved_and_can_be_gone_on_from(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    exact, calls, bad = family.project, iter(range(1000)), range(10, 13)
    family.project = lambda stream: exact(stream) * (mx.nan if next(calls) in bad else 1.0)  # four for the base's score
    knobs = {"steps": 100, "save_every": 50, "score_every": 1000}
    said: list[object] = []
    with pytest.raises(TrainingProblem, match=r"the last at step 9\. .* Step 9 is saved\. Try a lower learning rate"):
        said += (each for each in training(family, photos, tmp_path / "run", **knobs))
    assert [each.step for each in said if isinstance(each, Saved)] == [9]
    state = checkpoint.load(tmp_path / "run" / "checkpoints" / "9")
    assert state.losses[6:] == [None, None, None]
    assert state.optimizer_state.numbers["n"].item() == 6
    bad = [next(calls) + 1]  # one more is no reason to end
    again = training(family, photos, tmp_path / "run", resume=True, **knobs | {"steps": 11})
    assert [(each.step, each.counted) for each in of_kind(again, Stepped)] == [(10, False), (11, True)]


def test_bad_steps_from_the_beginning_leave_nothing_to_save(family: Family, photos: Path, tmp_path: Path) -> None:
    exact = family.project
    family.project = lambda stream: exact(stream) * mx.nan
    for steps in (3, 100):
        with pytest.raises(TrainingProblem, match="not a number in 3 steps in a row, the last at step 3"):
            list(training(family, photos, tmp_path / "run", steps=steps, save_every=50))
        assert checkpoint.steps_saved(tmp_path / "run") == []


@pytest.mark.parametrize("optimizer", ["adamw", "lion", "adafactor"])
def test_an_update_does_not_keep_the_weights_that_it_replaces(
    family: Family, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    exact, before, grown = backend.evaluate, [], []

    def evaluate(*trees: object, wait: bool = True) -> None:
        exact(*trees, wait=wait)
        if before and isinstance(trees[0], tuple):  # what an update comes to
            mx.eval(*trees)
            size, active = before.pop()
            grown.append((mx.get_active_memory() - active) / size)

    def noted(step: Step, number: int, batches: Any, before_update: Any) -> None:
        def at_the_update() -> None:
            before_update()
            layers = [each for each in family.transformer.modules() if isinstance(each, lora.LowRank)]
            size = sum(each.lora_A.nbytes + each.lora_B.nbytes for each in layers)
            before.append((size, mx.get_active_memory()))

        submit(step, number, batches, at_the_update)

    submit = Step.submit
    monkeypatch.setattr(Step, "submit", noted)
    monkeypatch.setattr(backend, "evaluate", evaluate)
    list(training(family, photos, tmp_path / "run", steps=4, rank=256, save_every=3, optimizer=optimizer))
    # Of each array that is kept there is the new one and not the old; the gradient, as large as the weights, is gone.
    assert grown[1:] == pytest.approx([-1.0] * 3, abs=0.05)


def test_sample_pictures_differ_with_the_adapter_and_repeat_without(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    list(training(family, photos, tmp_path / "run", sample_every=4, learning_rate=0.1))
    again = training(family, photos, tmp_path / "again", sample_every=4, steps=1)
    first = next(each for each in again if isinstance(each, Sampled))

    def pixels(path: Path) -> bytes:
        with Image.open(path) as image:
            return image.tobytes()

    drawn = tmp_path / "run" / "samples"
    assert pixels(drawn / "000000-0.png") == pixels(first.file)
    assert pixels(drawn / "000000-0.png") != pixels(drawn / "000004-0.png")
    assert first.recipe["prompt"] == "a photo of sks can"


def test_the_caption_is_read_without_its_trigger_where_that_is_trained(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    exact, read = family.encode_each, []
    family.encode_each = lambda prompts: read.extend(prompts) or exact(prompts)
    list(training(family, photos, tmp_path / "run", trigger_dropout=1.0, sample_prompts=()))
    assert read == ["", "a photo of sks can", "a photo of can"]
    list(training(family, photos, tmp_path / "whole", sample_prompts=()))
    less, whole = (checkpoint.load(tmp_path / name / "checkpoints" / "4") for name in ("run", "whole"))
    assert less.losses != whole.losses
    words = {"trigger": "other", "class_word": "can", "cache": tmp_path / "cache", "resume": True}
    renamed = train(family, examples(photos), settings(trigger_dropout=1.0), tmp_path / "run", **words)
    with pytest.raises(TrainingProblem, match="words have changed"):
        list(renamed)


def test_a_trigger_dropout_that_means_nothing_is_a_warning(family: Family, photos: Path, tmp_path: Path) -> None:
    def warned(**knobs: Any) -> list[str]:
        notes = of_kind(training(family, photos, tmp_path / "run", steps=1, trigger_dropout=0.5, **knobs), Note)
        return [note.text for note in notes if note.level == "warning"]

    assert warned() == []
    assert len(opposite := warned(class_pictures=1)) == 1
    assert "class pictures teach the opposite" in opposite[0]
    for number in (0, 1):
        (photos / f"{number}.txt").write_text("a red disc", encoding="utf-8")
    (lacking,) = warned()
    assert lacking.startswith("2 of 3 captions lack the trigger word 'sks'")
    lacking, vain = warned(held_out="2.png")
    assert lacking.startswith("No caption has the trigger word 'sks'")
    assert vain == "Trigger dropout does nothing here: no caption has the word 'sks'."


def test_no_photos_wrong_targets_and_wrong_prompts_are_sentences(family: Family, photos: Path, tmp_path: Path) -> None:
    words = {"trigger": "sks", "class_word": "can", "cache": tmp_path / "cache"}
    with pytest.raises(DataProblem, match="no photos"):
        next(train(family, [], settings(), tmp_path / "run", **words))
    with pytest.raises(ConfigProblem, match="'nowhere' matches no layer"):
        list(training(family, photos, tmp_path / "run", targets="nowhere"))
    with pytest.raises(DataProblem, match="colour"):
        list(training(family, photos, tmp_path / "run", sample_prompts=("a {colour} can",)))


def test_a_photo_that_went_away_is_named(family: Family, photos: Path, tmp_path: Path) -> None:
    run = training(family, photos, tmp_path / "run")
    (photos / "1.png").unlink()
    with pytest.raises(DataProblem, match=r"1\.png: is gone"):
        list(run)


def test_an_adapter_that_never_moved_is_not_saved_and_said_so(family: Family, photos: Path, tmp_path: Path) -> None:
    family.project = lambda stream: mx.zeros_like(stream["img"][..., :16])  # a model whose output ignores its blocks
    run = training(family, photos, tmp_path / "run", steps=3, save_every=2)
    with pytest.raises(TrainingProblem, match="Nothing was learned in 3 steps"):
        list(run)
    assert checkpoint.steps_saved(tmp_path / "run") == []


def test_a_stop_is_obeyed_in_the_middle_of_a_picture(
    family: Family, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.training.reporter.SECONDS_BETWEEN_REPORTS", 0.0)
    run = training(family, photos, tmp_path / "run", sample_every=1, sample_steps=50)
    said: list[object] = [next(run)]
    while not isinstance(said[-1], Finished):
        drawing = isinstance(said[-1], Phase) and said[-1].name == "drawing samples"
        said.append(run.send(Request.STOP if drawing else None))
    assert not [each for each in said if isinstance(each, Sampled)]
    assert not (tmp_path / "run" / "samples").exists()
