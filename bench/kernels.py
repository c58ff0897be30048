"""What an NVIDIA card does in one training step of FLUX.1-dev at full size, and what lies between that and the floor.

    python -m bench.kernels [--side 512] [--batch 1] [--activations all]

    floor    matrix work / what the card's data sheet says of bfloat16 products        nothing is quicker than this
    busy     the time in which any kernel runs, by what the kernels do
    idle     the rest of the step: the card waits to be told its next kernel

Matrix work is that of the products alone: 2 x tokens x inputs x outputs for each linear layer forward, and as much
towards its input (the frozen weight has no gradient of its own); six products for each attention, two forward and four
back; and all of the forward once more where blocks are computed again. What an adapter adds is left out: at rank 16 it
is below 1%.

The kernels are heard by CUPTI through PyTorch's profiler, so PyTorch for CUDA has to be there; it computes nothing.
The kernel that is written here, the rotation, is first held against MLX's arithmetic: q of four photos, there and back.

Times under the profiler are a little longer, so the step is also timed without it.
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

from bench.full_size import GIB, random_family, write_configs
from bench.training_step import random_batch, step_of

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
ROUNDED_OTHERWISE = 1e-4  # a sum of two products whose last digit is another changes some numbers' rounding to bfloat16


def matrix_tflop(family: Any, batch: Any, again: bool) -> float:
    """Of one step, in 10^12; `again` says that the blocks are computed a second time on the way back."""
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
    return (counted["linear"] * (3 if again else 2) + counted["attention"] * (4 if again else 3)) / 1e12


def relative_error(one: Any, other: Any) -> float:
    """|one - other| / |other|, in float32."""
    import mlx.core as mx

    one, other = (each.astype(mx.float32) for each in (one, other))
    return float(((one - other).square().sum() / other.square().sum()).sqrt().item())


def check_rotation() -> None:
    """Hold the rotation's kernel against MLX's own arithmetic, in its time too. Raises SystemExit where they differ."""
    import mlx.core as mx

    from core.numerics.rope import rotary_table, rotate, rotate_with_mlx

    x_BHSd = mx.random.normal((4, 1536, 24, 128)).astype(mx.bfloat16).transpose(0, 2, 1, 3)
    cos, sin = rotary_table(mx.arange(3 * 1536).reshape(1536, 3) % 64, (16, 56, 56))
    (there,), (back,) = mx.vjp(lambda x: rotate(x, cos, sin), [x_BHSd], [x_BHSd])
    apart = [relative_error(one, rotate_with_mlx(x_BHSd, cos, other)) for one, other in ((there, sin), (back, -sin))]
    if not max(apart) <= ROUNDED_OTHERWISE:
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
    with profile(activities=[ProfilerActivity.CUDA]) as heard:
        step()
        mx.synchronize()
    with tempfile.TemporaryDirectory() as scratch:
        trace = Path(scratch, "trace.json")
        heard.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    return [each for each in events if each.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]


def kind_of(name: str) -> str:
    """What a kernel of this name does."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE)), ELSE)


def busy(spans: Iterable[tuple[float, float]]) -> float:
    """How long at least one of these (begin, end) lasts."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--activations", choices=["all", "none"], default="all")
    parser.add_argument("--peak-tflops", type=float, default=PEAK_TFLOPS)
    parser.add_argument("--names", type=int, default=0, help="also show this many kernels by name")
    asked = parser.parse_args()

    from core.device import backend

    backend.prepare()
    import mlx.core as mx

    check_rotation()
    with tempfile.TemporaryDirectory() as scratch:
        family = random_family(write_configs(Path(scratch), MODEL, {}), MODEL, None)
        told = {"tokens": (asked.batch, TEXT_TOKENS, TEXT_WIDTH), "pooled": (asked.batch, POOLED_WIDTH)}
        conditioning = {name: mx.random.normal(shape).astype(family.dtype) for name, shape in told.items()}
        batch = random_batch(family, asked.side, asked.batch, conditioning)
        work = matrix_tflop(family, batch, again=asked.activations == "none")
        step = step_of(family, batch, {"activations": asked.activations})
        for _ in range(WARM):
            step()
        mx.synchronize()
        seconds = []
        for _ in range(TIMED):
            began = time.perf_counter()
            step()
            mx.synchronize()
            seconds.append(time.perf_counter() - began)
        events = kernels_of(step)
        peak = backend.peak_memory() / GIB

    step_ms, floor_ms = 1e3 * statistics.median(seconds), 1e3 * work / asked.peak_tflops
    busy_ms = busy((each["ts"], each["ts"] + each["dur"]) for each in events) / 1e3
    spent, launched, names = Counter(), Counter(), Counter()
    for each in events:
        kind = kind_of(each["name"])
        spent[kind] += each["dur"] / 1e3
        launched[kind] += 1
        names[f"{kind}: {each['name'][:90]}"] += each["dur"] / 1e3
    print(
        f"{MODEL}, {asked.side} px, batch {asked.batch}, activations {asked.activations}; "
        f"{mx.device_info()['device_name']}; {peak:.1f} GiB at most"
    )
    print(f"step {step_ms:7.1f} ms, waited for")
    print(f"idle {step_ms - busy_ms:7.1f} ms")
    print(f"busy {busy_ms:7.1f} ms, {len(events)} kernels; by what they do, in ms and number (some run side by side):")
    for kind, value in spent.most_common():
        print(f"     {value:7.1f} {launched[kind]:6d}  {kind}")
    print(f"floor{floor_ms:7.1f} ms: {work:.0f} TFLOP of products at {asked.peak_tflops:.0f} TFLOP/s")
    for name, value in names.most_common(asked.names):
        print(f"     {value:7.2f}  {name}")


if __name__ == "__main__":
    main()
