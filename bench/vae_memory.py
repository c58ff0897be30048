"""Memory and time of the VAE, whole and tile by tile, with random weights in the sizes of FLUX.1's, and the forecast.

    python -m bench.vae_memory [--side 2048] [--ways tiles whole] [--directions decode encode] [--narrow 1]

Each way runs in a process of its own. Memory is the most that arrays held beyond the weights. With both ways, PSNR is
that of the tiles against the whole, over the range of values of the whole. `--narrow 4` takes a quarter of them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.process import run_bench
from bench.real_models import FLUX1_VAE, RGB
from bench.units import GIB


def measure(direction: str, way: str, side: int, narrow: int, folder: str) -> dict[str, Any]:
    """One pass of a random VAE over a random input; its result is saved in the folder."""
    from core.device import backend

    backend.prepare()
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from core.estimate import vae as forecast
    from core.models.autoencoder import AutoencoderKL

    config = RGB | FLUX1_VAE | {"block_out_channels": [each // narrow for each in FLUX1_VAE["block_out_channels"]]}
    mx.random.seed(0)
    vae = AutoencoderKL(config)
    vae.freeze()
    vae.tiles = way == "tiles"
    pixels = smooth_picture(side)
    given = pixels if direction == "encode" else mx.random.normal((1, side // 8, side // 8, config["latent_channels"]))
    mx.eval(vae.parameters(), given)
    mx.clear_cache()
    held = mx.get_active_memory()
    backend.reset_peak_memory()
    began = time.perf_counter()
    found = vae.encode(given) if direction == "encode" else vae.decode(given)
    mx.eval(found)
    seconds = time.perf_counter() - began
    peak = backend.peak_memory() - held
    mx.save_safetensors(str(Path(folder, f"{direction}-{way}.safetensors")), {"found": found})
    device = backend.prepare().device
    channels = forecast.Channels.of(config["block_out_channels"])
    predicted = (
        forecast.in_tiles(direction, device, channels, side)
        if way == "tiles"
        else forecast.whole(direction, device, channels, side**2)
    )
    weights = sum(value.nbytes for _, value in tree_flatten(vae.parameters()))
    return {"seconds": seconds, "peak": peak, "predicted": predicted, "weights": weights}


def smooth_picture(side: int) -> Any:
    """A picture with a flat half and a detailed one, in [-1, 1]: tiles of it differ as those of photos do."""
    import mlx.core as mx

    row, column = mx.arange(side)[:, None] / side, mx.arange(side)[None] / side
    waves = mx.sin(40 * row * row + 3 * column) * mx.cos(90 * column * row)
    plain = 2 * row - 1 + 0 * column
    one = mx.where(column > 0.5, waves, plain)
    return mx.stack([one, one * 0.5, -one], axis=-1)[None]


def psnr(folder: Path, direction: str) -> float:
    """Of the tiles against the whole, in dB."""
    import mlx.core as mx

    tiles, whole = (mx.load(str(folder / f"{direction}-{way}.safetensors"))["found"] for way in ("tiles", "whole"))
    span = (whole.max() - whole.min()).item()
    return float((10 * mx.log10(span**2 / (tiles - whole).square().mean())).item())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--ways", nargs="+", default=["tiles", "whole"], choices=["tiles", "whole"])
    parser.add_argument("--directions", nargs="+", default=["decode", "encode"], choices=["decode", "encode"])
    parser.add_argument("--narrow", type=int, default=1)
    parser.add_argument("--folder", help="Measure in this process, and save the result there.")
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(measure(options.directions[0], options.ways[0], options.side, options.narrow, options.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for direction in options.directions:
            for way in options.ways:
                size = ("--side", options.side, "--narrow", options.narrow)
                found = run_bench("vae_memory", *size, "--ways", way, "--directions", direction, "--folder", folder)
                print(
                    f"{direction} {options.side} px, {way}: {found['seconds']:.1f} s, {found['peak'] / GIB:.2f} GB "
                    f"over {found['weights'] / GIB:.2f} GB of weights; predicted {found['predicted'] / GIB:.2f} GB"
                )
            if len(options.ways) > 1:
                print(f"{direction}: tiles against the whole {psnr(Path(folder), direction):.1f} dB")


if __name__ == "__main__":
    main()
