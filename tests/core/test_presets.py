"""Presets set documented knobs with reasons; settings come from one source over the other; and are written as files."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from core.config import settings_file
from core.config.presets import GOALS, TIMES, changes, proposed_goal
from core.config.resolve import OLD_DEFAULTS, Source, examine, resolve
from core.config.train import knobs
from core.dataset import captions, split
from core.errors import ConfigProblem
from core.hub.families import FAMILIES
from core.hub.registry import KLEIN_DEFAULTS


@pytest.mark.parametrize(
    ("class_word", "goal"),
    [
        ("dog", "animal"),
        ("Golden Retrievers", "animal"),
        ("man with a dog", "person"),
        ("young women", "person"),
        ("watercolor painting", "style"),
        ("toy dog", "object"),
        ("cat mug", "object"),
        ("can", "object"),
        ("", "object"),
        ("with", "object"),
    ],
)
def test_the_class_word_proposes_a_goal(class_word: str, goal: str) -> None:
    assert proposed_goal(class_word) == goal


@pytest.mark.parametrize("family", FAMILIES)
def test_presets_set_valid_knobs_and_say_why(family: str) -> None:
    for goal in GOALS:
        for time in TIMES:
            found = changes(goal, time, family, KLEIN_DEFAULTS, 1000)
            assert found.keys() <= knobs().keys()
            values = {name: change.value for name, change in found.items()}
            examined = examine({}, KLEIN_DEFAULTS, preset=values)
            assert not examined.problems
            assert {name for name, source in examined.resolved.sources.items() if source == "preset"} == set(found)
            assert all(change.reason.endswith(".") for change in found.values())
    assert not changes(None, None, family, KLEIN_DEFAULTS, 1000)


def test_the_prompts_of_a_goal_can_be_drawn() -> None:
    for goal in GOALS.values():
        assert goal.watched <= len(goal.prompts)
        for prompt in goal.prompts:
            assert captions.fill(prompt.text, "sks", "can")
        assert any("{trigger}" not in prompt.text for prompt in goal.prompts), "one shows what leaks"


def test_a_time_preset_counts_from_the_steps_that_suit_the_photos() -> None:
    def of(time: str, steps: int, **defaults: Any) -> dict[str, Any]:
        return {name: change.value for name, change in changes(None, time, "flux1", defaults, steps).items()}

    assert of("balanced", 850) == {"steps": 850}
    assert of("quick", 1000) == {"steps": 500, "sample_every": 100, "save_every": 100}
    assert of("quick", 7) == {"steps": 4, "sample_every": 1, "save_every": 1}
    thorough = {"steps": 2000, "sample_every": 200, "save_every": 200, "score_draws": 2}
    assert of("thorough", 1000, side_px=256) == thorough
    assert of("thorough", 1000, side_px=512, score_draws=3) == thorough | {"side_px": 768, "score_draws": 3}


def test_each_source_overrides_those_before_it() -> None:
    model, preset = {"rank": 8, "steps": 800, "learning_rate": 2e-4}, {"rank": 32, "steps": 400, "save_every": 80}
    configuration = {"steps": 300, "flip": True, "optimizer": "lion"}
    found = resolve({"flip": "off"}, model, preset=preset, configuration=configuration)
    config = found.config
    assert (config.rank, config.steps, config.save_every, config.flip, config.optimizer) == (32, 300, 80, False, "lion")
    expected: dict[str, Source] = {
        "batch_size": "default", "learning_rate": "model", "rank": "preset", "save_every": "preset",
        "steps": "configuration", "optimizer": "configuration", "flip": "user",
    }  # fmt: skip
    assert {name: found.sources[name] for name in expected} == expected
    assert config.alpha == 32
    assert config.learning_rate == pytest.approx(6.7e-5), "Lion's, since the configuration set the optimizer"


def test_a_value_of_the_user_that_says_the_same_is_the_presets() -> None:
    same = resolve({"rank": "32", "steps": 9}, {"rank": 8}, preset={"rank": 32, "steps": 400})
    assert (same.sources["rank"], same.sources["steps"]) == ("preset", "user")
    over = resolve({"rank": "32"}, {}, preset={"rank": 32}, configuration={"rank": 4})
    assert over.sources["rank"] == "user", "the configuration says something else"
    assert resolve({"rank": 8}, {"rank": 8}).sources["rank"] == "user"


def test_what_is_wrong_in_a_configuration_is_named_with_the_rest() -> None:
    examined = examine({"steps": 0}, configuration={"rank": 999, "odd": 1})
    assert sorted(problem.field for problem in examined.problems) == ["odd", "rank", "steps"]


@pytest.mark.parametrize("file_format", settings_file.FORMATS)
def test_settings_are_read_back_from_the_file_that_was_written(file_format: str) -> None:
    values = {"rank": 32, "learning_rate": 1e-05, "alpha": 16.0, "flip": True, "sample_prompts": ['a "b"\\', "\x7fü"]}
    values |= {"more_sides_px": [512, 768], "ranks": ""}
    text = settings_file.dumps("Soft", values, "Likeness 1", file_format)
    assert settings_file.loads(b"\xef\xbb\xbf" + text.encode(), file_format) == settings_file.SettingsFile(
        "Soft", values
    )
    read = json.loads(text) if file_format == "json" else tomllib.loads(text)
    assert list(read)[:2] == ["_name", "_program"]


@pytest.mark.parametrize(
    ("content", "file_format", "words"),
    [
        (b"[1]", "json", "must hold a JSON object"),
        (b"rank = ", "toml", "is not TOML"),
        (b"\xff", "toml", "is not UTF-8"),
        (b"{", "json", "is not JSON"),
    ],
)
def test_a_file_that_holds_no_settings_is_refused_in_words(content: bytes, file_format: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings_file.loads(content, file_format)


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        ("a.jpg, b, c.jpg", (0, 1)),
        ("b, c.jpg", (1,)),
        ("d.jpg,a.jpg", (0, 2)),
        ("2", 2),
        ("auto", 0),
        ("none", 0),
    ],
)
def test_held_out_photos_may_have_commas_in_their_names(choice: str, found: int | tuple[int, ...]) -> None:
    assert split.held_out(choice, ["a.jpg", "b, c.jpg", "d.jpg"]) == found


def test_an_unknown_held_out_photo_is_named_alone() -> None:
    with pytest.raises(ConfigProblem) as caught:
        split.held_out("b, c.jpg, nobody.jpg", ["a.jpg", "b, c.jpg", "d.jpg"])
    assert caught.value.problems[0].message.startswith("names 'nobody.jpg'; it can be")


def test_older_defaults_are_knobs() -> None:
    assert OLD_DEFAULTS.keys() <= knobs().keys()
