"""Every knob has one home, and bad values come back as sentences, all at once."""

from __future__ import annotations

import dataclasses
import json

import pytest

from core.config.optimizer_defaults import FOLLOWING, TRAITS, own_settings, rate_advice
from core.config.resolve import Resolved, examine, resolve
from core.config.train import GROUPS, TrainConfig, default_of, kind_of, knobs
from core.errors import ConfigProblem

NUMBERS = [name for name in knobs() if kind_of(name) in ("int", "float")]


def sentences(user: dict, **more: object) -> dict[str, str]:
    with pytest.raises(ConfigProblem) as caught:
        resolve(user, **more)
    return {problem.field: problem.message for problem in caught.value.problems}


def test_every_knob_says_what_it_is() -> None:
    for name, one in knobs().items():
        assert one.label, name
        assert one.sentence.endswith("."), name
        assert one.group in GROUPS, name
        assert kind_of(name) in ("int", "float", "bool", "str", "choice", "lines", "sizes"), name


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_a_range_that_holds_its_default(name: str) -> None:
    one = knobs()[name]
    assert one.at_most is not None
    assert (one.at_least is None) != (one.above is None)
    low = one.at_least if one.at_least is not None else one.above
    assert low <= default_of(name) <= one.at_most


def test_the_form_shows_four_or_five_fields_and_folds_the_rest() -> None:
    assert 4 <= sum(one.front for one in knobs().values()) <= 5


def test_the_defaults_are_valid_and_say_where_they_come_from() -> None:
    resolved = resolve({})
    assert resolved.config == TrainConfig()
    assert set(resolved.sources.values()) == {"default"}


def test_the_user_wins_over_the_model_and_the_model_over_us() -> None:
    resolved = resolve({"steps": 7}, {"steps": 500, "learning_rate": 1e-3})
    assert (resolved.config.steps, resolved.sources["steps"]) == (7, "user")
    assert (resolved.config.learning_rate, resolved.sources["learning_rate"]) == (1e-3, "model")
    assert resolved.sources["seed"] == "default"


def test_a_rank_chosen_alone_keeps_the_scale_at_1() -> None:
    assert resolve({"rank": 4}).config.alpha == 4
    assert resolve({"rank": 4, "alpha": 8}).config.alpha == 8


def test_an_optimizer_chosen_alone_brings_its_own_settings() -> None:
    model = {"learning_rate": 2e-3}
    found = resolve({"optimizer": "prodigy"}, model).config
    assert (found.learning_rate, found.schedule, found.warmup_steps) == (1, "constant", 0)
    found = resolve({"optimizer": "prodigy", "schedule": "linear", "warmup_steps": 5}, model).config
    assert (found.learning_rate, found.schedule, found.warmup_steps) == (1, "linear", 5)
    assert resolve({"optimizer": "lion"}, model).config.learning_rate == 6.7e-4
    for same in ("adamw", "adafactor"):
        assert resolve({"optimizer": same}, model).config.learning_rate == 2e-3
    assert resolve({"optimizer": "prodigy", "learning_rate": 0.5}, model).config.learning_rate == 0.5
    assert (
        resolve({}, {"optimizer": "lion", "learning_rate": 1e-4}).config.learning_rate == 1e-4
    )  # the model's, for both
    kept = resolve({"optimizer": "lion"}, model).as_json()
    assert kept["learning_rate"]["source"] == "model"
    assert Resolved.from_json(kept).config.learning_rate == 6.7e-4


def test_a_learning_rate_that_does_not_suit_the_optimizer_gets_a_sentence() -> None:
    assert set(TRAITS) == set(knobs()["optimizer"].choices)
    for optimizer in TRAITS:
        assert rate_advice(optimizer, resolve({"optimizer": optimizer}).config.learning_rate) == ""
    assert "finds the rate itself" in rate_advice("prodigy", 1e-4)
    words = "A learning rate of 0.01 does not suit Lion: adapters are trained with 2e-07 to 0.004."
    assert rate_advice("lion", 0.01) == words
    assert "AdamW" in rate_advice("adamw", 1.0)
    assert all(set(own_settings(optimizer, 1e-4)) <= set(FOLLOWING) for optimizer in TRAITS)


def test_everything_wrong_is_named_at_once_with_the_value_and_the_range() -> None:
    found = sentences({"steps": 0, "rank": "many", "flip": "perhaps", "sigma_draw": "cubic", "stepz": 3})
    assert set(found) == {"steps", "rank", "flip", "sigma_draw", "stepz"}
    assert found["steps"] == "is 0 steps; it can be 1 to 100000 steps"
    assert found["rank"].startswith("is 'many'; it must be a number")
    assert "logit_normal, uniform or model_shift" in found["sigma_draw"]
    assert found["stepz"] == "there is no setting called stepz"


@pytest.mark.parametrize(
    "value", ["nan", "inf", float("nan"), float("-inf"), True, None, [], "1e999", 10**400, "300.5", {}]
)
def test_what_is_not_a_whole_number_is_never_a_number_of_steps(value: object) -> None:
    if value is None:
        assert resolve({"steps": value}).sources["steps"] == "default"
    else:
        assert "steps" in sentences({"steps": value})


@pytest.mark.parametrize("name", NUMBERS)
def test_the_edges_of_a_range_are_in_it_and_what_is_beyond_is_not(name: str) -> None:
    one = knobs()[name]
    step = 1 if kind_of(name) == "int" else 0.5
    assert name in sentences({name: one.at_most + step})
    low = one.at_least if one.at_least is not None else one.above
    assert name in sentences({name: low - step})
    assert getattr(resolve({name: one.at_most}).config, name) == one.at_most


def test_strings_from_a_form_are_read_as_what_they_mean() -> None:
    config = resolve(
        {"steps": " 300 ", "flip": "on", "learning_rate": "2e-4", "sample_prompts": "one\n\n two \n"}
    ).config
    assert (config.steps, config.flip, config.learning_rate) == (300, True, 2e-4)
    assert config.sample_prompts == ("one", "two")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("learning_rate", "0,0001", "is '0,0001'; write decimals with a point: 0.0001"),
        ("learning_rate", "0,005", "is '0,005'; write decimals with a point: 0.005"),
        ("alpha", "1,5", "is '1,5'; write decimals with a point: 1.5"),
        ("learning_rate", "1,5e-4", "is '1,5e-4'; write decimals with a point: 1.5e-4"),
        ("clip_norm", "1,000", "is '1,000'; write 1.000 or 1000: a point before decimals, nothing between thousands"),
        ("clip_norm", "1 000", "is '1 000'; write 1000: a point before decimals, nothing between thousands"),
        ("alpha", "1.000,5", "is '1.000,5'; it must be a number"),
        ("steps", "1.000", "is '1.000'; write it without separators: 1000"),
        ("steps", "1,000", "is '1,000'; write it without separators: 1000"),
        ("steps", "10 000", "is '10 000'; write it without separators: 10000"),
        ("steps", "1,5", "is '1,5'; it must be a whole number 1 to 100000"),
        ("more_sides_px", "512 1.024", "is '1.024'; write it without separators: 1024"),
    ],
)
def test_a_number_with_a_comma_or_separators_is_told_how_to_be_written(name: str, value: str, words: str) -> None:
    assert words in sentences({name: value})[name]


def test_a_wrong_value_is_shown_in_part_where_it_is_long() -> None:
    for value in ("9" * 5000, "many " * 1000, ["many"] * 1000, 10**400):
        assert len(sentences({"steps": value})["steps"]) < 200


def test_a_number_with_a_decimal_point_is_a_number() -> None:
    assert resolve({"alpha": "1.000"}).config.alpha == 1.0
    assert resolve({"steps": "300.0"}).config.steps == 300
    assert resolve({"more_sides_px": "512,768"}).config.more_sides_px == (512, 768)


def test_settings_with_faults_are_usable_where_they_have_none() -> None:
    examined = examine({"steps": 0, "rank": 8, "side_px": 250}, {"steps": 500, "side_px": 512})
    assert examined.wrong == {"steps", "side_px"}
    config = examined.resolved.config
    assert (config.steps, config.rank, config.alpha, config.side_px) == (300, 8, 8.0, 256)


def test_a_picture_size_is_a_multiple_of_16() -> None:
    assert "multiple of 16" in sentences({"side_px": 250})["side_px"]


def test_more_picture_sizes_are_read_from_text_and_each_is_judged() -> None:
    for given in ("512 768", "512, 768", [512, 768]):
        assert resolve({"more_sides_px": given}).config.sides_px == (256, 512, 768)
    assert resolve({"more_sides_px": " "}, {"more_sides_px": [512]}).config.sides_px == (256,)
    assert resolve({"side_px": 512, "more_sides_px": "768 512 768"}).config.sides_px == (512, 768)
    for given, words in [
        ("512 500", "is 500 px; it must be a multiple of 16"),
        ("512 big", "is big; it must be a number"),
        ("512 4096", "is 4096 px; it can be 64 to 2048 px"),
        ("64 80 96 112 128", "has 5 sizes; at most 4"),
        (512, "with spaces between them"),
    ]:
        assert words in sentences({"more_sides_px": given})["more_sides_px"].replace("'", "")


def test_a_run_kept_before_photos_could_keep_their_shape_goes_on_with_squares() -> None:
    kept = {name: entry for name, entry in resolve({"steps": 7}).as_json().items() if name != "shapes"}
    again = Resolved.from_json(kept)
    assert (again.config.shapes, again.config.steps) == ("square", 7)
    assert again.as_json()["shapes"] == {"value": "square", "source": "default"}


def test_ranks_by_layer_are_read_and_every_wrong_entry_is_named() -> None:
    assert resolve({}).config.ranks == ""
    assert resolve({"ranks": " "}).config.ranks == ""
    assert resolve({"ranks": "attention=32, *.ff.*=8:4.5"}).config.ranks == "attention=32, *.ff.*=8:4.5"
    for given, words in [
        ("attention", "has 'attention'; an entry is layers=rank or layers=rank:alpha"),
        ("attention=0", "has 'attention=0'; a rank can be 1 to 256"),
        ("mlp=257", "a rank can be 1 to 256"),
        ("mlp=8:0", "has 'mlp=8:0'; an alpha can be more than 0 to 1024"),
        ("mlp=8:-1", "an entry is layers=rank"),
        ("mlp=1e3", "an entry is layers=rank"),
        ("mlp=٣", "an entry is layers=rank"),
        ("=8", "an entry is layers=rank"),
    ]:
        assert words in sentences({"ranks": given})["ranks"]
    with pytest.raises(ConfigProblem) as caught:
        resolve({"ranks": "a=0, b, c=4", "steps": 0})
    assert [problem.field for problem in caught.value.problems] == ["steps", "ranks", "ranks"]


def test_choices_from_outside_are_checked_and_listed() -> None:
    assert sentences({"model": "sdxl"}, choices={"model": ("pocket", "flux")})["model"] == (
        "is 'sdxl'; it can be pocket or flux"
    )


def test_a_resolved_configuration_survives_json() -> None:
    resolved = resolve({"steps": 7, "flip": True}, {"rank": 8})
    again = Resolved.from_json(json.loads(json.dumps(resolved.as_json())))
    assert again == resolved


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().steps = 2  # type: ignore[misc]
