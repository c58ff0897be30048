"""What a checkpoint costs the steps of a run, which it is written beside.

    python -m bench.saving [--model flux1-dev] [--activations all] [--every 25] [--shrink]

Two runs in turn (`core.training.trainer.train`, rank 16 on every block linear, 512 px, random weights as in
bench/full_size.py), one that saves every so many steps and one that does not; from the second step to the last, which
both save after. "more" is by how much the first takes longer, for each checkpoint; "written in" is how long one is on
its way to the disk, beside the steps. Nothing here asks the disk to have finished more than fsync does.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.full_size import MODELS, SHRUNK, WARM, random_family, write_configs
from core.device import backend

CHECKPOINTS = 4
ROUNDS = 3


def seconds(family: Any, knobs: dict[str, Any], folder: Path, written: list[float]) -> float:
    """From step WARM to the last, told by the run; to `written` goes what each checkpoint took, and its bytes."""
    from PIL import Image

    from core.config.resolve import resolve
    from core.dataset.examples import Example
    from core.files import sha256_of
    from core.training import checkpoint
    from core.training.events import Stepped
    from core.training.trainer import train

    exact = checkpoint.Snapshot.write

    def timed(snapshot: Any) -> Any:
        began = time.perf_counter()
        saved = exact(snapshot)
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
    checkpoint.Snapshot.write = exact
    return times[config.steps] - times[WARM]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="flux1-dev")
    parser.add_argument("--activations", choices=["all", "none"], default="all")
    parser.add_argument("--every", type=int, default=25, help="steps between two checkpoints")
    parser.add_argument("--shrink", action="store_true", help="few narrow layers: to try the command, not to measure")
    asked = parser.parse_args()
    backend.prepare()
    import mlx.core as mx

    steps = WARM + CHECKPOINTS * asked.every
    knobs = {
        "steps": steps, "rank": 16, "activations": asked.activations, "learning_rate": 1e-5, "warmup_steps": 0,
        "sample_every": 0, "sample_prompts": (), "score_every": steps,
    }  # fmt: skip
    ours: list[float] = []
    found: dict[int, list[float]] = {asked.every: [], steps: []}
    with tempfile.TemporaryDirectory() as scratch:
        configs = write_configs(Path(scratch, "model"), asked.model, SHRUNK if asked.shrink else {})
        family = random_family(configs, asked.model, None)
        for every in [asked.every, steps] * ROUNDS:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                found[every].append(seconds(family, knobs | {"save_every": every}, Path(folder), ours))
                size = sum(each.stat().st_size for each in Path(folder, "run", "checkpoints", str(steps)).iterdir())
    with_them, without = map(statistics.median, (found[asked.every], found[steps]))
    counted = steps - WARM
    print(f"{asked.model}, {mx.device_info().get('device_name', 'cpu')}: a checkpoint of {size / 1e6:.0f} MB")
    print(f"step {1000 * without / counted:.0f} ms; with one every {asked.every}: {1000 * with_them / counted:.0f} ms")
    print(f"more for each: {(with_them - without) / CHECKPOINTS:.2f} s; written in {statistics.median(ours):.2f} s")


if __name__ == "__main__":
    main()
