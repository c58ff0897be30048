"""What class preservation costs a training step of Pocket, as a multiple of a step without it.

    python -m bench.class_preservation [--repeats 12] [--side 256]

Steps with it and without take turns in one process, on noise in the place of photos, so that a busy machine slows both
alike. Printed are the median multiple of wall time and of processor time, and their range.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

NOT_COUNTED = 2  # first steps of each: they compile, and find their memory


def steps_of(family: Any, defaults: Any, side_px: int) -> list[Any]:
    """Two functions that take the next step: without and with class preservation."""
    import mlx.core as mx

    from core.adapters import lora
    from core.adapters.layers import resolve_targets
    from core.config.resolve import resolve
    from core.dataset.batches import Batches, Encoded
    from core.training.checkpoint import State
    from core.training.optimizers import OPTIMIZERS
    from core.training.step import Step
    from core.training.update import init

    caption, without, empty = family.encode_each(["a photo of sks dog", "a photo of dog", ""])
    grid = family.grid(side_px, side_px)
    l_T = mx.random.normal((1, grid.tokens, grid.channels), key=mx.random.key(1))
    paths = resolve_targets(family.architecture.layers, "all_linear")
    found = []
    adapter = None
    for weight in (0.0, 1.0):
        config = resolve({"side_px": side_px, "class_preservation": weight, "steps": 1000}, defaults).config
        adapter = adapter or lora.attach(family.transformer, paths, config.rank, config.alpha, mx.random.key(0))
        w = adapter.parameters()
        state = State(0, w, init(OPTIMIZERS[config.optimizer], w, with_ema=False), {}, "", {}, 0)
        batches = Batches([Encoded(l_T, None, caption, grid, 0, without)], empty, config, family.training_shift)
        step = Step(family, adapter, config, state)

        def take(step: Step = step, state: State = state, batches: Batches = batches) -> None:
            step.submit(state.step + 1, batches)
            list(step.read())

        found.append(take)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--side", type=int, default=256)
    arguments = parser.parse_args()

    from core.device import backend

    backend.prepare()
    from core.hub import catalog
    from core.models.load import load_family

    entry = catalog.find("pocket")
    ways = steps_of(load_family(entry.folder), entry.defaults, arguments.side)
    wall: list[float] = []
    processor: list[float] = []
    for number in range(NOT_COUNTED + arguments.repeats):
        taken = []
        for take in ways:
            began = time.perf_counter(), time.process_time()
            take()
            taken.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        if number >= NOT_COUNTED:
            (plain, plain_work), (preserved, preserved_work) = taken
            wall.append(preserved / plain)
            processor.append(preserved_work / plain_work)
            print(f"a step takes {plain:.3f} s, with it {preserved:.3f} s: {processor[-1]:.2f}", flush=True)
    for name, values in (("wall time", wall), ("processor time", processor)):
        print(f"{name}: {statistics.median(values):.2f} times a step ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
