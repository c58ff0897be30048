"""Compares MLX's kernels with numpy in float64 on this computer; what is wrong is replaced by its fallback.

    python -m core.self_test [KERNEL ...]     JSON lines: all names, then {"begins": name} and the result of each

    error   = max |kernel - reference| / (|reference| + its root mean square), both from the same rounded inputs
    right   = error <= tolerance, a few times the rounding error of the dtype; a wrong tile or sign gives 0.3 and more

Sizes are those at which faults have been reported: attention with heads of 64 and 128, masked and not, forward and
backward; quantized products both ways at 1,024 x 2,048 and larger, with 8, 6 and 4 bits. A kernel is called as the
models call it (core/numerics/, core/models/quantized.py), and its fallback in the same way under
`capabilities.replaced`. core/device/first_test.py runs this in a process of its own and stores the results.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import mlx.core as mx
import numpy as np

from core.device import backend, capabilities
from core.device.capabilities import ABILITIES, KERNELS, Result
from core.device.working_set import SCORES_AT_MOST
from core.models import quantized
from core.numerics import references
from core.numerics.attention import attention
from core.numerics.exponentials import gelu_tanh, sigmoid, silu
from core.numerics.layers import conv2d, embed, layer_norm, rms_norm
from core.numerics.references import Array
from core.numerics.rope import rotary_table, rotate

Outputs = list[mx.array]
Comparison = Iterator[tuple[Outputs, list[Array]]]
"""What a kernel returns, not evaluated yet, and what it should be."""

TOLERANCE = {mx.bfloat16: 0.15, mx.float16: 0.02, mx.float32: 1e-3}
FLOAT32_PRODUCT = 1e-4
TF32 = 2e-2  # MLX's CUDA build multiplies float32 with 11 bits
FLOAT32 = ("float32_product", "convolution")  # kernels that are used with float32 alone
EPSILON, THETA = 1e-6, 10_000.0
MASKED = 67  # keys at the end that a mask hides


def results_of(kernels: Sequence[str] = ()) -> Iterator[Result]:
    """The results of these kernels and abilities, or of all that this device uses.

    A kernel that is wrong, and whose fallback is right, is replaced while the later ones are tested.
    """
    backend.prepare()
    with ExitStack() as fallbacks:
        for name in kernels or applicable():
            started = time.monotonic()
            found = _ability(name) if name in ABILITIES else _kernel(name)
            if found.fallback_right:
                fallbacks.enter_context(capabilities.replaced(name))
            yield Result(
                name, found.right, found.error, found.tolerance, found.fallback_right,
                round(time.monotonic() - started, 3), found.note,
            )  # fmt: skip


def applicable() -> list[str]:
    """The kernels and abilities that this device uses."""
    policy, device = backend.policy(), backend.prepare().device
    left_out = {
        "compiled": not policy.compiles, "product": policy.dtype == "float32", "fused_gradient": device != "metal",
    }  # fmt: skip
    return [name for name in (*KERNELS, *ABILITIES) if not left_out.get(name)]


def gradient_size() -> tuple[int, int]:
    """Heads and tokens by which attention's gradient is timed."""
    return (2, 512) if _dtype() == mx.float32 else (8, 1536)


def gradient_times() -> dict[str, float]:
    """Milliseconds of attention with its gradient, for heads of 128: by MLX alone, and in our chunks."""
    q, k, v, g = (_drawn(30 + number, 1, *gradient_size(), 128)[0] for number in range(4))
    times = {}
    for name, context in (
        ("MLX", capabilities.replaced(proven=["fused_gradient"])),
        ("chunks", capabilities.replaced("attention_gradient")),
    ):
        with context:
            took = []
            for _ in range(4):
                started = time.perf_counter()
                mx.eval(_attended([q, k, v], g, 128**-0.5, None))
                took.append(time.perf_counter() - started)
        times[name] = round(1000 * min(took[1:]), 2)
    return times


def _kernel(name: str) -> Result:
    error, allowed = _error(name), _tolerance(name)
    fallback = None
    if not error <= allowed and not KERNELS[name].at_start:
        with capabilities.replaced(name):
            fallback = bool(_error(name) <= allowed)
    return Result(name, bool(error <= allowed), error if np.isfinite(error) else None, allowed, fallback)


def _ability(name: str) -> Result:
    """Attention's fused gradient on Metal: right, without a matrix of all scores, and faster than our chunks."""
    allowed, (heads, tokens), width = _tolerance(name), gradient_size(), 128
    arrays = [_drawn(30 + number, 1, heads, tokens, width) for number in range(4)]
    (q, k, v, g), (qe, ke, ve, ge) = [each[0] for each in arrays], [each[1] for each in arrays]
    mx.eval(q, k, v, g)
    before = mx.get_active_memory()
    backend.reset_peak_memory()
    with capabilities.replaced(proven=[name]):
        error = _difference(
            _attended([q, k, v], g, width**-0.5, None), references.attention(qe, ke, ve, ge, width**-0.5, tokens)[1:]
        )
    took_bytes, times = backend.peak_memory() - before, gradient_times()
    lean = took_bytes < max(SCORES_AT_MOST, 2 * heads * tokens * tokens)
    right = bool(error <= allowed) and lean and times["MLX"] < times["chunks"]
    note = f"{times['MLX']} ms and {took_bytes / 2**20:.0f} MB; in chunks {times['chunks']} ms"
    return Result(name, right, error if np.isfinite(error) else None, allowed, note=note)


def _tolerance(name: str) -> float:
    device = backend.prepare().device
    if name == "float32_product":
        return TF32 if device == "cuda" and capabilities.uses(name) else FLOAT32_PRODUCT
    if name == "convolution" and device == "cuda":
        return TF32
    return TOLERANCE[mx.float32 if name in FLOAT32 else _dtype()]


def _error(name: str) -> float:
    return max(_difference(found, exact) for found, exact in COMPARISONS[name]())


def _difference(found: Outputs, exact: Sequence[Array]) -> float:
    """The largest error over all outputs; infinite where one has another shape or is not finite."""
    mx.eval(found)
    worst = 0.0
    for one, other in zip(found, exact, strict=True):
        given = np.array(one.astype(mx.float32)).astype(np.float64)
        if given.shape != other.shape or not np.isfinite(given).all():
            return float("inf")
        size = np.abs(other) + np.sqrt(np.square(other).mean())  # a gradient's largest numbers are ten times the mean
        worst = max(worst, float((np.abs(given - other) / size).max()))
    return worst


def _dtype() -> mx.Dtype:
    """The dtype of weights on this device, also where wrong products have replaced it."""
    return {"bfloat16": mx.bfloat16, "float32": mx.float32}[backend.policy().dtype]


def _drawn(seed: int, *shape: int, dtype: mx.Dtype | None = None, size: float = 1.0) -> tuple[mx.array, Array]:
    """Numbers from N(0, size^2), rounded to the dtype, and the same in float64."""
    drawn = size * np.random.default_rng(seed).standard_normal(shape)
    rounded = mx.array(drawn.astype(np.float32)).astype(dtype or _dtype())
    return rounded, _exact(rounded)


def _exact(array: mx.array) -> Array:
    return np.array(array.astype(mx.float32)).astype(np.float64)


def _with_gradient(function: Callable[..., mx.array], arrays: Sequence[mx.array], g: mx.array) -> Outputs:
    """The function's value, and its gradient for each array, given that of the value."""
    values, gradients = mx.vjp(lambda *each: [function(*each)], list(arrays), [g])
    return [*values, *gradients]


def _attended(arrays: Sequence[mx.array], g: mx.array, scale: float, mask: mx.array | None) -> Outputs:
    """dq, dk and dv."""
    return _with_gradient(lambda q, k, v: attention(q, k, v, scale, mask), arrays, g)[1:]


# The kernels


def _products(dtype: mx.Dtype) -> Comparison:
    (a, exact_a), (b, exact_b) = _drawn(1, 300, 1024, dtype=dtype), _drawn(2, 1024, 520, dtype=dtype)
    yield [mx.matmul(a, b)], [exact_a @ exact_b]
    yield [mx.matmul(a.T, a[:, :64])], [exact_a.T @ exact_a[:, :64]]


def _compiled() -> Comparison:
    (x, exact_x), (y, exact_y) = _drawn(3, 512, 384), _drawn(4, 512, 384)
    function = backend.compile_step(lambda a, b: (a * mx.sigmoid(b) + mx.exp(-a * a)) * mx.rsqrt(1.0 + b * b))
    exact = (exact_x * references.sigmoid(exact_y) + np.exp(-np.square(exact_x))) / np.sqrt(1 + np.square(exact_y))
    yield [function(x, y)], [exact]


def _exponentials() -> Comparison:
    (x, exact_x), (g, exact_g) = _drawn(5, 512, 384, size=2.0), _drawn(6, 512, 384)
    yield _with_gradient(silu, [x], g), references.silu(exact_x, exact_g)
    yield _with_gradient(gelu_tanh, [x], g), references.gelu_tanh(exact_x, exact_g)
    yield [sigmoid(x)], [references.sigmoid(exact_x)]


def _norm() -> Comparison:
    (x, exact_x), (g, exact_g), (w, exact_w) = _drawn(7, 200, 1536), _drawn(8, 200, 1536), _drawn(9, 1536)
    found = _with_gradient(lambda each: layer_norm(each, None, None, EPSILON), [x], g)
    yield found, references.layer_norm(exact_x, exact_g, EPSILON)
    found = _with_gradient(lambda each: rms_norm(each, w, EPSILON), [x], g)
    yield found, references.rms_norm(exact_x, exact_g, exact_w, EPSILON)


def _rotation() -> Comparison:
    for width in (64, 128):
        (x, exact_x), (g, exact_g) = _drawn(10, 1, 3, 200, width), _drawn(11, 1, 3, 200, width)
        cos, sin = rotary_table(mx.arange(200)[:, None], (width,), THETA)
        found = _with_gradient(lambda each, cos=cos, sin=sin: rotate(each, cos, sin), [x], g)
        yield found, [references.rotate(exact_x, THETA), references.rotate(exact_g, THETA, back=True)]


def _embedding() -> Comparison:
    table, exact = _drawn(12, 3000, 256)
    ids = np.random.default_rng(13).integers(0, 3000, (2, 77))
    yield [embed(table, mx.array(ids))], [exact[ids]]


def _convolution() -> Comparison:
    x, exact_x = _drawn(14, 1, 33, 40, 64, dtype=mx.float32)
    w, exact_w = _drawn(15, 96, 3, 3, 64, dtype=mx.float32)
    for stride in (1, 2):
        found = conv2d(x, w, stride, ((1, 1), (1, 1)))
        yield [found], [references.conv2d(exact_x, exact_w, stride, 1)]
    yield [conv2d(x, w[:, :1, :1])], [references.conv2d(exact_x, exact_w[:, :1, :1], 1, 0)]


def _attention(gradient: bool) -> Comparison:
    heads, tokens = (2, 330) if _dtype() == mx.float32 else (4, 1100)
    for width in (64, 128):
        arrays = [_drawn(16 + number, 1, heads, tokens, width) for number in range(4)]
        (q, k, v, g), (qe, ke, ve, ge) = [each[0] for each in arrays], [each[1] for each in arrays]
        for seen in (tokens, tokens - MASKED):
            mask = None if seen == tokens else (mx.arange(tokens) < seen).reshape(1, 1, 1, tokens)
            out, *gradients = references.attention(qe, ke, ve, ge, width**-0.5, seen)
            if gradient:
                yield _attended([q, k, v], g, width**-0.5, mask), gradients
            else:
                yield [attention(q, k, v, width**-0.5, mask)], [out]


def _quantization() -> Comparison:
    w, exact = _drawn(23, 96, 512)
    for bits in (8, 6, 4):
        words, scales, biases = quantized.pack("", w, bits).values()
        exact_scales, exact_biases = _exact(scales), _exact(biases)
        unpacked = references.unpack(np.array(words), exact_scales, exact_biases, bits)
        yield [quantized.unpack(words, scales, biases)], [unpacked]
        steps = np.abs(np.repeat(exact_scales, quantized.GROUP, axis=1))
        off = float((np.abs(unpacked - exact) / steps).max())  # half a step, and the rounding of scale and bias
        yield [mx.array([max(off, 2.0)])], [np.full(1, 2.0)]


def _quantized_products() -> Comparison:
    for size_out, size_in in ((1024, 2048),) if _dtype() == mx.float32 else ((1024, 2048), (3072, 3072)):
        (w, _), (x, exact_x), (g, exact_g) = (
            _drawn(20, size_out, size_in), _drawn(21, 96, size_in), _drawn(22, 96, size_out)
        )  # fmt: skip
        for bits in (8, 6, 4):
            layer = quantized.QuantizedLinear(size_in, size_out, False, quantized.GROUP, bits)
            packed = quantized.pack("", w, bits)
            layer.load_weights([(name.removeprefix("."), value) for name, value in packed.items()])
            words, scales, biases = packed.values()
            exact = references.unpack(np.array(words), _exact(scales), _exact(biases), bits)
            yield _with_gradient(layer, [x], g), [exact_x @ exact.T, exact_g @ exact]


COMPARISONS: dict[str, Callable[[], Comparison]] = {
    "float32_product": lambda: _products(mx.float32),
    "product": lambda: _products(_dtype() if capabilities.uses("product") else mx.float32),
    "compiled": _compiled,
    "exponentials": _exponentials,
    "norm": _norm,
    "rotation": _rotation,
    "embedding": _embedding,
    "convolution": _convolution,
    "attention": lambda: _attention(gradient=False),
    "attention_gradient": lambda: _attention(gradient=True),
    "quantization": _quantization,
    "quantized_product": _quantized_products,
}


def main(arguments: Sequence[str]) -> None:
    """Print what begins and what was found, so that the caller knows where this process died."""
    backend.prepare()
    names, wrong = list(arguments) or applicable(), list[str]()
    _print({"kernels": names})
    for name in names:
        _print({"begins": name})
        with capabilities.replaced(*wrong):
            (result,) = results_of([name])
        _print(result.as_json())
        wrong += [name] if result.fallback_right else []


def _print(table: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(table) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
