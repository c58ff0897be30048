"""Z-Image as a family: blocks, dtypes, presets, texts of any length, what folders say, and a run with an assistant."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from PIL import Image

from core.adapters import file as adapter_file
from core.adapters import lora
from core.dataset.batches import stacked
from core.errors import ModelProblem, TrainingProblem
from core.hub import catalog
from core.models.base import Grid, Stream
from core.models.load import load_family
from core.models.z_image import ZImage, ZImageTransformer, pack, position_ids, unpack
from core.safetensors_file import read_header
from core.sampling import draw
from core.training import checkpoint
from core.training.events import Finished, Note, Request, Sampled, Stepped
from tests import tiny, tiny_z_image
from tests.core.subjects import of_kind, training

LONG = "a photo of a sks can on the beach, at night, in the snow, a red toy car and a dog and a cat and a cup of tea"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_z_image.make_model_folder(tmp_path_factory.mktemp("z-image"))


@pytest.fixture(scope="module")
def turbo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_z_image.make_model_folder(tmp_path_factory.mktemp("turbo"), turbo=True)


@pytest.fixture
def copy(turbo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(turbo, tmp_path / "copy"))


def inputs(family: ZImage) -> tuple:
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
    kinds = [block.kind for block in family.blocks]
    assert kinds == ["image refiner"] * 2 + ["text refiner"] * 2 + ["single"] * 3


def test_every_kind_of_block_moves_its_own_part_of_the_stream(folder: Path) -> None:
    family = load_family(folder)
    entering = family.embed(*inputs(family), 1.0)
    moved = {"image refiner": ["img", "pad"], "text refiner": ["txt"], "single": ["img", "pad", "txt"]}
    for block in family.blocks:
        leaving = block.run(block.module, entering)
        assert [name for name in entering if leaving[name] is not entering[name]] == moved[block.kind]


def test_an_example_gets_what_it_would_get_alone_however_long_the_others_text_is(folder: Path) -> None:
    family = load_family(folder)
    l_t, sigma, _, grid = inputs(family)
    alone = [family.encode_text([text]) for text in (LONG + LONG, "a can")]
    alone[0] = {**alone[0], "tokens": mx.pad(alone[0]["tokens"], [(0, 0), (0, 128), (0, 0)])}
    together = stacked(alone)
    assert [each["tokens"].shape[1] for each in (*alone, together)] == [256, 128, 256]
    both = family.velocity(l_t, sigma, together, grid, 1.0)
    for i, text in enumerate(alone):
        one = family.velocity(l_t[i : i + 1], sigma[i : i + 1], text, grid, 1.0)
        assert mx.allclose(both[i : i + 1], one, atol=1e-5).item()


def test_texts_are_read_one_by_one_as_they_are_read_together(folder: Path) -> None:
    family = load_family(folder)
    together = family.encode_text([LONG, "a can", ""])
    for i, prompt in enumerate([LONG, "a can", ""]):
        alone = family.encode_text([prompt])
        assert alone["lengths"].tolist() == [together["lengths"][i].item()]
        assert mx.allclose(alone["tokens"][0], together["tokens"][i], atol=1e-5).item()
    assert together["tokens"].shape == (3, 128, 16)
    assert together["lengths"].dtype == mx.int32


def test_what_stands_behind_a_texts_end_is_never_seen(folder: Path) -> None:
    family = load_family(folder)
    l_t, sigma, text, grid = inputs(family)
    before = family.velocity(l_t, sigma, text, grid, 1.0)
    end = text["lengths"][:, None, None]
    other = mx.where(mx.arange(text["tokens"].shape[1])[None, :, None] < end, text["tokens"], 7.0)
    assert mx.array_equal(family.velocity(l_t, sigma, {**text, "tokens": other}, grid, 1.0), before).item()


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
    every = {
        path for path in tiny.linear_shapes(family.transformer) if ".attention." in path or ".feed_forward." in path
    }
    assert set(family.presets["all_linear"]) == every
    assert len(family.presets["all_linear"]) == 7 * 7
    assert set(family.presets["attention"]) == {path for path in every if ".attention." in path}
    assert set(family.presets["mlp"]) == every - set(family.presets["attention"])
    assert set(family.presets["no_refiners"]) == {path for path in every if path.startswith("layers.")}
    refined = {path for path in every if path.startswith("context_refiner.")}
    assert set(family.presets["image_stream"]) == every - refined


def test_positions_begin_with_the_text_and_the_image_follows_it() -> None:
    ids = position_ids(mx.array([32, 64]), 96, Grid(2, 3, 16)).tolist()
    assert [len(each) for each in ids] == [32 + 96] * 2
    for one, length in zip(ids, (32, 64), strict=True):
        assert one[:6] == [[length + 1, row, column] for row in range(2) for column in range(3)]
        assert one[6:32] == [[0, 0, 0]] * 26
        assert one[32:] == [[number, 0, 0] for number in range(1, 97)]


def test_a_tokens_channels_run_row_column_channel() -> None:
    latent = mx.arange(4 * 6 * 3).reshape(1, 4, 6, 3)
    tokens = pack(latent)
    assert tokens[0, 1].tolist() == [*latent[0, 0, 2].tolist(), *latent[0, 0, 3].tolist(),
                                     *latent[0, 1, 2].tolist(), *latent[0, 1, 3].tolist()]  # fmt: skip
    assert mx.array_equal(unpack(tokens, Grid(2, 3, 12)), latent).item()


def test_a_config_of_another_kind_is_a_sentence() -> None:
    for knobs, words in (
        ({"axes_dims": [4, 4, 4]}, "must add up to the head's width, 16"),
        ({"siglip_feat_dim": 1152}, "siglip_feat_dim is 1152"),
        ({"all_patch_size": (2, 4)}, "in which it is \\[2\\]"),
    ):
        with pytest.raises(ModelProblem, match=words):
            ZImageTransformer(tiny_z_image.TRANSFORMER | knobs)
    ZImageTransformer(tiny_z_image.TRANSFORMER | {"all_patch_size": (2,)})


def test_base_and_turbo_are_told_apart_by_their_schedules(folder: Path, turbo: Path, tmp_path: Path) -> None:
    plain = [Path(shutil.copytree(each, tmp_path / each.name)) for each in (folder, turbo)]
    for each in plain:
        (each / "likeness.json").unlink()
    assert [catalog.is_distilled(each) for each in plain] == [False, True]
    assert catalog.drawing_of(plain[0]) == {"steps": 50, "guidance": 5.0, "side_px": 1024}
    assert catalog.drawing_of(plain[1]) == {"steps": 8, "guidance": 1.0, "side_px": 1024}
    assert catalog.defaults_of(plain[1])["sample_steps"] == 8
    assert [load_family(each).training_shift(Grid(4, 4, 16)) for each in plain] == [6.0, 3.0]
    assert load_family(turbo).drawing_sigmas(2, Grid(4, 4, 16)) == pytest.approx([1.0, 0.75, 0.0])


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [1.0, 5.0], ids=["one pass", "true guidance"])
def test_a_run_learns_draws_and_writes_an_adapter_for_this_model(
    folder: Path, photos: Path, tmp_path: Path, guidance: float
) -> None:
    (photos / "0.txt").write_text(LONG + LONG)
    family = load_family(folder)
    knobs = {"sample_every": 2, "sample_guidance": guidance, "sigma_draw": "model_shift", "batch_size": 3}
    progress = list(training(family, photos, tmp_path / "run", **knobs))
    assert isinstance(progress[-1], Finished)
    assert len(of_kind(progress, Sampled)) == 2 * 3
    header = read_header(progress[-1].adapter)
    assert {name.removeprefix("transformer.").rsplit(".lora_", 1)[0] for name in header.tensors} == set(
        family.presets["all_linear"]
    )
    assert header.metadata["modelspec.architecture"] == "Z-Image/lora"
    assert header.metadata["modelspec.implementation"].endswith("Tongyi-MAI/Z-Image")
    assert header.metadata["ss_base_model_version"] == "z_image"
    assert not any(isinstance(each, Note) and "distilled" in each.text for each in progress)


# The training assistant


def weights_of(family: ZImage, name: str) -> dict[str, mx.array]:
    layers = {p: each for p, each in family.transformer.named_modules() if isinstance(each, lora.LoRALinear)}
    found = {}
    for path, layer in layers.items():
        if name in layer.adapters:
            found |= {f"{path}.A": layer.adapters[name].lora_A, f"{path}.B": layer.adapters[name].lora_B}
    return found


@pytest.mark.slow
def test_the_assistant_is_on_in_steps_only_and_never_changes(
    turbo: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = load_family(turbo)
    held = adapter_file.read(turbo / tiny_z_image.ASSISTANT, "z_image").factors
    assert len(held) == 3 * 4
    strengths: dict[str, set[float]] = {"step": set(), "picture": set()}
    exact = family.project

    def noting(stream: Stream) -> mx.array:
        layer = lora.find(family.transformer, "layers.1.attention.to_v")
        strengths["step" if len(stream["img"]) == 2 else "picture"].add(layer.adapters["assistant"].strength)
        return exact(stream)

    monkeypatch.setattr(family, "project", noting)
    monkeypatch.setattr(
        "core.training.outputs.RunOutputs.score", lambda self: iter(())
    )  # a score hears it as a step does
    run = training(family, photos, tmp_path / "run", sample_every=2, batch_size=2, accumulate=2)
    for progress in run:
        if isinstance(progress, Stepped):
            now = weights_of(family, "assistant")
            assert len(now) == 2 * len(held)
            for path, (a_RI, b_OR) in held.items():
                assert mx.array_equal(now[f"{path}.A"], a_RI).item()
                assert mx.array_equal(now[f"{path}.B"], b_OR).item()
    assert strengths == {"step": {1.0}, "picture": {0.0}}
    assert not any(isinstance(module, lora.LoRALinear) for module in family.transformer.modules())
    assert isinstance(progress, Finished)
    exported = adapter_file.read(progress.adapter, "z_image").factors
    assert {a_RI.shape[0] for a_RI, _ in exported.values()} == {2}
    assert set(exported) == set(family.presets["all_linear"])


def test_the_first_step_has_the_gradient_of_the_model_with_its_assistant(
    turbo: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merging the assistant into the weights trains the same; leaving it out trains something else."""

    def losses(family: ZImage, name: str) -> tuple[list[float], dict[str, mx.array]]:
        progress = list(training(family, photos, tmp_path / name, steps=2))
        remembered = checkpoint.load(tmp_path / name / "checkpoints" / "2").optimizer_state
        return [each.loss for each in of_kind(progress, Stepped)], remembered.tensors["m"]

    assisted = losses(load_family(turbo), "assisted")
    merged, bare = load_family(turbo), load_family(turbo)
    monkeypatch.setattr(ZImage, "assistant", None)
    for path, (a_RI, b_OR) in adapter_file.read(turbo / tiny_z_image.ASSISTANT, "z_image").factors.items():
        layer = lora.find(merged.transformer, path)
        layer.weight = layer.weight + b_OR @ a_RI
    same, other = losses(merged, "merged"), losses(bare, "bare")
    assert assisted[0] == pytest.approx(same[0], rel=1e-4)
    assert assisted[0] != pytest.approx(other[0], rel=1e-2)
    name = "layers.0.feed_forward.w1.lora_B"
    assert mx.allclose(assisted[1][name], same[1][name], rtol=1e-2, atol=1e-6).item()
    assert not mx.allclose(assisted[1][name], other[1][name], rtol=1e-1, atol=1e-6).item()


@pytest.mark.slow
def test_samples_are_drawn_as_without_an_assistant(turbo: Path, photos: Path, tmp_path: Path) -> None:
    family = load_family(turbo)
    progress = list(training(family, photos, tmp_path / "run", steps=2, sample_every=2))
    sampled = of_kind(progress, Sampled)[-1]
    factors = adapter_file.read(progress[-1].adapter, "z_image").factors
    lora.attach_factors(family.transformer, factors, name="alone")
    again = draw(
        family, sampled.prompt, height_px=64, width_px=64, steps=1, guidance=1.0, seed=sampled.seed, negative_prompt=""
    ).image
    drawn = Image.open(sampled.file).convert("RGB")
    differences = [abs(a - b) for a, b in zip(drawn.tobytes(), again.tobytes(), strict=True)]
    assert max(differences) <= 2  # the file has 16 bits


@pytest.mark.slow
def test_stopping_and_resuming_with_an_assistant_equals_never_stopping(
    turbo: Path, photos: Path, tmp_path: Path
) -> None:
    knobs = {"steps": 5, "save_every": 2, "sample_every": 2}
    list(training(load_family(turbo), photos, tmp_path / "whole", **knobs))
    run = training(load_family(turbo), photos, tmp_path / "parts", **knobs)
    progress = next(run)
    while not isinstance(progress, Finished):
        progress = run.send(Request.STOP if isinstance(progress, Stepped) and progress.step == 3 else None)
    list(training(load_family(turbo), photos, tmp_path / "parts", resume=True, **knobs))
    whole, parts = (checkpoint.load(tmp_path / name / "checkpoints" / "5") for name in ("whole", "parts"))
    assert whole.losses == parts.losses
    assert all(mx.array_equal(whole.parameters[name], parts.parameters[name]) for name in whole.parameters)
    v, of_parts = whole.optimizer_state.tensors["v"], parts.optimizer_state.tensors["v"]
    assert all(mx.array_equal(value, of_parts[name]) for name, value in v.items())


def test_a_run_does_not_go_on_with_another_assistant(copy: Path, photos: Path, tmp_path: Path) -> None:
    list(training(load_family(copy), photos, tmp_path / "run", steps=2))
    family = load_family(copy)
    assert set(family.hashes) == {"transformer", "vae", "text", "assistant"}
    tiny_z_image.write_assistant(copy / tiny_z_image.ASSISTANT, family.transformer, seed=9)
    with pytest.raises(TrainingProblem, match="base model's files have changed"):
        list(training(load_family(copy), photos, tmp_path / "run", steps=4, resume=True))


def test_an_assistant_that_cannot_be_used_is_a_sentence(copy: Path, photos: Path, tmp_path: Path) -> None:
    card = json.loads((copy / "likeness.json").read_text())
    for name in ("gone.safetensors", "../elsewhere.safetensors", 3):
        (copy / "likeness.json").write_text(json.dumps(card | {"assistant": name}))
        with pytest.raises(ModelProblem, match="must name an adapter file in this folder"):
            _ = load_family(copy).assistant
    (copy / "likeness.json").write_text(json.dumps(card))
    a, b = mx.ones((2, 99)), mx.ones((32, 2))
    stem = "diffusion_model.layers.0.attention.to_q"
    mx.save_safetensors(str(copy / tiny_z_image.ASSISTANT), {f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b})
    family = load_family(copy)
    with pytest.raises(ModelProblem, match=r"training_adapter.safetensors, cannot be used.*another model") as caught:
        list(training(family, photos, tmp_path / "run"))
    assert "99 in" in caught.value.problems[0].message
    assert not any(isinstance(module, lora.LoRALinear) for module in family.transformer.modules())


def test_a_distilled_model_without_an_assistant_is_trained_with_a_warning(
    copy: Path, photos: Path, tmp_path: Path
) -> None:
    (copy / "likeness.json").write_text(json.dumps(tiny.CARD))
    progress = list(training(load_family(copy), photos, tmp_path / "run", steps=1))
    notes = [each for each in progress if isinstance(each, Note) and "no training assistant of it is here" in each.text]
    assert [note.level for note in notes] == ["warning"]
