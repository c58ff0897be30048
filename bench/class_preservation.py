"""What class preservation and class pictures cost a training step of Pocket, as a multiple of a step without them.

    python -m bench.class_preservation [--steps 12] [--repeats 4]

The three are measured in turn, `repeats` times each, so that a busy machine slows all of them alike. Without the first
two steps of each run. Printed are the median and the range of the multiples over the repeats.
"""

from __future__ import annotations

import argparse
import statistics

from bench.step_time import measure

WAYS = {"class preservation": {"class_preservation": 1.0}, "class pictures": {"class_pictures": 1}}
NOT_COUNTED = 2  # steps of each run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=4)
    arguments = parser.parse_args()

    from core.device import backend

    backend.prepare()
    from core.config.resolve import resolve
    from core.hub import catalog

    entry = catalog.find("pocket")

    def seconds(**knobs: float) -> float:
        given = {"steps": arguments.steps, "sample_every": 0, "held_out": "none", "find_subjects": False} | knobs
        steps, _, _ = measure(resolve(given, entry.defaults).config, entry)
        return statistics.median(steps[NOT_COUNTED:])

    multiples: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(arguments.repeats):
        plain = seconds()
        for name, knobs in WAYS.items():
            multiples[name].append(seconds(**knobs) / plain)
        said = ", ".join(f"{name} {values[-1]:.2f}" for name, values in multiples.items())
        print(f"repeat {number + 1}: a step takes {plain:.3f} s; {said}", flush=True)
    for name, values in multiples.items():
        print(f"{name}: {statistics.median(values):.2f} times a step ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
