"""How much writing checkpoints in the background slows the steps of a run.

    python -m bench.saving [--model flux1-dev] [--activations all] [--every 25] [--shrink]

Two runs in turn (`core.training.trainer.train`, rank 16 on every block linear, 512 px, random weights by
bench/random_models.py), one that saves every so many steps and one that saves only at its end, timed from the second
step to the last. "more" is the difference for each checkpoint; "written in" is the time from its first byte to fsync,
in the background.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.random_models import random_family
from bench.real_models import MODELS, SHRUNK, write_configs
from core.device import backend

WARM = 2  # steps that compile
CHECKPOINTS = 4
ROUNDS = 3


def seconds(family: Any, knobs: dict[str, Any], folder: Path, written: list[float]) -> float:
    """From step WARM to the last; appends the seconds of writing each checkpoint to `written`."""
    from PIL import Image

    from core.config.resolve import resolve
    from core.dataset.examples import Example
    from core.files import sha256_of
    from core.training import checkpoint
    from core.training.events import Stepped
    from core.training.trainer import train

    write = checkpoint.Snapshot.write

    def timed(snapshot: Any) -> Any:
        began = time.perf_counter()
        saved = write(snapshot)
        written.append(time.perf_counter() - began)
        return saved

    checkpoint.Snapshot.write = timed
    config = resolve(knobs).config
    photo = folder / "photo.png"
    Image.effect_noise((config.side_px, config.side_px), 60).convert("RGB").save(photo)
    example = Example(photo=photo, caption="sks", box=None, sha256=sha256_of(photo), name="photo")
    words = {"trigger": "sks", "class_word": "", "cache": folder / "cache"}
    times = {}
    for progress in train(family, [example], config, folder / "run", **words):
        if isinstance(progress, Stepped):
            times[progress.step] = time.perf_counter()
    checkpoint.Snapshot.write = write
    return times[config.steps] - times[WARM]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="flux1-dev")
    parser.add_argument("--activations", choices=["all", "none"], default="all")
    parser.add_argument("--every", type=int, default=25, help="steps between two checkpoints")
    parser.add_argument("--shrink", action="store_true", help="few narrow layers: to try the command, not to measure")
    options = parser.parse_args()
    backend.prepare()
    import mlx.core as mx

    steps = WARM + CHECKPOINTS * options.every
    knobs = {
        "steps": steps, "rank": 16, "activations": options.activations, "learning_rate": 1e-5, "warmup_steps": 0,
        "sample_every": 0, "sample_prompts": (), "score_every": steps,
    }  # fmt: skip
    written: list[float] = []
    taken: dict[int, list[float]] = {options.every: [], steps: []}
    with tempfile.TemporaryDirectory() as scratch:
        configs = write_configs(Path(scratch, "model"), options.model, SHRUNK if options.shrink else {})
        family = random_family(configs, options.model, None)
        for every in [options.every, steps] * ROUNDS:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                taken[every].append(seconds(family, knobs | {"save_every": every}, Path(folder), written))
                size = sum(each.stat().st_size for each in Path(folder, "run", "checkpoints", str(steps)).iterdir())
    with_them, without = map(statistics.median, (taken[options.every], taken[steps]))
    counted = steps - WARM
    print(f"{options.model}, {mx.device_info().get('device_name', 'cpu')}: a checkpoint of {size / 1e6:.0f} MB")
    print(
        f"step {1000 * without / counted:.0f} ms; with one every {options.every}: {1000 * with_them / counted:.0f} ms"
    )
    print(f"more for each: {(with_them - without) / CHECKPOINTS:.2f} s; written in {statistics.median(written):.2f} s")


if __name__ == "__main__":
    main()
