"""What a model needs of a computer before it is here: the forecast's own numbers, and the best that fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.real_models import write_configs
from core.config.choices import BITS
from core.config.resolve import resolve
from core.device.hardware import Computer
from core.device.units import disk_size, memory_size
from core.estimate import memory, requirements
from core.estimate.architecture import Architecture
from core.hub import catalog
from core.hub.registry import KNOWN

GIB = 2**30


@pytest.fixture(autouse=True)
def nothing_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


def needs(name: str, gib: float, disk_gib: float = 200, **more: int) -> requirements.ModelNeeds:
    found = requirements.model_needs(
        catalog.models()[name], Computer("cuda", int(gib * GIB), int(disk_gib * GIB)), **more
    )
    assert found is not None
    return found


def best(name: str, gib: float, disk_gib: float = 200, **more: int) -> tuple[str, int] | None:
    chosen = [need for need in needs(name, gib, disk_gib, **more).table if need.recommended]
    assert len(chosen) <= 1
    return (chosen[0].base_precision, chosen[0].side_px) if chosen else None


def test_the_numbers_are_those_of_the_forecast_for_a_run_from_the_models_own_folder(tmp_path: Path) -> None:
    row = KNOWN["flux1-dev"]
    architecture = Architecture.of(write_configs(tmp_path, "flux1-dev", {}))
    architecture = replace(
        architecture,
        transformer=row.parameters["transformer"],
        vae=row.parameters["vae"],
        text_layer=row.shapes.text_layer,
    )
    found = needs("flux1-dev", 80)
    assert [(each.base_precision, each.side_px) for each in found.table] == [
        (precision, side) for precision in BITS for side in (512, 768, 1024)
    ]
    for each in found.table:
        knobs = {"base_precision": each.base_precision, "side_px": each.side_px, "activations": "none", "batch_size": 1}
        config = resolve(knobs, catalog.models()["flux1-dev"].defaults).config
        forecast = memory.forecast(architecture, config, Computer("cuda", 80 * GIB, 200 * GIB), requirements.PHOTOS)
        assert (each.memory, each.disk, each.fits) == (forecast.memory, forecast.disk, forecast.fits)


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_model_says_what_it_needs_though_it_is_not_here(name: str) -> None:
    entry = catalog.models()[name]
    assert not entry.on_disk
    found = needs(name, 1000)
    assert found.purpose == ("training" if entry.trains else "drawing")
    by_side = {side: [each.memory for each in found.table if each.side_px == side] for side in (512, 768, 1024)}
    for column in by_side.values():
        assert column == sorted(column, reverse=True)  # fewer bits, less memory
    assert by_side[512][-1] < by_side[768][-1] < by_side[1024][-1]
    assert all(each.memory > 2 * GIB and each.fits for each in found.table)


def test_the_models_own_size_comes_first_and_then_the_most_exact_base() -> None:
    memory = {(each.base_precision, each.side_px): each.memory / GIB for each in needs("flux1-dev", 80).table}
    for precision in BITS:
        assert best("flux1-dev", memory[precision, 512] + 0.01) == (precision, 512)
    assert best("flux1-dev", memory["4-bit", 512] - 0.01) is None
    assert best("flux1-dev", 1000) == ("full", 512)
    assert best("flux2-klein-4b", 1000) == ("full", 1024)  # it only draws, and best at 1024
    drawing = {each.side_px: each.memory / GIB for each in needs("flux2-klein-4b", 3).table[-3:]}  # decoded in tiles
    assert best("flux2-klein-4b", drawing[1024] + 0.01) == ("4-bit", 1024)
    assert best("flux2-klein-4b", drawing[768] + 0.01) == ("4-bit", 768)
    assert drawing[1024] < needs("flux2-klein-4b", 80).table[-1].memory / GIB


def test_the_sentence_says_with_what_it_fits_or_what_it_lacks() -> None:
    own = needs("flux1-dev", 80).table[0]
    words = f"about {memory_size(own.memory)} of memory, {disk_size(own.disk)} on the disk."
    assert needs("flux1-dev", 80).sentence == f"It fits with the whole base, 512 px: {words}"
    assert "an 8-bit base" in memory.described({"base_precision": "8-bit"})
    assert needs("flux1-dev", 4).sentence == "No settings of this model fit; it takes a smaller model."
    assert needs("flux1-dev", 80, disk_gib=3).sentence == "No settings of this model fit; it takes more free space."


def test_a_download_needs_its_room_on_the_disk_too() -> None:
    assert best("flux1-dev", 80, disk_gib=30) == ("full", 512)
    assert best("flux1-dev", 80, disk_gib=30, to_fetch=KNOWN["flux1-dev"].download_bytes) is None


def test_pocket_is_shown_at_its_own_sizes_and_a_broken_card_at_none() -> None:
    assert {each.side_px for each in needs("pocket", 16).table} == {256, 384, 512}
    entry = replace(catalog.models()["pocket"], defaults={"rank": 100_000})
    assert requirements.model_needs(entry, Computer("cpu", GIB, GIB)) is None
