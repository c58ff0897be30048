"""Prior preservation: class pictures of the untouched base, drawn once, kept, and trained on beside the photos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from PIL import Image

from core.adapters import lora
from core.dataset.batches import Batches, Encoded
from core.errors import ConfigProblem, DataProblem, TrainingProblem
from core.models.base import Family, Grid
from core.models.load import load_family
from core.sampling import draw
from core.training import checkpoint, class_images
from core.training.class_images import assign, distribute
from core.training.events import ClassPicture, Finished, Note, Phase, Request, Stepped
from core.training.trainer import train
from tests import tiny_z_image
from tests.core.subjects import examples, of_kind, picture, settings, training
from tests.core.test_resume import KNOBS, assert_same

pytestmark = pytest.mark.slow

WIDE, TALL = Grid(1, 3, 2), Grid(3, 2, 2)
DRAWING = "drawing class pictures"
PRIOR = {"class_pictures": 3, "sample_prompts": ()}


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of the class pictures that are drawn, as they are begun."""
    seeds: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        seeds.append(options["seed"])
        return exact(*arguments, **options)

    exact = class_images.drawing
    monkeypatch.setattr(class_images, "drawing", counted)
    return seeds


def stopped_when(run: Any, due: Callable[[Any], bool]) -> Finished:
    progress = next(run)
    while not isinstance(progress, Finished):
        progress = run.send(Request.STOP if due(progress) else None)
    return progress


def is_picture(progress: Any) -> bool:
    return isinstance(progress, ClassPicture)


# In which buckets, and in which batches


def test_every_bucket_has_class_pictures_and_as_large_a_share_as_of_the_photos() -> None:
    photos = [WIDE] * 6 + [TALL] * 2
    assert Counter(distribute(40, photos)) == {WIDE: 30, TALL: 10}
    assert set(distribute(1, photos)) == {WIDE, TALL}
    assert distribute(100, photos)[:9] == distribute(9, photos)


def batches(prior_of: dict[Grid, int], **knobs: object) -> Batches:
    """Three wide photos and two tall ones, numbers 0 to 4; class pictures from 100 on."""

    def made(number: int, grid: Grid) -> Encoded:
        return Encoded(
            mx.full((1, grid.tokens, 2), float(number)), None, {"tokens": mx.full((1, 2), float(number))}, grid
        )

    photos = [made(number, grid) for number, grid in enumerate([WIDE] * 3 + [TALL] * 2)]
    grids = [grid for grid, count in prior_of.items() for _ in range(count)]
    pictures = [made(100 + number, grid) for number, grid in enumerate(grids)]
    return Batches(photos, {"tokens": mx.zeros((1, 2))}, settings(**knobs), lambda grid: 1.0, pictures)


def test_a_batch_has_as_many_class_pictures_of_its_bucket_and_its_photos_stay_what_they_were() -> None:
    plain = batches({}, batch_size=2, caption_dropout=0.3)
    held = batches({WIDE: 4, TALL: 1}, batch_size=2, caption_dropout=0.3, prior_weight=0.5)
    for step in range(1, 9):
        one, both = plain.batch(step, 0), held.batch(step, 0)
        assert one.grid == both.grid
        for name in ("clean_BLC", "noise_BLC", "sigma_B"):
            assert mx.array_equal(getattr(both, name)[:2], getattr(one, name))
        assert mx.array_equal(both.conditioning["tokens"][:2], one.conditioning["tokens"])
        first = mx.array([100.0, 101.0, 102.0, 103.0] if both.grid == WIDE else [104.0])
        assert all(number in first.tolist() for number in both.clean_BLC[2:, 0, 0].tolist())
        assert mx.array_equal(both.conditioning["tokens"][2:, 0], both.clean_BLC[2:, 0, 0])  # never without its prompt
        assert not mx.array_equal(both.noise_BLC[2:], both.noise_BLC[:2])
        assert both.weight_B.tolist() == [2.0, 2.0, 1.0, 1.0]
        assert one.weight_B.item() == 1.0


def test_class_pictures_come_in_rounds_and_by_the_step_alone() -> None:
    held, fresh = (batches({WIDE: 4, TALL: 3}, seed=5) for _ in range(2))
    order = [held.class_picture_at(index) for index in range(120)]
    for numbers in ({0, 1, 2, 3}, {4, 5, 6}):
        own = [each for each in order if each in numbers]
        rounds = [own[i : i + len(numbers)] for i in range(0, len(own) - len(numbers), len(numbers))]
        assert all(set(each) == numbers for each in rounds)
        assert len({tuple(each) for each in rounds}) > 1
    assert mx.array_equal(held.batch(9, 0).noise_BLC, fresh.batch(9, 0).noise_BLC)


# How they are drawn


@pytest.mark.parametrize("kind", ["flux1", "turbo"])
def test_class_pictures_are_what_the_untouched_base_draws(
    model_folder: Path, photos: Path, tmp_path: Path, kind: str
) -> None:
    """Without the adapter, and without the assistant of a model that has one."""
    turbo = kind == "turbo"
    family = load_family(
        tiny_z_image.make_model_folder(tmp_path / "turbo", turbo=True, seed=0) if turbo else model_folder
    )
    assert (family.assistant is not None) == turbo
    run, said = training(family, photos, tmp_path / "run", **PRIOR), []
    for progress in run:
        said.append(progress)
        if isinstance(progress, Phase) and progress.name == DRAWING:
            assert not any(isinstance(module, lora.LoRALinear) for module in family.transformer.modules())
            assert not any(isinstance(each, Stepped) for each in said)
    assert [(p.done, p.of) for p in said if isinstance(p, Phase) and p.name == DRAWING] == [
        (0, 3), (1, 3), (2, 3), (3, 3),
    ]  # fmt: skip
    pictures = [each for each in said if is_picture(each)]
    assert [each.number for each in pictures] == [0, 1, 2]
    assert len({each.seed for each in pictures}) == 3
    for each in pictures:
        assert each.file.parent == tmp_path / "run" / "class_pictures"
        size = {"height_px": each.height, "width_px": each.width}
        again = draw(family, "a photo of can", **size, steps=2, guidance=2.0, seed=each.seed)  # as tiny's card says
        assert pixels(each.file) == again.image.tobytes()
        assert each.recipe == again.recipe


@pytest.mark.slow
def test_a_second_run_draws_none_and_trains_alike(
    family: Family, photos: Path, tmp_path: Path, drawn: list[int]
) -> None:
    for name, more in (("one", {}), ("two", {"sample_steps": 3, "sample_guidance": 5.0})):
        list(training(family, photos, tmp_path / name, **PRIOR, **more))
    assert len(drawn) == 3
    assert_same(tmp_path / "one", tmp_path / "two", 4)
    files = [sorted((tmp_path / name / "class_pictures").iterdir()) for name in ("one", "two")]
    assert [pixels(path) for path in files[0]] == [pixels(path) for path in files[1]]

    notes = of_kind(training(family, photos, tmp_path / "more", **PRIOR | {"class_pictures": 5}), Note)
    assert len(drawn) == 5
    assert "5 class pictures of 'a photo of can', 2 of them drawn now." in [each.text for each in notes]
    for other in ({"seed": 1}, {"class_prompt": "some {class_word}"}, {"side_px": 96}):
        before = len(drawn)
        list(training(family, photos, tmp_path / "other", **PRIOR, **other))
        assert len(drawn) == before + 3


def test_a_class_picture_that_was_damaged_is_drawn_again(
    family: Family, photos: Path, tmp_path: Path, drawn: list[int]
) -> None:
    list(training(family, photos, tmp_path / "one", **PRIOR))
    kept = sorted((tmp_path / "cache" / "class").iterdir())
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    list(training(family, photos, tmp_path / "two", **PRIOR))
    assert len(drawn) == 4
    assert_same(tmp_path / "one", tmp_path / "two", 4)


# The user's own


def test_an_own_picture_is_in_the_bucket_of_its_shape_and_no_bucket_is_without_one() -> None:
    square, wide, tall, small = Grid(4, 4, 2), Grid(3, 5, 2), Grid(5, 3, 2), Grid(2, 2, 2)
    grids = [square, wide, wide, tall, small]
    found = assign([(100, 100), (900, 500)], grids, (64, 32), 16)
    assert found == [(0, square), (1, wide), (0, tall), (0, small), (1, small)]


def test_own_pictures_are_trained_on_beside_drawn_ones_and_belong_to_the_run(
    family: Family, photos: Path, tmp_path: Path, drawn: list[int]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for number in range(3):
        picture(number + 5, 60, 60).save(own / f"{number}.png")
    (own / "again.png").write_bytes((own / "0.png").read_bytes())
    knobs = PRIOR | {"class_pictures": 0, "class_folder": str(own), "shapes": "square"}

    def losses(name: str, **more: Any) -> list[float]:
        out = tmp_path / name
        notes = [note.text for note in of_kind(training(family, photos, out, learning_rate=1e-9, **more), Note)]
        assert ("3 class pictures of your own." in notes) == bool(more.get("class_folder"))
        return checkpoint.load(out / "checkpoints" / "4").losses

    none, alone = losses("none", shapes="square", sample_prompts=()), losses("alone", **knobs)
    assert drawn == []
    assert all(both > photo for both, photo in zip(alone, none, strict=True))
    assert losses("beside", **knobs | {"class_pictures": 2}) != alone
    assert len(drawn) == 2

    (own / "2.png").unlink()
    with pytest.raises(TrainingProblem, match="have changed since this run began"):
        list(training(family, photos, tmp_path / "alone", resume=True, learning_rate=1e-9, **knobs | {"steps": 6}))
    (own / "2.png").write_bytes(b"no picture")
    with pytest.raises(ConfigProblem) as refused:
        list(training(family, photos, tmp_path / "new", **knobs))
    (problem,) = refused.value.problems
    assert problem.field == "class_folder"
    assert problem.message.startswith("has pictures that cannot be used; replace or remove them. 2.png ")


# The loss


def test_class_pictures_change_what_is_learned_and_weigh_what_they_should(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    def losses(name: str, **knobs: Any) -> list[float]:
        list(training(family, photos, tmp_path / name, steps=3, learning_rate=1e-9, **knobs))
        return checkpoint.load(tmp_path / name / "checkpoints" / "3").losses

    # With next to no learning the loss of a step is that of its photos plus the weight times that of its pictures.
    none, one, half = losses("none"), losses("one", **PRIOR), losses("half", **PRIOR, prior_weight=0.5)
    for photo, whole, less in zip(none, one, half, strict=True):
        assert whole > less > photo > 0
        assert less - photo == pytest.approx((whole - photo) / 2, rel=1e-3)


# Stop and resume


@pytest.mark.slow
def test_a_run_stopped_among_its_class_pictures_goes_on_with_those_that_are_there(
    model_folder: Path, photos: Path, tmp_path: Path, drawn: list[int]
) -> None:
    knobs = KNOBS | PRIOR
    list(training(load_family(model_folder), photos, tmp_path / "whole", cache=tmp_path / "one", **knobs))
    whole = list(drawn)

    parts = {"cache": tmp_path / "two", **knobs}
    run = training(load_family(model_folder), photos, tmp_path / "parts", **parts)
    finished = stopped_when(run, lambda said: isinstance(said, Phase) and (said.name, said.done) == (DRAWING, 1))
    assert (finished.step, finished.stopped, finished.adapter) == (0, True, None)
    assert drawn == [*whole, whole[0]]
    assert len(list((tmp_path / "parts" / "class_pictures").iterdir())) == 1

    run = training(load_family(model_folder), photos, tmp_path / "parts", resume=True, **parts)
    assert stopped_when(run, lambda said: isinstance(said, Stepped) and said.step == 5).step == 5
    assert drawn == [*whole, *whole]
    list(training(load_family(model_folder), photos, tmp_path / "parts", resume=True, **parts))
    assert drawn == [*whole, *whole]
    assert_same(tmp_path / "whole", tmp_path / "parts", 8)


def test_a_stop_is_obeyed_in_the_middle_of_a_class_picture(
    family: Family, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.training.reporter.SECONDS_BETWEEN_REPORTS", 0.0)
    run = training(family, photos, tmp_path / "run", **PRIOR)
    said: list[object] = []

    def due(progress: object) -> bool:
        said.append(progress)
        return isinstance(progress, Phase) and progress.name == DRAWING

    assert stopped_when(run, due).step == 0
    assert not [each for each in said if is_picture(each) or isinstance(each, Stepped)]
    assert not (tmp_path / "cache" / "class").exists()


def test_photos_of_several_shapes_have_class_pictures_of_theirs(family: Family, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number, size in enumerate([(48, 40), (80, 40), (40, 80)]):
        picture(number, *size).save(folder / f"{number}.png")
    said = list(training(family, folder, tmp_path / "run", steps=6, batch_size=2, activations="none", **PRIOR))
    sizes = {(each.width, each.height) for each in said if is_picture(each)}
    assert len(sizes) == 3
    assert [each.step for each in said if isinstance(each, Stepped)] == [1, 2, 3, 4, 5, 6]


# Words


def test_another_class_word_is_another_run(family: Family, photos: Path, tmp_path: Path) -> None:
    list(training(family, photos, tmp_path / "run", **PRIOR))
    words = {"trigger": "sks", "class_word": "mug", "cache": tmp_path / "cache", "resume": True}
    run = train(family, examples(photos), settings(**PRIOR, steps=6), tmp_path / "run", **words)
    with pytest.raises(TrainingProblem, match="words have changed"):
        list(run)


def test_a_class_prompt_with_a_wrong_placeholder_is_a_sentence(family: Family, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match="colour"):
        list(training(family, photos, tmp_path / "run", **PRIOR, class_prompt="a {colour} {class_word}"))


def test_a_run_without_class_pictures_says_and_keeps_nothing_of_them(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    said = list(training(family, photos, tmp_path / "run"))
    assert not of_kind(said, ClassPicture)
    assert not (tmp_path / "run" / "class_pictures").exists()
    assert not (tmp_path / "cache" / "class").exists()
