"""FLUX.1 as a family: parts, blocks, dtypes, presets, folders that are not whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from core.adapters.layers import resolve_targets
from core.errors import ModelProblem
from core.hub import catalog
from core.models.base import Grid
from core.models.flux1 import Flux1, FluxTransformer
from core.models.load import load_family
from core.models.patches import pack, unpack
from core.models.text.tokenizers import TextTokenizer
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def inputs(family: Flux1, batch: int = 2) -> tuple:
    grid = family.grid(64, 48)
    l_t = mx.random.normal((batch, grid.tokens, grid.channels), key=mx.random.key(5))
    return l_t, mx.array([0.9, 0.3][:batch]), family.encode_text(["a photo of a can", ""][:batch]), grid


def test_velocity_is_embed_then_every_block_then_project(folder: Path) -> None:
    family = load_family(folder)
    arguments = (*inputs(family), 1.0)
    stream = family.embed(*arguments)
    for block in family.blocks:
        assert dict(family.transformer.named_modules())[block.path] is block.module
        stream = block.run(block.module, stream)
    assert mx.array_equal(family.project(stream), family.velocity(*arguments)).item()
    assert [block.kind for block in family.blocks] == ["double"] * 2 + ["single"] * 2


def test_an_example_does_not_depend_on_who_else_is_in_the_batch(folder: Path) -> None:
    family = load_family(folder)
    l_t, sigma, text, grid = inputs(family)
    both = family.velocity(l_t, sigma, text, grid, 1.0)
    for i in range(2):
        alone = family.velocity(l_t[i : i + 1], sigma[i : i + 1], {k: v[i : i + 1] for k, v in text.items()}, grid, 1.0)
        assert mx.allclose(both[i : i + 1], alone, atol=1e-5).item()


def test_guidance_counts_where_the_model_embeds_it_and_nowhere_else(folder: Path, tmp_path: Path) -> None:
    for path, embedded in ((folder, False), (tiny.make_model_folder(tmp_path, guidance=True), True)):
        family = load_family(path)
        assert family.embeds_guidance is embedded
        weak, strong = (family.velocity(*inputs(family), guidance) for guidance in (1.0, 4.0))
        assert mx.array_equal(weak, strong).item() is not embedded


@pytest.mark.parametrize("guidance", [False, True])
def test_nothing_leaks_into_float32_when_the_model_computes_in_bfloat16(
    tmp_path: Path, guidance: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = load_family(tiny.make_model_folder(tmp_path, guidance=guidance), dtype=mx.bfloat16)
    assert {value.dtype for _, value in tree_flatten(family.transformer.parameters())} == {mx.bfloat16}
    seen: list[tuple[mx.Dtype, mx.Dtype]] = []
    plain = nn.Linear.__call__

    def noting(layer: nn.Linear, x: mx.array) -> mx.array:
        y = plain(layer, x)
        seen.append((x.dtype, y.dtype))
        return y

    monkeypatch.setattr(nn.Linear, "__call__", noting)
    l_t, sigma, text, grid = inputs(family)
    assert {value.dtype for value in text.values()} == {mx.bfloat16}
    stream = family.embed(l_t, sigma, text, grid, 3.5)
    for block in [None, *family.blocks]:
        stream = block.run(block.module, stream) if block else stream
        kinds = {name: value.dtype for name, value in stream.items()}
        assert kinds == {"cos": mx.float32, "sin": mx.float32} | dict.fromkeys(("img", "txt", "vec"), mx.bfloat16)
    assert family.project(stream).dtype == mx.bfloat16
    assert len(seen) > 40
    assert set(seen) == {(mx.bfloat16, mx.bfloat16)}
    photo = family.encode_photo(mx.zeros((1, 64, 48, 3)))
    assert photo.dtype == family.decode(photo, grid).dtype == mx.float32


def test_packing_comes_back(folder: Path) -> None:
    grid = Grid(3, 2, 16)
    latent = mx.random.normal((2, 6, 4, 4), key=mx.random.key(0))
    assert pack(latent).shape == (2, 6, 16)
    assert mx.array_equal(unpack(pack(latent), grid), latent).item()


def test_presets_are_the_blocks_linear_layers_by_full_path(folder: Path) -> None:
    family = load_family(folder)
    modules = dict(family.transformer.named_modules())
    every = {
        path
        for path, module in modules.items()
        if isinstance(module, nn.Linear) and "blocks." in path and ".norm" not in path
    }
    assert set(family.presets["all_linear"]) == every
    assert len(family.presets["all_linear"]) == 2 * 12 + 2 * 5
    attention = set(family.presets["attention"])
    assert len(attention) == 2 * 8 + 2 * 3
    assert attention < every
    assert all(".attn." in path for path in attention)
    for one, other in (("attention", "mlp"), ("double_blocks", "single_blocks")):
        assert set(family.presets[one]) | set(family.presets[other]) == every
        assert not set(family.presets[one]) & set(family.presets[other])
    text = every - set(family.presets["image_stream"])
    assert len(text) == 2 * 6
    assert all(".add_" in path or ".to_add_" in path or ".ff_context." in path for path in text)


def test_a_preset_of_single_blocks_is_there_where_its_blocks_are(folder: Path, tmp_path: Path) -> None:
    assert "likeness" not in load_family(folder).presets
    family = load_family(tiny.make_model_folder(tmp_path / "deep", single_blocks=21))
    layers = [f"single_transformer_blocks.{index}.proj_out" for index in (7, 12, 16, 20)]
    assert family.presets["likeness"] == layers
    assert resolve_targets(family.architecture.layers, "likeness") == layers


def test_parts_are_read_when_first_used_and_dropped_when_freed(folder: Path) -> None:
    family = load_family(folder)
    assert not family.loaded
    before = family.encode_text(["a can"])
    assert family.loaded == {"clip", "t5"}
    family.free("text", "vae")
    assert not family.loaded
    after = family.encode_text(["a can"])
    assert all(mx.array_equal(before[name], after[name]).item() for name in before)


def test_older_checkpoints_names_and_repeated_tables_are_understood(folder: Path, copy: Path) -> None:
    clip, t5 = copy / "text_encoder" / "model.safetensors", copy / "text_encoder_2" / "model.safetensors"
    older = {f"text_model.{name}": value for name, value in mx.load(str(clip)).items()}
    mx.eval(older)
    mx.save_safetensors(str(clip), older | {"text_model.embeddings.position_ids": mx.arange(16)[None]})
    twice = dict(mx.load(str(t5)))
    mx.eval(twice)
    mx.save_safetensors(str(t5), twice | {"encoder.embed_tokens.weight": mx.contiguous(twice["shared.weight"] + 0.0)})
    expected, found = (load_family(path).encode_text(["a red toy car"]) for path in (folder, copy))
    assert all(mx.array_equal(expected[name], found[name]).item() for name in expected)


def test_a_loaded_model_has_nothing_to_train(folder: Path) -> None:
    assert tree_flatten(load_family(folder).transformer.trainable_parameters()) == []


def test_hashes_follow_the_weights_of_their_part_alone(folder: Path, copy: Path) -> None:
    tiny.save_module(FluxTransformer(tiny.TRANSFORMER), copy / "transformer" / "diffusion_pytorch_model.safetensors")
    ours, theirs = load_family(folder).hashes, load_family(copy).hashes
    assert set(ours) == {"transformer", "vae", "text"}
    assert [name for name in ours if ours[name] != theirs[name]] == ["transformer"]


def test_flux1_dev_builds_the_same_class_without_taking_memory() -> None:
    before = mx.get_active_memory()
    dev = FluxTransformer(
        {"num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128, "num_attention_heads": 24}
        | {"in_channels": 64, "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True}
    )
    assert sum(value.size for _, value in tree_flatten(dev.parameters())) == 11_901_408_320
    assert mx.get_active_memory() - before < 1e6


def test_a_folder_that_is_not_whole_says_what_is_missing(copy: Path) -> None:
    shutil.rmtree(copy / "vae")
    shutil.rmtree(copy / "text_encoder_2")
    with pytest.raises(ModelProblem) as caught:
        load_family(copy)
    assert [each.field for each in caught.value.problems] == ["vae/config.json", "text_encoder_2/config.json"]


def test_folders_that_are_no_model_of_ours_say_so(tmp_path: Path) -> None:
    with pytest.raises(ModelProblem, match=r"model_index\.json is not there"):
        load_family(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(ModelProblem, match="is a StableDiffusionPipeline"):
        load_family(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ModelProblem, match="cannot be read"):
        load_family(tmp_path)


def test_a_truncated_weight_file_is_a_sentence(copy: Path) -> None:
    file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelProblem, match="damaged"):
        _ = load_family(copy).transformer


def test_a_config_without_its_numbers_is_a_sentence(copy: Path) -> None:
    (copy / "transformer" / "config.json").write_text(json.dumps({"num_layers": 2}))
    with pytest.raises(ModelProblem, match=r"config\.json does not describe"):
        _ = load_family(copy).transformer


def test_sizes_must_be_multiples_of_sixteen(folder: Path) -> None:
    family = load_family(folder)
    assert family.grid(64, 48) == Grid(4, 3, 16)
    with pytest.raises(ModelProblem, match="multiples of 16"):
        family.grid(60, 64)


def test_prompts_fill_up_and_are_cut_with_their_end_kept(folder: Path) -> None:
    tokenize = TextTokenizer(folder / "tokenizer", 77)
    short, long = tokenize(["a can", "can " * 50]).tolist()
    assert len(short) == len(long) == tiny.TOKENS
    assert short[0] == long[0] == 0
    assert long[-1] == 1
    assert short[-5:] == [1] * 5


def test_t5_without_tokenizer_json_says_which_file_is_needed(copy: Path) -> None:
    (copy / "tokenizer_2" / "tokenizer.json").rename(copy / "tokenizer_2" / "spiece.model")
    with pytest.raises(ModelProblem, match=r"only spiece\.model\. Put the tokenizer\.json"):
        load_family(copy).encode_text(["a can"])


def test_the_card_sets_defaults_and_a_folder_without_one_has_flux1s(folder: Path, copy: Path) -> None:
    assert catalog.defaults_of(folder)["rank"] == 4
    assert catalog.drawing_of(folder)["steps"] == 2
    (copy / "likeness.json").unlink()
    assert catalog.defaults_of(copy)["rank"] == 16
    assert catalog.defaults_of(copy)["train_guidance"] == 1.0
    assert catalog.drawing_of(copy) == {"steps": 4, "guidance": 1.0, "side_px": 1024}  # like schnell: no guidance input


def test_the_catalog_finds_names_and_folders_and_says_what_there_is(folder: Path) -> None:
    entry = catalog.find(folder)
    assert (entry.title, entry.on_disk) == ("Tiny", True)
    expected = sum(value.size for _, value in tree_flatten(load_family(folder).transformer.parameters()))
    assert entry.parameters == expected
    assert catalog.find("pocket").name == "pocket"
    with pytest.raises(ModelProblem, match="no model called nonesuch"):
        catalog.find("nonesuch")
