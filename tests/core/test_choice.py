"""Which checkpoint is suggested: by held-out score and pictures, and too close to call where error bars overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from core.training.choice import ONLY_LOSS, Choice, HeldOutScore, choose
from core.training.diagnosis import Diagnosis
from core.training.likeness import Drawn

LEARNING = Diagnosis("learning", None, "Still learning", "", ())
MEMORISING = Diagnosis("memorising", 150, "Memorising since step 150", "Photos it has never seen get worse.", ())
STEPS = range(0, 401, 50)
SEEN = " on the photo it has never seen"


def scored(values: Sequence[float], spread: float = 0.0, photos: int = 1) -> list[HeldOutScore]:
    """Scores 50 steps apart; of several photos the even ones lie `spread` times the step above, the odd ones below."""
    return [
        HeldOutScore(step, value, {photo: value + spread * step * (-1) ** photo for photo in range(photos)})
        for step, value in zip(STEPS, values, strict=False)
    ]


FLATTENING = [1.0, 0.9, 0.85, 0.849, 0.848, 0.8475, 0.847, 0.8465, 0.846]
TURNING = [1.0, 0.95, 0.90, 0.86, 0.89, 0.93, 0.97, 1.0, 1.03]


@pytest.mark.parametrize(
    ("values", "checkpoints", "diagnosis", "words"),
    [
        (
            TURNING,
            [100, 150, 300, 400],
            MEMORISING,
            f"Best so far: step 150, 14% better than the base{SEEN}; later it memorises the others.",
        ),
        (
            FLATTENING,
            [50, 400],
            LEARNING,
            f"Best so far: step 400, 15% better than the base{SEEN}; it has gained little since step 100.",
        ),
        (
            FLATTENING,
            [100, 400],
            LEARNING,
            f"Best so far: step 400, 15% better than the base{SEEN}; too close to call beside step 100.",
        ),
        (
            [1.0, 1.02, 1.04],
            [50, 100],
            LEARNING,
            f"Nearest so far: step 50, 2% worse than the base{SEEN}.",
        ),
    ],
)  # fmt: skip
def test_the_sentence_names_the_best_checkpoint_and_what_came_of_later_steps(
    values: list[float], checkpoints: list[int], diagnosis: Diagnosis, words: str
) -> None:
    assert choose(scored(values), checkpoints, diagnosis, so_far=True).words == words
    assert " so far" not in choose(scored(values), checkpoints, diagnosis, so_far=False).words


def test_a_checkpoint_between_two_scores_lies_on_the_line_between_them_and_one_long_after_the_last_has_none() -> None:
    found = choose(scored([1.0, 0.8, 0.9]), [25, 50, 75, 110, 400], LEARNING, so_far=False)
    assert {each.step: pytest.approx(each.held_out) for each in found.measures} == {
        25: 0.9,
        50: 0.8,
        75: 0.85,
        110: 0.9,
    }
    assert found.step == 50
    assert found.reasons[-1] == ONLY_LOSS


def test_error_bars_come_of_the_noise_around_the_curve() -> None:
    calm = [1.0 - 0.02 * number for number in range(9)]
    noisy = [value + 0.03 * (-1) ** number for number, value in enumerate(calm)]
    for values, close in ((calm, False), (noisy, True)):
        found = choose(scored(values), [200, 350, 400], LEARNING, so_far=False)
        assert found.close_call is close, values
        assert all(each.bar >= 0.005 for each in found.measures)


def test_error_bars_come_of_how_much_the_photos_differ_in_what_they_gained() -> None:
    values = [1.0 - 0.02 * number for number in range(9)]

    def bars(choice: Choice) -> dict[int, float]:
        return {each.step: each.bar for each in choice.measures}

    alike = choose(scored(values, photos=4), [200, 400], LEARNING, so_far=False)
    apart = choose(scored(values, spread=0.0005, photos=4), [200, 400], LEARNING, so_far=False)
    assert not alike.close_call
    assert apart.close_call
    difference = 0.0005 * 200  # of each photo, up for half of them and down for the others
    error = math.sqrt(4 / 3) * difference / math.sqrt(4)
    assert bars(apart)[200] == pytest.approx(error / math.sqrt(2))
    assert bars(apart)[400] == 0.005
    assert "the 4 photos it has never seen" in apart.words


@pytest.mark.parametrize(
    ("values", "checkpoints", "words"),
    [
        ([], [], "There is no checkpoint to choose yet."),
        ([], [50, 100], "No photo is held out, so no score can say which checkpoint is best; step 100 is the newest."),
        ([1.0], [50], "Too early to say which checkpoint is best; step 50 is the newest."),
        ([1.0, math.inf, math.inf], [50, 100], "It has diverged, and no checkpoint gives finite losses."),
    ],
)
def test_without_scores_nothing_is_suggested(values: list[float], checkpoints: list[int], words: str) -> None:
    found = choose(scored(values), checkpoints, LEARNING, so_far=True)
    assert found.step is None
    assert found.words.startswith(words)


def test_a_checkpoint_that_is_not_finite_is_never_chosen() -> None:
    assert choose(scored([1.0, 0.9, math.inf]), [50, 100], LEARNING, so_far=True).step == 50


def drawn(step: int, likeness: float, leak: float = 0.0, distance: float = 0.6, noise: float = 0.001) -> Drawn:
    """Four pictures; the base is 0.3 like the photos, which are 0.8 like each other."""
    apart = (-noise, noise, -noise, noise) if step else (noise, noise, -noise, -noise)
    return Drawn(
        step,
        tuple(likeness + each for each in apart),
        tuple(0.3 + 0.5 * leak + each for each in apart),
        tuple(distance + each for each in apart),
        (0.8, 0.8, 0.5),
        held_out=True,
    )


ALIKE = [1.0, 0.95, 0.853, 0.85, 0.852, 0.93, 0.99, 1.02, 1.05]  # the score of step 400 is worse than the base's
BASE = drawn(0, 0.3)


LATE = drawn(400, 0.6, distance=0.3)


@pytest.mark.parametrize(
    ("pictures", "step", "close"),
    [
        ([drawn(100, 0.5), drawn(150, 0.5), drawn(200, 0.6), LATE], 200, False),
        ([drawn(100, 0.6), drawn(150, 0.5), drawn(200, 0.5), LATE], 100, False),
        ([drawn(100, 0.6), drawn(150, 0.5), drawn(200, 0.5), drawn(400, 0.605)], 100, False),
        ([drawn(100, 0.6), drawn(150, 0.5), drawn(200, 0.5), drawn(400, 0.8)], 400, False),
        ([drawn(100, 0.6, leak=1.0), drawn(150, 0.55), drawn(200, 0.5), LATE], 150, False),
        ([drawn(100, 0.6, distance=0.3), drawn(150, 0.55), drawn(200, 0.5), LATE], 150, False),
        ([drawn(100, 0.7), drawn(150, 0.5), drawn(200, 0.71, noise=0.2), LATE], 200, True),
    ],
    ids=["most alike", "earlier", "the score", "far more alike", "one that leaks", "no variety", "within error bars"],
)
def test_likeness_less_lost_variety_and_leak_decides_with_a_small_part_of_the_score(
    pictures: list[Drawn], step: int, close: bool
) -> None:
    found = choose(scored(ALIKE), [100, 150, 200, 400], MEMORISING, so_far=False, pictures=[BASE, *pictures])
    assert (found.step, found.close_call) == (step, close)
    assert [each.step for each in found.measures] == [100, 150, 200, 400]
    assert all(len(each.gauges) == 4 for each in found.measures)
    assert ("% of the way to the subject" in found.words) is (step != 150)
    assert found.reasons[-1] != ONLY_LOSS


def test_pictures_that_do_not_surely_differ_are_too_close_to_call_unless_the_steps_are_near() -> None:
    flat = [1.0, 0.9, 0.852, 0.85, 0.851, 0.8515, 0.85, 0.851, 0.8512]
    same = [BASE, *(drawn(step, 0.5, noise=0.1 + step / 10_000) for step in range(100, 401, 50))]
    assert choose(scored(flat), [150, 400], LEARNING, so_far=False, pictures=same).close_call
    assert not choose(scored(flat), [350, 400], LEARNING, so_far=False, pictures=same).close_call


def test_a_checkpoint_after_the_last_pictures_is_not_chosen_before_those_with_pictures() -> None:
    pictures = [BASE, drawn(100, 0.5), drawn(150, 0.55)]
    found = choose(scored(ALIKE[:6]), [100, 150, 200], LEARNING, so_far=True, pictures=pictures)
    assert found.step == 150
    assert [len(each.gauges) for each in found.measures] == [4, 4, 1]


def test_without_held_out_photos_the_pictures_choose_and_never_after_the_photos_are_known_by_heart() -> None:
    pictures = [BASE, drawn(50, 0.4), drawn(100, 0.5), drawn(150, 0.6), drawn(200, 0.7)]
    by_heart = Diagnosis("memorising", 120, "Known by heart since step 120", "", ())
    steps = [50, 100, 150, 200]
    assert choose([], steps, LEARNING, so_far=False, pictures=pictures).step == 200
    found = choose([], steps, by_heart, so_far=True, pictures=pictures)
    assert found.step == 100
    assert found.words == "Best so far by its pictures: step 100; later it knows the photos by heart."
    assert [each.held_out for each in found.measures] == [None] * 4
    assert choose([], steps, LEARNING, so_far=False, pictures=pictures[1:]).step is None, "the base is unknown"
