"""Profiles one training step of FLUX.1-dev at full size on an NVIDIA card, and compares it with its lower bound.

    python -m bench.kernels [--side 512] [--batch 1] [--activations all]

    floor    matrix work / the card's peak rate of bfloat16 products by its data sheet: the lower bound
    busy     the time in which any kernel runs, by kind of kernel
    idle     the rest of the step: the card waits for the host to launch the next kernel

Matrix work counts products alone: 2 x tokens x inputs x outputs for each linear layer forward, and the same for the
gradient of its input (the frozen weight has none); six products for each attention, two forward and four backward; and
the whole forward again where activations are recomputed. The adapter is left out: at rank 16 it adds less than 1%.

CUPTI records the kernels, through PyTorch's profiler, so PyTorch for CUDA must be installed; it computes nothing. Our
own rotation kernel is first checked against MLX's arithmetic, forward and backward, on q of four photos.

The step is also timed without the profiler, which slows it a little.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench.random_models import random_family
from bench.real_models import write_configs
from bench.training_step import random_batch, step_of
from bench.units import GIB

MODEL = "flux1-dev"
TEXT_TOKENS, TEXT_WIDTH, POOLED_WIDTH = 512, 4096, 768
PEAK_TFLOPS = 989  # H100 and H200 SXM, bfloat16, dense
KINDS = {
    "attention": r"fmha|flash|sdpa|attention|softmax",
    "matrix products": r"gemm|gemv|cutlass|nvjet|xmma|splitk",
    "norms": r"rms_norm|layer_norm",
    "copies and joins": r"copy|concat|gather|scatter|slice|memcpy|memset",
    "sums": r"reduce",
}
ELSE = "element by element"
WARM, TIMED = 4, 6
ROUNDING_ERROR = 1e-4  # float32 sums that differ in the last digit may round to another bfloat16


def matrix_tflop(family: Any, batch: Any, recompute: bool) -> float:
    """The products of one step, in 10^12 operations; `recompute`: blocks run forward again in the backward pass."""
    import mlx.core as mx
    import mlx.nn as nn

    from core.models import blocks

    counted = Counter()
    linear, attention = nn.Linear.__call__, blocks.attention

    def counting_linear(self: nn.Linear, x: mx.array) -> mx.array:
        counted["linear"] += 2 * x.size * self.weight.shape[0]
        return linear(self, x)

    def counting_attention(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        counted["attention"] += 4 * q.size * k.shape[2]
        return attention(q, k, v, **options)

    nn.Linear.__call__, blocks.attention = counting_linear, counting_attention
    try:
        family.velocity(batch.clean_BLC, batch.sigma_B, batch.conditioning, batch.grid, 1.0)  # never evaluated
    finally:
        nn.Linear.__call__, blocks.attention = linear, attention
    return (counted["linear"] * (3 if recompute else 2) + counted["attention"] * (4 if recompute else 3)) / 1e12


def relative_error(one: Any, other: Any) -> float:
    """|one - other| / |other|, in float32."""
    import mlx.core as mx

    one, other = (each.astype(mx.float32) for each in (one, other))
    return float(((one - other).square().sum() / other.square().sum()).sqrt().item())


def check_rotation() -> None:
    """Compare our rotation kernel with MLX's arithmetic, in result and in time. Raises SystemExit where they differ."""
    import mlx.core as mx

    from core.numerics.rope import rotary_table, rotate, rotate_with_mlx

    x_BHSd = mx.random.normal((4, 1536, 24, 128)).astype(mx.bfloat16).transpose(0, 2, 1, 3)
    cos, sin = rotary_table(mx.arange(3 * 1536).reshape(1536, 3) % 64, (16, 56, 56))
    (there,), (back,) = mx.vjp(lambda x: rotate(x, cos, sin), [x_BHSd], [x_BHSd])
    apart = [relative_error(one, rotate_with_mlx(x_BHSd, cos, other)) for one, other in ((there, sin), (back, -sin))]
    if not max(apart) <= ROUNDING_ERROR:
        raise SystemExit(f"The rotation's kernel is off by {apart[0]:.1e} there and {apart[1]:.1e} back.")
    took = {}
    for name, turn in (("kernel", rotate), ("MLX's", rotate_with_mlx)):
        mx.eval([turn(x_BHSd, cos, sin) for _ in range(3)])
        many = [turn(x_BHSd, cos, sin) for _ in range(50)]
        began = time.perf_counter()
        mx.eval(many)
        took[name] = 1e6 * (time.perf_counter() - began) / len(many)
    print(
        f"rotation of q: off by {apart[0]:.0e} and {apart[1]:.0e}; "
        + ", ".join(f"{name} {value:.0f} us" for name, value in took.items())
    )


def kernels_of(step: Callable[[], Any]) -> list[dict[str, Any]]:
    """Every kernel, copy and fill of one step, with its name, start and duration in microseconds."""
    import mlx.core as mx
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.zeros(1, device="cuda")
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        step()
        mx.synchronize()
    with tempfile.TemporaryDirectory() as scratch:
        trace = Path(scratch, "trace.json")
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    return [each for each in events if each.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]


def kind_of(name: str) -> str:
    """The key of KINDS that fits this kernel's name."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE)), ELSE)


def busy(spans: Iterable[tuple[float, float]]) -> float:
    """The total time covered by these (begin, end) spans."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def time_steps(step: Callable[[], Any]) -> list[float]:
    """Seconds of TIMED steps, after WARM that are not counted."""
    import mlx.core as mx

    seconds = []
    for number in range(WARM + TIMED):
        began = time.perf_counter()
        step()
        mx.synchronize()
        if number >= WARM:
            seconds.append(time.perf_counter() - began)
    return seconds


def print_kernels(events: list[dict[str, Any]], step_ms: float, names_shown: int) -> None:
    """Busy and idle time of a step, the kernels by kind, and the longest by name."""
    busy_ms = busy((each["ts"], each["ts"] + each["dur"]) for each in events) / 1e3
    ms, launches, names = Counter(), Counter(), Counter()
    for each in events:
        kind = kind_of(each["name"])
        ms[kind] += each["dur"] / 1e3
        launches[kind] += 1
        names[f"{kind}: {each['name'][:90]}"] += each["dur"] / 1e3
    print(f"idle {step_ms - busy_ms:7.1f} ms")
    print(f"busy {busy_ms:7.1f} ms, {len(events)} kernels; by kind, in ms and number (some run side by side):")
    for kind, value in ms.most_common():
        print(f"     {value:7.1f} {launches[kind]:6d}  {kind}")
    for name, value in names.most_common(names_shown):
        print(f"     {value:7.2f}  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--activations", choices=["all", "none"], default="all")
    parser.add_argument("--peak-tflops", type=float, default=PEAK_TFLOPS)
    parser.add_argument("--names", type=int, default=0, help="also show this many kernels by name")
    options = parser.parse_args()

    from core.device import backend

    backend.prepare()
    import mlx.core as mx

    check_rotation()
    with tempfile.TemporaryDirectory() as scratch:
        family = random_family(write_configs(Path(scratch), MODEL, {}), MODEL, None)
        shapes = {"tokens": (options.batch, TEXT_TOKENS, TEXT_WIDTH), "pooled": (options.batch, POOLED_WIDTH)}
        conditioning = {name: mx.random.normal(shape).astype(family.dtype) for name, shape in shapes.items()}
        batch = random_batch(family, options.side, options.batch, conditioning)
        tflop = matrix_tflop(family, batch, recompute=options.activations == "none")
        step = step_of(family, batch, {"activations": options.activations})
        step_ms = 1e3 * statistics.median(time_steps(step))
        events = kernels_of(step)
        peak = backend.peak_memory() / GIB
    print(
        f"{MODEL}, {options.side} px, batch {options.batch}, activations {options.activations}; "
        f"{mx.device_info()['device_name']}; peak {peak:.1f} GiB"
    )
    print(f"step {step_ms:7.1f} ms, with the host waiting for it")
    floor_ms = 1e3 * tflop / options.peak_tflops
    print(f"floor{floor_ms:7.1f} ms: {tflop:.0f} TFLOP of products at {options.peak_tflops:.0f} TFLOP/s")
    print_kernels(events, step_ms, options.names)


if __name__ == "__main__":
    main()
