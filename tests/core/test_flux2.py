"""FLUX.2-klein as a family: blocks, dtypes, presets, what is read, schedules, and a run from photos to an adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest

from core.errors import ModelProblem
from core.hub import catalog
from core.models.base import Grid
from core.models.flux2 import TAPS, Flux2, Flux2Transformer, empirical_mu
from core.models.load import load_family
from core.models.parts import Parts
from core.models.text.tokenizers import TextTokenizer, chat_message
from core.safetensors_file import read_header
from core.sampling import draw
from core.training.events import Finished, Sampled
from tests import tiny, tiny_klein, tiny_qwen3
from tests.core.subjects import training


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_klein.make_model_folder(tmp_path_factory.mktemp("klein"))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def inputs(family: Flux2, batch: int = 2) -> tuple:
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


def test_only_the_image_and_text_change_between_blocks(folder: Path) -> None:
    family = load_family(folder)
    entering = family.embed(*inputs(family), 1.0)
    for block in family.blocks:
        leaving = block.run(block.module, entering)
        assert [name for name in entering if leaving[name] is not entering[name]] == ["img", "txt"]


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
    stream = family.embed(l_t, sigma, text, grid, 3.5)
    for block in [None, *family.blocks]:
        stream = block.run(block.module, stream) if block else stream
        exact = {name for name, value in stream.items() if value.dtype != mx.bfloat16}
        assert exact == {"cos", "sin"}
    assert family.project(stream).dtype == mx.bfloat16
    assert seen == {(mx.bfloat16, mx.bfloat16)}
    photo = family.encode_photo(mx.zeros((1, 64, 48, 3)))
    assert photo.dtype == family.decode(photo, grid).dtype == mx.float32


def test_presets_are_the_blocks_linear_layers_by_full_path(folder: Path) -> None:
    family = load_family(folder)
    modules = dict(family.transformer.named_modules())
    every = {path for path, module in modules.items() if isinstance(module, nn.Linear) and "blocks." in path}
    assert set(family.presets["all_linear"]) == every
    assert len(family.presets["all_linear"]) == 2 * 12 + 2 * 2
    attention = set(family.presets["attention"])
    assert len(attention) == 2 * 8 + 2 * 2
    assert attention < every
    assert all(".attn." in path for path in attention)
    assert attention | set(family.presets["mlp"]) == every
    assert set(family.presets["double_blocks"]) == {path for path in every if path.startswith("transformer_blocks.")}
    assert set(family.presets["single_blocks"]) == every - set(family.presets["double_blocks"])
    text = every - set(family.presets["image_stream"])
    assert len(text) == 2 * 6
    assert all(".add_" in path or ".to_add_" in path or ".ff_context." in path for path in text)


def test_a_prompt_is_a_message_in_a_chat_that_is_filled_up_or_cut(folder: Path) -> None:
    assert chat_message("a can", thinking=True) == "<|im_start|>user\na can<|im_end|>\n<|im_start|>assistant\n"
    quick = chat_message("a can", thinking=False)
    assert quick == chat_message("a can", thinking=True) + "<think>\n\n</think>\n\n"
    tokenize = TextTokenizer(folder / "tokenizer", 512)
    ids, own = tokenize.with_padding([quick, "can " * 200])
    assert ids.shape == own.shape == (2, tiny_qwen3.TOKENS)
    short = int(own[0].sum().item())
    assert own.tolist() == [[True] * short + [False] * (tiny_qwen3.TOKENS - short), [True] * tiny_qwen3.TOKENS]
    assert len(set(ids[0, short:].tolist())) == 1
    assert mx.array_equal(tokenize([quick])[0], ids[0]).item()


def test_layers_of_the_text_encoder_that_are_never_used_are_not_read(copy: Path) -> None:
    file = copy / "text_encoder" / "model.safetensors"
    before = load_family(copy).encode_text(["a can"])
    tensors = {name: mx.array(value) for name, value in mx.load(str(file)).items()}
    unused = [name for name in tensors if name.startswith((f"model.layers.{max(TAPS)}.", "model.norm."))]
    assert len(unused) == 12
    mx.save_safetensors(
        str(file), {name: value * mx.nan if name in unused else value for name, value in tensors.items()}
    )
    family = load_family(copy)
    assert mx.array_equal(family.encode_text(["a can"])["tokens"], before["tokens"]).item()
    encoder = Parts(copy, Flux2.parts, {"qwen3": mx.float32})["qwen3"]
    assert len(encoder.layers) == max(TAPS)


def test_a_text_encoder_with_too_few_layers_is_a_sentence(copy: Path) -> None:
    tiny_qwen3.write_encoder(copy / "text_encoder", layers=max(TAPS))
    with pytest.raises(ModelProblem, match="features are taken at"):
        load_family(copy).encode_text(["a can"])


def test_photos_come_back_from_their_tokens_as_the_vae_alone_gives_them(folder: Path) -> None:
    family = load_family(folder)
    pixels = mx.random.uniform(-1.0, 1.0, (2, 64, 48, 3), key=mx.random.key(1))
    l_T = family.encode_photo(pixels)
    assert l_T.shape == (2, 12, 16)
    vae = Parts(folder, Flux2.parts, {"vae": mx.float32})["vae"]
    expected = mx.clip(vae.decode(vae.encode(pixels)), -1.0, 1.0)
    assert mx.allclose(family.decode(l_T, Grid(4, 3, 16)), expected, atol=1e-4).item()


@pytest.mark.parametrize(
    ("tokens", "steps", "mu"),
    [(4096, 10, 2.25624619), (4096, 200, 1.14999658), (1024, 200, 0.62999914), (8192, 4, 1.84332650)],
    ids=["ten steps", "two hundred", "a small picture", "a large one, whatever the steps"],
)
def test_the_shift_follows_tokens_and_steps(tokens: int, steps: int, mu: float) -> None:
    assert empirical_mu(tokens, steps) == pytest.approx(mu)


def test_the_shift_for_training_is_that_of_the_models_own_drawing(folder: Path, copy: Path) -> None:
    grid = Grid(32, 32, 16)
    family = load_family(folder)
    assert family.training_shift(grid) == pytest.approx(
        2.718281828 ** empirical_mu(1024, tiny.CARD["drawing"]["steps"])
    )
    (copy / "scheduler" / "scheduler_config.json").write_text(json.dumps({"shift": 3.0}))
    assert load_family(copy).training_shift(grid) == 3.0
    assert load_family(copy).drawing_sigmas(2, grid) == pytest.approx([1.0, 0.75, 0.0])


def test_base_and_distilled_have_defaults_of_their_own(copy: Path) -> None:
    (copy / "likeness.json").unlink()
    assert not catalog.is_distilled(copy)
    assert catalog.drawing_of(copy) == {"steps": 50, "guidance": 4.0, "side_px": 1024}
    assert catalog.defaults_of(copy)["sample_guidance"] == 4.0
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"is_distilled": True}))
    assert catalog.is_distilled(copy)
    assert catalog.drawing_of(copy) == {"steps": 4, "guidance": 1.0, "side_px": 1024}
    assert load_family(copy).name == "flux2"


def test_rotary_axes_must_fill_a_head() -> None:
    with pytest.raises(ModelProblem, match="must add up to the head's width, 16"):
        Flux2Transformer(tiny_klein.TRANSFORMER | {"axes_dims_rope": [4, 4, 4]})


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [1.0, 4.0], ids=["as distilled", "as base"])
def test_a_run_learns_draws_and_writes_an_adapter_for_this_model(
    folder: Path, photos: Path, tmp_path: Path, guidance: float
) -> None:
    family = load_family(folder)
    knobs = {"sample_every": 2, "sample_guidance": guidance, "sigma_draw": "model_shift"}
    progress = list(training(family, photos, tmp_path / "run", **knobs))
    assert isinstance(progress[-1], Finished)
    assert sum(isinstance(each, Sampled) for each in progress) == 2 * 3
    header = read_header(progress[-1].adapter)
    assert {name.removeprefix("transformer.").rsplit(".lora_", 1)[0] for name in header.tensors} == set(
        family.presets["all_linear"]
    )
    assert header.metadata["modelspec.architecture"] == "Flux.2-klein/lora"
    assert header.metadata["modelspec.implementation"].endswith("black-forest-labs/flux2")
    assert header.metadata["ss_base_model_version"] == "flux2"


def test_the_two_sizes_are_named_in_the_adapters_header(copy: Path) -> None:
    for heads, name in ((24, "Flux.2-klein-4b/lora"), (32, "Flux.2-klein-9b/lora")):
        config = tiny_klein.TRANSFORMER | {"num_attention_heads": heads, "attention_head_dim": 128}
        (copy / "transformer" / "config.json").write_text(json.dumps(config))
        assert load_family(copy).modelspec["architecture"] == name


def test_true_guidance_draws_against_the_empty_prompt(folder: Path) -> None:
    family = load_family(folder)
    size = {"height_px": 64, "width_px": 48, "steps": 2, "seed": 3}
    plain, guided, same = (
        draw(family, prompt, guidance=guidance, **size).image.tobytes()
        for prompt, guidance in (("a can", 1.0), ("a can", 4.0), ("", 4.0))
    )
    assert plain != guided
    nothing = draw(family, "", guidance=1.0, **size).image.tobytes()
    assert sum(abs(a - b) for a, b in zip(same, nothing, strict=True)) <= len(same) * 0.01
