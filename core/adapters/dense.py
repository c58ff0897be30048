"""Adapters that are drawn with as a change of the whole weight: LoHa, LoKr, and DoRA.

    y = (W + strength * change) x + b           each factor as in core/adapters/contents.py, s = alpha / rank

    LoRA    D = s B A
    LoHa    D = s (w1_a w1_b) * (w2_a w2_b)               element by element
    LoKr    D = s kron(w1, w2)                            D[i K + k, m N + n] = s w1[i, m] w2[k, n]
    change = D

    DoRA    W' = g (W + D),  change = W' - W              D as above
            g = magnitude / ||W + D||                     of each row for a magnitude (O, 1), of each column for (1, I)

The norms are those of the base that is drawn with, so a DoRA on a quantized base has the magnitudes that it was trained
to. They are computed once. The change itself is computed anew in each product, from its factors: kept, it would double
the memory of the model. A layer that is part of a fused one has its rows of the change.

Only for drawing: there is no gradient, and strength is linear in the change (LyCORIS scales g; equal at 0 and 1).

Shapes   O out   I in   R rank; all in the order of the file's rows until `spans` picks those of a layer
Dtypes   factors, norms and the change float32; the product in the activations' dtype

Sources: Hyeon-Woo et al. 2021, arXiv:2108.06098 (LoHa); Yeh et al. 2023, arXiv:2309.14859 (LoKr, LyCORIS);
Liu et al. 2024, arXiv:2402.09353 (DoRA), with the norm of W + D as PEFT and LyCORIS take it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from core.adapters import adapted, lora
from core.adapters.adapted import LoRALinear, OnLayer
from core.adapters.contents import LOHA, LOKR, Part
from core.adapters.lora import Attached, Factors
from core.errors import AdapterProblem, FieldProblem

Span = tuple[int, int]
"""Rows of a part: begin, end."""
EPSILON = 1e-12  # below every norm of a weight that draws anything


class Product(nn.Module):
    """D of a part, float32 (O, I), from its factors."""

    def __init__(self, kind: str, factors: Mapping[str, mx.array], scale: float) -> None:
        super().__init__()
        self.kind = kind
        for role, value in factors.items():  # direct attributes: a compiled block takes them as arguments
            self[role] = value.astype(mx.float32)
        first = next(role for role in ("B", "w1", "w1_a") if role in self)
        self[first] = scale * self[first]

    def rows(self, span: Span) -> mx.array:
        """These rows of D."""
        begin, end = span
        if self.kind == LOHA:
            first_OI, second_OI = (self._of(f"{w}_a")[begin:end] @ self._of(f"{w}_b") for w in ("w1", "w2"))
            return first_OI * second_OI
        if self.kind == LOKR:
            return self._kronecker_rows(begin, end)
        return self._of("B")[begin:end] @ self._of("A")

    def _kronecker_rows(self, begin: int, end: int) -> mx.array:
        w1_LM, w2_KN = self._whole("w1"), self._whole("w2")
        height = w2_KN.shape[0]
        first, last = begin // height, -(-end // height)
        blocks_LKMN = w1_LM[first:last, None, :, None] * w2_KN[None, :, None, :]
        whole_OI = blocks_LKMN.reshape((last - first) * height, w1_LM.shape[1] * w2_KN.shape[1])
        return whole_OI[begin - first * height : end - first * height]

    def _whole(self, name: str) -> mx.array:
        return self._of(name) if name in self else self._of(f"{name}_a") @ self._of(f"{name}_b")

    def _of(self, role: str) -> mx.array:
        factor: mx.array = self[role]
        return factor


class Dense(nn.Module):
    """The change of one layer: the rows `spans` of a product, and g of a DoRA, (O, 1) or (1, I)."""

    def __init__(self, product: Product, spans: Sequence[Span], gain: mx.array | None, strength: float) -> None:
        super().__init__()
        self.product = product
        self.spans = tuple(spans)
        self.gain = gain
        self.strength = strength
        self.freeze()

    @property
    def signature(self) -> Hashable:
        return self.product.kind, self.spans, self.strength

    def change(self, base: nn.Module) -> mx.array:
        """The change of the layer's weight at strength 1, float32 (O, I)."""
        d_OI = mx.concatenate([self.product.rows(span) for span in self.spans])
        if self.gain is None:
            return d_OI
        w_OI = weight_of(base)
        return self.gain * (w_OI + d_OI) - w_OI

    def onto(self, y: mx.array, x: mx.array, base: nn.Module) -> mx.array:
        """y + strength * x change^T."""
        change_OI = (self.strength * self.change(base)).astype(x.dtype)
        return y + x @ change_OI.T


@dataclass(frozen=True, slots=True)
class DensePart:
    """A part of a file, read: its factors by role, and its magnitude; float32."""

    part: Part
    factors: Mapping[str, mx.array]
    magnitude: mx.array | None
    scale: float

    def spans(self) -> Iterator[tuple[str, list[Span]]]:
        """Each of our layers, and its rows of the change."""
        begin = 0
        for layer, rows in zip(self.part.layers, self.part.rows, strict=True):
            half = begin + rows // 2
            end = begin + rows
            yield layer, [(half, end), (begin, half)] if self.part.swapped else [(begin, end)]
            begin = end

    def arrays(self) -> list[mx.array]:
        return [*self.factors.values(), *([] if self.magnitude is None else [self.magnitude])]


def attach(
    transformer: nn.Module,
    factors: Factors,
    parts: Sequence[DensePart],
    *,
    name: str,
    strength: float = 1.0,
    title: str = "This adapter",
) -> Attached[OnLayer]:
    """Attach an adapter to draw with: plain LoRA, and parts that are more than that.

    Raises AdapterProblem that calls the adapter `title` and names every path that is not a linear layer here and every
    change of a wrong shape.
    """
    _check_sizes(transformer, parts, title)
    low = lora.attach_factors(transformer, factors, name=name, strength=strength, title=title)
    found: dict[str, OnLayer] = {}
    for part in parts:
        found |= _on_layers(transformer, part, strength)
    adapted.attach(transformer, name, found)  # at once: it walks through the whole network
    return Attached(transformer, name, {**low.parts, **found})


def weight_of(base: nn.Module) -> mx.array:
    """W of a linear layer, unpacked if it is quantized: float32 (O, I)."""
    if isinstance(base, nn.QuantizedLinear):
        packed = base["weight"], base["scales"], base["biases"]
        w_OI = mx.dequantize(*packed, group_size=base.group_size, bits=base.bits)
    else:
        w_OI = base["weight"]
    return w_OI.astype(mx.float32)


def _on_layers(transformer: nn.Module, part: DensePart, strength: float) -> dict[str, OnLayer]:
    """The part's share of each of its layers."""
    product, spans = Product(part.part.kind, part.factors, part.scale), dict(part.spans())
    gain = _gain(transformer, part, product)
    found: dict[str, OnLayer] = {}
    for layer, own in spans.items():
        by_rows = gain is not None and gain.shape[1] == 1
        own_gain = mx.concatenate([gain[begin:end] for begin, end in own]) if gain is not None and by_rows else gain
        found[layer] = Dense(product, own, own_gain, strength)
    return found


def _gain(transformer: nn.Module, part: DensePart, product: Product) -> mx.array | None:
    """g of all rows of the part, (O, 1) or (1, I); None where it is no DoRA."""
    if part.magnitude is None:
        return None
    size_out, size_in = part.part.shape
    weights = {layer: weight_of(_base(transformer, layer)) for layer in part.part.layers}
    if part.part.swapped:
        half = size_out // 2
        weights = {layer: mx.concatenate([w_OI[half:], w_OI[:half]]) for layer, w_OI in weights.items()}
    w_OI = mx.concatenate(list(weights.values()))
    magnitude = part.magnitude.reshape(-1, 1) if part.magnitude.shape != (1, size_in) else part.magnitude
    by_rows = magnitude.shape == (size_out, 1)
    norm = mx.linalg.norm(w_OI + product.rows((0, size_out)), axis=1 if by_rows else 0, keepdims=True)
    gain = magnitude / mx.maximum(norm, EPSILON)
    mx.eval(gain)
    return gain


def _base(transformer: nn.Module, path: str) -> nn.Module:
    layer = adapted.find(transformer, path)
    base: nn.Module = layer.base if isinstance(layer, LoRALinear) else layer
    return base


def _check_sizes(transformer: nn.Module, parts: Sequence[DensePart], title: str) -> None:
    sizes = adapted.sizes_of(transformer, [layer for each in parts for layer in each.part.layers], title)
    problems = []
    for each in parts:
        for layer, rows in zip(each.part.layers, each.part.rows, strict=True):
            size_in, size_out = sizes[layer]
            if (each.part.shape[1], rows) != (size_in, size_out):
                words = f"is for a layer of {each.part.shape[1]} in and {rows} out"
                problems.append(FieldProblem(layer, f"{words}; this model's has {size_in} in and {size_out} out"))
    if problems:
        raise AdapterProblem(f"{title} was made for another model.", adapted.shortened(problems))
