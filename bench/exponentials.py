"""Activations and attention with exponentials as powers of two (core/numerics/exponentials.py), against MLX's own.

    python -m bench.exponentials

Milliseconds, the fastest of 15 runs, forward and gradient together, at the sizes of one block of Pocket at 256 px.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from core.device.backend import prepare

prepare()  # before the first import of mlx

import mlx.core as mx

from core.numerics import attention, exponentials

RUNS = 15


def milliseconds(function: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        mx.eval(function())
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    hidden = mx.random.normal((1, 288, 1024), key=mx.random.key(0))
    q, k, v = (mx.random.normal((1, 4, 288, 64), key=mx.random.key(i)) for i in range(3))
    mx.eval(hidden, q, k, v)
    cases = {
        "gelu_tanh": lambda: mx.vjp(exponentials.gelu_tanh, [hidden], [hidden]),
        "silu": lambda: mx.vjp(exponentials.silu, [hidden], [hidden]),
        "attention": lambda: mx.vjp(lambda *qkv: attention.attention(*qkv, 0.125), [q, k, v], [q]),
    }
    for name, function in cases.items():
        found = {}
        for way, slow in (("MLX's own", False), ("powers of two", True)):
            exponentials.exponentials_are_slow = lambda slow=slow: slow
            found[way] = milliseconds(function)
        sys.stdout.write(f"{name:10}" + "".join(f"   {way} {value:6.2f} ms" for way, value in found.items()) + "\n")


if __name__ == "__main__":
    main()
