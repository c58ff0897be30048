"""Masks: their levels, their files, the weights they give to tokens, and runs on photos that have one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from core import files
from core.config.resolve import resolve
from core.dataset import crops, latents, mask_files, masks
from core.dataset.batches import Batches, Encoded
from core.dataset.buckets import Bucket
from core.dataset.crops import Box
from core.dataset.examples import Example, masks_counted, read_folder
from core.dataset.masks import Mask
from core.errors import DataProblem
from core.models.base import Family, Grid
from core.models.load import load_family
from core.training.events import Finished, Note, Request, Scored, Stepped
from tests.core.subjects import encoded, of_kind, photo_folder, picture, settings, training
from tests.core.test_resume import KNOBS, assert_same
from tests.families import FOLDERS


def mask_of(size: tuple[int, int], *parts: tuple[int, tuple[int, int, int, int]], rest: int = 128) -> Image.Image:
    """A mask with these (level, box) in front of the rest."""
    mask = Image.new("L", size, rest)
    for level, box in parts:
        mask.paste(level, box)
    return mask


def weights(mask: Image.Image, grid: tuple[int, int], box: Box | None = None, background: float = 0.25) -> list[Any]:
    """The weights of a training picture whose tokens have 16 x 16 pixels."""
    shape = (16 * grid[0], 16 * grid[1])
    return np.asarray(masks.token_weights(mask, shape, grid, box, background)).tolist()


# What a mask says


def test_a_mask_is_read_as_the_nearest_of_its_three_levels() -> None:
    greys = Image.new("L", (16, 16))
    greys.putdata(list(range(256)))
    read = masks.read(encoded(greys), (16, 16))
    assert [read.getpixel((grey % 16, grey // 16)) for grey in (0, 64, 65, 128, 191, 192, 255)] == [
        0, 0, 128, 128, 128, 255, 255,
    ]  # fmt: skip
    assert masks.counts(read) == {0: 65, 128: 127, 255: 64}


def test_a_mask_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match=r"^has 40 x 48 px; it must have the photo's size, 48 x 40 px\.$"):
        masks.read(encoded(mask_of((40, 48))), (48, 40))
    with pytest.raises(DataProblem, match=r"^is gone; add it again"):
        masks.read(tmp_path / "a.png", (48, 40))
    with pytest.raises(DataProblem, match="is empty"):
        masks.read(b"", (48, 40))


def test_a_tokens_weight_is_the_mean_over_its_pixels() -> None:
    mask = mask_of((64, 32), (255, (0, 0, 16, 16)), (255, (16, 0, 24, 16)), (0, (0, 16, 32, 32)), (255, (0, 16, 8, 32)))
    assert weights(mask, (4, 2)) == [[1.0, 0.625, 0.25, 0.25], [0.5, 0.0, 0.25, 0.25]]
    assert weights(mask, (4, 2), background=1.0) == [[1.0, 1.0, 1.0, 1.0], [0.5, 0.0, 1.0, 1.0]]
    assert weights(mask, (4, 2), background=0.0) == [[1.0, 0.5, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0]]
    large = mask.resize((640, 320), Image.Resampling.NEAREST)
    assert weights(large, (4, 2)) == weights(mask, (4, 2))


def test_a_mask_is_cropped_like_its_photo() -> None:
    mask = mask_of((64, 32), (255, (16, 0, 32, 16)))
    assert weights(mask, (2, 2), Box(0.25, 0.0, 0.75, 1.0)) == [[1.0, 0.25], [0.25, 0.25]]
    assert weights(mask, (2, 2), Box(0.25, 0.0, 0.5, 0.5)) == [[1.0, 1.0], [1.0, 1.0]]
    assert weights(mask, (2, 2)) == [[1.0, 0.25], [0.25, 0.25]]  # the largest square about the centre


@pytest.mark.parametrize("size", [(400, 300), (301, 467), (150, 90)])
@pytest.mark.parametrize("box", [None, Box(0.1, 0.2, 0.77, 0.93), Box(0.5, 0.0, 0.81, 0.4)])
def test_a_subjects_weights_lie_where_the_cropped_photo_shows_it(size: tuple[int, int], box: Box | None) -> None:
    """The photo is white where the mask has the subject, and black elsewhere."""
    mask = mask_of(size, (255, (size[0] // 3, size[1] // 5, size[0] * 3 // 4, size[1] * 2 // 3)), rest=0)
    photo = Image.merge("RGB", [mask] * 3)
    for grid in ((8, 8), (12, 6), (5, 9)):
        shape = (16 * grid[0], 16 * grid[1])
        seen = np.asarray(crops.cut(photo, shape, box), np.float32)[..., 0] / 255
        of_tokens = seen.reshape(grid[1], 16, grid[0], 16).mean(axis=(1, 3))
        assert np.abs(np.array(weights(mask, grid, box)) - of_tokens).max() < 0.13  # an edge's pixel of the photo


@pytest.mark.parametrize("name", FOLDERS)
def test_tokens_and_their_weights_are_in_the_same_order(name: str, tmp_path: Path) -> None:
    """The photo differs from plain grey where the mask has the subject: tokens there change more than elsewhere."""
    family, bucket, place = load_family(FOLDERS[name](tmp_path / "model")), Bucket(128, 64), (80, 0, 128, 32)
    changed = Image.new("RGB", (128, 64), "grey")
    changed.paste("yellow", place)
    changed.save(tmp_path / "changed.png")
    Image.new("RGB", (128, 64), "grey").save(tmp_path / "plain.png")
    mask_of((128, 64), (255, place)).save(tmp_path / "mask.png")
    mask = Mask(tmp_path / "mask.png", "")
    plain, masked = Example(tmp_path / "plain.png", "0", ""), Example(tmp_path / "changed.png", "1", "", mask=mask)

    one, other = (latents.latents_of(family, each, bucket, tmp_path / "cache") for each in (plain, masked))
    weight_BL = latents.weights_of(family, masked, bucket, (128, 64), 0.0, tmp_path / "cache")
    assert weight_BL is not None
    assert weight_BL.shape == one.shape[:2] == (1, 32)
    table = weight_BL.reshape(4, 8)
    assert table[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    orders = [table, table[::-1], table[:, ::-1], table[::-1, ::-1], table.reshape(8, 4).T]
    apart = mx.abs(one - other).sum(axis=2)
    inside = [(apart * each.reshape(1, 32)).sum().item() for each in orders]
    assert inside[0] == max(inside)


def test_weights_are_computed_once_and_kept(family: Family, tmp_path: Path) -> None:
    mask_of((48, 40), (255, (0, 0, 20, 40))).save(tmp_path / "mask.png")
    photo = Example(tmp_path / "photo.png", "0", "", mask=Mask(tmp_path / "mask.png", "m"))

    def found(example: Example, bucket: Bucket, background: float) -> mx.array | None:
        return latents.weights_of(family, example, bucket, (48, 40), background, tmp_path / "cache")

    first = found(photo, Bucket(64, 64), 0.5)
    other = replace(photo, mask=Mask(tmp_path / "mask.png", "n"))
    found(other, Bucket(64, 64), 0.5)
    found(replace(photo, box=Box(0, 0, 0.5, 0.5)), Bucket(64, 64), 0.5)
    found(photo, Bucket(80, 48), 0.5)
    found(photo, Bucket(64, 64), 0.25)
    assert len(list((tmp_path / "cache" / "weights").iterdir())) == 5
    (tmp_path / "mask.png").unlink()
    assert mx.array_equal(found(photo, Bucket(64, 64), 0.5), first)


def test_a_captioner_sees_what_is_ignored_under_plain_grey() -> None:
    photo = picture(3, 48, 40)
    mask = mask_of((48, 40), (0, (0, 0, 20, 40)), (255, (30, 0, 48, 40)))
    seen = masks.covered(photo, mask)
    assert seen.crop((0, 0, 20, 40)).getcolors() == [(800, (128, 128, 128))]
    assert seen.crop((20, 0, 48, 40)).tobytes() == photo.crop((20, 0, 48, 40)).tobytes()
    assert masks.covered(photo, mask_of((48, 40))).tobytes() == photo.tobytes()


# Which mask belongs to which photo


def test_a_folders_masks_are_found_in_each_of_the_usual_places(tmp_path: Path) -> None:
    photo_folder(tmp_path, 5)
    (tmp_path / "masks").mkdir()
    for path in ("0.mask.png", "1-masklabel.png", "masks/2.PNG", "masks/0.png", "masks/9.png", "8.mask.png"):
        mask_of((48, 40)).save(tmp_path / path)
    examples, left_out = read_folder(tmp_path, "sks", "can")
    found = {each.name: each.mask.file.relative_to(tmp_path).as_posix() for each in examples if each.mask}
    assert [each.name for each in examples] == [f"{number}.png" for number in range(5)]
    assert found == {"0.png": "0.mask.png", "1.png": "1-masklabel.png", "2.png": "masks/2.PNG"}
    assert all(each.mask.sha256 == files.sha256_of(each.mask.file) for each in examples if each.mask)
    assert [(each.field, each.message) for each in left_out] == [
        ("masks/0.png", "is not used: 0.png has its mask from 0.mask.png"),
        ("8.mask.png", "is a mask without a photo of that name"),
        ("masks/9.png", "is a mask without a photo of that name"),
    ]
    assert masks_counted(examples, 0.3) == "Masks: 3 of 5 photos; the background counts 0.3."
    assert masks_counted(examples[3:], 0.3) == ""


def test_a_photo_with_a_mask_that_does_not_fit_is_left_out_by_name(tmp_path: Path) -> None:
    photo_folder(tmp_path, 2)
    mask_of((40, 48)).save(tmp_path / "0.mask.png")
    examples, left_out = read_folder(tmp_path, "sks", "can")
    assert [each.name for each in examples] == ["1.png"]
    assert [each.field for each in left_out] == ["0.png"]
    assert left_out[0].message.startswith("has a mask that has 40 x 48 px; it must have the photo's size")


def test_masks_are_matched_below_folders_and_by_spelling_first() -> None:
    found = mask_files.match(
        ["can/A.jpg", "can/a.png", "cup/A.jpg"],
        ["can/a.mask.png", "can/A.mask.png", "cup/masks/a.png", "masks/A.png"],
    )
    assert found == {
        "can/A.jpg": ["can/A.mask.png", "can/a.mask.png"],
        "can/a.png": ["can/a.mask.png", "can/A.mask.png"],
        "cup/A.jpg": ["cup/masks/a.png"],
    }


# In batches


def batches(masked: dict[int, list[float]], prior: int = 0, **knobs: object) -> Batches:
    """Four photos of 2 x 2 tokens, some with weights; mirrored ones have the number -1 - n."""

    def made(number: int, weight: list[float] | None) -> Encoded:
        l_T, flipped = (mx.full((1, 4, 2), value) for value in (float(number), -1.0 - number))
        weight_BL = None if weight is None else mx.array([weight])
        conditioning = {"tokens": mx.zeros((1, 2, 3))}
        return Encoded(l_T, flipped, conditioning, Grid(2, 2, 2), number, weight_BL=weight_BL)

    photos = [made(number, masked.get(number)) for number in range(4)]
    pictures = [made(100 + number, None) for number in range(prior)]
    return Batches(photos, {"tokens": mx.zeros((1, 2, 3))}, settings(**knobs), lambda grid: 1.0, pictures)


def test_photos_without_a_mask_and_class_pictures_weigh_all_tokens_the_same() -> None:
    assert batches({}, prior=2, batch_size=2).batch(1, 0).weight_BL is None
    some = batches({1: [1.0, 0.5, 0.25, 0.0]}, prior=2, batch_size=4)
    batch = some.batch(1, 0)
    assert batch.weight_BL is not None
    others = [row for row, photo in zip(batch.weight_BL[:4].tolist(), batch.photos, strict=True) if photo != 1]
    assert [*others, *batch.weight_BL[4:].tolist()] == [[1.0] * 4] * 7
    assert sorted(batch.weight_BL[batch.photos.index(1)].tolist()) == [0.0, 0.25, 0.5, 1.0]
    assert [each.weight_BL.tolist() for each in batch.one_by_one()] == [[row] for row in batch.weight_BL.tolist()]


def test_a_mirrored_photo_has_its_weights_mirrored() -> None:
    one = batches({number: [1.0, 0.5, 0.25, 0.0] for number in range(4)}, batch_size=4)
    rows = [
        (clean[0, 0].item() < 0, weight.tolist())
        for step in range(1, 9)
        for clean, weight in zip(one.batch(step, 0).clean_BLC, one.batch(step, 0).weight_BL, strict=True)
    ]
    assert {mirrored for mirrored, _ in rows} == {True, False}
    assert all(row == ([0.5, 1.0, 0.0, 0.25] if mirrored else [1.0, 0.5, 0.25, 0.0]) for mirrored, row in rows)


# In a run


@pytest.fixture
def masked(photos: Path) -> Path:
    """Three photos; the first two have masks, with a subject, background and something to ignore."""
    (photos / "masks").mkdir()
    for number in (0, 1):
        mask = mask_of((48, 40), (255, (10, 8, 34, 32)), (0, (36, 0, 48, 20 + number)))
        mask.save(photos / "masks" / f"{number}.png")
    return photos


def losses(family: Family, photos: Path, out: Path, **knobs: Any) -> list[float]:
    return [each.loss for each in of_kind(training(family, photos, out, **knobs), Stepped)]


@pytest.mark.slow
def test_masks_that_weigh_all_parts_the_same_change_no_bit(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    list(training(load_family(model_folder), photos, tmp_path / "plain", **KNOBS))
    for number, level in enumerate((255, 128, 128)):
        mask_of((48, 40), rest=level).save(photos / f"{number}.mask.png")
    said = list(training(load_family(model_folder), photos, tmp_path / "masked", background_weight=0.3, **KNOBS))
    assert "Masks: 3 of 3 photos; the background counts 0.3." in [e.text for e in said if isinstance(e, Note)]
    assert_same(tmp_path / "plain", tmp_path / "masked", 8)


@pytest.mark.slow
def test_a_mask_or_another_background_weight_is_another_run(family: Family, masked: Path, tmp_path: Path) -> None:
    found = {weight: losses(family, masked, tmp_path / str(weight), background_weight=weight) for weight in (1, 0.3)}
    for mask in (masked / "masks").iterdir():
        mask.unlink()
    plain = losses(family, masked, tmp_path / "plain")
    assert len({tuple(each) for each in (*found.values(), plain)}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [1, 4])
def test_stopping_and_resuming_with_masks_equals_never_stopping(
    model_folder: Path, masked: Path, tmp_path: Path, stop_at: int
) -> None:
    knobs = {**KNOBS, "background_weight": 0.2, "class_pictures": 2, "more_sides_px": "80"}
    list(training(load_family(model_folder), masked, tmp_path / "whole", **knobs))
    run = training(load_family(model_folder), masked, tmp_path / "parts", **knobs)
    progress = next(run)
    while not isinstance(progress, Finished):
        stopping = isinstance(progress, Stepped) and progress.step == stop_at
        progress = run.send(Request.STOP if stopping else None)
    assert progress.stopped
    list(training(load_family(model_folder), masked, tmp_path / "parts", resume=True, **knobs))
    assert_same(tmp_path / "whole", tmp_path / "parts", 8)


@pytest.mark.slow
def test_a_resumed_run_keeps_its_masks(family: Family, masked: Path, tmp_path: Path) -> None:
    list(training(family, masked, tmp_path / "run"))
    mask_of((48, 40), (255, (0, 0, 9, 9))).save(masked / "masks" / "0.png")
    with pytest.raises(Exception, match="photos, crops, masks, captions or words have changed"):
        list(training(family, masked, tmp_path / "run", resume=True))


@pytest.mark.slow
def test_a_held_out_photo_is_scored_with_the_weights_of_its_mask(family: Family, masked: Path, tmp_path: Path) -> None:
    def base_loss(name: str, **knobs: Any) -> float:
        said = training(family, masked, tmp_path / name, steps=1, held_out="0.png", **knobs)
        return of_kind(said, Scored)[0].loss

    assert base_loss("half", background_weight=0.5) != base_loss("full")
    half = base_loss("again", background_weight=0.5)
    (masked / "masks" / "1.png").unlink()  # of a photo that is trained on
    assert base_loss("without", background_weight=0.5) == half


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (mask_of((48, 40), rest=0), "has a mask that ignores all of it; paint the subject"),
        (mask_of((48, 40)), "has a mask without a subject, and background_weight is 0"),
        (mask_of((48, 40), (255, (0, 0, 3, 40))), "has a crop of which the mask leaves nothing to learn"),
    ],
)
def test_a_mask_that_leaves_nothing_to_learn_is_a_sentence(
    family: Family, photos: Path, tmp_path: Path, mask: Image.Image, words: str
) -> None:
    mask.save(photos / "0.mask.png")
    with pytest.raises(DataProblem) as caught:
        list(training(family, photos, tmp_path / "run", shapes="square", background_weight=0))
    assert [each.field for each in caught.value.problems] == ["0.png"]
    assert words in caught.value.problems[0].message


def test_the_background_weight_is_between_0_and_1() -> None:
    assert settings().background_weight == 1.0
    with pytest.raises(Exception, match=r"background_weight: is 1\.5; it can be 0 to 1"):
        resolve({"background_weight": "1.5"})
