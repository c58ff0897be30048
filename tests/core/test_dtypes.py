"""A step of a model in bfloat16 is in bfloat16 both ways: every activation, and every gradient that flows back.

Watched where activations pass: in and out of each linear layer and its adapter, norm, rotation and attention. What is
float32 is named: the table that rotations turn by, sigma, and the loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from core.adapters import lora
from core.models import blocks
from core.models.load import load_family
from core.training.gradient import Gradient
from tests.core.test_gradient import FOLDERS, attached, batch_of

BF16 = mx.bfloat16


class Watch:
    """Counts the dtypes that pass a place, on the way there and, by a gradient that is watched too, on the way back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.forward, self.back = Counter(), Counter()
        self._monkeypatch = monkeypatch

    def at(self, holder: Any, name: str, where: str, arrays: slice) -> None:
        """Watch the arguments `arrays` of holder.name, and what it returns."""
        plain: Callable[..., mx.array] = getattr(holder, name)

        def watched(*args: Any, **options: Any) -> mx.array:
            y = plain(*args, **options)
            self.forward.update((where, each.dtype) for each in (*args[arrays], y))
            return self._passing(where)(y)

        self._monkeypatch.setattr(holder, name, watched)

    def _passing(self, where: str) -> Callable[[mx.array], mx.array]:
        @mx.custom_function
        def passing(y: mx.array) -> mx.array:
            return y

        @passing.vjp
        def gradient(_y: mx.array, g: mx.array, _same: mx.array) -> mx.array:
            self.back[where, g.dtype] += 1
            return g

        return passing


@pytest.mark.parametrize("kept", [0, None])
@pytest.mark.parametrize("kind", FOLDERS)
def test_no_activation_and_no_gradient_of_a_step_is_float32(
    kind: str, kept: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = load_family(FOLDERS[kind](tmp_path / kind), dtype=BF16)
    adapter, batch = attached(family), batch_of(family)
    parameters = {name: value.astype(BF16) for name, value in adapter.parameters().items()}

    watch = Watch(monkeypatch)
    watch.at(nn.Linear, "__call__", "linear", slice(1, 2))
    watch.at(lora.LowRank, "onto", "adapter", slice(1, 3))
    watch.at(mx.fast, "layer_norm", "layer_norm", slice(0, 1))
    watch.at(mx.fast, "rms_norm", "rms_norm", slice(0, 1))
    watch.at(blocks, "rotate", "rotation", slice(0, 1))
    watch.at(blocks, "attention", "attention", slice(0, 3))
    losses_B, gradient = Gradient(family, adapter, 3.5, kept)(parameters, batch)

    assert losses_B.dtype == mx.float32
    summed = kept == 0  # photo by photo, on a CPU
    assert {value.dtype for value in gradient.values()} == {mx.float32 if summed else BF16}
    places = {"linear", "adapter", "rms_norm", "rotation", "attention"}
    for passed in (watch.forward, watch.back):
        assert places <= {where for where, _ in passed}
        assert {(where, dtype) for where, dtype in passed if dtype != BF16} == set()
    assert sum(watch.back.values()) > 40
