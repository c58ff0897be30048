"""A picture that does not fit into memory is encoded and decoded tile by tile, and comes out as it would have whole."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest

from bench.real_models import FLUX1_VAE, RGB
from bench.vae_memory import smooth_picture
from core.device import hardware
from core.device.working_set import TILE, TILE_BORDER
from core.estimate import vae as forecast
from core.models import autoencoder, vae_layers
from core.models.autoencoder import AutoencoderKL
from core.models.vae_tiles import spans
from tests.peak import peak

CHANNELS = (32, 64, 128, 128)  # a quarter of the real widths
SIDE = 384  # two tiles on a side, with a core of 192 px each
GIB = 2**30


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    mx.random.seed(3)
    one = AutoencoderKL(RGB | FLUX1_VAE | {"block_out_channels": CHANNELS})
    one.freeze()
    mx.eval(one.parameters())
    return one


def run(vae: AutoencoderKL, direction: str, tiles: bool | None) -> mx.array:
    vae.tiles = tiles
    given = smooth_picture(SIDE) if direction == "encode" else mx.random.normal((1, SIDE // 8, SIDE // 8, 16), key=KEY)
    found = vae.encode(given) if direction == "encode" else vae.decode(given)
    mx.eval(found)
    return found


KEY = mx.random.key(5)


def test_tiles_cover_a_side_with_borders_that_end_at_its_edges() -> None:
    for length in (1, 31, 32, 33, 80, 256):
        found = spans(length, 7)
        assert [each.core_start for each in found] == [0, *(each.core_end for each in found[:-1])]
        assert found[-1].core_end == found[-1].end == length
        assert max(each.core_end - each.core_start for each in found) <= TILE
        assert all(each.start == max(0, each.core_start - 7) for each in found)


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_tiles_give_the_same_picture_in_less_memory(vae: AutoencoderKL, direction: str) -> None:
    results, peaks = {}, {}
    for tiles in (False, True):
        with peak() as held:
            results[tiles] = run(vae, direction, tiles)
        peaks[tiles] = held.over
    span = (results[False].max() - results[False].min()).item()
    error = (results[True] - results[False]).square().mean().item()
    assert results[True].shape == results[False].shape
    assert 10 * mx.log10(mx.array(span**2 / max(error, 1e-30))).item() > 45
    widths = forecast.Widths.of(CHANNELS)
    predicted = forecast.whole(direction, "cpu", widths, SIDE**2)
    assert peaks[False] == pytest.approx(predicted, rel=0.15)


def test_the_border_is_as_wide_as_the_convolutions_see(vae: AutoencoderKL) -> None:
    assert (vae.decoder.reach, vae.encoder.reach) == (TILE_BORDER, TILE_BORDER - 1)


def test_statistics_of_single_tiles_would_be_another_picture(
    vae: AutoencoderKL, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alone(function: Any, x: mx.array, unit_in: int, unit_out: int, border: int) -> mx.array:
        half = x.shape[1] // 2
        return mx.concatenate([function(x[:, :half]), function(x[:, half:])], axis=1)

    vae.tiles = False
    given = smooth_picture(128)
    whole = vae.encode(given)
    vae.tiles = True
    joined = vae.encode(given)
    monkeypatch.setattr(autoencoder, "in_tiles", alone)
    apart = vae.encode(given)
    assert mx.abs(joined - whole).max().item() < 1e-4 * mx.abs(whole).max().item(), "one tile holds all of it"
    assert mx.abs(apart - whole).max().item() > 1e-2 * mx.abs(whole).max().item()


def test_tiles_are_taken_where_the_whole_does_not_fit(vae: AutoencoderKL, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def noted(function: Any, x: mx.array, unit_in: int, unit_out: int, border: int) -> mx.array:
        taken.append(x.shape[1])
        return function(x)

    monkeypatch.setattr(autoencoder, "in_tiles", noted)
    vae.tiles = None
    pixels, latent = mx.zeros((1, 64, 64, 3)), mx.zeros((1, 8, 8, 16))
    need = forecast.whole("decode", "cpu", forecast.Widths.of(CHANNELS), 64**2)
    held = mx.get_active_memory()
    monkeypatch.setattr(autoencoder, "array_bytes", lambda: held + 1.2 * need)
    mx.eval(vae.encode(pixels), vae.decode(latent))
    assert not taken
    monkeypatch.setattr(autoencoder, "array_bytes", lambda: held + 0.1 * need)
    mx.eval(vae.encode(pixels), vae.decode(latent))
    assert taken == [64, 8]


def test_the_attention_of_the_vae_holds_a_few_queries_scores(
    vae: AutoencoderKL, monkeypatch: pytest.MonkeyPatch
) -> None:
    middle = vae.decoder.mid_block.attentions[0]
    x = mx.random.normal((1, 40, 40, CHANNELS[-1]), key=KEY)
    whole = middle(x)
    mx.eval(x, whole)
    scores = (40 * 40) ** 2 * 4
    with peak() as at_once:
        mx.eval(middle(x))
    monkeypatch.setattr(vae_layers, "CHUNK_ON_CPU", 2**18)
    with peak() as in_chunks:
        chunked = middle(x)
        mx.eval(chunked)
    assert mx.abs(chunked - whole).max().item() < 1e-5 * mx.abs(whole).max().item()
    assert in_chunks.over < at_once.over - scores / 2


def test_large_pictures_fit_in_tiles_and_the_forecast_knows() -> None:
    widths = forecast.Widths.of((128, 256, 512, 512))
    for direction in ("encode", "decode"):
        for device in ("metal", "cpu"):
            in_tiles = forecast.in_tiles(direction, device, widths, 2048)
            whole = forecast.whole(direction, device, widths, 2048**2)
            assert in_tiles < 1.3 * GIB < 8 * GIB < whole
            assert forecast.peak(direction, device, widths, 2048, room=4 * GIB) == in_tiles
            assert forecast.peak(direction, device, widths, 2048, room=40 * GIB) == whole
            small = forecast.whole(direction, device, widths, 64**2)
            assert forecast.peak(direction, device, widths, 64, room=0) <= small


def test_the_memory_for_arrays_is_that_of_the_forecast() -> None:
    assert hardware.array_bytes() == hardware.this_computer(hardware.Path("/")).memory
