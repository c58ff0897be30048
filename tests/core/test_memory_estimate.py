"""The forecast of a run's memory: near what runs take, and with an offer that fits where the settings do not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from bench import memory_estimate as measured
from bench.real_models import write_configs
from core.adapters import lora
from core.adapters.layers import resolve_targets
from core.config.choices import Optimizer
from core.config.resolve import resolve
from core.device import backend
from core.device.hardware import Computer, apple_bytes, this_computer
from core.estimate import memory
from core.estimate.architecture import Architecture
from core.hub import catalog
from core.hub.registry import KNOWN
from core.models.base import Family
from core.training.optimizers import OPTIMIZERS
from core.training.update import init
from tests.core.subjects import training

GIB = 2**30
POCKET = Architecture.of(catalog.POCKET_FOLDER)


def machine(gib: float, device: str = "cuda", disk_gib: float = 100) -> Computer:
    return Computer(device, int(gib * GIB), int(disk_gib * GIB))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Architecture:
    parameters = KNOWN["flux1-dev"].parameters
    architecture = Architecture.of(write_configs(tmp_path_factory.mktemp("dev"), "flux1-dev", {}))
    return replace(architecture, transformer=parameters["transformer"], vae=parameters["vae"])


@pytest.mark.slow
@pytest.mark.parametrize("row", [0, 1, 3, 6, 10, 11, 14, 16])
def test_the_forecast_is_within_15_percent_of_what_a_run_takes(row: int) -> None:
    found = measured.in_a_process(row)
    assert found["predicted"] == pytest.approx(found["measured"], rel=0.15)


def test_the_architecture_is_the_models(dev: Architecture) -> None:
    assert [(stack.kind, stack.count, stack.width) for stack in dev.stacks] == [
        ("double", 19, 3072),
        ("single", 38, 3072),
    ]
    assert dev.text_tokens == 512
    assert POCKET.text_tokens == 32  # its tokenizer's own limit
    assert POCKET.transformer == catalog.find("pocket").parameters


MEASURED = re.findall(
    r"^\| (FLUX\.1-dev|FLUX\.2-klein-4B|FLUX\.2-klein-9B|Z-Image|Chroma1-HD|FLUX\.3-klein)"
    r" \| (full|4-bit) \| (all|none) \|"
    r" [\d.]+ \| [\d.]+ s \| ([\d.]+) \| [\d.]+ s \| ([\d.]+) \|(?: [\d.]+ \|)*$",
    Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
CALLED = {
    "FLUX.1-dev": "flux1-dev", "FLUX.2-klein-4B": "flux2-klein-base-4b", "FLUX.2-klein-9B": "flux2-klein-base-9b",
    "Z-Image": "z-image", "Chroma1-HD": "chroma1-hd", "FLUX.3-klein": "flux3-klein-base",
}  # fmt: skip


@pytest.mark.parametrize(("model", "precision", "activations", "stepping", "drawing"), MEASURED)
def test_the_forecast_for_a_card_is_within_15_percent_of_what_readme_says_was_measured(
    model: str, precision: str, activations: str, stepping: str, drawing: str
) -> None:
    knobs = {"side_px": 512, "batch_size": 1, "rank": 16, "base_precision": precision, "activations": activations}
    architecture = Architecture.of_known(KNOWN[CALLED[model]])
    needs = memory.needs(architecture, resolve(knobs | {"sample_prompts": ["one"]}).config, machine(140), 1)
    assert needs.training / GIB == pytest.approx(float(stepping), rel=0.15)
    assert needs.drawing / GIB == pytest.approx(float(drawing), rel=0.15)


def test_readme_has_a_measured_row_for_every_model_base_and_way_of_keeping() -> None:
    assert len(MEASURED) == 6 * 2 * 2


def test_the_forecast_knows_where_batches_are_computed_at_once() -> None:
    for device, policy in backend.POLICIES.items():
        assert memory.multiples(machine(8, device)).batches == policy.batches


def test_a_batch_on_a_cpu_needs_little_more_than_an_example_unless_all_is_kept(dev: Architecture) -> None:
    def training(device: str, activations: str, batch_size: int) -> int:
        config = resolve({"side_px": 512, "activations": activations, "batch_size": batch_size}).config
        return memory.needs(dev, config, machine(1000, device), 10).training

    assert training("cpu", "none", 4) < 1.05 * training("cpu", "none", 1)
    for device, activations in (("cpu", "all"), ("cuda", "none")):
        assert training(device, activations, 4) > 1.05 * training(device, activations, 1)


def test_more_of_anything_needs_more_memory(dev: Architecture) -> None:
    def peak(**knobs: object) -> int:
        config = resolve({"side_px": 512, "activations": "all", **knobs}).config
        return memory.needs(dev, config, machine(1000), 10).memory

    plain = peak()
    assert peak(side_px=768) > plain
    assert peak(batch_size=2) > plain
    assert peak(rank=64) > plain
    assert peak(activations="none") < 0.7 * plain
    assert peak(base_precision="4-bit") < plain - 11 * GIB
    assert peak(class_pictures=4, class_prompt="a dog") == peak(class_preservation=1) > plain
    assert peak(class_pictures=4, class_preservation=1) > peak(class_preservation=1)


@pytest.mark.parametrize("targets", ["all_linear", "*"])  # the star is modulation too
@pytest.mark.parametrize("ema_decay", [0, 0.9])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_all_of_an_optimizers_state_is_counted(
    family: Family, model_folder: Path, optimizer: Optimizer, ema_decay: float, targets: str
) -> None:
    config = resolve({"rank": 3, "optimizer": optimizer, "ema_decay": ema_decay, "targets": targets}).config
    layers = resolve_targets(family.architecture.layers, targets)
    w = lora.attach(family.transformer, layers, 3, 3.0, mx.random.key(0)).parameters()
    groups = [w, *init(OPTIMIZERS[optimizer], w, with_ema=ema_decay > 0).tensors.values()]
    held = sum(value.nbytes for group in groups for value in group.values())
    assert memory.adapter_bytes(Architecture.of(model_folder), config) == held


def test_where_the_adapter_is_large_its_update_takes_more_than_its_gradient(dev: Architecture) -> None:
    def peak(**knobs: object) -> int:
        config = resolve({"side_px": 64, "activations": "none", "rank": 256, **knobs}).config
        return memory.needs(dev, config, machine(1000), 1).training

    copy = 4 * memory.adapter_numbers(dev, resolve({"rank": 256}).config)
    assert peak(optimizer="prodigy") - peak() == 2 * 2 * copy  # two more are remembered, old and new
    assert peak(ema_decay=0.9) - peak() == 2 * copy
    assert peak(optimizer="adafactor") < peak(optimizer="lion") < peak()


def test_as_many_blocks_keep_their_activations_as_fit(dev: Architecture) -> None:
    config = resolve({"side_px": 512}).config
    kept = [memory.kept_blocks(dev, config, machine(gib)) for gib in (20, 32, 40, 140)]
    assert kept[0] == 0
    assert 0 < kept[1] < kept[2] < 57
    assert kept[3] == 57
    assert memory.kept_blocks(dev, resolve({"side_px": 512, "activations": "none"}).config, machine(140)) == 0
    within = memory.needs(dev, config, machine(40), 10)
    assert within.training <= 40 * GIB


def test_settings_that_fit_are_offered_and_the_mildest_first(dev: Architecture) -> None:
    config = resolve({"side_px": 1024, "batch_size": 2}).config
    offers = [memory.forecast(dev, config, machine(gib), 10) for gib in (60, 26, 12, 6)]
    assert [each.fits for each in offers] == [True, False, False, False]
    assert offers[0].offer is None
    assert offers[1].offer == {"batch_size": 1, "accumulate": 2} or offers[1].offer["base_precision"] == "8-bit"
    assert offers[2].offer["base_precision"] == "4-bit"
    for gib, each in ((26, offers[1]), (12, offers[2])):
        again = resolve({"side_px": 1024, "batch_size": 2, **each.offer}).config
        assert memory.forecast(dev, again, machine(gib), 10).fits
    assert offers[3].offer is None
    assert "a smaller model" in offers[3].offer_words
    assert "of the card's memory, most of it while" in offers[1].sentence
    assert "there are 26 GB" in offers[1].sentence


def test_a_full_disk_is_seen_too() -> None:
    config = resolve({"steps": 2000, "save_every": 10, "rank": 64}, catalog.find("pocket").defaults).config
    found = memory.forecast(POCKET, config, machine(16, "cpu", disk_gib=2), 10)
    assert not found.fits
    assert found.offer == {"save_every": 100}
    assert "a checkpoint every 100 steps" in found.offer_words


def test_class_pictures_take_their_place_on_the_disk(
    family: Family, photos: Path, tmp_path: Path, dev: Architecture
) -> None:
    def disk(**knobs: object) -> int:
        return memory.needs(dev, resolve({"side_px": 512, **knobs}).config, machine(100), 10).disk

    one = disk(class_pictures=1) - disk()
    assert disk(class_pictures=2000) - disk() == pytest.approx(2000 * one, abs=2000)
    assert 2000 * one > GIB

    knobs = {"side_px": 64, "class_pictures": 3, "cache": tmp_path / "cache"}
    list(training(family, photos, tmp_path / "run", **knobs))
    kept = [*(tmp_path / "run" / "class_pictures").iterdir(), *(tmp_path / "cache" / "class").iterdir()]
    small = disk(side_px=64, class_pictures=3) - disk(side_px=64)
    assert sum(each.stat().st_size for each in kept) < 2 * small


@pytest.mark.parametrize(
    ("memory", "limit", "bytes_gib"),
    [(16, "0\n", 32 / 3), (32, "0\n", 64 / 3), (36, "0\n", 27), (128, "0\n", 96), (16, "12288\n", 12), (16, "", 32 / 3),
     (16, "65536\n", 16)],
)  # fmt: skip
def test_a_macs_gpu_has_what_macos_or_its_user_lets_it_have(memory: int, limit: str, bytes_gib: float) -> None:
    assert apple_bytes(memory * GIB, limit) == pytest.approx(bytes_gib * GIB, abs=1)


def test_this_computer_has_memory_and_a_disk(tmp_path: Path) -> None:
    here = this_computer(tmp_path / "not" / "there" / "yet")
    assert here.memory > GIB / 2
    assert here.disk > 0
