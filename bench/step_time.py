"""Time and memory of a training step and of a picture with Pocket on this machine.

    python -m bench.step_time [--steps 20] [--side 256] [--stock]

--stock leaves MLX's own BLAS in place (Linux CPUs) instead of OpenBLAS (core/device/openblas.py).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.units import MIB


def measure(config: Any, entry: Any) -> tuple[list[float], list[float], int]:
    """A run on the example photos: seconds of each step and of each picture, and peak bytes of arrays."""
    from core.dataset.examples import read_folder
    from core.models.load import load_family
    from core.pocket import assets
    from core.training.events import Finished, Phase, Sampled, Stepped
    from core.training.trainer import train

    examples, _ = read_folder(assets.EXAMPLES, assets.EXAMPLE_TRIGGER, assets.EXAMPLE_CLASS_WORD)
    steps: list[float] = []
    pictures: list[float] = []
    peak = 0
    with tempfile.TemporaryDirectory() as folder:
        run = train(
            load_family(entry.folder),
            examples,
            config,
            Path(folder, "run"),
            trigger=assets.EXAMPLE_TRIGGER,
            class_word=assets.EXAMPLE_CLASS_WORD,
            cache=Path(folder, "cache"),
        )
        since = time.perf_counter()
        for event in run:
            now = time.perf_counter()
            if isinstance(event, Stepped):
                steps.append(event.seconds)
            elif isinstance(event, Sampled):
                pictures.append(now - since)
            elif isinstance(event, Finished):
                peak = event.peak_memory_bytes
            if not (isinstance(event, Phase) and event.done):  # progress within a picture counts towards it
                since = now
    return steps, pictures, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--side", type=int, help="px; the model's own size without it")
    parser.add_argument("--stock", action="store_true")
    options = parser.parse_args()
    if options.stock:
        import mlx.core  # noqa: F401  (first, so that prepare() comes too late)
    from core.device import backend

    backend.prepare()
    from core.config.resolve import resolve
    from core.hub import catalog

    described = backend.describe()
    shown = ("device_name", "device", "dtype", "blas", "threads", "mlx")
    print(", ".join(f"{name} {described[name]}" for name in shown))
    entry = catalog.find("pocket")
    user = {"steps": options.steps, "sample_every": options.steps, "warmup_steps": 0}
    user |= {"side_px": options.side} if options.side else {}
    config = resolve(user, entry.defaults).config
    began = time.perf_counter()
    steps, pictures, peak = measure(config, entry)
    print(f"batch {config.batch_size}, rank {config.rank}, {config.side_px} px, {config.sample_steps} sampler steps")
    print(f"step      {statistics.median(steps):.2f} s, median of {len(steps)}")
    print(f"picture   {statistics.median(pictures):.1f} s, median of {len(pictures)}")
    print(f"peak      {peak / MIB:.0f} MB of arrays; all in all {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
