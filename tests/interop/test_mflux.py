"""mflux draws with the adapters that we train: its own loader takes every key, and its networks change as ours do.

mflux needs packages that exclude ours, so its side, mflux_side.py, runs in a process and an environment of its own.
Its FLUX.1 has but one width, the real one: there the network has two blocks. At full size only adapters are evaluated.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from bench.real_models import FLUX1_DEV
from core.adapters import diffusers, kohya, lora
from core.adapters import file as adapter_file
from core.models import flux2, z_image
from core.models.base import Conditioning, Family, Grid
from core.models.flux1 import FluxTransformer
from core.models.load import load_family
from tests import tiny, tiny_klein, tiny_z_image
from tests.core.test_adapter_forms import random_factors
from tests.interop.conftest import MFLUX_PYTHON
from tests.interop.reference import noise
from tests.interop.test_adapter import trained
from tests.interop.test_adapter_forms import FLUX1, REFERENCES, TOLERANCE

SCRIPT = Path(__file__).with_name("mflux_side.py")
PROMPT = "a photo of a sks can on the beach"
BAKED_TOLERANCE = 2.0**-8  # mflux multiplies a file's bfloat16 factors in bfloat16 before it adds them to weights
SIDES_PX = (48, 32)
SIGMA, GUIDANCE = 0.7, 3.5
WIDE = FLUX1_DEV | {"_class_name": "FluxTransformer2DModel", "num_layers": 1, "num_single_layers": 1}


@dataclass(frozen=True)
class Answer:
    """What mflux's side gave back, and what mflux said."""

    arrays: dict[str, mx.array]
    said: str

    def check_all_taken(self, layers: int) -> None:
        """Every key of the file found its layer: of others mflux only prints that there were some."""
        lines = [line.strip() for line in self.said.splitlines() if "keys" in line]
        assert lines, self.said
        for line in lines:
            counted = re.fullmatch(r".*Applied to (\d+) layers \((\d+)/(\d+) keys matched\)", line)
            assert counted, self.said
            assert int(counted[1]) == layers
            assert counted[2] == counted[3]


def ask_mflux(adapter: Path, inputs: Mapping[str, mx.array], **options: Any) -> Answer:
    """Run mflux's side on an adapter; fails with what it wrote when it does."""
    given, answer = adapter.with_name("inputs.safetensors"), adapter.with_name("answer.safetensors")
    mx.save_safetensors(str(given), dict(inputs))
    # -P keeps this folder, and so our own modules, out of what its Python finds.
    command = [str(MFLUX_PYTHON), "-P", str(SCRIPT), str(adapter), str(given), str(answer), json.dumps(options)]
    ended = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    )
    assert ended.returncode == 0, ended.stderr
    return Answer(mx.load(str(answer)), ended.stdout)


def difference(found: mx.array, expected: mx.array) -> float:
    """|found - expected| / |expected|."""
    return float(mx.linalg.norm(found - expected).item() / mx.linalg.norm(expected).item())


def flux1_inputs(l_t: mx.array, conditioning: Conditioning, grid: Grid) -> Conditioning:
    return {"l_t": l_t, **conditioning}


def flux2_inputs(l_t: mx.array, conditioning: Conditioning, grid: Grid) -> Conditioning:
    tokens = conditioning["tokens"].shape[1]
    text_ids, image_ids = mx.split(flux2.position_ids(tokens, grid), [tokens])
    return {"l_t": l_t, **conditioning, "text_ids": text_ids, "image_ids": image_ids}


def as_latent(x_BLC: mx.array, grid: Grid) -> mx.array:
    """Tokens of Z-Image as the latent pixels that mflux takes and gives: channel, frame, row, column."""
    return z_image.unpack(x_BLC, grid)[0].transpose(2, 0, 1)[:, None]


def z_image_inputs(l_t: mx.array, conditioning: Conditioning, grid: Grid) -> Conditioning:
    return {"l_t": as_latent(l_t, grid), "tokens": conditioning["tokens"][0, : conditioning["lengths"].item()]}


@dataclass(frozen=True)
class Adapted:
    """A model that both sides read, an adapter for it, and how mflux is told the same and gives it back."""

    make: Callable[[Path], Path]
    adapter: Callable[[Path, Path], Path]
    conditioning: Callable[[Family], Conditioning]
    inputs: Callable[[mx.array, Conditioning, Grid], Conditioning]
    as_theirs: Callable[[mx.array, Grid], mx.array]
    ways: tuple[str, ...] = ("beside", "folded")  # how mflux puts it on


def wide_folder(path: Path) -> Path:
    """A FLUX.1 of two blocks as wide as the real ones; the weights are bfloat16, to take half the room."""
    folder = tiny.make_model_folder(path, guidance=True)
    network = FluxTransformer(WIDE)
    tiny.randomize(network, seed=1)
    network.set_dtype(mx.bfloat16)
    tiny.save_module(network, folder / "transformer" / "diffusion_pytorch_model.safetensors")
    tiny.write_json(folder / "transformer" / "config.json", WIDE)
    return folder


def wide_adapter(folder: Path, tmp_path: Path) -> Path:
    """An adapter for a wide folder, on every layer that a run trains, exported."""
    sizes = {
        path: size for path, size in tiny.linear_shapes(FluxTransformer(WIDE)).items() if re.fullmatch(FLUX1, path)
    }
    factors = {path: (a_RI / a_RI.shape[1] ** 0.5, b_OR / 4) for path, (a_RI, b_OR) in random_factors(sizes).items()}
    diffusers.write(tmp_path / "adapter.safetensors", factors, {})
    return tmp_path / "adapter.safetensors"


def of_prompt(family: Family) -> Conditioning:
    return family.encode_text([PROMPT])


def of_noise(family: Family) -> Conditioning:
    """For a network that is wider than the text encoders of its folder."""
    width, pooled = WIDE["joint_attention_dim"], WIDE["pooled_projection_dim"]
    return {"tokens": mx.array(noise(1, 7, width, seed=1)), "pooled": mx.array(noise(1, pooled, seed=2))}


ADAPTED = {
    "flux1": Adapted(wide_folder, wide_adapter, of_noise, flux1_inputs, lambda v, grid: v, ways=("beside",)),
    "flux2": Adapted(tiny_klein.make_model_folder, trained, of_prompt, flux2_inputs, lambda v, grid: v),
    "z_image": Adapted(tiny_z_image.make_model_folder, trained, of_prompt, z_image_inputs, as_latent),
}


@pytest.mark.parametrize("name", ADAPTED)
def test_an_adapter_of_ours_changes_mfluxs_velocity_as_it_changes_ours(tmp_path: Path, name: str) -> None:
    row = ADAPTED[name]
    folder = row.make(tmp_path / "model")
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    file = row.adapter(folder, tmp_path)
    family = load_family(folder, dtype=mx.float32)
    config = json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))
    height_px, width_px = SIDES_PX
    rows, columns = height_px // family.pixel_multiple, width_px // family.pixel_multiple
    grid = Grid(rows, columns, config["in_channels"] * (4 if name == "z_image" else 1))
    l_t, conditioning = mx.array(noise(1, grid.tokens, grid.channels)), row.conditioning(family)

    def velocity() -> mx.array:
        found = family.velocity(l_t, mx.array([SIGMA]), conditioning, grid, GUIDANCE)
        mx.eval(found)
        return row.as_theirs(found, grid)

    base = velocity()
    held = adapter_file.read(file, name)
    lora.attach_factors(family.transformer, held.factors, name="ours")
    change = velocity() - base
    assert mx.linalg.norm(change).item() > 0.05 * mx.linalg.norm(base).item()  # the adapter says something
    family.free("transformer")

    answer = ask_mflux(
        file, row.inputs(l_t, conditioning, grid), family=name, config=config, weights=str(weights), sigma=SIGMA,
        guidance=GUIDANCE, height_px=height_px, width_px=width_px, ways=row.ways,
    )  # fmt: skip
    weights.unlink()  # pytest keeps what its last runs wrote, and FLUX.1's are a gigabyte
    answer.check_all_taken(len(held.factors))
    assert difference(answer.arrays["base"], base) <= TOLERANCE
    for way in row.ways:
        tolerance = BAKED_TOLERANCE if way == "folded" else TOLERANCE
        assert difference(answer.arrays[way] - answer.arrays["base"], change) <= tolerance, way


MFLUX_FAMILIES = ("flux1", "flux2", "z_image")  # it has no Chroma and no FLUX.3
ALL_LAYERS = [
    (name, form)
    for name, reference in REFERENCES.items()
    if reference.family in MFLUX_FAMILIES
    for form in ("diffusers", "kohya")
]
ALL_LAYERS.remove(("Z-Image", "kohya"))  # mflux has no names for its fused layers in that form


@pytest.mark.parametrize(("name", "form"), ALL_LAYERS)
def test_every_layer_at_full_size_finds_its_place_in_mflux(tmp_path: Path, name: str, form: str) -> None:
    reference = REFERENCES[name]
    sizes = reference.sizes(reference.laid_out())
    factors = random_factors(sizes, (2,))
    file = tmp_path / "a.safetensors"
    if form == "kohya":
        kohya.write(file, factors, {"format": "pt"}, reference.family)
    else:
        diffusers.write(file, factors, {"format": "pt"})
    inputs = {str(width): mx.array(noise(4, width)) for width in {size_in for _, size_in in sizes.values()}}
    config = reference.config
    answer = ask_mflux(file, inputs, family=reference.family, config=config, layers=list(sizes))
    answer.check_all_taken(len(sizes))
    assert answer.arrays.keys() == factors.keys()
    for path, (a_RI, b_OR) in factors.items():
        expected = (inputs[str(a_RI.shape[1])] @ a_RI.T) @ b_OR.T
        assert difference(answer.arrays[path], expected) <= TOLERANCE, path
