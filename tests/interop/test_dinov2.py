"""DINOv2 equals transformers' Dinov2Model, and photos are prepared for it as by the processor of its repository.

The real weights are not part of these tests: the real shapes are, with random weights.
"""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model
from transformers.image_utils import PILImageResampling
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from bench.real_models import DINOV2_SMALL
from core.hub import analysis_models
from core.models.dinov2 import RENAMED, Dinov2
from core.pocket.assets import EXAMPLES
from core.safetensors_file import read_header
from core.vision import dinov2
from tests.interop.reference import TOLERANCE, noise, ours, randomized, relative_error

SMALL = DINOV2_SMALL | {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "mlp_ratio": 2, "image_size": 70,
    "qkv_bias": False,
}  # fmt: skip
SIZES = {"as trained": (70, 70), "larger": (112, 84), "smaller": (42, 56)}


def reference_of(config: dict[str, object], folder: Path) -> Dinov2Model:
    """Positions and LayerScale of a size that shows in the features."""
    module = randomized(Dinov2Model(Dinov2Config(**config)), seed=3)
    with torch.no_grad():
        module.embeddings.position_embeddings.normal_(generator=torch.Generator().manual_seed(4))
        for name, value in module.named_parameters():
            if name.endswith("lambda1"):
                value.add_(1.0)
    module.save_pretrained(folder)
    return module


def features(reference: Dinov2Model, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """(all tokens, pooled)."""
    with torch.no_grad():
        found = reference(torch.from_numpy(np.ascontiguousarray(pixels)))
    return found.last_hidden_state, found.pooler_output


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dinov2Model, Path]:
    folder = tmp_path_factory.mktemp("dinov2")
    return reference_of(SMALL, folder), folder


@pytest.mark.parametrize("size", SIZES)
def test_every_token_equals_the_reference(small: tuple[Dinov2Model, Path], size: str) -> None:
    reference, folder = small
    network = ours(Dinov2, folder, "model")
    pixels = noise(2, 3, *SIZES[size])
    tokens, pooled = features(reference, pixels)
    ready = mx.array(pixels.transpose(0, 2, 3, 1))
    assert relative_error(network.tokens(ready), tokens) <= TOLERANCE
    assert relative_error(network(ready), pooled) <= TOLERANCE


def test_the_reference_writes_the_names_of_the_hubs_files(small: tuple[Dinov2Model, Path]) -> None:
    names = read_header(small[1] / "model.safetensors").tensors
    assert {f"encoder.layer.2.{theirs}.weight" for theirs in RENAMED} <= names.keys()
    assert "embeddings.mask_token" in names


def test_the_real_network_on_a_photo_equals_the_reference_from_the_file_to_the_features(tmp_path: Path) -> None:
    """12 blocks of 384 channels, positions of 37 x 37 patches brought to 16 x 16."""
    reference = reference_of(DINOV2_SMALL, tmp_path)
    assert sum(each.numel() for each in reference.parameters()) == analysis_models.DINOV2_SMALL.parameters
    size = (tmp_path / "model.safetensors").stat().st_size + (tmp_path / "config.json").stat().st_size
    assert analysis_models.DINOV2_SMALL.download_bytes == pytest.approx(size, rel=1e-3)
    photo = np.asarray(Image.open(sorted(EXAMPLES.glob("*.jpg"))[0]).convert("RGB"))[:, :200]
    theirs = processor()(images=Image.fromarray(photo), return_tensors="np")["pixel_values"]
    _, pooled = features(reference, theirs)
    assert relative_error(mx.array(dinov2.features_of(photo, tmp_path)[None]), pooled) <= TOLERANCE


@pytest.mark.parametrize("size", [(300, 400), (500, 333), (90, 700), (224, 224)])
def test_photos_are_prepared_as_the_processor_prepares_them(size: tuple[int, int]) -> None:
    """Size is height and width."""
    values = np.random.default_rng(0).integers(0, 256, (size[0] // 7 + 1, size[1] // 7 + 1, 3), np.uint8)
    photo = np.asarray(Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.BICUBIC))
    theirs = processor()(images=Image.fromarray(photo), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    assert np.abs(dinov2.prepared(photo) - theirs).max() < 1e-5


def processor() -> BitImageProcessorPil:
    """With the values of the repository's preprocessor_config.json."""
    return BitImageProcessorPil(
        size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, resample=PILImageResampling.BICUBIC,
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225], rescale_factor=1 / 255,
    )  # fmt: skip
