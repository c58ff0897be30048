"""Matrix products and convolutions with MLX's own BLAS and with OpenBLAS in its place (core/device/openblas.py).

    python -m bench.openblas

Each column is measured in a process of its own, since MLX loads its BLAS when it is imported. Medians of five, in ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

from bench.process import run_bench


def measure(stock: bool) -> dict[str, float]:
    """Milliseconds by computation."""
    if stock:
        import mlx.core as mx  # first, so that prepare() comes too late
    from core.device import backend

    backend.prepare()
    import mlx.core as mx

    def median_ms(compute: Callable[[], mx.array], times: int = 5) -> float:
        mx.eval(compute())
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            mx.eval(compute())
            taken.append(time.perf_counter() - began)
        return 1e3 * statistics.median(taken)

    keys = iter(mx.random.split(mx.random.key(0), 9))
    square = [mx.random.normal((1024, 1024), key=next(keys)) for _ in range(2)]
    tokens, weight = mx.random.normal((304, 256), key=next(keys)), mx.random.normal((1024, 256), key=next(keys))
    picture, kernel = (
        mx.random.normal((1, 64, 64, 64), key=next(keys)),
        mx.random.normal((64, 3, 3, 64), key=next(keys)),
    )
    heads = [mx.random.normal((1, 4, 304, 64), key=next(keys)) for _ in range(3)]
    mx.eval(square, tokens, weight, picture, kernel, heads)
    gradient = mx.grad(lambda x: mx.conv2d(x, kernel, padding=1).sum())
    return {
        "matmul 1024 x 1024 x 1024": median_ms(lambda: square[0] @ square[1]),
        "linear 304 tokens, 256 to 1024": median_ms(lambda: tokens @ weight.T),
        "conv2d 3x3, 64 channels, 64 x 64 px": median_ms(lambda: mx.conv2d(picture, kernel, padding=1)),
        "its gradient": median_ms(lambda: gradient(picture)),
        "attention, 4 heads, 304 tokens": median_ms(
            lambda: mx.fast.scaled_dot_product_attention(*heads, scale=0.125),
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", choices=["stock", "openblas"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(stock=options.one == "stock")))
        return
    stock, quick = (run_bench("openblas", "--one", blas) for blas in ("stock", "openblas"))
    print(f"{'':<38}{'own BLAS':>10}{'OpenBLAS':>10}")
    for name in stock:
        print(f"{name:<38}{stock[name]:>10.1f}{quick[name]:>10.1f}   {stock[name] / quick[name]:.0f} times")


if __name__ == "__main__":
    main()
