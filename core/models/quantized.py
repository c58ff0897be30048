"""The frozen base in 8, 6 or 4 bits: which layers are packed, and products with a packed weight.

    W = scale * q + bias      q = 0 ... 2^bits - 1;   one scale and one bias for every 64 weights of a row
    y = x W^T                 dx = g W

W has no gradient: the base is frozen, and adapters are what is trained. There are two ways to take these products, and
`core/device/backend.py` says which one a device takes. *Packed*: MLX's own kernels read the packed weight. *Unpacked*: W is
unpacked for one product and dropped, and unpacked once more in the backward pass, so that only the few layers that are
in work are ever whole; that needs nothing but a plain matrix product.

Packed are the linear layers within blocks, those of modulation included, which are a quarter of FLUX.1's weights.
Embedders and what follows the last block stay whole: they are few, and all tokens pass through them. With Pocket's
trained weights at 4 bits the velocity is off by 7.2% so, by 7.0% with modulation left whole as well, and by 12.4% with
every linear layer packed (bench/precision.py). A layer whose rows do not divide into groups of 64 stays whole.

Shapes   O out   I in   G = I / 64 groups   P = I bits / 32 words of 32 bits
Dtypes   scales and biases, and what W unpacks to, in the compute dtype; packed weights uint32

Sources: affine quantization as MLX's `mx.quantize` does it; adapters over it: Dettmers et al. 2023, arXiv:2305.14314.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from core.adapters.lora import WITHIN_A_BLOCK
from core.device.backend import prepare

GROUP = 64  # weights that share a scale and a bias: the size that MLX has kernels for on every device


class QuantizedLinear(nn.QuantizedLinear):
    """A linear layer with a packed weight: y = x W^T + b, its products taken as this device takes them."""

    def __call__(self, x: mx.array) -> mx.array:
        if prepare().policy.packed_products:
            return super().__call__(x)
        y = _product(x, self.weight, self.scales, self.biases)
        return y + self.bias if "bias" in self else y

    @property
    def whole_shape(self) -> tuple[int, int]:
        """(O, I) of W."""
        return self.weight.shape[0], self.scales.shape[1] * self.group_size


def lay_out(module: nn.Module, bits: int) -> None:
    """Put a `QuantizedLinear` in the place of every layer that is packed; their weights are still to be read."""
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
    """The shape of every parameter by name, as a checkpoint holds it: packed weights whole, without scale and bias."""
    shapes = {name: value.shape for name, value in tree_flatten(module.parameters())}
    for path, layer in packed_layers(module).items():
        del shapes[f"{path}.scales"], shapes[f"{path}.biases"]
        shapes[f"{path}.weight"] = layer.whole_shape
    return shapes


def bits_of(module: nn.Module) -> int | None:
    """To how many bits the module's layers were packed; None when all are whole."""
    return next((layer.bits for layer in packed_layers(module).values()), None)


def pack(path: str, weight_OI: mx.array, bits: int) -> dict[str, mx.array]:
    """The parameters of the layer at `path` that stand for its weight: W_OP, scales_OG and biases_OG by name."""
    names = (f"{path}.weight", f"{path}.scales", f"{path}.biases")
    return dict(zip(names, mx.quantize(weight_OI, group_size=GROUP, bits=bits), strict=True))


def unpack(weight_OP: mx.array, scales_OG: mx.array, biases_OG: mx.array) -> mx.array:
    """W_OI, in the dtype of its scales."""
    bits = weight_OP.shape[1] * 32 // (scales_OG.shape[1] * GROUP)
    return mx.dequantize(weight_OP, scales_OG, biases_OG, group_size=GROUP, bits=bits)


# Left to itself MLX would keep every layer's unpacked W for the backward pass: the dense model again. And since W needs
# nothing but packed weights, it would unpack many layers before their turn; so W is made to wait for its other factor.


@mx.custom_function
def _product(x: mx.array, *packed: mx.array) -> mx.array:
    return x @ unpack(*mx.depends(list(packed), [x])).T


@_product.vjp
def _product_gradient(primals: Sequence[mx.array], g: mx.array, _y: mx.array) -> tuple[mx.array, ...]:
    _, *packed = primals
    dx = g @ unpack(*mx.depends(list(packed), [g]))
    return dx, *(mx.zeros_like(each) for each in packed)  # the zeros are asked for by nobody
