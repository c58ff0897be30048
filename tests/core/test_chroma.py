"""Chroma as a family: blocks, dtypes, presets, masked texts, what a block takes of the modulations, and a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest

from core.adapters.layers import ModelLayers
from core.dataset.batches import stacked
from core.errors import ModelProblem
from core.hub import catalog
from core.models.base import Grid
from core.models.chroma import Chroma, ChromaTransformer, places, rows
from core.models.load import load_family
from core.models.parts import Parts
from core.models.quantized import packed_layers
from core.safetensors_file import read_header
from core.sampling import draw
from core.training import checkpoint
from core.training.events import Finished, Note, Request, Sampled, Stepped
from tests import tiny, tiny_chroma
from tests.core.subjects import of_kind, training

LONG = "a photo of a sks can on the beach, at night, in the snow, a red toy car and a dog and a cat and a cup of tea"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chroma.make_model_folder(tmp_path_factory.mktemp("chroma"))


def inputs(family: Chroma) -> tuple:
    grid = family.grid(64, 48)
    l_t = mx.random.normal((2, grid.tokens, grid.channels), key=mx.random.key(5))
    return l_t, mx.array([0.9, 0.3]), family.encode_text([LONG, "a can"]), grid


def test_velocity_is_embed_then_every_block_then_project(folder: Path) -> None:
    family = load_family(folder)
    arguments = (*inputs(family), 1.0)
    stream = family.embed(*arguments)
    for block in family.blocks:
        assert dict(family.transformer.named_modules())[block.path] is block.module
        stream = block.run(block.module, stream)
    assert mx.array_equal(family.project(stream), family.velocity(*arguments)).item()
    assert [block.kind for block in family.blocks] == ["double"] * 2 + ["single"] * 3


def test_only_the_image_and_text_change_between_blocks(folder: Path) -> None:
    family = load_family(folder)
    entering = family.embed(*inputs(family), 1.0)
    for block in family.blocks:
        leaving = block.run(block.module, entering)
        assert [name for name in entering if leaving[name] is not entering[name]] == ["img", "txt"]


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


def test_texts_are_read_one_by_one_as_they_are_read_together(folder: Path) -> None:
    family = load_family(folder)
    together = family.encode_text([LONG, "a can", ""])
    for i, prompt in enumerate([LONG, "a can", ""]):
        alone = family.encode_text([prompt])
        assert alone["lengths"].tolist() == [together["lengths"][i].item()]
        assert mx.array_equal(alone["tokens"][0], together["tokens"][i]).item()


def test_padding_that_t5_does_not_see_changes_no_feature(folder: Path) -> None:
    family = load_family(folder)
    ids, real = family.tokenizers[0].with_padding(["a can"])
    end = int(real.sum().item()) + 1
    encoder = Parts(folder, Chroma.parts, {"t5": mx.float32})["t5"]
    whole, short, plain = encoder(ids, real), encoder(ids[:, :end], real[:, :end]), encoder(ids)
    assert mx.allclose(whole[:, :end], short, atol=1e-5).item()
    assert not mx.allclose(whole, plain, atol=1e-2).item()  # FLUX.1 lets T5 see it


def test_what_stands_behind_a_texts_end_is_never_seen(folder: Path) -> None:
    family = load_family(folder)
    l_t, sigma, text, grid = inputs(family)
    before = family.velocity(l_t, sigma, text, grid, 1.0)
    end = text["lengths"][:, None, None]
    other = mx.where(mx.arange(text["tokens"].shape[1])[None, :, None] < end, text["tokens"], 7.0)
    assert mx.array_equal(family.velocity(l_t, sigma, {**text, "tokens": other}, grid, 1.0), before).item()


def test_an_example_gets_what_it_would_get_alone_however_long_the_others_text_is(folder: Path) -> None:
    family = load_family(folder)
    l_t, sigma, _, grid = inputs(family)
    alone = [family.encode_text([text]) for text in (LONG, "a can")]
    alone[0] = {**alone[0], "tokens": mx.pad(alone[0]["tokens"], [(0, 0), (0, 128), (0, 0)])}
    together = stacked(alone)
    assert [each["tokens"].shape[1] for each in (*alone, together)] == [256, 128, 256]
    both = family.velocity(l_t, sigma, together, grid, 1.0)
    for i, text in enumerate(alone):
        one = family.velocity(l_t[i : i + 1], sigma[i : i + 1], text, grid, 1.0)
        assert mx.allclose(both[i : i + 1], one, atol=1e-5).item()


def test_nothing_leaks_into_float32_when_the_model_computes_in_bfloat16(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = load_family(folder, dtype=mx.bfloat16)
    seen: set[tuple[mx.Dtype, mx.Dtype]] = set()
    plain = nn.Linear.__call__

    def noting(layer: nn.Linear, x: mx.array) -> mx.array:
        y = plain(layer, x)
        seen.add((x.dtype, y.dtype))
        return y

    monkeypatch.setattr(nn.Linear, "__call__", noting)
    l_t, sigma, text, grid = inputs(family)
    assert text["tokens"].dtype == mx.bfloat16
    stream = family.embed(l_t, sigma, text, grid, 1.0)
    for block in [None, *family.blocks]:
        stream = block.run(block.module, stream) if block else stream
        other = {name: value.dtype for name, value in stream.items() if value.dtype != mx.bfloat16}
        assert other == {"cos": mx.float32, "sin": mx.float32, "seen": mx.bool_}
    assert family.project(stream).dtype == mx.bfloat16
    assert seen == {(mx.bfloat16, mx.bfloat16)}


def test_presets_are_the_blocks_linear_layers_by_full_path(folder: Path) -> None:
    family = load_family(folder)
    every = {path for path in tiny.linear_shapes(family.transformer) if "transformer_blocks." in path}
    assert set(family.presets["all_linear"]) == every
    assert len(every) == 2 * 12 + 3 * 5
    assert set(family.presets["attention"]) | set(family.presets["mlp"]) == every
    assert not set(family.presets["attention"]) & set(family.presets["mlp"])
    assert set(family.presets["double_blocks"]) == {path for path in every if path.startswith("transformer_blocks.")}
    assert set(family.presets["single_blocks"]) == every - set(family.presets["double_blocks"])
    assert len(every - set(family.presets["image_stream"])) == 2 * 6


def test_layers_by_the_config_are_the_networks(folder: Path) -> None:
    shapes = tiny.linear_shapes(load_family(folder).transformer)
    layers = ModelLayers.of("chroma", tiny_chroma.TRANSFORMER)
    assert {path: (i, o) for path, (o, i) in shapes.items() if path in layers.sizes} == layers.sizes
    assert set(layers.outside) == set(shapes) - set(layers.sizes)


def test_a_folder_of_ones_own_starts_with_chromas_values(folder: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    (own / "likeness.json").unlink()
    assert catalog.drawing_of(own) == {"steps": 40, "guidance": 3.0, "side_px": 1024}
    assert catalog.defaults_of(own)["sample_guidance"] == 3.0
    assert not catalog.is_distilled(own)
    assert load_family(own).training_shift(Grid(4, 4, 16)) == 3.0
    assert load_family(own).drawing_sigmas(2, Grid(4, 4, 16)) == pytest.approx([1.0, 0.75, 0.0])


def test_rotary_axes_must_fill_a_head() -> None:
    with pytest.raises(ModelProblem, match="must add up to the head's width, 16"):
        ChromaTransformer(tiny_chroma.TRANSFORMER | {"axes_dims_rope": [4, 4, 4]})


def test_blocks_are_quantized_and_the_approximator_is_not(tmp_path: Path) -> None:
    wide = tiny_chroma.make_model_folder(tmp_path / "wide", heads=4)
    whole, packed = load_family(wide), load_family(wide, quantize=8)
    paths = set(packed_layers(packed.transformer))
    assert {path.rpartition(".")[0] for path in paths} >= {"transformer_blocks.1.attn", "single_transformer_blocks.2"}
    assert all("transformer_blocks." in path for path in paths)
    arguments = (*inputs(whole), 1.0)
    expected, found = whole.velocity(*arguments), packed.velocity(*arguments)
    assert 0 < (mx.linalg.norm(found - expected) / mx.linalg.norm(expected)).item() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [1.0, 3.0], ids=["one pass", "true guidance"])
def test_a_run_learns_draws_and_writes_an_adapter_for_this_model(
    folder: Path, photos: Path, tmp_path: Path, guidance: float
) -> None:
    (photos / "0.txt").write_text(LONG)
    family = load_family(folder)
    knobs = {"sample_every": 2, "sample_guidance": guidance, "sigma_draw": "model_shift", "batch_size": 3}
    progress = list(training(family, photos, tmp_path / "run", **knobs))
    assert isinstance(progress[-1], Finished)
    assert len(of_kind(progress, Sampled)) == 2 * 3
    header = read_header(progress[-1].adapter)
    assert {name.removeprefix("transformer.").rsplit(".lora_", 1)[0] for name in header.tensors} == set(
        family.presets["all_linear"]
    )
    assert header.metadata["modelspec.architecture"] == "chroma/lora"
    assert header.metadata["ss_base_model_version"] == "chroma"
    assert not any(isinstance(each, Note) and "distilled" in each.text for each in progress)


@pytest.mark.slow
@pytest.mark.parametrize("activations", ["all", "none"])
def test_stopping_and_resuming_equals_never_stopping(
    folder: Path, photos: Path, tmp_path: Path, activations: str
) -> None:
    knobs = {"steps": 5, "save_every": 2, "activations": activations, "batch_size": 2, "caption_dropout": 0.3}
    list(training(load_family(folder), photos, tmp_path / "whole", **knobs))
    run = training(load_family(folder), photos, tmp_path / "parts", **knobs)
    progress = next(run)
    while not isinstance(progress, Finished):
        progress = run.send(Request.STOP if isinstance(progress, Stepped) and progress.step == 3 else None)
    list(training(load_family(folder), photos, tmp_path / "parts", resume=True, **knobs))
    whole, parts = (checkpoint.load(tmp_path / name / "checkpoints" / "5") for name in ("whole", "parts"))
    assert whole.losses == parts.losses
    assert all(mx.array_equal(whole.parameters[name], parts.parameters[name]) for name in whole.parameters)
    v, of_parts = whole.optimizer_state.tensors["v"], parts.optimizer_state.tensors["v"]
    assert all(mx.array_equal(value, of_parts[name]) for name, value in v.items())


def test_true_guidance_draws_against_the_empty_prompt(folder: Path) -> None:
    family = load_family(folder)
    size = {"height_px": 64, "width_px": 48, "steps": 2, "seed": 3}
    plain, guided = (draw(family, "a can", guidance=guidance, **size).image.tobytes() for guidance in (1.0, 3.0))
    assert plain != guided
