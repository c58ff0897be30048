"""Names and sizes of the layers that adapters can be put on, from a model's config alone, are those of its network."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest

from core.adapters import diffusers, trainable
from core.adapters.layers import DOUBLE, FAMILIES, PRESETS, ModelLayers, resolve_targets
from core.adapters.lora import Factors
from core.errors import AdapterProblem
from core.estimate.architecture import Architecture
from core.models.base import Family
from core.models.load import load_family
from tests.core.test_targets import OUTSIDE
from tests.families import FOLDERS


@pytest.fixture(scope="module", params=FOLDERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FOLDERS[request.param](tmp_path_factory.mktemp("model") / request.param)


@pytest.fixture
def layers(folder: Path) -> ModelLayers:
    return Architecture.of(folder).layers


def linear(family: Family) -> dict[str, tuple[int, int]]:
    """(in, out) of every linear layer of the network, by path."""
    modules = family.transformer.named_modules()
    return {path: each.weight.shape[::-1] for path, each in modules if isinstance(each, nn.Linear)}


def file_of(path: Path, sizes: dict[str, tuple[int, int]], rank: int = 2) -> Path:
    factors: Factors = {name: (mx.ones((rank, i)), mx.ones((o, rank))) for name, (i, o) in sizes.items()}
    diffusers.write(path, factors, {})
    return path


def test_the_layers_of_the_config_are_those_of_the_network(folder: Path, layers: ModelLayers) -> None:
    family = load_family(folder)
    blocks = tuple(f"{block.path}." for block in family.blocks)
    every = linear(family)
    assert layers.sizes == {path: size for path, size in every.items() if path.startswith(blocks)}
    assert list(layers.sizes) == sorted(layers.sizes)
    assert list(layers.outside) == sorted(path for path in every if not path.startswith(blocks))


def test_every_preset_names_layers_of_the_network(layers: ModelLayers) -> None:
    for preset, paths in layers.presets.items():
        assert set(paths) <= layers.sizes.keys(), preset
        assert resolve_targets(layers, preset) == list(paths)


def test_every_family_has_presets() -> None:
    assert PRESETS.keys() == FAMILIES.keys()
    assert all({"all_linear", "attention", "mlp"} <= table.keys() for table in PRESETS.values())


def test_an_adapter_on_layers_of_the_blocks_can_be_trained_further(
    folder: Path, layers: ModelLayers, tmp_path: Path
) -> None:
    family = load_family(folder).name
    trainable.check(file_of(tmp_path / "a.safetensors", dict(layers.sizes)), family, layers)


def test_an_adapter_that_does_not_fit_is_refused_by_its_layers(
    folder: Path, layers: ModelLayers, tmp_path: Path
) -> None:
    family = load_family(folder).name
    path, (size_in, size_out) = next(iter(layers.sizes.items()))

    def problems(sizes: dict[str, tuple[int, int]], rank: int = 2) -> tuple[str, dict[str, str]]:
        with pytest.raises(AdapterProblem) as caught:
            trainable.check(file_of(tmp_path / "a.safetensors", sizes, rank), family, layers, "Theirs")
        return caught.value.message, {each.field: each.message for each in caught.value.problems}

    words, found = problems({path: (size_in + 8, size_out)})
    assert words == "A run cannot begin with Theirs. Begin afresh, or with an adapter that was made for this model."
    ours = f"this model's has {size_in} in and {size_out} out"
    assert found == {path: f"is for a layer of {size_in + 8} in and {size_out} out; {ours}"}
    nowhere = path.replace(".0.", ".99.", 1)
    assert problems({nowhere: (size_in, size_out)})[1] == {nowhere: "is not in this model"}
    assert problems({path: (size_in, size_out)}, rank=257)[1] == {path: "has rank 257; a run trains 1 to 256"}
    outside = next(each for each in layers.outside if each.startswith(OUTSIDE[family][0].rstrip("*")))
    words, found = problems({path: (size_in, size_out), outside: (8, 8)})
    assert "pictures can be drawn with this one as it is" in words
    assert found == {outside: "is outside the blocks"}


def test_a_file_that_is_gone_or_broken_is_called_by_the_users_name(tmp_path: Path, layers: ModelLayers) -> None:
    file = tmp_path / "0123456789abcdef.safetensors"
    with pytest.raises(AdapterProblem, match=r"^Red can is not there\.$"):
        trainable.check(file, "flux1", layers, "Red can")
    file.write_bytes(b"no")
    with pytest.raises(AdapterProblem, match=r"^Red can is not a complete safetensors file"):
        trainable.check(file, "flux1", layers, "Red can")


def test_a_stacked_rank_of_a_fused_layer_is_not_too_high(tmp_path: Path) -> None:
    folder = FOLDERS["flux1"](tmp_path / "model")
    layers = Architecture.of(folder).layers
    size = layers.sizes[f"{DOUBLE}.0.attn.to_q"][0]
    name = "diffusion_model.double_blocks.0.img_attn.qkv.lora_{}.weight"
    tensors = {name.format("A"): mx.ones((3 * 200, size)), name.format("B"): mx.ones((3 * size, 3 * 200))}
    mx.save_safetensors(str(tmp_path / "a.safetensors"), tensors)
    trainable.check(tmp_path / "a.safetensors", "flux1", layers)
