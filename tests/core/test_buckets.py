"""Photos keep their shape: nothing is stretched, a batch is of one shape, and every photo counts as much as another."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from core.config.resolve import resolve
from core.dataset import batches, buckets, crops
from core.dataset.batches import Batches, Encoded
from core.dataset.buckets import Bucket
from core.dataset.crops import Box
from core.device import backend
from core.hub.catalog import find
from core.models.base import Family, Grid
from core.models.load import load_family
from core.randomness import fraction_for, order_for
from core.training.events import Finished, Note, Request, Stepped
from tests.core.subjects import picture, settings, training
from tests.core.test_resume import assert_same

KNOBS = {"steps": 8, "save_every": 3, "batch_size": 2, "accumulate": 2, "flip": True, "caption_dropout": 0.3}


@pytest.mark.parametrize(("side_px", "multiple"), [(64, 16), (256, 16), (512, 16), (1024, 16), (512, 32), (1328, 16)])
def test_the_buckets_of_a_size_have_about_its_area_and_fit_the_models_grid(side_px: int, multiple: int) -> None:
    found = buckets.of_side(side_px, multiple)
    assert found[0] == Bucket(side_px, side_px)
    assert len(set(found)) == len(found) >= 3
    for each in found:
        assert each.width % multiple == each.height % multiple == 0
        assert 0.5 <= each.width / each.height <= 2
        assert abs(each.width * each.height - side_px**2) <= multiple / 2 * min(each.width, each.height)
        assert Bucket(each.height, each.width) in found


@pytest.mark.parametrize(
    ("width", "height", "box", "expected"),
    [
        (3000, 3000, None, Bucket(512, 512)),
        (4032, 3024, None, Bucket(592, 448)),
        (3024, 4032, None, Bucket(448, 592)),
        (1920, 1080, None, Bucket(688, 384)),
        (5000, 500, None, Bucket(720, 368)),
        (1, 4000, None, Bucket(368, 720)),
        (4000, 2000, Box(0.25, 0.0, 0.75, 1.0), Bucket(512, 512)),
        (4000, 2000, Box(0.5, 0.0, 0.5000001, 1.0), Bucket(368, 720)),
    ],
)
def test_a_photo_goes_where_its_shape_is_nearest(width: int, height: int, box: Box | None, expected: Bucket) -> None:
    assert buckets.closest(buckets.of_side(512), width, height, box) == expected


@pytest.mark.parametrize("size", [(900, 600), (600, 900), (800, 780), (2400, 240), (240, 2400)])
def test_a_circle_stays_a_circle(size: tuple[int, int]) -> None:
    photo = Image.new("RGB", size, "white")
    x, y = size[0] / 2, size[1] / 2
    ImageDraw.Draw(photo).ellipse((x - 80, y - 80, x + 80, y + 80), fill="black")
    for side_px in (192, 256):
        bucket = buckets.closest(buckets.of_side(side_px), *size)
        cut = crops.cut(photo, (bucket.width, bucket.height))
        assert cut.size == (bucket.width, bucket.height)
        dark = np.asarray(cut.convert("L")) < 128
        wide, high = int(dark.any(axis=0).sum()), int(dark.any(axis=1).sum())
        assert wide > 20
        assert abs(wide - high) <= 1


def test_a_mirrored_cut_is_the_cut_mirrored() -> None:
    photo = picture(0, 90, 60)
    straight, mirrored = (np.asarray(crops.cut(photo, (80, 48), flip=flip)) for flip in (False, True))
    assert np.array_equal(mirrored, straight[:, ::-1])
    assert not np.array_equal(mirrored, straight)


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (1, 500), (500, 1), (3000, 300), (333, 777)])
@pytest.mark.parametrize(
    "box", [None, Box(0.1, 0.0, 0.9, 0.3), Box(0.0, 0.0, 1e-9, 1.0), Box(0.7, 0.999999, 0.70001, 1.0)]
)
def test_what_is_cut_lies_within_the_photo_and_has_the_shape(size: tuple[int, int], box: Box | None) -> None:
    for bucket in buckets.of_side(128):
        shape = (bucket.width, bucket.height)
        left, top, right, bottom = crops.pixel_box(*size, shape, box)
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        assert math.isclose((right - left) * bucket.height, (bottom - top) * bucket.width, rel_tol=1e-6)
        assert crops.cut(Image.new("RGB", size), shape, box).size == shape


def test_squares_or_shapes_at_every_size_that_is_asked_for() -> None:
    kept = settings(side_px=128, more_sides_px="192")
    assert buckets.of_photo(kept, 300, 200, None) == [Bucket(144, 112), Bucket(224, 160)]
    cut = settings(side_px=128, more_sides_px="192", shapes="square")
    assert buckets.of_photo(cut, 300, 200, None) == [Bucket(128, 128), Bucket(192, 192)]
    assert resolve({}).config.shapes == "as_photographed"
    assert resolve({}, find("pocket").defaults).config.shapes == "square"


def test_the_buckets_are_counted_in_words() -> None:
    assert buckets.counted([Bucket(512, 512)]) == "512 x 512: 1 photo"
    found = [Bucket(448, 576), *[Bucket(512, 512)] * 5, *[Bucket(448, 576)] * 2]
    assert buckets.counted(found) == "512 x 512: 5 photos, 448 x 576: 3"


def dataset(sizes: tuple[int, ...], **knobs: object) -> Batches:
    """So many examples in each bucket; every number in an example's arrays is its number."""
    grids = [Grid(1, 2 + bucket, 2) for bucket, count in enumerate(sizes) for _ in range(count)]
    items = [
        Encoded(mx.full((1, grid.tokens, 2), float(number)), None, {"tokens": mx.full((1, 2), float(number))}, grid)
        for number, grid in enumerate(grids)
    ]
    return Batches(items, {"tokens": mx.zeros((1, 2))}, settings(**knobs), lambda grid: float(grid.columns))


def test_with_one_bucket_the_order_is_that_of_a_round() -> None:
    for size in (1, 2, 3):
        batches = dataset((5,), batch_size=size, seed=3)
        wanted = [order_for("order", 5, 3, index // 5)[index % 5] for index in range(60)]
        assert [batches.example_at(index) for index in range(60)] == wanted


@pytest.mark.parametrize("sizes", [(5, 3), (1, 7), (4, 4, 1)])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_photo_comes_as_often_as_every_other(sizes: tuple[int, ...], size: int) -> None:
    batches, total = dataset(sizes, batch_size=size), sum(sizes)
    order = [batches.example_at(index) for index in range(4 * total * size)]
    for start in range(0, len(order), total * size):  # as many batches as there are photos
        assert Counter(order[start : start + total * size]) == dict.fromkeys(range(total), size)
    first = 0
    for count in sizes:  # and within its bucket, once in every round
        own = [each for each in order if first <= each < first + count]
        assert all(sorted(own[i : i + count]) == list(range(first, first + count)) for i in range(0, len(own), count))
        first += count


def test_the_turns_of_a_bucket_are_spread_and_change_from_round_to_round() -> None:
    batches = dataset((12, 4), batch_size=1)
    turns = [[batches.example_at(16 * r + i) >= 12 for i in range(16)] for r in range(8)]
    assert len({tuple(one) for one in turns}) > 4
    # A quarter of the turns is the small bucket's: after any number of turns it is at most one ahead or behind.
    assert all(abs(sum(one[:k]) - k / 4) <= 1.25 for one in turns for k in range(17))


def test_a_batch_is_of_one_bucket_and_full_and_shifts_sigma_by_its_own_grid() -> None:
    batches = dataset((3, 2), batch_size=4, sigma_draw="model_shift")
    plain = dataset((3, 2), batch_size=4, sigma_draw="logit_normal")
    seen = set()
    for step in range(1, 11):
        batch, sigma = batches.batch(step, 0), plain.batch(step, 0).sigma_B
        seen.add(batch.grid)
        assert batch.clean_BLC.shape == batch.noise_BLC.shape == (4, batch.grid.tokens, 2)
        factor = float(batch.grid.columns)
        assert mx.allclose(batch.sigma_B, factor * sigma / (1 + (factor - 1) * sigma))
    assert len(seen) == 2


def test_a_batch_depends_on_its_step_and_nothing_else() -> None:
    walked, fresh = dataset((3, 2), batch_size=2, seed=1), dataset((3, 2), batch_size=2, seed=1)
    for step in range(1, 7):
        walked.batch(step, 0)
    assert mx.array_equal(walked.batch(7, 0).clean_BLC, fresh.batch(7, 0).clean_BLC)
    assert mx.array_equal(walked.batch(7, 0).noise_BLC, fresh.batch(7, 0).noise_BLC)


def test_an_order_is_worked_out_once_a_round_and_is_that_of_its_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, size, seed = {Grid(1, 2, 2): 5, Grid(1, 3, 2): 3}, 4, 7
    grids = [grid for grid, count in sizes.items() for _ in range(count)]

    def plainly(index: int) -> int:
        number, slot = divmod(index, size)
        round_, place = divmod(number, 8)
        when = [
            ((turn + fraction_for("turn", seed, round_, bucket, turn)) / count, bucket, grid)
            for bucket, (grid, count) in enumerate(sizes.items())
            for turn in range(count)
        ]
        turns = [grid for *_, grid in sorted(when, key=lambda each: each[:2])]
        grid = turns[place]
        before = (round_ * sizes[grid] + turns[:place].count(grid)) * size + slot
        order = order_for("order", 8, seed, before // sizes[grid])
        return [each for each in order if grids[each] == grid][before % sizes[grid]]

    found = dataset(tuple(sizes.values()), batch_size=size, seed=seed)
    assert [found.example_at(index) for index in range(200)] == [plainly(index) for index in range(200)]

    orders: list[tuple[object, ...]] = []
    monkeypatch.setattr(batches, "order_for", lambda *given: orders.append(given) or order_for(*given))
    many = dataset((40, 20), batch_size=4)
    for step in range(1, 11):
        many.batch(step, 0)
        many.photos(step, 0)
    assert len(orders) <= 4  # ten batches are of two buckets, in their first or second round


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Photos of three shapes, the wide and the tall one of equally many tokens."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number, size in enumerate([(120, 80), (120, 76), (80, 120), (90, 90), (100, 96)]):
        picture(number, *size).save(folder / f"{number}.png")
    return folder


@pytest.mark.slow
def test_a_run_says_which_buckets_it_has_and_what_is_enlarged(family: Family, mixed: Path, tmp_path: Path) -> None:
    def notes(**knobs: object) -> list[str]:
        said = training(family, mixed, tmp_path / "run", steps=1, save_every=1, **knobs)
        return [each.text for each in said if isinstance(each, Note)]

    assert notes() == ["Trained at 80 x 48: 2 photos, 64 x 64: 2, 48 x 80: 1."]
    assert notes(shapes="square") == ["Trained at 64 x 64: 5 photos."]
    said = notes(shapes="square", more_sides_px="192")
    assert said[0] == "Trained at 64 x 64: 5 photos, 192 x 192: 5."
    assert said[1].startswith("Enlarged, so soft: 0.png 2.4 times, to 192 x 192; 1.png 2.5 times, to 192 x 192;")


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [1, 4])
def test_stopping_and_resuming_with_several_buckets_equals_never_stopping(
    model_folder: Path, mixed: Path, tmp_path: Path, stop_at: int
) -> None:
    list(training(load_family(model_folder), mixed, tmp_path / "whole", **KNOBS))
    run = training(load_family(model_folder), mixed, tmp_path / "parts", **KNOBS)
    progress = next(run)
    while not isinstance(progress, Finished):
        progress = run.send(Request.STOP if isinstance(progress, Stepped) and progress.step == stop_at else None)
    assert progress.stopped
    list(training(load_family(model_folder), mixed, tmp_path / "parts", resume=True, **KNOBS))
    assert_same(tmp_path / "whole", tmp_path / "parts", 8)


def test_a_step_to_be_compiled_is_of_one_grid(
    family: Family, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiled function goes by the shapes of its arrays, and those of a wide grid and of the tall one are alike."""
    grids: dict[object, set[Grid]] = {}
    running: list[object] = []
    exact = family.embed

    def compile_step(function: Any) -> Any:
        def call(*given: Any) -> Any:
            running.append(function)
            found = function(*given)
            running.pop()
            return found

        return call

    def embed(*given: Any) -> dict[str, mx.array]:
        if running:  # else it is a score, which is not compiled
            grids.setdefault(running[-1], set()).add(given[3])
        return exact(*given)

    monkeypatch.setattr(backend, "compile_step", compile_step)
    family.embed = embed
    list(training(family, mixed, tmp_path / "run", steps=10, save_every=10))
    seen = [grid for each in grids.values() for grid in each]
    assert all(len(each) == 1 for each in grids.values())
    assert Counter(seen) == dict.fromkeys([Grid(3, 5, 16), Grid(5, 3, 16), Grid(4, 4, 16)], 1)
