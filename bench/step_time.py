"""How long a training step and a picture take with Pocket on this machine, and how much memory they need.

    python -m bench.step_time [--steps 20] [--side 256] [--stock]

--stock leaves MLX's own BLAS in place (Linux CPUs), which is what this costs without core/device/openblas.py.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--side", type=int, help="px; the model's own size without it")
    parser.add_argument("--stock", action="store_true")
    asked = parser.parse_args()
    if asked.stock:
        import mlx.core  # noqa: F401  (first, so that prepare() comes too late)
    from core.device import backend

    backend.prepare()
    from core.config.resolve import resolve
    from core.dataset.examples import read_folder
    from core.hub import catalog
    from core.models.load import load_family
    from core.pocket import assets
    from core.training.events import Finished, Phase, Sampled, Stepped
    from core.training.trainer import train

    described = backend.describe()
    print(
        ", ".join(f"{name} {described[name]}" for name in ("device_name", "device", "dtype", "blas", "threads", "mlx"))
    )
    entry = catalog.find("pocket")
    user = {"steps": asked.steps, "sample_every": asked.steps, "warmup_steps": 0}
    user |= {"side_px": asked.side} if asked.side else {}
    config = resolve(user, entry.defaults).config
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
        since = began = time.perf_counter()
        for progress in run:
            now = time.perf_counter()
            if isinstance(progress, Stepped):
                steps.append(progress.seconds)
            elif isinstance(progress, Sampled):
                pictures.append(now - since)
            elif isinstance(progress, Finished):
                peak = progress.peak_memory_bytes
            if not (isinstance(progress, Phase) and progress.done):  # ticks within a picture are part of it
                since = now
    print(f"batch {config.batch_size}, rank {config.rank}, {config.side_px} px, {config.sample_steps} sampler steps")
    print(f"step      {statistics.median(steps):.2f} s, median of {len(steps)}")
    print(f"picture   {statistics.median(pictures):.1f} s, median of {len(pictures)}")
    print(f"peak      {peak / 2**20:.0f} MB of arrays; all in all {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
