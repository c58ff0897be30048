"""What FLUX.3 klein has of its own: texts in windows, the flow map, its folder."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import pytest

from core.hub import catalog
from core.hub.layout import is_needed, missing_files, parts_of
from core.models.base import TARGET, Grid
from core.models.flux3 import TAPS, Flux3, Flux3Transformer, position_ids
from core.models.load import load_family
from core.models.parts import Parts
from core.safetensors_file import read_header
from core.sampling import draw
from core.training.events import Note
from tests import tiny, tiny_flux3, tiny_qwen3
from tests.core.subjects import training

LONG = "a photo of a sks can on the beach, at night, in the snow, a red toy car and a dog and a cat and a cup of tea"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny_flux3.make_model_folder(tmp_path_factory.mktemp("flux3"))
    tiny_qwen3.write_tokenizer(made / "tokenizer", tokens=None)
    return made


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux3.make_model_folder(tmp_path_factory.mktemp("distilled"), distilled=True)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def inputs(family: Flux3) -> tuple:
    grid = family.grid(64, 48)
    l_t = mx.random.normal((2, grid.tokens, grid.channels), key=mx.random.key(5))
    return l_t, mx.array([0.9, 0.3]), family.encode_text([LONG * 3, "a can"]), grid


def test_text_and_image_do_not_see_each_other_before_the_single_blocks(folder: Path) -> None:
    family = load_family(folder)
    stream = family.embed(*inputs(family), 1.0)
    for block in family.blocks[:4]:
        mine, other = ("txt", "img") if block.kind == "text" else ("img", "txt")
        changed = {**stream, other: stream[other] + 1.0}
        assert mx.array_equal(block.run(block.module, changed)[mine], block.run(block.module, stream)[mine]).item()


def test_the_text_is_read_alike_at_every_sigma(folder: Path) -> None:
    family = load_family(folder)
    l_t, sigma, text, grid = inputs(family)
    one, other = (family.embed(l_t, each, text, grid, 1.0) for each in (sigma, 0.5 * sigma))
    same = {name for name in one if mx.array_equal(one[name], other[name]).item()}
    assert same == {"img", "txt", "early_txt", "single_txt", "cos", "sin", "seen"}


def test_a_texts_length_is_a_multiple_of_80_whose_padding_counts(folder: Path) -> None:
    family = load_family(folder)
    text = family.encode_text([LONG * 3, "a can", ""])
    assert text["lengths"].tolist() == [160, 80, 80]
    assert text["tokens"].shape == (3, 160, len(TAPS) * tiny_qwen3.WIDTH)
    assert mx.all(mx.any(text["tokens"][1, :80] != 0, axis=-1)).item()
    assert not mx.any(text["tokens"][1, 80:]).item()
    l_t, sigma, _, grid = inputs(family)
    alone = family.encode_text(["a can"])
    before = family.velocity(l_t[:1], sigma[:1], alone, grid, 1.0)
    other = mx.where(mx.arange(80)[None, :, None] < 79, alone["tokens"], 7.0)
    assert not mx.allclose(family.velocity(l_t[:1], sigma[:1], {**alone, "tokens": other}, grid, 1.0), before).item()


def test_padding_stands_at_position_1_so_all_of_it_has_one_feature(folder: Path) -> None:
    tokens = load_family(folder).encode_text(["a can"])["tokens"][0]
    own = int(load_family(folder).tokenizers[0].with_padding(["a can"])[1].sum().item())
    assert own < 40
    assert mx.allclose(tokens[-1], tokens[40], atol=1e-4).item()
    assert not mx.allclose(tokens[-1], tokens[own - 1], atol=1e-1).item()


def test_only_the_text_tower_below_the_highest_tap_is_read(copy: Path) -> None:
    file = copy / "text_encoder" / "model.safetensors"
    before = load_family(copy).encode_text(["a can"])
    tensors = {name: mx.array(value) for name, value in mx.load(str(file)).items()}
    unused = [
        name
        for name in tensors
        if name.startswith((f"model.language_model.layers.{max(TAPS)}.", "model.language_model.norm.", "model.visual."))
    ]
    assert len(unused) == 11 + 1 + 1
    mx.save_safetensors(
        str(file), {name: value * mx.nan if name in unused else value for name, value in tensors.items()}
    )
    assert mx.array_equal(load_family(copy).encode_text(["a can"])["tokens"], before["tokens"]).item()
    assert len(Parts(copy, Flux3.parts, {"qwen3": mx.float32})["qwen3"].layers) == max(TAPS)


def test_blocks_for_reference_images_are_never_read(folder: Path) -> None:
    """The folder's are not finite."""
    family = load_family(folder)
    assert mx.isfinite(family.velocity(*inputs(family), 1.0)).all().item()
    header = read_header(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    left_out = {name for name in header.tensors if Flux3Transformer.checkpoint_name(name) is None}
    assert len(left_out) == 1 + 2 + 2 * 8
    assert all(".image_cond" in name for name in left_out)


def test_positions_are_the_texts_index_and_half_of_rows_and_columns() -> None:
    ids = position_ids(3, Grid(2, 3, 16)).tolist()
    assert ids[:3] == [[0, 0, 0, index] for index in range(3)]
    assert ids[3:] == [[0, row / 2, column / 2, 0] for row in range(2) for column in range(3)]


# The flow map


def test_a_flow_map_takes_the_end_of_each_step_as_its_target(distilled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = load_family(distilled)
    seen_pairs: list[tuple[float, float]] = []
    exact = family.embed

    def noting(l_t: mx.array, sigma: mx.array, conditioning: dict, grid: Grid, guidance: float) -> dict:
        seen_pairs.append((sigma.item(), conditioning[TARGET].item()))
        return exact(l_t, sigma, conditioning, grid, guidance)

    monkeypatch.setattr(family, "embed", noting)
    draw(family, "a can", height_px=64, width_px=48, steps=3, guidance=1.0, seed=1)
    sigmas = family.drawing_sigmas(3, family.grid(64, 48))
    assert seen_pairs == [pytest.approx(pair) for pair in pairwise(sigmas)]


def test_without_a_target_a_step_ends_where_it_begins(distilled: Path, folder: Path) -> None:
    family = load_family(distilled)
    l_t, sigma, text, grid = inputs(family)
    here, same, further = (
        family.velocity(l_t, sigma, text | more, grid, 1.0)
        for more in ({}, {TARGET: sigma}, {TARGET: mx.zeros_like(sigma)})
    )
    assert mx.array_equal(here, same).item()
    assert not mx.allclose(here, further, atol=1e-2).item()
    plain = load_family(folder)
    assert (plain.flow_map, family.flow_map) == (False, True)
    assert "target_timestep_embedder" not in plain.transformer


# The folder


def test_base_and_distilled_have_values_of_their_own(folder: Path, distilled: Path, tmp_path: Path) -> None:
    plain = [Path(shutil.copytree(each, tmp_path / each.name)) for each in (folder, distilled)]
    for each in plain:
        (each / "likeness.json").unlink()
    assert [catalog.is_distilled(each) for each in plain] == [False, True]
    assert catalog.drawing_of(plain[0]) == {"steps": 50, "guidance": 3.5, "side_px": 1024}
    assert catalog.drawing_of(plain[1]) == {"steps": 16, "guidance": 1.0, "side_px": 1024}
    assert [catalog.similar_known_model(each).trains for each in plain] == [True, False]
    assert catalog.adapters_fit("flux3-klein-base", "flux3-klein")
    assert load_family(plain[0]).drawing_sigmas(2, Grid(4, 4, 16)) == pytest.approx([1.0, 6.93 / 7.93, 0.0])


def test_a_folder_with_a_modular_index_is_found_and_checked(copy: Path) -> None:
    entry = catalog.find("copy", [copy.parent])
    assert (entry.family, entry.usable, entry.path) == ("flux3", True, copy)
    assert catalog.find(copy).family == "flux3"
    parts = parts_of(json.loads((copy / "modular_model_index.json").read_text()))
    assert parts == {name: library for name, (library, _) in tiny_flux3.PARTS.items()}
    assert all(is_needed(str(path.relative_to(copy)), parts) for path in copy.rglob("*.safetensors"))
    (copy / "text_encoder" / "model.safetensors").unlink()
    assert [each.field for each in missing_files(copy)] == ["text_encoder/model.safetensors"]
    (copy / "modular_model_index.json").write_text("{")
    assert [(each.field, each.message) for each in missing_files(copy)] == [
        ("modular_model_index.json", "cannot be read")
    ]


def test_a_scheduler_of_the_folder_sets_the_shift(copy: Path) -> None:
    tiny.write_json(copy / "scheduler" / "scheduler_config.json", {"shift": 3.0})
    assert load_family(copy).training_shift(Grid(4, 4, 16)) == 3.0


# A run


@pytest.mark.slow
def test_a_run_on_the_distilled_model_says_what_it_costs(distilled: Path, photos: Path, tmp_path: Path) -> None:
    progress = list(training(load_family(distilled), photos, tmp_path / "run", steps=2))
    assert any(isinstance(each, Note) and "distilled" in each.text for each in progress)
