"""What holds for every family: blocks, dtypes, presets, batches, texts, and a run from photos to an adapter.

What is a family's own stands beside this file: test_models.py (FLUX.1), test_flux2.py, test_z_image.py, ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from core.dataset.batches import stacked
from core.errors import ModelProblem
from core.models.base import TARGET, Conditioning, Family
from core.models.chroma import ChromaTransformer
from core.models.flux1 import FluxTransformer
from core.models.flux2 import Flux2Transformer
from core.models.flux3 import Flux3Transformer
from core.models.load import load_family
from core.models.quantized import packed_layers
from core.models.z_image import ZImageTransformer
from core.safetensors_file import read_header
from core.sampling import draw
from core.training.events import Finished, Note, Sampled
from tests import tiny, tiny_chroma, tiny_flux3, tiny_klein, tiny_qwen3, tiny_z_image
from tests.core.subjects import check_resuming_is_exact, of_kind, training
from tests.families import FOLDERS

LONG = "a photo of a sks can on the beach, at night, in the snow, a red toy car and a dog and a cat and a cup of tea"
ROTARY = {"cos": mx.float32, "sin": mx.float32}
MASKED = ROTARY | {"seen": mx.bool_}
FLUX_TEXT = (".add_", ".to_add_", ".ff_context.")


@dataclass(frozen=True)
class Case:
    """A family, and what differs between it and the others."""

    moved: Mapping[str, list[str]]  # by kind of block, in order: what such blocks change in the stream
    blocks: list[int]  # how many of each kind
    layers: int  # that all_linear names
    of_text: tuple[str, ...]  # in the paths of the layers that image_stream leaves out
    exact: Mapping[str, mx.Dtype]  # in the stream, whatever the model computes in
    network: Callable[[Mapping[str, Any]], nn.Module]
    config: Mapping[str, Any]
    axes: str  # the config's name of the rotary axes
    guidance: float
    header: Mapping[str, str]  # of its adapters
    parts: Mapping[str, str] = field(default_factory=dict)  # presets by the beginning of their layers' paths
    shared: str = "none"  # the beginning of layers that are attention and MLP in one
    long: str = LONG  # a text that takes more room than a short one, where texts differ in that


IMAGE_TEXT = ["img", "txt"]
FLUX_PARTS = {"double_blocks": "transformer_blocks.", "single_blocks": "single_transformer_blocks."}
FLUX = {"double": IMAGE_TEXT, "single": IMAGE_TEXT}
CASES = {
    "flux1": Case(
        FLUX, [2, 2], 2 * 12 + 2 * 5, FLUX_TEXT, ROTARY, FluxTransformer, tiny.TRANSFORMER, "axes_dims_rope", 2.0,
        {"modelspec.architecture": "flux-1-dev/lora", "ss_base_model_version": "flux1"}, FLUX_PARTS,
    ),
    "flux2": Case(
        FLUX, [2, 2], 2 * 12 + 2 * 2, FLUX_TEXT, ROTARY, Flux2Transformer, tiny_klein.TRANSFORMER, "axes_dims_rope",
        4.0,
        {
            "modelspec.architecture": "Flux.2-klein/lora", "ss_base_model_version": "flux2",
            "modelspec.implementation": "https://github.com/black-forest-labs/flux2",
        },
        FLUX_PARTS, "single_transformer_blocks.",
    ),
    "z_image": Case(
        {"image refiner": ["img", "pad"], "text refiner": ["txt"], "single": ["img", "pad", "txt"]}, [2, 2, 3], 7 * 7,
        ("context_refiner.",), MASKED, ZImageTransformer, tiny_z_image.TRANSFORMER, "axes_dims", 5.0,
        {
            "modelspec.architecture": "Z-Image/lora", "ss_base_model_version": "z_image",
            "modelspec.implementation": "https://github.com/Tongyi-MAI/Z-Image",
        },
        {"no_refiners": "layers."}, long=LONG + LONG,
    ),
    "chroma": Case(
        FLUX, [2, 3], 2 * 12 + 3 * 5, FLUX_TEXT, MASKED, ChromaTransformer, tiny_chroma.TRANSFORMER, "axes_dims_rope",
        3.0, {"modelspec.architecture": "chroma/lora", "ss_base_model_version": "chroma"}, FLUX_PARTS,
    ),
    "flux3": Case(
        {"text": ["txt"], "image": ["img"], "single": IMAGE_TEXT}, [2, 2, 2], 6 * 6, ("txt_mode_blocks.",), MASKED,
        Flux3Transformer, tiny_flux3.TRANSFORMER, "axes_dims_rope", 3.5,
        {"modelspec.architecture": "Flux.3-klein/lora", "ss_base_model_version": "flux3"},
        {"single_blocks": "single_transformer_blocks."}, long=LONG * 3,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def case(name: str) -> Case:
    return CASES[name]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A family's folder, written on first use."""
    made: dict[str, Path] = {}

    def folder_of(name: str) -> Path:
        if name not in made:
            made[name] = FOLDERS[name](tmp_path_factory.mktemp("model") / name)
            if name == "flux3":
                tiny_qwen3.write_tokenizer(made[name] / "tokenizer", tokens=None)
        return made[name]

    return folder_of


@pytest.fixture
def folder(name: str, folders: Callable[[str], Path]) -> Path:
    return folders(name)


def inputs(family: Family, long: str) -> tuple:
    grid = family.grid(64, 48)
    l_t = mx.random.normal((2, grid.tokens, grid.channels), key=mx.random.key(5))
    return l_t, mx.array([0.9, 0.3]), family.encode_text([long, "a can"]), grid


def test_velocity_is_embed_then_every_block_then_project(folder: Path, case: Case) -> None:
    """And each block changes what its kind changes of the stream, and nothing else."""
    family = load_family(folder)
    arguments = (*inputs(family, case.long), 1.0)
    stream = family.embed(*arguments)
    for block in family.blocks:
        assert dict(family.transformer.named_modules())[block.path] is block.module
        entering, stream = stream, block.run(block.module, stream)
        assert [name for name in entering if stream[name] is not entering[name]] == case.moved[block.kind]
    assert mx.array_equal(family.project(stream), family.velocity(*arguments)).item()
    kinds = [kind for kind, count in zip(case.moved, case.blocks, strict=True) for _ in range(count)]
    assert [block.kind for block in family.blocks] == kinds


def test_an_example_gets_what_it_would_get_alone_however_long_the_others_text_is(folder: Path, case: Case) -> None:
    family = load_family(folder)
    l_t, sigma, _, grid = inputs(family, case.long)
    alone = [family.encode_text([text]) for text in (case.long, "a can")]
    if "lengths" in alone[0]:
        alone[0] = {**alone[0], "tokens": mx.pad(alone[0]["tokens"], [(0, 0), (0, 128), (0, 0)])}
    together = stacked(alone)
    both = family.velocity(l_t, sigma, together, grid, 1.0)
    for i, text in enumerate(alone):
        one = family.velocity(l_t[i : i + 1], sigma[i : i + 1], text, grid, 1.0)
        assert mx.allclose(both[i : i + 1], one, atol=1e-5).item()


@pytest.mark.parametrize("name", ["z_image", "chroma", "flux3"])
def test_what_stands_behind_a_texts_end_is_never_seen(name: str, folders: Callable[[str], Path]) -> None:
    family = load_family(folders(name))
    l_t, sigma, text, grid = inputs(family, CASES[name].long)
    before = family.velocity(l_t, sigma, text, grid, 1.0)
    end = text["lengths"][:, None, None]
    other = mx.where(mx.arange(text["tokens"].shape[1])[None, :, None] < end, text["tokens"], 7.0)
    assert mx.array_equal(family.velocity(l_t, sigma, {**text, "tokens": other}, grid, 1.0), before).item()


@pytest.mark.parametrize(("name", "error"), [("z_image", 1e-5), ("chroma", 0.0)])
def test_texts_are_read_one_by_one_as_they_are_read_together(
    name: str, error: float, folders: Callable[[str], Path]
) -> None:
    family = load_family(folders(name))
    together = family.encode_text([LONG, "a can", ""])
    for i, prompt in enumerate([LONG, "a can", ""]):
        alone = family.encode_text([prompt])
        assert alone["lengths"].tolist() == [together["lengths"][i].item()]
        assert mx.allclose(alone["tokens"][0], together["tokens"][i], rtol=error, atol=error).item()
    assert together["tokens"].shape[:2] == (3, 128)
    assert together["lengths"].dtype == mx.int32


def variants(path: Path) -> dict[str, tuple[str, Path]]:
    """Every family, and those with an input more."""
    return {
        **{name: (name, make(path / name)) for name, make in FOLDERS.items()},
        "flux1, without guidance": ("flux1", tiny.make_model_folder(path / "plain")),
        "flux3, distilled": ("flux3", tiny_flux3.make_model_folder(path / "distilled", distilled=True)),
    }


@pytest.fixture(scope="module")
def variant_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Path]]:
    return variants(tmp_path_factory.mktemp("variants"))


@pytest.mark.parametrize("variant", [*FOLDERS, "flux1, without guidance", "flux3, distilled"])
def test_nothing_leaks_into_float32_when_the_model_computes_in_bfloat16(
    variant: str, variant_folders: dict[str, tuple[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, folder = variant_folders[variant]
    family = load_family(folder, dtype=mx.bfloat16)
    assert {value.dtype for _, value in tree_flatten(family.transformer.parameters())} == {mx.bfloat16}
    seen: list[tuple[mx.Dtype, mx.Dtype]] = []
    plain = nn.Linear.__call__

    def noting(layer: nn.Linear, x: mx.array) -> mx.array:
        y = plain(layer, x)
        seen.append((x.dtype, y.dtype))
        return y

    monkeypatch.setattr(nn.Linear, "__call__", noting)
    l_t, sigma, text, grid = inputs(family, CASES[name].long)
    assert {value.dtype for key, value in text.items() if key != "lengths"} == {mx.bfloat16}
    target: Conditioning = {TARGET: 0.5 * sigma} if family.flow_map else {}
    stream = family.embed(l_t, sigma, text | target, grid, 3.5)
    for block in [None, *family.blocks]:
        stream = block.run(block.module, stream) if block else stream
        assert {key: value.dtype for key, value in stream.items() if value.dtype != mx.bfloat16} == CASES[name].exact
    assert family.project(stream).dtype == mx.bfloat16
    assert len(seen) > 40
    assert set(seen) == {(mx.bfloat16, mx.bfloat16)}
    photo = family.encode_photo(mx.zeros((1, 64, 48, 3)))
    assert photo.dtype == family.decode(photo, grid).dtype == mx.float32


def test_presets_are_the_blocks_linear_layers_by_full_path(folder: Path, case: Case) -> None:
    """Modulation left out."""
    family = load_family(folder)
    paths, blocks = tiny.linear_shapes(family.transformer), tuple(f"{block.path}." for block in family.blocks)
    every = {path for path in paths if path.startswith(blocks) and ".norm" not in path and "modulation" not in path}
    presets = {name: set(layers) for name, layers in family.presets.items()}
    assert presets["all_linear"] == every
    assert len(family.presets["all_linear"]) == case.layers
    assert presets["attention"] == {path for path in every if ".attn." in path or ".attention." in path} < every
    shared = {path for path in every if path.startswith(case.shared)}
    assert presets["mlp"] == every - presets["attention"] | shared
    text = every - presets["image_stream"]
    assert text == {path for path in every if any(each in path for each in case.of_text)}
    for name, beginning in case.parts.items():
        assert presets[name] == {path for path in every if path.startswith(beginning)}, name


def test_rotary_axes_must_fill_a_head(case: Case) -> None:
    with pytest.raises(ModelProblem, match="must add up to the head's width, 16"):
        case.network({**case.config, case.axes: [4, 4, 4]})


@pytest.mark.parametrize(("name", "error"), [("chroma", 0.02), ("flux3", 0.03)])
def test_blocks_are_quantized_and_nothing_else(name: str, error: float, tmp_path: Path) -> None:
    wide = {"chroma": tiny_chroma, "flux3": tiny_flux3}[name].make_model_folder(tmp_path / "wide", heads=4)
    whole, packed = load_family(wide), load_family(wide, quantize=8)
    assert set(packed_layers(packed.transformer)) == set(packed.presets["all_linear"])
    arguments = (*inputs(whole, CASES[name].long), 1.0)
    expected, found = whole.velocity(*arguments), packed.velocity(*arguments)
    assert 0 < (mx.linalg.norm(found - expected) / mx.linalg.norm(expected)).item() < error


@pytest.mark.parametrize("name", ["flux2", "chroma"])
def test_true_guidance_draws_against_the_empty_prompt(name: str, folders: Callable[[str], Path]) -> None:
    family, guidance = load_family(folders(name)), CASES[name].guidance
    size = {"height_px": 64, "width_px": 48, "steps": 2, "seed": 3}
    plain, guided, same = (
        draw(family, prompt, guidance=strength, **size).image.tobytes()
        for prompt, strength in (("a can", 1.0), ("a can", guidance), ("", guidance))
    )
    assert plain != guided
    nothing = draw(family, "", guidance=1.0, **size).image.tobytes()
    assert sum(abs(a - b) for a, b in zip(same, nothing, strict=True)) <= len(same) * 0.01


# A run


@pytest.mark.slow
@pytest.mark.parametrize("guided", [False, True], ids=["one pass", "true guidance"])
@pytest.mark.parametrize("name", ["flux2", "z_image", "chroma", "flux3"])
def test_a_run_learns_draws_and_writes_an_adapter_for_this_model(
    name: str, guided: bool, folders: Callable[[str], Path], photos: Path, tmp_path: Path
) -> None:
    family, case = load_family(folders(name)), CASES[name]
    (photos / "0.txt").write_text(case.long)
    knobs = {"sample_every": 2, "sample_guidance": case.guidance if guided else 1.0, "batch_size": 3}
    progress = list(training(family, photos, tmp_path / "run", sigma_draw="model_shift", **knobs))
    assert isinstance(progress[-1], Finished)
    assert len(of_kind(progress, Sampled)) == 2 * 3
    header = read_header(progress[-1].adapter)
    layers = {key.removeprefix("transformer.").rsplit(".lora_", 1)[0] for key in header.tensors}
    assert layers == set(family.presets["all_linear"])
    assert header.metadata.items() >= case.header.items()
    assert not any(isinstance(each, Note) and "distilled" in each.text for each in progress)


@pytest.mark.slow
@pytest.mark.parametrize("activations", ["all", "none"])
@pytest.mark.parametrize("name", ["chroma", "flux3"])
def test_stopping_and_resuming_equals_never_stopping(
    name: str, activations: str, folders: Callable[[str], Path], photos: Path, tmp_path: Path
) -> None:
    knobs = {"activations": activations, "batch_size": 2, "caption_dropout": 0.3, "steps": 5, "save_every": 2}
    check_resuming_is_exact(folders(name), photos, tmp_path, **knobs)
