"""Time and memory of a training step against tokens, batch, rank and blocks, as a table and an SVG.

    python -m bench.cost_curves [--steps 3] [--picture docs/pictures/cost_curves.svg]

A FLUX.1 with random weights, 192 wide, in float32, with 256 image tokens, batch 1, rank 16 and 2 + 4 blocks. One of
these is varied at a time, with the activations of all blocks kept, of half of them, and of none. Each line is measured
in a process of its own; time is the median of its steps after one that is not counted, memory the peak of MLX's arrays.

At the end a line is fitted to the memory without activations kept, which should be linear in tokens, and the ratio at
each doubling of the tokens is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.process import run_bench
from bench.random_models import random_family
from bench.real_models import write_configs
from bench.training_step import random_batch, step_of
from bench.units import MIB

SMALL = {"num_attention_heads": 3, "attention_head_dim": 64, "axes_dims_rope": (16, 24, 24), "joint_attention_dim": 256}
TEXT_TOKENS, TOKEN_PX = 32, 16
VARIED = {"tokens": (128, 256, 512, 1024, 2048), "batch": (1, 2, 4, 8), "rank": (4, 16, 64), "blocks": (3, 6, 12, 24)}
MODES = {"all": ("all kept", "#3b82f6"), "half": ("half kept", "#c2792b"), "none": ("none kept", "#2f9e6b")}
GREY = "#808890"  # legible on white and on black
PANEL, GAP_X, GAP_Y, LEFT, TOP = (190, 150), 62, 62, 62, 46  # px of the picture


@dataclass(frozen=True, slots=True)
class Setting:
    """One configuration; a third of the blocks are double ones, as in FLUX.1."""

    tokens: int = 256
    batch: int = 1
    rank: int = 16
    blocks: int = 6
    mode: str = "none"


@dataclass(frozen=True, slots=True)
class Cost:
    seconds: float
    bytes: float


def measure(setting: Setting, steps: int) -> Cost:
    """Measured in this process, which should be fresh."""
    from core.device import backend

    backend.prepare()
    import mlx.core as mx

    double = setting.blocks // 3
    changes = SMALL | {"num_layers": double, "num_single_layers": setting.blocks - double}
    rows = 2 ** ((setting.tokens.bit_length() - 1) // 2)
    with tempfile.TemporaryDirectory() as scratch:
        family = random_family(write_configs(Path(scratch), "flux1-dev", changes), "flux1-dev", None)
        shapes = {"tokens": (setting.batch, TEXT_TOKENS, SMALL["joint_attention_dim"]), "pooled": (setting.batch, 768)}
        conditioning = {name: mx.random.normal(shape).astype(family.dtype) for name, shape in shapes.items()}
        one = random_batch(family, rows * TOKEN_PX, setting.batch, conditioning, setting.tokens // rows * TOKEN_PX)
        kept = setting.blocks // 2 if setting.mode == "half" else setting.mode
        take = step_of(family, one, {"rank": setting.rank, "activations": kept})
        take()
        backend.reset_peak_memory()
        taken = []
        for _ in range(steps):
            began = time.perf_counter()
            take()
            taken.append(time.perf_counter() - began)
    return Cost(statistics.median(taken), backend.peak_memory())


def in_a_process(setting: Setting, steps: int) -> Cost:
    """`measure` in a fresh process."""
    return Cost(**run_bench("cost_curves", "--steps", steps, "--one", json.dumps(asdict(setting))))


def settings(varied: Mapping[str, Sequence[int]]) -> list[Setting]:
    """Every setting of the table, each once."""
    found = (
        replace(Setting(mode=mode), **{knob: value})
        for knob, values in varied.items()
        for value in values
        for mode in MODES
    )
    return list(dict.fromkeys(found))


def line_of(points: Mapping[float, float]) -> tuple[float, float, float]:
    """Slope, intercept and R^2 of the least-squares line."""
    slope, intercept = statistics.linear_regression(list(points), list(points.values()))
    return slope, intercept, statistics.correlation(list(points), list(points.values())) ** 2


def doublings(points: Mapping[float, float]) -> list[float]:
    """f(2 x) / f(x) for every x where both are known."""
    return [points[2 * place] / value for place, value in points.items() if 2 * place in points]


def picture(costs: Mapping[Setting, Cost], varied: Mapping[str, Sequence[int]]) -> str:
    """An SVG: time above, memory below, one column for each varied knob."""
    width, height = LEFT + len(varied) * (PANEL[0] + GAP_X), TOP + 2 * (PANEL[1] + GAP_Y)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12" fill="{GREY}" role="img" aria-label="Time and memory of a training step">'
    ]
    for number, (name, colour) in enumerate(MODES.values()):
        x = LEFT + 200 * number
        drawn.append(f'<path d="M{x} 18h28" stroke="{colour}" stroke-width="2.5"/>')
        drawn.append(f'<text x="{x + 36}" y="22">activations: {name}</text>')
    labels = {"tokens": "image tokens", "batch": "photos in a batch", "rank": "rank of the adapter", "blocks": "blocks"}
    for column, (knob, values) in enumerate(varied.items()):
        for row, (unit, scale) in enumerate({"s a step": ("seconds", 1.0), "MB at most": ("bytes", MIB)}.items()):
            curves = {
                mode: {
                    value: getattr(costs[replace(Setting(mode=mode), **{knob: value})], scale[0]) / scale[1]
                    for value in values
                }
                for mode in MODES
            }
            corner = (LEFT + column * (PANEL[0] + GAP_X), TOP + row * (PANEL[1] + GAP_Y))
            drawn += _panel(corner, curves, labels[knob], unit)
    return "\n".join([*drawn, "</svg>", ""])


def _panel(corner: tuple[int, int], curves: Mapping[str, Mapping[int, float]], below: str, beside: str) -> list[str]:
    (x0, y0), (width, height) = corner, PANEL
    values = list(next(iter(curves.values())))
    top = 1.05 * max(max(each.values()) for each in curves.values())

    def place(value: float, cost: float) -> tuple[float, float]:
        return x0 + width * value / max(values), y0 + height * (1 - cost / top)

    drawn = [f'<path d="M{x0} {y0}v{height}h{width}" stroke="{GREY}" fill="none"/>']
    for value in values:
        x, y = place(value, 0)
        drawn.append(f'<path d="M{x:.1f} {y:.1f}v4" stroke="{GREY}"/>')
        if value / max(values) > 0.2 or (value == values[0] and values[1] / max(values) > 0.2):
            drawn.append(f'<text x="{x:.1f}" y="{y + 17:.1f}" text-anchor="middle">{value}</text>')
    for share in (0, 0.5, 1):
        cost = share * top / 1.05
        x, y = place(0, cost)
        label = f"{cost:.0f}" if top > 20 else f"{cost:.2g}"
        drawn.append(f'<path d="M{x:.1f} {y:.1f}h-4" stroke="{GREY}"/>')
        drawn.append(f'<text x="{x - 7:.1f}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    drawn.append(f'<text x="{x0 + width / 2}" y="{y0 + height + 36}" text-anchor="middle">{below}</text>')
    drawn.append(f'<text x="{x0 + 6}" y="{y0 + 2}">{beside}</text>')
    for mode, curve in curves.items():
        ends = [place(value, cost) for value, cost in curve.items()]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in ends)
        drawn.append(f'<polyline points="{path}" stroke="{MODES[mode][1]}" stroke-width="2" fill="none"/>')
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{MODES[mode][1]}"/>' for x, y in ends]
    return drawn


def run(varied: Mapping[str, Sequence[int]], steps: int, target: Path) -> dict[Setting, Cost]:
    """Measure, print and draw."""
    print(f"{'tokens':>6}{'batch':>6}{'rank':>6}{'blocks':>7}  {'kept':<6}{'ms':>7}{'MB':>7}")
    costs = {}
    for each in settings(varied):
        costs[each] = cost = in_a_process(each, steps)
        line = f"{each.tokens:>6}{each.batch:>6}{each.rank:>6}{each.blocks:>7}  {each.mode:<6}"
        print(f"{line}{1e3 * cost.seconds:>7.0f}{cost.bytes / MIB:>7.0f}", flush=True)
    lean: dict[float, float] = {value: costs[Setting(tokens=value)].bytes / MIB for value in varied["tokens"]}
    slope, intercept, fit = line_of(lean)
    growth = ", ".join(f"{each:.2f}" for each in doublings(lean))
    print(
        f"none kept: {intercept:.0f} MB + {1e3 * slope:.1f} MB for 1,000 tokens, R^2 {fit:.4f}; twice: {growth} times"
    )
    target.write_text(picture(costs, varied), encoding="utf-8")
    print(f"drawn: {target}")
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--picture", type=Path, default=Path("docs/pictures/cost_curves.svg"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options: Any = parser.parse_args()
    if options.one:
        print(json.dumps(asdict(measure(Setting(**json.loads(options.one)), options.steps))))
        return
    run(VARIED, options.steps, options.picture)


if __name__ == "__main__":
    main()
