"""What a run would fail for in its worker is found when it is requested, all of it at once, without loading a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from core.config.resolve import examine
from core.errors import AdapterProblem, ConfigProblem
from core.estimate.architecture import Architecture
from core.models.base import Family
from core.training import checkpoint
from core.training.check import architecture_of, settings_problems, start_problems
from tests.core.subjects import training
from tests.core.test_adapter_layers import file_of

PHOTOS = ("a.jpg", "b, c.jpg", "d.jpg")


@pytest.fixture(scope="module")
def tiny(model_folder: Path) -> Architecture:
    return Architecture.of(model_folder)


def problems(
    tiny: Architecture, knobs: Mapping[str, Any], *, photos: tuple[str, ...] = PHOTOS, starts: bool = False
) -> dict[str, str]:
    """The sentences by field."""
    found: dict[str, str] = {}
    for each in settings_problems(examine(knobs), tiny, photos, starts=starts):
        found[each.field] = f"{found[each.field]} {each.message}" if each.field in found else each.message
    return found


def test_settings_without_a_fault_have_no_problem(tiny: Architecture) -> None:
    assert problems(tiny, {}) == {}
    good = {"targets": "attention, *.proj_out", "ranks": "attention=8, *.proj_out=4:2", "held_out": "b, c.jpg"}
    assert problems(tiny, good | {"sample_prompts": "{trigger}\n{class_word} {{braces}}", "held_out": 2}) == {}


@pytest.mark.parametrize(
    ("name", "prompt", "words"),
    [
        ("sample_prompts", "fine\na {tigger} here", "'a {tigger} here' has {tigger}, which is not known"),
        ("sample_prompts", "a {} here", "has {}, which is not known; {trigger} and {class_word} are filled in"),
        ("sample_prompts", "a { here", "'a { here' has an unmatched brace"),
        ("class_prompt", "a photo of {class}", "has {class}, which is not known"),
    ],
)
def test_a_name_in_a_prompt_that_is_not_known_is_told(tiny: Architecture, name: str, prompt: str, words: str) -> None:
    found = problems(tiny, {name: prompt})
    assert found.keys() == {name}
    assert words in found[name]


def test_a_class_that_is_kept_and_taught_at_once_is_told(tiny: Architecture) -> None:
    found = problems(tiny, {"class_preservation": 2, "trigger_dropout": 0.3})
    assert found.keys() == {"class_preservation"}
    assert found["class_preservation"].startswith("is 2, and trigger_dropout is 0.3: one keeps what the class word")
    assert problems(tiny, {"class_preservation": 2, "class_pictures": 4}) == {}


def test_a_folder_of_class_pictures_that_cannot_be_used_is_told(tiny: Architecture, tmp_path: Path) -> None:
    def said(folder: object) -> str:
        found = problems(tiny, {"class_folder": str(folder)})
        assert found.keys() == {"class_folder"}
        return found["class_folder"]

    assert said("dogs") == "is 'dogs'; give the whole path of the folder, from the root on"
    assert "is not a folder on this computer" in said(tmp_path / "none")
    assert "has no photos in it; put JPEG" in said(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert problems(tiny, {"class_folder": str(tmp_path)}) == {}, "it is not opened at each look"


def test_every_wrong_prompt_is_named(tiny: Architecture) -> None:
    found = problems(tiny, {"sample_prompts": ["{a}", "fine", "{b}"]})
    assert "'{a}'" in found["sample_prompts"]
    assert "'{b}'" in found["sample_prompts"]


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"targets": "atention"}, "'atention' matches no layer; use all_linear, attention, mlp, "),
        ({"targets": "attention, x_embedder"}, "'x_embedder' matches only layers outside the blocks"),
        ({"targets": "likeness"}, "'likeness' matches no layer"),  # its blocks are not in so small a model
        ({"targets": ","}, "is empty"),
        ({"targets": "attention", "ranks": "mlp=4"}, "'mlp' matches no layer that gets an adapter; use all_linear"),
        ({"ranks": "nowhere=4, mlp=8, elsewhere=2"}, "'elsewhere' matches no layer that gets an adapter"),
    ],
)
def test_layers_and_ranks_that_match_nothing_are_told(tiny: Architecture, knobs: dict[str, str], words: str) -> None:
    found = problems(tiny, knobs)
    assert found.keys() == {"ranks" if "ranks" in knobs else "targets"}
    assert words in found["ranks" if "ranks" in knobs else "targets"]


def test_wrong_layers_and_wrong_ranks_are_told_together(tiny: Architecture) -> None:
    assert problems(tiny, {"targets": "nowhere", "ranks": "mlp=4, elsewhere=4"}).keys() == {"targets", "ranks"}
    assert problems(tiny, {"targets": "nowhere", "ranks": "mlp=4"}).keys() == {"targets"}


def test_with_an_adapter_to_start_from_the_knobs_of_layers_are_not_used(tiny: Architecture) -> None:
    assert problems(tiny, {"targets": "nowhere", "ranks": "mlp=4"}, starts=True) == {}


@pytest.mark.parametrize(
    ("held_out", "words"),
    [
        ("3", "is '3', and there are 3 photos; leave one to train on"),
        ("99", "is '99', and there are 3 photos"),
        ("9" * 5000, "and there are 3 photos; leave one to train on"),
        ("e.jpg", "names 'e.jpg'; it can be auto, none, a number, or photos by name, here a.jpg, b, c.jpg, d.jpg"),
        ("-1", "names '-1'"),
        ("1,5", "names '1', '5'"),
        ("1.000", "names '1.000'"),
    ],
)
def test_held_out_photos_that_are_too_many_or_not_there_are_told(tiny: Architecture, held_out: str, words: str) -> None:
    found = problems(tiny, {"held_out": held_out})
    assert found.keys() == {"held_out"}
    assert words in found["held_out"]
    assert len(found["held_out"]) < 400


def test_a_size_is_a_multiple_of_the_models_token(tiny: Architecture, model_folder: Path, tmp_path: Path) -> None:
    assert tiny.pixel_multiple == 16
    for part in ("transformer", "vae"):
        (tmp_path / part).mkdir()
        config = json.loads((model_folder / part / "config.json").read_text())
        if part == "vae":  # one more halving: a token is 32 pixels wide
            config["block_out_channels"] = [8, 8, 8, 8, 16]
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    (tmp_path / "model_index.json").write_text((model_folder / "model_index.json").read_text())
    coarse = Architecture.of(tmp_path)
    found = problems(coarse, {"side_px": 80, "more_sides_px": "96 112"})
    assert found == {
        "side_px": "is 80 px; this model's sizes are multiples of 32",
        "more_sides_px": "is 112 px; this model's sizes are multiples of 32",
    }
    assert problems(coarse, {"side_px": 81}) == {"side_px": "is 81 px; it must be a multiple of 16"}


def test_everything_is_told_at_once_in_the_order_of_the_form(tiny: Architecture) -> None:
    wrong = {"sample_prompts": "{nobody}", "held_out": 9, "rank": "1,5", "targets": "nowhere", "steps": 0, "odd": 1}
    found = settings_problems(examine(wrong | {"ranks": "mlp", "side_px": 250}), tiny, PHOTOS)
    order = ["steps", "side_px", "rank", "targets", "ranks", "held_out", "sample_prompts", "odd"]
    assert [each.field for each in found] == order


def test_a_wrong_setting_hides_no_other_and_is_not_judged_twice(tiny: Architecture) -> None:
    assert problems(tiny, {"held_out": 99, "steps": 0}).keys() == {"held_out", "steps"}
    assert problems(tiny, {"targets": " "})["targets"] == "is empty"


def test_a_model_that_says_too_little_is_left_to_its_loading(tmp_path: Path) -> None:
    assert architecture_of(tmp_path) is None
    assert settings_problems(examine({"targets": "nowhere"}), None) == []
    assert start_problems(tmp_path / "a", "a", "tiny", "flux1", None) == []


def test_an_adapter_to_start_from_that_does_not_fit_is_one_sentence(tiny: Architecture, tmp_path: Path) -> None:
    paths = list(tiny.layers.sizes)[:5]
    file = file_of(tmp_path / "a.safetensors", dict.fromkeys(paths, (7, 9)))
    (problem,) = start_problems(file, "Theirs", "Tiny", tiny.family, tiny)
    assert problem.field == "start_from"
    assert problem.message.startswith(
        "A run cannot begin with Theirs. Begin afresh, or with an adapter that was made for"
    )
    assert f"For Tiny: {paths[0]} is for a layer of 7 in and 9 out; " in problem.message
    assert problem.message.endswith(" and others.")


@pytest.mark.parametrize("knobs", [{"targets": "nowhere"}, {"ranks": "nowhere=2"}])
def test_training_refuses_wrong_layers_before_it_reads_a_text_or_clears_a_run(
    family: Family, photos: Path, tmp_path: Path, knobs: dict[str, str]
) -> None:
    out = tmp_path / "run"
    list(training(family, photos, out, steps=2, cache=tmp_path / "first"))
    with pytest.raises(ConfigProblem, match="'nowhere' matches no layer"):
        next(training(family, photos, out, cache=tmp_path / "cache", **knobs))
    assert not (tmp_path / "cache").exists()
    assert checkpoint.steps_saved(out) == [2]


def test_training_refuses_an_adapter_that_does_not_fit_before_it_reads_a_text(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    file = file_of(tmp_path / "theirs.safetensors", {"transformer_blocks.9.attn.to_q": (32, 32)})
    with pytest.raises(AdapterProblem, match="is not in this model"):
        next(training(family, photos, tmp_path / "run", cache=tmp_path / "cache", start_from=file))
    assert not (tmp_path / "cache").exists()
