"""What FLUX.2-klein has of its own: what is read, schedules, and the shift that a run was begun with."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import mlx.core as mx
import pytest

from core.errors import ModelProblem
from core.hub import catalog
from core.models.base import Grid
from core.models.flux2 import TAPS, Flux2, empirical_mu
from core.models.load import load_family
from core.models.parts import Parts
from core.models.text.tokenizers import TextTokenizer, chat_message
from core.training import checkpoint
from tests import tiny, tiny_klein, tiny_qwen3
from tests.core.subjects import rewrite_state, training


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_klein.make_model_folder(tmp_path_factory.mktemp("klein"))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


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


@pytest.mark.parametrize(("side_px", "mu"), [(512, 0.63), (1024, 1.15)])
def test_the_shift_for_training_is_flux1s_at_every_size(folder: Path, side_px: int, mu: float) -> None:
    """Not the larger one for drawing, which grows with the picture and falls with the steps."""
    family, grid = load_family(folder), Grid(side_px // 16, side_px // 16, 16)
    assert family.training_shift(grid) == pytest.approx(math.exp(mu))
    drawing = math.exp(empirical_mu(grid.tokens, tiny.CARD["drawing"]["steps"]))
    assert family.drawing_shift(grid) == pytest.approx(drawing)
    assert drawing > 2 * family.training_shift(grid)


def test_a_scheduler_with_one_shift_has_it_for_training_too(copy: Path) -> None:
    (copy / "scheduler" / "scheduler_config.json").write_text(json.dumps({"shift": 3.0}))
    assert load_family(copy).training_shift(Grid(32, 32, 16)) == 3.0
    assert load_family(copy).drawing_sigmas(2, Grid(32, 32, 16)) == pytest.approx([1.0, 0.75, 0.0])


@pytest.mark.slow
def test_a_run_that_began_with_the_drawing_shift_goes_on_with_it(folder: Path, photos: Path, tmp_path: Path) -> None:
    """Its checkpoint does not name the shift; those of today do."""
    knobs = {"sigma_draw": "model_shift", "steps": 4, "save_every": 2}
    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr(Flux2, "training_shift", Flux2.drawing_shift)
        list(training(load_family(folder), photos, tmp_path / "before", **knobs))
    list(training(load_family(folder), photos, tmp_path / "now", **knobs))
    whole, today = (checkpoint.load(tmp_path / name / "checkpoints" / "4").losses for name in ("before", "now"))
    assert whole[0] != today[0]
    for name, losses in (("before", whole), ("now", today)):
        shutil.rmtree(tmp_path / name / "checkpoints" / "4")
        if name == "before":
            rewrite_state(tmp_path / name / "checkpoints" / "2", lambda table: table.pop("shift"))
        list(training(load_family(folder), photos, tmp_path / name, resume=True, **knobs))
        assert checkpoint.load(tmp_path / name / "checkpoints" / "4").losses == losses


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


def test_the_two_sizes_are_named_in_the_adapters_header(copy: Path) -> None:
    for heads, name in ((24, "Flux.2-klein-4b/lora"), (32, "Flux.2-klein-9b/lora")):
        config = tiny_klein.TRANSFORMER | {"num_attention_heads": heads, "attention_head_dim": 128}
        (copy / "transformer" / "config.json").write_text(json.dumps(config))
        assert load_family(copy).modelspec["architecture"] == name
