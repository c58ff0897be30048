"""The frozen base in 8, 6 or 4 bits: the layers that are packed, and products with a packed weight.

    W = scale * q + bias      q = 0 ... 2^bits - 1;   one scale and one bias for every 64 weights of a row
    y = x W^T                 dx = g W

W has no gradient: the base is frozen and only adapters are trained. The products are computed in one of two ways, by
device (`core/device/backend.py`). *Packed*: MLX's kernels read the packed weight. *Unpacked*: W is unpacked for one
product, dropped, and unpacked again in the backward pass, so that only the layers in use are whole in memory; this
needs nothing but a plain matrix product, so it also replaces packed products that the self-test found wrong.

The linear layers within blocks are packed, including those of modulation, which are a quarter of FLUX.1's weights.
Embedders and the layers after the last block stay whole: they are few, and all tokens pass through them. With Pocket's
trained weights at 4 bits the velocity is then off by 7.2%; with modulation whole too by 7.0%; with every linear layer
packed by 12.4% (bench/precision.py). A layer whose rows do not divide into groups of 64 stays whole.

Shapes   O out   I in   G = I / 64 groups   P = I bits / 32 words of 32 bits
Dtypes   scales, biases and the unpacked W in the compute dtype; packed weights uint32

Sources: affine quantization as MLX's `mx.quantize` does it; adapters over it: Dettmers et al. 2023, arXiv:2305.14314.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from core.adapters.lora import WITHIN_A_BLOCK
from core.device import backend
from core.device.capabilities import uses
from core.numerics import affine
from core.numerics.functional import custom_function

GROUP = 64  # weights that share a scale and a bias: the size that MLX has kernels for on every device


class QuantizedLinear(nn.QuantizedLinear):
    """A linear layer with a packed weight: y = x W^T + b, computed packed or unpacked, by device."""

    def __call__(self, x: mx.array) -> mx.array:
        if backend.policy().packed_products and uses("quantized_product"):
            return super().__call__(x)
        y = _product(x, self["weight"], self["scales"], self["biases"])
        return y + self.bias if "bias" in self else y

    @property
    def whole_shape(self) -> tuple[int, int]:
        """(O, I) of W."""
        return self.weight.shape[0], self.scales.shape[1] * self.group_size


def lay_out(module: nn.Module, bits: int) -> None:
    """Replace every layer that is packed by a `QuantizedLinear`; its weights have yet to be read."""
    found = []
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Linear) and WITHIN_A_BLOCK.fullmatch(path) and layer.weight.shape[1] % GROUP == 0:
            size_out, size_in = layer.weight.shape
            found.append((path, QuantizedLinear(size_in, size_out, "bias" in layer, GROUP, bits)))
    module.update_modules(tree_unflatten(found))


def packed_layers(module: nn.Module) -> dict[str, QuantizedLinear]:
    """The layers with packed weights, by path."""
    return {path: layer for path, layer in module.named_modules() if isinstance(layer, QuantizedLinear)}


def whole_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter by name as in a checkpoint: packed weights whole, without scales and biases."""
    shapes = {name: value.shape for name, value in dict(tree_flatten(module.parameters())).items()}
    for path, layer in packed_layers(module).items():
        del shapes[f"{path}.scales"], shapes[f"{path}.biases"]
        shapes[f"{path}.weight"] = layer.whole_shape
    return shapes


def bits_of(module: nn.Module) -> int | None:
    """The number of bits of the module's packed layers; None when all are whole."""
    return next((layer.bits for layer in packed_layers(module).values()), None)


def pack(path: str, weight_OI: mx.array, bits: int) -> dict[str, mx.array]:
    """The packed parameters of the layer at `path`, by name: W_OP, scales_OG and biases_OG."""
    names = (f"{path}.weight", f"{path}.scales", f"{path}.biases")
    if not uses("quantization"):
        return dict(zip(names, affine.pack(weight_OI, bits, GROUP), strict=True))
    return dict(zip(names, mx.quantize(weight_OI, group_size=GROUP, bits=bits), strict=True))


def unpack(weight_OP: mx.array, scales_OG: mx.array, biases_OG: mx.array) -> mx.array:
    """W_OI, in the dtype of its scales."""
    bits = weight_OP.shape[1] * 32 // (scales_OG.shape[1] * GROUP)
    if not uses("quantization"):
        return affine.unpack(weight_OP, scales_OG, biases_OG, bits)
    return mx.dequantize(weight_OP, scales_OG, biases_OG, group_size=GROUP, bits=bits)


# MLX would keep every layer's unpacked W for the backward pass: the dense model again. And because W depends on packed
# weights only, MLX would unpack many layers ahead of their turn: so W is made to depend on its other factor.


@custom_function
def _product(x: mx.array, *packed: mx.array) -> mx.array:
    return x @ unpack(*mx.depends(list(packed), [x])).T


@_product.vjp
def _product_gradient(primals: Sequence[mx.array], g: mx.array, _y: mx.array) -> tuple[mx.array, ...]:
    _, *packed = primals
    dx = g @ unpack(*mx.depends(list(packed), [g]))
    return dx, *(mx.zeros_like(each) for each in packed)  # the packed arrays have no gradient
