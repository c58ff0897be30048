"""Low-rank adapters on linear layers: several at once, over a dense or a quantized weight.

    y = W x + sum_i  strength_i * (alpha_i / rank_i) * B_i (A_i x)          W frozen

    A  (rank, in)    small random        B  (out, rank)   zeros

B starts at zero, so a freshly attached adapter changes no bit of the output. Each adapter on a layer has its own rank,
alpha and strength, and is trained or frozen; at strength 0 it costs nothing.

Shapes   S tokens of all examples   I inputs   O outputs   R rank
Dtypes   A and B are float32 (the master weights); the product is computed in the activations' dtype

Source: Hu et al. 2021, arXiv:2106.09685.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

import mlx.core as mx
import mlx.nn as nn

from core.adapters import adapted
from core.adapters.adapted import LoRALinear, OnLayer, find, put
from core.errors import AdapterProblem, FieldProblem
from core.numerics.functional import custom_function
from core.numerics.staged_eval import mark, mark_forward

Factors = Mapping[str, tuple[mx.array, mx.array]]
"""(A, B) by full module path."""
P = TypeVar("P", bound=OnLayer)
WITHIN_A_BLOCK = re.compile(r"(mode_blocks\.)?\w+\.\d+\..+")  # "transformer_blocks.3.attn.to_q": a layer of a block


class LowRank(nn.Module):
    """strength * scale * B (A x): one adapter's part on one layer."""

    def __init__(self, a_RI: mx.array, b_OR: mx.array, scale: float, strength: float) -> None:
        super().__init__()
        self.lora_A = a_RI.astype(mx.float32)
        self.lora_B = b_OR.astype(mx.float32)
        self.scale = scale
        self.strength = strength

    @property
    def signature(self) -> Hashable:
        return self.scale, self.strength

    def onto(self, y: mx.array, x: mx.array, base: nn.Module | None = None) -> mx.array:
        """y + strength * scale * B (A x)."""
        a_RI, b_OR = self.lora_A.astype(x.dtype), self.lora_B.astype(x.dtype)
        flat_y, flat_x = (each.reshape(-1, each.shape[-1]) for each in (y, x))
        low = mx.stop_gradient(flat_x @ a_RI.T)
        mark_forward(low)
        return _added(self.strength * self.scale)(flat_y, flat_x, low, a_RI, b_OR).reshape(y.shape)


@functools.cache
def _added(scale: float) -> Callable[..., mx.array]:
    """(y, x, x A^T, A, B) to y + scale (x A^T) B^T, with the gradient

        dA = scale (g B)^T x;   dB = scale g^T (x A^T);   dx = scale (g B) A

    x A^T is an argument because dB reuses it. Sum and scale are fused into the products, and no gradient is transposed:
    each would be one more kernel for each of a large model's 400 layers.
    """

    @custom_function
    def added(y_SO: mx.array, x_SI: mx.array, low_SR: mx.array, a_RI: mx.array, b_OR: mx.array) -> mx.array:
        return mx.addmm(y_SO, low_SR, b_OR.T, alpha=scale)

    @added.vjp
    def gradient(primals: Sequence[mx.array], g_SO: mx.array, _sum_SO: mx.array) -> tuple[mx.array, ...]:
        _, x_SI, low_SR, a_RI, b_OR = primals
        of_low = mx.zeros_like(low_SR)  # x A^T has no gradient of its own
        mark(g_SO)
        g_SR = g_SO @ b_OR
        if scale != 1.0:
            g_SR, low_SR = g_SR * scale, low_SR * scale  # before the wide products
        da_RI, db_OR = g_SR.T @ x_SI, g_SO.T @ low_SR
        mark(da_RI, db_OR)
        return g_SO, g_SR @ a_RI, of_low, da_RI, db_OR

    return added


class Attached(Generic[P]):
    """One adapter across all its layers."""

    def __init__(self, transformer: nn.Module, name: str, parts: dict[str, P]) -> None:
        self.name = name
        self.parts = parts
        self._transformer = transformer

    @property
    def strength(self) -> float:
        """The adapter's factor: 1 as trained, 0 off. A compiled function keeps the value it was compiled with."""
        return next(iter(self.parts.values())).strength

    @strength.setter
    def strength(self, value: float) -> None:
        for part in self.parts.values():
            part.strength = float(value)

    def detach(self) -> None:
        """Remove the adapter; a layer without adapters becomes the plain linear layer again."""
        for path in self.parts:
            layer: LoRALinear = find(self._transformer, path)
            del layer.adapters[self.name]
            if not layer.adapters:
                put(self._transformer, path, layer.base)
        self.parts = {}


class Adapter(Attached[LowRank]):
    """The parameters of a training run, the content of a file."""

    def __init__(self, transformer: nn.Module, name: str, parts: dict[str, LowRank], trained: bool) -> None:
        super().__init__(transformer, name, parts)
        self.trained = trained

    def parameters(self) -> dict[str, mx.array]:
        """`<path>.lora_A` and `<path>.lora_B`, float32."""
        found: dict[str, mx.array] = {}
        for path, part in self.parts.items():
            found[f"{path}.lora_A"], found[f"{path}.lora_B"] = part.lora_A, part.lora_B
        return found

    def update(self, parameters: Mapping[str, mx.array]) -> None:
        """Replace the values of `parameters()`; the names must be the same."""
        for path, part in self.parts.items():
            part.lora_A, part.lora_B = parameters[f"{path}.lora_A"], parameters[f"{path}.lora_B"]

    def folded(self) -> dict[str, tuple[mx.array, mx.array]]:
        """(A, alpha / rank * B) by path: the form of files, which needs no alpha."""
        return {path: (part.lora_A, part.lora_B * part.scale) for path, part in self.parts.items()}


def attach(
    transformer: nn.Module,
    targets: Sequence[str],
    rank: int,
    alpha: float,
    key: mx.array,
    *,
    own: Mapping[str, tuple[int, float]] | None = None,
    name: str = "subject",
    trained: bool = True,
) -> Adapter:
    """Attach a fresh adapter to the linear layers at `targets` (full module paths); freeze the rest of the network.

    `own` maps some of the targets to their own rank and alpha.

    Raises AdapterProblem, naming every target that is not a linear layer of this model.
    """
    factors: dict[str, tuple[mx.array, mx.array]] = {}
    scales: dict[str, float] = {}
    sizes = adapted.sizes_of(transformer, targets)
    for one_key, (path, (size_in, size_out)) in zip(mx.random.split(key, len(sizes)), sizes.items(), strict=True):
        r, layer_alpha = (own or {}).get(path, (rank, alpha))
        edge = 1.0 / math.sqrt(size_in)
        factors[path] = (mx.random.uniform(-edge, edge, (r, size_in), key=one_key), mx.zeros((size_out, r)))
        scales[path] = layer_alpha / r
    return _attach(transformer, factors, scales, name, trained, 1.0)


def attach_factors(
    transformer: nn.Module,
    factors: Factors,
    *,
    name: str,
    strength: float = 1.0,
    trained: bool = False,
    title: str = "This adapter",
) -> Adapter:
    """Attach an adapter with these (A, B) from a file: alpha / rank is part of B, ranks may differ.

    Raises AdapterProblem that calls the adapter `title` and names every path that is not a linear layer here and every
    factor of a wrong shape.
    """
    sizes = adapted.sizes_of(transformer, list(factors), title)
    problems = []
    for path, (a_RI, b_OR) in factors.items():
        size_in, size_out = sizes[path]
        if a_RI.ndim != 2 or b_OR.ndim != 2 or a_RI.shape[0] != b_OR.shape[1]:
            problems.append(FieldProblem(path, f"A is {a_RI.shape} and B is {b_OR.shape}; they do not share a rank"))
        elif a_RI.shape[1] != size_in or b_OR.shape[0] != size_out:
            is_for = f"is for a layer of {a_RI.shape[1]} in and {b_OR.shape[0]} out"
            problems.append(FieldProblem(path, f"{is_for}; this model's has {size_in} in and {size_out} out"))
    if problems:
        raise AdapterProblem(f"{title} was made for another model.", adapted.shortened(problems))
    return _attach(transformer, factors, dict.fromkeys(factors, 1.0), name, trained, strength)


def check_trainable(paths: Iterable[str], trouble: str) -> None:
    """Raise AdapterProblem, beginning with `trouble`, that names those of `paths` outside the blocks."""
    outside = [path for path in paths if not WITHIN_A_BLOCK.fullmatch(path)]
    if outside:
        problems = [FieldProblem(path, "is outside the blocks") for path in outside]
        raise AdapterProblem(trouble, adapted.shortened(problems))


def _attach(
    transformer: nn.Module, factors: Factors, scales: Mapping[str, float], name: str, trained: bool, strength: float
) -> Adapter:
    parts = {path: LowRank(a_RI, b_OR, scales[path], strength) for path, (a_RI, b_OR) in factors.items()}
    if not trained:
        for part in parts.values():
            part.freeze()
    adapted.attach(transformer, name, parts)
    return Adapter(transformer, name, parts, trained)
