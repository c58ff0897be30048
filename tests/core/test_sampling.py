"""Drawing: the same recipe gives the same picture, and one can stop between two steps."""

from __future__ import annotations

import json

import mlx.core as mx
import numpy as np
import pytest

from core.errors import ConfigProblem
from core.models.base import Family
from core.models.load import load_family
from core.sampling import Guidance, draw, guidance_for, sampler_steps, starting_noise, to_image
from tests import tiny

SIZE = {"height_px": 48, "width_px": 64}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return load_family(tiny.make_model_folder(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def dev_like(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return load_family(tiny.make_model_folder(tmp_path_factory.mktemp("dev"), guidance=True))


def test_the_recipe_draws_the_picture_again(family: Family) -> None:
    first = draw(family, "a red toy car", **SIZE, steps=3, guidance=2.0, seed=11)
    recipe = json.loads(json.dumps(first.recipe))
    again = draw(
        family,
        recipe["prompt"],
        height_px=recipe["height_px"],
        width_px=recipe["width_px"],
        steps=recipe["steps"],
        guidance=recipe["guidance"],
        seed=recipe["seed"],
        negative_prompt=recipe["negative_prompt"],
    )
    assert first.image.size == (64, 48)
    assert first.image.tobytes() == again.image.tobytes()
    assert recipe["model"] == family.hashes
    assert {"dtype", "device", "mlx", "adapters"} <= recipe.keys()
    assert recipe["precision"] == "full"


def test_another_seed_or_prompt_is_another_picture(family: Family) -> None:
    one = draw(family, "a red toy car", **SIZE, steps=2, guidance=2.0, seed=1).image.tobytes()
    assert one != draw(family, "a red toy car", **SIZE, steps=2, guidance=2.0, seed=2).image.tobytes()
    assert one != draw(family, "a dog", **SIZE, steps=2, guidance=2.0, seed=1).image.tobytes()


def test_conditioning_made_earlier_draws_the_same_without_the_text_encoders(family: Family) -> None:
    prompt, negative = family.encode_text(["a dog"]), family.encode_text([""])
    expected = draw(family, "a dog", **SIZE, steps=2, guidance=2.0, seed=3)
    family.free("text")
    cached = draw(family, prompt, **SIZE, steps=2, guidance=2.0, seed=3, negative_prompt=negative)
    assert cached.image.tobytes() == expected.image.tobytes()
    assert family.loaded <= {"transformer", "vae"}


def test_a_caller_can_stop_between_two_steps(family: Family) -> None:
    class Stop(Exception):
        pass

    seen = []

    def on_step(done: int, of: int) -> None:
        seen.append((done, of))
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        draw(family, "a dog", **SIZE, steps=5, guidance=1.0, seed=3, on_step=on_step)
    assert seen == [(1, 5), (2, 5)]


def test_true_guidance_leads_away_from_the_negative_prompt(family: Family) -> None:
    grid = family.grid(48, 64)
    noise, prompt, negative = starting_noise(grid, 4), family.encode_text(["a dog"]), family.encode_text(["snow"])

    def first(guidance: float, negative: dict | None) -> mx.array:
        return next(sampler_steps(family, prompt, negative, grid, 1, Guidance(0.0, guidance), noise))

    with_prompt = first(1.0, None)
    with_negative = next(sampler_steps(family, negative, None, grid, 1, Guidance(0.0, 1.0), noise))
    expected = with_negative + 3.0 * (with_prompt - with_negative)
    assert mx.allclose(first(3.0, negative), expected, atol=1e-4).item()


def test_guidance_means_what_the_model_can_do_with_it(family: Family, dev_like: Family) -> None:
    assert guidance_for(family, 3.5) == Guidance(embedded=0.0, true=3.5)
    assert guidance_for(family, 0.0) == Guidance(embedded=0.0, true=1.0)
    assert guidance_for(family, 3.5, true_guidance=1.0) == Guidance(embedded=0.0, true=1.0)
    assert guidance_for(dev_like, 3.5) == Guidance(embedded=3.5, true=1.0)
    assert guidance_for(dev_like, 3.5, true_guidance=2.0) == Guidance(embedded=3.5, true=2.0)


def test_embedded_guidance_takes_one_pass_a_step(dev_like: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    guidances = []
    plain = type(dev_like).embed
    monkeypatch.setattr(type(dev_like), "embed", lambda *args: guidances.append(args[-1]) or plain(*args))
    draw(dev_like, "a dog", **SIZE, steps=3, guidance=3.5, seed=1)
    assert guidances == [3.5] * 3


def test_noise_can_be_given_and_then_no_seed_is_claimed(family: Family) -> None:
    noise = starting_noise(family.grid(48, 64), seed=9)
    given = draw(family, "a dog", **SIZE, steps=2, guidance=1.0, seed=0, noise=noise)
    seeded = draw(family, "a dog", **SIZE, steps=2, guidance=1.0, seed=9)
    assert given.image.tobytes() == seeded.image.tobytes()
    assert given.recipe["seed"] is None


def test_sizes_and_steps_that_cannot_be_are_all_named(family: Family) -> None:
    with pytest.raises(ConfigProblem) as caught:
        draw(family, "a dog", height_px=50, width_px=0, steps=0, guidance=1.0, seed=1)
    assert [each.field for each in caught.value.problems] == ["height_px", "width_px", "steps"]


def test_pixels_become_levels_by_rounding() -> None:
    pixels = mx.array([[[[-1.0, 0.0, 1.0], [-2.0, 2.0, 0.5]]]])
    assert np.array(to_image(pixels)).tolist() == [[[0, 128, 255], [0, 255, 191]]]
