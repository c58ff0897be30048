"""A run trains layers within the blocks, whatever the knob or a file names; any layer can be drawn with."""

from __future__ import annotations

import re
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest

from core.adapters import diffusers, lora
from core.adapters import file as adapter_file
from core.adapters.layers import resolve_targets
from core.errors import AdapterProblem, ConfigProblem
from core.models.base import Family
from core.models.blockwise import BlockwiseVelocity
from core.models.load import load_family
from core.training import checkpoint, setup
from core.training.events import Finished, Stepped
from tests import tiny_z_image
from tests.core.subjects import of_kind, settings, training
from tests.core.test_adapter_forms import random_factors
from tests.families import FOLDERS

UNMODULATED = ("flux2", "chroma", "flux3")  # whose blocks have no layers but those of the presets
OUTSIDE = {  # some of what other programs train besides
    "flux1": ("x_embedder", "context_embedder", "proj_out", "norm_out*", "time_text_embed.*"),
    "flux2": ("x_embedder", "context_embedder", "proj_out", "norm_out*", "double_stream_modulation_*"),
    "z_image": ("all_x_embedder.*", "cap_embedder.1", "all_final_layer.*", "t_embedder*"),
    "flux3": ("x_embedders.image", "context_embedder", "proj_out", "norm_out*", "*_stream_modulations.*"),
    "chroma": ("x_embedder", "context_embedder", "proj_out", "distilled_guidance_layer.*"),
}


@pytest.fixture(scope="module", params=FOLDERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FOLDERS[request.param](tmp_path_factory.mktemp("model") / request.param)


@pytest.fixture
def family(folder: Path) -> Family:
    return load_family(folder)


def layers(family: Family, *, within: bool) -> set[str]:
    """Paths of the linear layers within the blocks, or of those outside."""
    places = tuple(f"{block.path}." for block in family.blocks)
    linear = (path for path, each in family.transformer.named_modules() if isinstance(each, nn.Linear))
    return {path for path in linear if path.startswith(places) == within}


def factors_at(family: Family, paths: set[str]) -> lora.Factors:
    sizes = {path: lora.find(family.transformer, path).weight.shape for path in sorted(paths)}
    return {path: (a_RI, 0.05 * b_OR) for path, (a_RI, b_OR) in random_factors(sizes).items()}


@pytest.mark.slow
@pytest.mark.parametrize("activations", ["all", "none"])
def test_a_star_is_every_layer_of_the_blocks_and_trains(
    family: Family, photos: Path, tmp_path: Path, activations: str
) -> None:
    run = training(family, photos, tmp_path / "run", targets="*", activations=activations, steps=2)
    assert isinstance(list(run)[-1], Finished)
    held = adapter_file.read(tmp_path / "run" / "checkpoints" / "2" / checkpoint.ADAPTER, family.name)
    assert held.factors.keys() == layers(family, within=True)
    assert held.factors.keys() > set(family.presets["all_linear"]) or family.name in UNMODULATED


def test_a_glob_means_layers_of_the_blocks_alone(family: Family) -> None:
    found = resolve_targets(family.architecture.layers, "*o*")
    assert found
    assert layers(family, within=True) >= set(found)
    assert [path for path in layers(family, within=False) if "o" in path]


def test_what_lies_outside_the_blocks_is_refused_by_name_before_a_step(
    family: Family, photos: Path, tmp_path: Path
) -> None:
    for pattern in OUTSIDE[family.name]:
        with pytest.raises(ConfigProblem) as caught:
            list(training(family, photos, tmp_path / "run", targets=f"*to_q, {pattern}"))
        (problem,) = caught.value.problems
        words = f"{pattern!r} matches only layers outside the blocks, and those cannot be trained; use all_linear, "
        assert (problem.field, problem.message[: len(words)]) == ("targets", words)
        example = re.search(r"module paths such as (\S+)$", problem.message)
        assert example is not None
        assert example[1] in layers(family, within=True)
    assert not checkpoint.steps_saved(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_an_adapter_on_layers_outside_the_blocks_can_be_drawn_with(folder: Path, dtype: mx.Dtype) -> None:
    family = load_family(folder, dtype=dtype)
    grid = family.grid(32, 32)
    text, noise = family.encode_text(["a can"]), mx.random.normal((1, grid.tokens, grid.channels), key=mx.random.key(2))

    def velocity() -> mx.array:
        return BlockwiseVelocity(family)(noise, mx.array([0.5]), text, grid, 1.0)  # as pictures and scores have it

    before = velocity()
    for path in sorted(layers(family, within=False)):
        adapter = lora.attach_factors(family.transformer, factors_at(family, {path}), name="theirs")
        drawn = velocity()
        assert drawn.dtype == dtype
        assert mx.isfinite(drawn).all().item()
        assert not mx.array_equal(drawn, before).item(), path
        adapter.detach()
    assert mx.array_equal(velocity(), before).item()


def test_a_run_cannot_begin_with_an_adapter_that_has_such_layers(family: Family, photos: Path, tmp_path: Path) -> None:
    file, outside = tmp_path / "theirs.safetensors", sorted(layers(family, within=False))
    diffusers.write(file, factors_at(family, {*outside[:2], family.presets["all_linear"][0]}), {})
    with pytest.raises(AdapterProblem, match=r"cannot begin with theirs\.safetensors\..* Begin afresh") as caught:
        list(training(family, photos, tmp_path / "run", start_from=file))
    assert [each.field for each in caught.value.problems] == outside[:2]
    assert not any(isinstance(each, lora.LoRALinear) for each in family.transformer.modules())


@pytest.mark.slow
def test_nor_can_one_go_on_that_an_earlier_version_began_so(family: Family, photos: Path, tmp_path: Path) -> None:
    list(training(family, photos, tmp_path / "run", steps=1))
    state, _ = checkpoint.newest(tmp_path / "run")
    assert state is not None
    path = min(layers(family, within=False))
    (a_RI, b_OR) = factors_at(family, {path})[path]
    state.start_hash, state.parameters = "of a file", {f"{path}.lora_A": a_RI, f"{path}.lora_B": b_OR}
    with pytest.raises(AdapterProblem, match="cannot go on from its checkpoint"):
        setup.attach_adapter(family, settings(), state, None)


@pytest.mark.slow
def test_an_assistant_may_have_such_layers(photos: Path, tmp_path: Path) -> None:
    folder = tiny_z_image.make_model_folder(tmp_path / "turbo", turbo=True)
    family = load_family(folder)
    list(training(family, photos, tmp_path / "plain", steps=2))
    theirs = adapter_file.read(folder / tiny_z_image.ASSISTANT, "z_image").factors
    diffusers.write(folder / tiny_z_image.ASSISTANT, theirs | factors_at(family, layers(family, within=False)), {})
    losses = {}
    for activations in ("all", "none"):
        run = training(load_family(folder), photos, tmp_path / activations, activations=activations, steps=2)
        losses[activations] = [each.loss for each in of_kind(run, Stepped)]
    assert losses["all"] == pytest.approx(losses["none"], rel=1e-5)
    assert losses["all"] != pytest.approx(checkpoint.load(tmp_path / "plain" / "checkpoints" / "2").losses, rel=1e-3)
