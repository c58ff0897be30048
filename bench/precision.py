"""The error and the time of a quantized base: Pocket's velocity, and one matrix product.

    python -m bench.precision

Velocity: the eight example photos with their captions at three amounts of noise. The error is |v - v_full| / |v_full|
against the unquantized base, for three choices of layers (core/models/quantized.py packs "blocks").
Products: y = x W^T and dx = g W for 304 tokens, 256 to 1,024 wide, in both ways described there; medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.device import backend

BITS = (8, 6, 4)
SIGMAS = (0.2, 0.5, 0.8)
SIDE_PX = 256


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    backend.prepare()
    print(f"{'velocity off by':<28}{'8-bit':>8}{'6-bit':>8}{'4-bit':>8}")
    for layers, errors in velocity_errors().items():
        print(f"{layers:<28}" + "".join(f"{100 * error:>7.1f}%" for error in errors))
    print(f"\n{'ms':<28}{'8-bit':>8}{'6-bit':>8}{'4-bit':>8}")
    for product, times in product_times().items():
        print(f"{product:<28}" + "".join(f"{each:>8.1f}" for each in times))


def velocity_errors() -> dict[str, list[float]]:
    """The mean relative error of the velocity at each of BITS, by which layers are quantized."""
    import mlx.core as mx
    import mlx.nn as nn

    from core.adapters.lora import WITHIN_A_BLOCK
    from core.hub import catalog
    from core.models.load import load_family
    from core.models.quantized import GROUP

    family = load_family(catalog.find("pocket").folder)
    grid, inputs = family.grid(SIDE_PX, SIDE_PX), noisy_photos(family)

    def velocities() -> list[mx.array]:
        found = [family.velocity(l_t, sigma, text, grid, 1.0) for l_t, sigma, text in inputs]
        mx.eval(found)
        return found

    targets = set(family.presets["all_linear"])
    choices: dict[str, Callable[[str], bool]] = {
        "blocks": lambda path: bool(WITHIN_A_BLOCK.fullmatch(path)),
        "blocks, not modulation": lambda path: path in targets,
        "every linear layer": lambda path: True,
    }
    linear = [(path, each) for path, each in family.transformer.named_modules() if isinstance(each, nn.Linear)]
    full = velocities()
    errors: dict[str, list[float]] = {}
    for name, chosen in choices.items():
        layers = [each for path, each in linear if chosen(path) and each.weight.shape[1] % GROUP == 0]
        errors[name] = []
        for bits in BITS:
            with rounded(layers, bits):
                pairs = zip(velocities(), full, strict=True)
            distances = [float(mx.linalg.norm(v - v_full) / mx.linalg.norm(v_full)) for v, v_full in pairs]
            errors[name].append(statistics.mean(distances))
    return errors


def noisy_photos(family: Any) -> list[tuple[Any, Any, Any]]:
    """(l_t, sigma, text) of every example photo at each of SIGMAS."""
    import mlx.core as mx

    from core.dataset import latents
    from core.dataset.buckets import Bucket
    from core.dataset.examples import read_folder
    from core.pocket import assets

    inputs = []
    with tempfile.TemporaryDirectory() as cache:
        examples, _ = read_folder(assets.EXAMPLES, assets.EXAMPLE_TRIGGER, assets.EXAMPLE_CLASS_WORD)
        for number, example in enumerate(examples):
            l_T = latents.latents_of(family, example, Bucket(SIDE_PX, SIDE_PX), Path(cache))
            eps = mx.random.normal(l_T.shape, key=mx.random.key(number))
            text = family.encode_text([example.caption])
            inputs += [((1 - sigma) * l_T + sigma * eps, mx.array([sigma]), text) for sigma in SIGMAS]
    return inputs


@contextmanager
def rounded(layers: Sequence[Any], bits: int) -> Iterator[None]:
    """Round the layers' weights to what quantization to `bits` leaves of them, and restore them at the end."""
    import mlx.core as mx

    from core.models.quantized import GROUP

    exact = [each.weight for each in layers]
    for each in layers:
        each.weight = mx.dequantize(*mx.quantize(each.weight, GROUP, bits), group_size=GROUP, bits=bits)
    yield
    for each, weight in zip(layers, exact, strict=True):
        each.weight = weight


def product_times() -> dict[str, list[float]]:
    """Milliseconds of one product at each of BITS, by product and by way of computing it."""
    import mlx.core as mx

    from core.models.quantized import GROUP, unpack

    x, g, weight = (
        mx.random.normal(shape, key=mx.random.key(seed))
        for seed, shape in enumerate([(304, 256), (304, 1024), (1024, 256)])
    )
    mx.eval(x, g, weight)
    times: dict[str, list[float]] = {"whole y": [median_ms(lambda: x @ weight.T)] * len(BITS)}
    for bits in BITS:
        packed = mx.quantize(weight, GROUP, bits)
        mx.eval(packed)
        ways: dict[str, Callable[[], mx.array]] = {
            "packed y": lambda p=packed, b=bits: mx.quantized_matmul(x, *p, True, GROUP, b),
            "packed dx": lambda p=packed, b=bits: mx.quantized_matmul(g, *p, False, GROUP, b),
            "unpacked y": lambda p=packed: x @ unpack(*p).T,
            "unpacked dx": lambda p=packed: g @ unpack(*p),
        }
        for name, product in ways.items():
            times.setdefault(name, []).append(median_ms(product))
    return times


def median_ms(compute: Callable[[], object], times: int = 5) -> float:
    import mlx.core as mx

    mx.eval(compute())
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        mx.eval(compute())
        taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken)


if __name__ == "__main__":
    main()
