"""A run measures its pictures: with and without the trigger, by seeds, at each step that is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import ModelProblem
from core.models.base import Family
from core.training import judging
from core.training.events import Measured, Note, Phase, Request, Sampled
from core.training.judging import pairs_of
from core.vision import dinov2
from tests import tiny_dinov2
from tests.core.subjects import of_kind, settings, training

KNOBS = {
    "sample_every": 2, "judged_seeds": 2, "held_out": "1", "sample_steps": 2,
    "sample_prompts": ("a photo of {trigger} {class_word}", "a {class_word}"),
}  # fmt: skip

pytestmark = pytest.mark.slow


def test_each_step_that_is_drawn_is_measured_and_a_resumed_run_measures_the_same(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    events = list(training(family, photos, tmp_path / "whole", **KNOBS))
    measured = [each.drawn for each in of_kind(events, Measured)]
    assert [each.step for each in measured] == [0, 2, 4]
    assert all((len(each.likeness), len(each.bare), len(each.distance)) == (2, 2, 2) for each in measured)
    assert all(each.held_out and 0 < each.photos[0] <= 1.001 for each in measured)
    assert len(of_kind(events, Sampled)) == 2 * 3, "what is drawn to be measured is no sample"
    assert measured[0].likeness != measured[-1].likeness

    run = training(family, photos, tmp_path / "parts", **KNOBS, save_every=2)
    first = []
    for progress in run:
        first.append(progress)
        if isinstance(progress, Measured) and progress.step == 2:
            break
    run.close()
    again = training(family, photos, tmp_path / "parts", **KNOBS, save_every=2, resume=True)
    both = {each.step: each.drawn for each in [*of_kind(first, Measured), *of_kind(again, Measured)]}
    assert [both[step] for step in (0, 2, 4)] == measured


def test_a_stop_while_pictures_are_drawn_leaves_the_step_unmeasured(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    run = training(family, photos, tmp_path / "run", **KNOBS)
    events = [next(run)]
    while not (isinstance(events[-1], Phase) and events[-1].name == "drawing pictures to measure"):
        events.append(next(run))
    events += [run.send(Request.STOP), *run]
    assert not of_kind(events, Measured)


def test_networks_features_are_used_where_the_model_is_and_can_be_read(
    family: Family, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_of(name: str, folder: Path | None) -> list[object]:
        run = training(family, photos, tmp_path / name, **KNOBS, dinov2=folder)
        events = []
        for progress in run:
            events.append(progress)
            if isinstance(progress, Measured):
                break
        run.close()
        return events

    folder = tiny_dinov2.make_model_folder(tmp_path / "model")
    plain, network = (of_kind(first_of(name, at), Measured)[0] for name, at in (("a", None), ("b", folder)))
    assert plain.drawn.likeness != network.drawn.likeness

    def broken(*_: object) -> None:
        raise ModelProblem("Its weights are damaged.")

    monkeypatch.setattr(dinov2, "features_of", broken)
    events = first_of("c", folder)
    assert of_kind(events, Measured)[0].drawn == plain.drawn
    assert "The pictures are measured without DINOv2: Its weights are damaged." in [
        each.text for each in of_kind(events, Note)
    ]


def test_the_first_two_prompts_with_the_trigger_are_measured_and_none_where_nothing_is_drawn() -> None:
    prompts = ("a can", "a photo of sks can", "sks can, red", "SKS can in the snow")
    config = settings(judged_seeds=1, sample_every=10, sample_prompts=prompts)
    assert pairs_of(config, prompts, "sks") == {1: "a photo of can", 2: "can, red"}
    for off in ({"judged_seeds": 0}, {"sample_every": 0}):
        assert pairs_of(settings(**{"judged_seeds": 1, "sample_every": 10} | off), prompts, "sks") == {}
    assert judging.pairs_of(config, ("sks",), "sks") == {}, "nothing is left without the trigger"
