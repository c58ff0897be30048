"""DINOv2's features beside another analyser's measurements; tests/interop compares the network with transformers'."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from core.errors import ModelProblem
from core.hub.analysis_models import DINOV2_SMALL, place_of
from core.models.dinov2 import bicubic
from core.pocket.assets import EXAMPLES
from core.vision import dinov2, review, similarity
from core.vision.analysers import best
from core.vision.pictures import Floats, Pixels, shrunk
from core.vision.results import Analysis
from tests.core.vision.test_review import good
from tests.tiny_dinov2 import CONFIG, make_model_folder

PHOTOS = sorted(EXAMPLES.glob("*.jpg"))
SIZE = 1200, 900


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("dinov2") / DINOV2_SMALL.name)


def photo(number: int = 0) -> Pixels:
    return shrunk(np.asarray(Image.open(PHOTOS[number]).convert("RGB")), 200)


def test_an_analysis_is_the_other_analysers_with_features_and_a_name_of_its_own(folder: Path, tmp_path: Path) -> None:
    plain, analyser = best(), best(folder)
    found = analyser.analyse(photo(), SIZE)
    assert found.analyser == analyser.name != plain.name
    assert replace(found, analyser=plain.name, print=b"") == plain.analyse(photo(), SIZE)
    features = np.frombuffer(found.print, np.float32)
    assert features.shape == (CONFIG["hidden_size"],)
    assert analyser.analyse(photo(), SIZE) == found
    assert not np.allclose(features, np.frombuffer(analyser.analyse(photo(1), SIZE).print, np.float32), atol=1e-3)
    assert best(make_model_folder(tmp_path / "other", seed=1)).name != analyser.name, "other weights, other features"


def test_a_photos_middle_is_what_the_network_sees() -> None:
    """Twice as wide as high: of 512 x 256 px the columns from 144 to 368 are seen."""
    values = np.zeros((64, 128, 3), np.uint8)
    values[:, 64:] = 255
    pixels = dinov2.prepared(values)
    assert pixels.shape == (224, 224, 3)
    black, white = -np.divide(dinov2.MEAN, dinov2.DEVIATION), (1 - np.array(dinov2.MEAN)) / dinov2.DEVIATION
    assert np.abs(pixels[:, :100] - black).max() < 1e-5
    assert np.abs(pixels[:, 124:] - white).max() < 1e-5
    tall = dinov2.prepared(np.asarray(values.transpose(1, 0, 2)))
    assert np.array_equal(tall, pixels.transpose(1, 0, 2))
    assert dinov2.prepared(values[:, :1]).shape == dinov2.prepared(values[:1]).shape == (224, 224, 3)


def test_positions_of_another_grid_are_weights_of_the_four_nearest() -> None:
    assert np.array(bicubic(5, 5)).tolist() == np.eye(5).tolist()
    larger = np.array(bicubic(4, 8))
    assert larger[3].tolist() == [-0.10546875, 0.87890625, 0.26171875, -0.03515625], "at 1.25, for a slope of -3/4"
    assert larger[0].tolist() == [1.10546875, -0.10546875, 0, 0], "at -0.25: the first one repeats"
    assert np.array(bicubic(37, 16)).sum(1) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_act": "relu"}, "does not describe a DINOv2 that we know"),
        ({"use_swiglu_ffn": True}, "does not describe a DINOv2 that we know"),
        ({"hidden_size": 32}, "does not fit its config.json"),
    ],
)
def test_a_network_that_cannot_be_read_is_a_sentence(
    folder: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "config.json").write_text(json.dumps(CONFIG | changes))
    with pytest.raises(ModelProblem, match=words):
        best(other).analyse(photo(), SIZE)


def test_features_that_are_no_numbers_are_never_kept(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    tensors = mx.load(str(other / "model.safetensors"))
    assert isinstance(tensors, dict)
    tensors["layernorm.weight"] = mx.full((CONFIG["hidden_size"],), float("nan"))
    mx.save_safetensors(str(other / "model.safetensors"), tensors)
    with pytest.raises(ModelProblem, match="not finite"):
        best(other).analyse(photo(), SIZE)


def test_only_a_complete_folder_of_that_kind_counts(folder: Path, tmp_path: Path) -> None:
    assert place_of(DINOV2_SMALL, [folder.parent]).complete == place_of(DINOV2_SMALL, [folder]).complete == folder
    assert place_of(DINOV2_SMALL, [tmp_path]).folder is None
    other = shutil.copytree(folder, tmp_path / DINOV2_SMALL.name)
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    place = place_of(DINOV2_SMALL, [tmp_path])
    assert (place.folder, place.complete) == (other, None)
    assert place.missing[0].message.startswith("is damaged or cut off at")
    (other / "config.json").write_text('{"model_type": "clip"}')
    assert place_of(DINOV2_SMALL, [tmp_path]).folder is None


def with_prints(photos: dict[int, Analysis], prints: Floats) -> dict[int, Analysis]:
    name = f"opencv-1{dinov2.MARK}-1-abc"
    return {n: replace(each, analyser=name, print=prints[i].tobytes()) for i, (n, each) in enumerate(photos.items())}


def prints_of(count: int, spread: float) -> Floats:
    """About one direction."""
    rng = np.random.default_rng(0)
    return np.asarray(np.eye(1, 64)[0] + spread * rng.standard_normal((count, 64)), np.float32)


@pytest.mark.parametrize("spread", [0.01, 0.1])
def test_a_stranger_is_farther_than_is_usual_in_the_set_and_only_perhaps_one(spread: float) -> None:
    """Whatever is usual there: no likeness is known to mean another subject."""
    prints = prints_of(10, spread)
    usual = [each.kind for each in review.review(with_prints(good(), prints)).findings]
    assert "unlike_the_rest" not in usual
    prints[5] += 4 * spread * np.sqrt(64) * np.eye(1, 64, 9, dtype=np.float32)[0]
    found = [each for each in review.review(with_prints(good(), prints)).findings if each.kind == "unlike_the_rest"]
    assert [each.photos for each in found] == [(5,)]
    assert found[0].unsure


def test_photos_are_picked_by_what_they_show_and_not_by_their_colours() -> None:
    """Colours of their own for all of twelve photos, and four things to see."""
    photos = {n: replace(good()[n % 10], subject=None, width=1200 + n) for n in range(12)}
    prints = np.asarray(np.eye(4, 64)[np.arange(12) % 4] + 1e-3 * prints_of(12, 1.0), np.float32)
    picked = review.pick(with_prints(photos, prints), 4)
    assert {number % 4 for number in picked} == {0, 1, 2, 3}
    assert review.pick(photos, 12) != review.pick(with_prints(photos, prints), 12)


def test_prints_of_another_kind_or_of_some_photos_alone_are_left_out() -> None:
    assert similarity.prints_array([b"", b""]) is None
    assert similarity.prints_array([np.ones(4, np.float32).tobytes(), b""]) is None
    unit = similarity.prints_array([np.full(4, 3, np.float32).tobytes()])
    assert unit is not None
    assert unit.tolist() == [[0.5, 0.5, 0.5, 0.5]]


def test_near_duplicates_stay_with_the_measured_likeness() -> None:
    same = np.asarray(np.ones((10, 64)), np.float32)
    kinds = {each.kind for each in review.review(with_prints(good(), same)).findings}
    assert kinds == set()
