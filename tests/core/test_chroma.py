"""What Chroma has of its own: masked texts, and what a block takes of the modulations."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlx.core as mx
import pytest

from core.hub import catalog
from core.models.base import Grid
from core.models.chroma import Chroma, places, rows
from core.models.load import load_family
from core.models.parts import Parts
from tests import tiny_chroma

LONG = "a photo of a sks can on the beach, at night, in the snow, a red toy car and a dog and a cat and a cup of tea"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chroma.make_model_folder(tmp_path_factory.mktemp("chroma"))


def inputs(family: Chroma) -> tuple:
    grid = family.grid(64, 48)
    l_t = mx.random.normal((2, grid.tokens, grid.channels), key=mx.random.key(5))
    return l_t, mx.array([0.9, 0.3]), family.encode_text([LONG, "a can"]), grid


@pytest.mark.slow
def test_every_row_of_the_modulations_is_one_blocks_and_no_other_changes_it(folder: Path) -> None:
    """3 of each single block, then 6 of each double block for the image, 6 of each for the text, 2 at the end."""
    family = load_family(folder)
    stream = family.embed(*inputs(family), 1.0)
    count = stream["mod"].shape[1]
    assert count == 3 * 3 + 12 * 2 + 2
    users = {}
    for row in range(count):
        other = {**stream, "mod": stream["mod"] + (mx.arange(count) == row)[None, :, None]}
        users[row] = {
            block.path
            for block in family.blocks
            if any(
                not mx.array_equal(block.run(block.module, other)[name], block.run(block.module, stream)[name]).item()
                for name in ("img", "txt")
            )
        }
        if not mx.array_equal(family.project(other), family.project(stream)).item():
            users[row].add("project")
    expected = [f"single_transformer_blocks.{index}" for index in range(3) for _ in range(3)]
    expected += [f"transformer_blocks.{index}" for index in range(2) for _ in range(6)] * 2
    assert users == {row: {path} for row, path in enumerate([*expected, "project", "project"])}


def test_rows_are_taken_in_order_from_the_first_on() -> None:
    mod = mx.arange(2 * 5 * 3).reshape(2, 5, 3)
    assert [each.tolist() for each in rows(mod, mx.array(2), 2)] == [mod[:, 2].tolist(), mod[:, 3].tolist()]


def test_places_are_waves_of_a_rows_number() -> None:
    table = places(3, 4)
    assert table[0].tolist() == [1.0, 1.0, 0.0, 0.0]
    expected = [mx.cos(mx.array([2000.0, 20.0])), mx.sin(mx.array([2000.0, 20.0]))]
    assert mx.allclose(table[2], mx.concatenate(expected), atol=1e-3).item()


def test_a_text_is_its_own_tokens_and_one_of_padding(folder: Path) -> None:
    family = load_family(folder)
    text = family.encode_text(["a can", "", LONG + LONG])
    own = family.tokenizers[0].with_padding(["a can", "", LONG + LONG])[1].sum(axis=1).tolist()
    assert own[2] == tiny_chroma.TOKENS  # cut, so there is no room for padding
    assert text["lengths"].tolist() == [own[0] + 1, own[1] + 1, own[2]]
    assert text["lengths"].dtype == mx.int32
    assert text["tokens"].shape == (3, 128, 24)
    for features, length in zip(text["tokens"], text["lengths"].tolist(), strict=True):
        assert mx.all(mx.any(features[:length] != 0, axis=-1)).item()
        assert not mx.any(features[length:]).item()


def test_padding_that_t5_does_not_see_changes_no_feature(folder: Path) -> None:
    family = load_family(folder)
    ids, real = family.tokenizers[0].with_padding(["a can"])
    end = int(real.sum().item()) + 1
    encoder = Parts(folder, Chroma.parts, {"t5": mx.float32})["t5"]
    whole, short, plain = encoder(ids, real), encoder(ids[:, :end], real[:, :end]), encoder(ids)
    assert mx.allclose(whole[:, :end], short, atol=1e-5).item()
    assert not mx.allclose(whole, plain, atol=1e-2).item()  # FLUX.1 lets T5 see it


def test_a_folder_of_ones_own_starts_with_chromas_values(folder: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    (own / "likeness.json").unlink()
    assert catalog.drawing_of(own) == {"steps": 40, "guidance": 3.0, "side_px": 1024}
    assert catalog.defaults_of(own)["sample_guidance"] == 3.0
    assert not catalog.is_distilled(own)
    assert load_family(own).training_shift(Grid(4, 4, 16)) == 3.0
    assert load_family(own).drawing_sigmas(2, Grid(4, 4, 16)) == pytest.approx([1.0, 0.75, 0.0])
