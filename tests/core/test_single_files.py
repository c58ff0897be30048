"""ComfyUI's single files: recognized by their tensors, made into model folders, and the same model bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from core.hub import assembled, catalog, comfyui
from core.hub.registry import KNOWN
from core.models.load import check_folder, load_family
from core.models.parts import located
from core.numerics.arrays import float8_values
from core.safetensors_file import Place, TensorInfo, header_of
from core.sampling import draw
from core.weights import places
from tests import comfy, families, tiny
from tests.real_files import REAL

KNOWN_OF = {
    "flux1": "flux1-dev", "flux2": "flux2-klein-base-4b", "z_image": "z-image", "chroma": "chroma1-hd",
    "flux3": "flux3-klein-base",
}  # fmt: skip
DRAWN = {"height_px": 32, "width_px": 32, "steps": 1, "guidance": 1.0, "seed": 1}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tiny folder of a family, made once."""
    made: dict[str, Path] = {}

    def model(family: str) -> Path:
        if family not in made:
            made[family] = families.FOLDERS[family](tmp_path_factory.mktemp("ours") / family)
        return made[family]

    return model


def assemble(folder: Path, small: Path, family: str, target: Path) -> Path:
    """The one offer of a ComfyUI folder, made into a model folder."""
    (offer,) = comfyui.scan(folder).offers
    assert not offer.lacking
    assert KNOWN_OF[family] in offer.candidates
    assembled.assemble(KNOWN[KNOWN_OF[family]], offer, small, target, check_folder)
    return target


def tensors_of(folder: Path) -> dict[str, mx.array]:
    return dict(tree_flatten(load_family(folder, dtype=mx.float32).transformer.parameters()))


def picture(folder: Path) -> bytes:
    return draw(load_family(folder, dtype=mx.float32), "a photo of a sks can", **DRAWN).image.tobytes()


@pytest.mark.parametrize("family", families.FOLDERS)
def test_single_files_are_the_same_model_bit_for_bit(
    models: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    ours = models(family)
    folder = assemble(comfy.make_folder(tmp_path / "ComfyUI", ours, family), ours, family, tmp_path / "made")
    assert catalog.family_of(folder) == family
    expected, actual = tensors_of(ours), tensors_of(folder)
    assert expected.keys() == actual.keys()
    assert all(mx.array_equal(value, actual[name]).item() for name, value in expected.items())
    assert picture(folder) == picture(ours)


def test_a_checkpoint_with_all_parts_is_the_same_model(models: Callable[[str], Path], tmp_path: Path) -> None:
    ours = models("flux1")
    folder = comfy.make_folder(tmp_path / "ComfyUI", ours, "flux1", checkpoint=True)
    made = assemble(folder, ours, "flux1", tmp_path / "made")
    assert {path.resolve() for path in made.rglob("*.safetensors")} == {
        (folder / "models" / "checkpoints" / "all-in-one.safetensors").resolve()
    }
    assert picture(made) == picture(ours)
    assert catalog.entry_for(made, "made").parameters == catalog.entry_for(ours, "ours").parameters


@pytest.mark.parametrize("scaled", [False, True])
def test_eight_bit_floats_are_widened_within_their_rounding(
    models: Callable[[str], Path], tmp_path: Path, scaled: bool
) -> None:
    ours = models("flux2")
    folder = comfy.make_folder(tmp_path / "ComfyUI", ours, "flux2", change=comfy.to_float8(scaled))
    assert comfyui.scan(folder).offers[0].title == f"FLUX.2 transformer, {'fp8 scaled' if scaled else 'fp8'}"
    made = assemble(folder, ours, "flux2", tmp_path / "made")
    expected, actual = tensors_of(ours), tensors_of(made)
    assert expected.keys() == actual.keys()
    largest = max(float(mx.max(mx.abs(value))) for value in expected.values())  # a scale is at most this / 448
    for name, value in expected.items():
        step = 2**-4 * mx.abs(value) + (largest / 448 if scaled else 1.0) * 2**-10  # half a step, and half the smallest
        assert mx.all(mx.abs(actual[name] - value) <= 1.001 * step).item(), name
    different = [name for name, value in expected.items() if not mx.array_equal(value, actual[name]).item()]
    assert len(different) > 20
    if not scaled:
        return
    drawn, whole = (np.frombuffer(picture(each), np.uint8).astype(float) for each in (made, ours))
    assert 0 < np.abs(drawn - whole).mean() < 12  # of 255: the encoders too are of 8-bit floats


def test_eight_bit_floats_are_quantized_as_their_values_are(models: Callable[[str], Path], tmp_path: Path) -> None:
    ours = tiny.make_model_folder(tmp_path / "wide", guidance=True, heads=4)
    folder = comfy.make_folder(tmp_path / "ComfyUI", ours, "flux1", change=comfy.to_float8(scaled=True))
    made = assemble(folder, ours, "flux1", tmp_path / "made")
    whole, packed = (load_family(made, dtype=mx.bfloat16, quantize=bits).transformer for bits in (None, 4))
    layer = whole.transformer_blocks[0].attn.to_k
    expected = mx.quantize(layer.weight, group_size=64, bits=4)
    found = packed.transformer_blocks[0].attn.to_k
    assert all(
        mx.array_equal(a, b).item() for a, b in zip(expected, (found.weight, found.scales, found.biases), strict=True)
    )


def test_the_256_values_are_those_of_the_formats() -> None:
    every = np.arange(256, dtype=np.uint8)
    e4m3 = np.array(mx.from_fp8(mx.array(every), mx.float32))
    np.testing.assert_array_equal(float8_values("F8_E4M3")[np.isfinite(e4m3)], e4m3[np.isfinite(e4m3)])
    e5m2 = (every.astype(np.uint16) << 8).view(np.float16).astype(np.float32)  # the upper half of a float16
    np.testing.assert_array_equal(float8_values("F8_E5M2"), e5m2)


# The real files


def header(tensors: Mapping[str, mx.array]) -> dict[str, Place]:
    """The header of a file with these tensors, without the file."""
    return {
        name: Place(Path("it.safetensors"), name, TensorInfo("BF16", tuple(value.shape), 0, 2 * value.size), 0)
        for name, value in tensors.items()
    }


@pytest.mark.parametrize("file", REAL)
def test_every_tensor_of_a_real_file_has_its_place(file: str) -> None:
    expected = REAL[file]
    theirs = expected.tensors()
    assert len(theirs) == expected.count
    stored = places.translated(places.own(header(theirs), expected.part), expected.part)
    assert located(expected.ours(), stored, Path(file))


@pytest.mark.parametrize(
    ("file", "spelled"),
    [
        (
            "flux1-dev",
            (
                "double_blocks.18.img_attn.norm.query_norm.scale",
                "single_blocks.37.linear1.bias",
                "guidance_in.in_layer.weight",
            ),
        ),
        ("flux-2-klein-4b", ("single_blocks.19.norm.key_norm.scale", "double_stream_modulation_txt.lin.weight")),
        ("z_image", ("context_refiner.1.attention.qkv.weight", "layers.29.attention.k_norm.weight", "cap_pad_token")),
        (
            "ae",
            (
                "decoder.up.3.upsample.conv.weight",
                "encoder.mid.attn_1.proj_out.weight",
                "encoder.down.1.block.0.nin_shortcut.weight",
            ),
        ),
        ("flux2-vae", ("bn.running_mean", "decoder.post_quant_conv.weight", "encoder.quant_conv.bias")),
        ("qwen_3_4b", ("model.layers.35.self_attn.q_norm.weight", "model.norm.weight")),
    ],
)
def test_the_names_are_spelled_as_in_the_real_files(file: str, spelled: tuple[str, ...]) -> None:
    assert set(spelled) <= REAL[file].tensors().keys()


def sparse(file: Path, tensors: Mapping[str, mx.array]) -> None:
    """A file of full size whose tensors take no room on the disk."""
    start = header_of({name: ("BF16", tuple(value.shape)) for name, value in tensors.items()}, {})
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as target:
        target.write(start)
        target.truncate(len(start) + sum(2 * value.size for value in tensors.values()))


def test_what_the_tensors_tell_is_decided_and_what_they_do_not_is_asked(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for file in ("flux1-dev", "flux1-schnell", "flux-2-klein-4b", "flux-2-klein-9b", "z_image"):
        sparse(folder / "diffusion_models" / f"called {file}.safetensors", REAL[file].tensors())
    for file in ("clip_l", "t5xxl", "qwen_3_4b"):
        sparse(folder / "text_encoders" / f"{file}.safetensors", REAL[file].tensors())
    sparse(folder / "vae" / "a.safetensors", REAL["ae"].tensors())
    sparse(folder / "vae" / "b.safetensors", REAL["flux2-vae"].tensors())
    offers = {offer.file.stem.removeprefix("called "): offer for offer in comfyui.scan(tmp_path).offers}
    assert {name: offer.candidates for name, offer in offers.items()} == {
        "flux1-dev": ("flux1-dev", "flux1-krea-dev"),
        "flux1-schnell": ("flux1-schnell",),
        "flux-2-klein-4b": ("flux2-klein-base-4b", "flux2-klein-4b"),
        "flux-2-klein-9b": ("flux2-klein-base-9b", "flux2-klein-9b"),
        "z_image": ("z-image", "z-image-turbo"),
    }
    assert all(offer.exact for offer in offers.values())
    assert {name: offer.lacking for name, offer in offers.items() if offer.lacking} == {
        "flux-2-klein-9b": ("a Qwen3 text encoder 4,096 wide (as qwen_3_4b or qwen_3_8b.safetensors) in text_encoders",)
    }
    assert offers["z_image"].parts["vae"].name == "a.safetensors"
    assert offers["flux-2-klein-4b"].parts["vae"].name == "b.safetensors"
