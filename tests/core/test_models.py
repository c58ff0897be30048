"""What FLUX.1 has of its own: guidance, parts, folders that are not whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
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


def test_guidance_counts_where_the_model_embeds_it_and_nowhere_else(folder: Path, tmp_path: Path) -> None:
    for path, embedded in ((folder, False), (tiny.make_model_folder(tmp_path, guidance=True), True)):
        family = load_family(path)
        assert family.embeds_guidance is embedded
        weak, strong = (family.velocity(*inputs(family), guidance) for guidance in (1.0, 4.0))
        assert mx.array_equal(weak, strong).item() is not embedded


def test_packing_comes_back(folder: Path) -> None:
    grid = Grid(3, 2, 16)
    latent = mx.random.normal((2, 6, 4, 4), key=mx.random.key(0))
    assert pack(latent).shape == (2, 6, 16)
    assert mx.array_equal(unpack(pack(latent), grid), latent).item()


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
