"""What Z-Image has of its own: positions, what folders say, and runs with a training assistant."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
import pytest
from PIL import Image

from core.adapters import file as adapter_file
from core.adapters import lora
from core.errors import ModelProblem, TrainingProblem
from core.hub import catalog
from core.models.base import Grid, Stream
from core.models.load import load_family
from core.models.z_image import ZImage, ZImageTransformer, pack, position_ids, unpack
from core.sampling import draw
from core.training import checkpoint
from core.training.events import Finished, Note, Sampled, Stepped
from tests import tiny, tiny_z_image
from tests.core.subjects import check_resuming_is_exact, of_kind, training

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


@pytest.mark.slow
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
    check_resuming_is_exact(turbo, photos, tmp_path, steps=5, save_every=2, sample_every=2)


def test_a_run_does_not_go_on_with_another_assistant(copy: Path, photos: Path, tmp_path: Path) -> None:
    list(training(load_family(copy), photos, tmp_path / "run", steps=2))
    family = load_family(copy)
    assert set(family.hashes) == {"transformer", "vae", "text", "assistant"}
    tiny_z_image.write_assistant(copy / tiny_z_image.ASSISTANT, family.transformer, seed=9)
    with pytest.raises(TrainingProblem, match="base model's files have changed"):
        list(training(load_family(copy), photos, tmp_path / "run", steps=4, resume=True))


def test_a_run_that_began_without_an_assistant_goes_on_without_it(copy: Path, photos: Path, tmp_path: Path) -> None:
    card = json.loads((copy / "likeness.json").read_text())
    (copy / "likeness.json").write_text(json.dumps(card | {"assistant": None}))
    list(training(load_family(copy), photos, tmp_path / "run"))
    whole = checkpoint.load(tmp_path / "run" / "checkpoints" / "4")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    (copy / "likeness.json").write_text(json.dumps(card))
    list(training(load_family(copy), photos, tmp_path / "run", resume=True))
    resumed = checkpoint.load(tmp_path / "run" / "checkpoints" / "4")
    assert resumed.losses == whole.losses
    assert set(resumed.model_hashes) == {"transformer", "vae", "text"}


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
