"""Networks of full size with random weights, drawn where they are used, in the dtypes that loading would give them.

    family = random_family(write_configs(folder, "klein-4b", changes), "klein-4b", bits=4)

Prompts are not encoded: their embeddings are random too, in the shapes of bench/real_models.py. MLX is imported inside
the functions, since `backend.prepare()` comes before its first import.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.real_models import MODELS


class RandomParts:
    """What `core.models` reads from a model folder (`Parts`), with random weights in place of the files."""

    def __init__(
        self, folder: Path, parts: Mapping[str, Any], dtypes: Mapping[str, Any], bits: Mapping[str, int]
    ) -> None:
        self.folder = folder
        self._parts, self._dtypes, self._bits = parts, dtypes, bits
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = self._build(name)
        return self._loaded[name]

    def config(self, name: str) -> dict[str, Any]:
        from core.safetensors_file import read_json

        return read_json(self.folder / name / "config.json")

    def free(self, name: str) -> None:
        self._loaded.pop(name, None)

    def _build(self, name: str) -> Any:
        import mlx.core as mx

        from core.models import quantized

        saved = self.folder / f"{name}.drawn.safetensors"
        module = self._parts[name].build(self.config(name))
        if saved.is_file():  # freed and needed again: reading takes less time than drawing
            module.load_weights(str(saved))
        else:
            if name in self._bits:
                quantized.lay_out(module, self._bits[name])
            weights = self._draw(name, module)
            module.load_weights(list(weights.items()))
            if name == "vae":
                mx.save_safetensors(str(saved), weights)
        module.freeze()
        mx.clear_cache()
        return module

    def _draw(self, name: str, module: Any) -> dict[str, Any]:
        """Every parameter by path, packed where the layer is; the same numbers in every process."""
        import mlx.core as mx
        from mlx.utils import tree_flatten

        from core.models import quantized

        mx.random.seed(zlib.crc32(name.encode()))
        packed = quantized.packed_layers(module)
        weights: dict[str, mx.array] = {}
        for path, shape in quantized.whole_shapes(module).items():
            value = _random(path, shape).astype(self._dtypes[name])
            layer = path.removesuffix(".weight")
            drawn = quantized.pack(layer, value, self._bits[name]) if layer in packed else {path: value}
            mx.eval(drawn)
            weights |= drawn
        assert {path for path, _ in tree_flatten(module.parameters())} == set(weights)
        return weights


def _random(path: str, shape: Sequence[int]) -> Any:
    """A matrix from N(0, 0.02^2); scales and variances are 1, biases and means 0."""
    import mlx.core as mx

    if len(shape) > 1:
        return 0.02 * mx.random.normal(shape)
    kind = path.rpartition(".")[2]
    return mx.ones(shape) if kind == "weight" or kind.endswith("var") else mx.zeros(shape)


LENGTHS = {"z_image": 100, "chroma": 100, "flux3": 80}  # tokens of a text that are seen, where a family masks others


class RandomText:
    """The part of a family that encodes prompts, replaced by random embeddings of `shapes`."""

    hashes = {"transformer": "random", "vae": "random", "text": "random"}  # noqa: RUF012
    text_parts = ()
    shapes: Mapping[str, tuple[int, ...]]

    def encode_each(self, prompts: Sequence[str]) -> list[dict[str, Any]]:
        import mlx.core as mx

        conditioning = {name: mx.random.normal(shape).astype(self.dtype) for name, shape in self.shapes.items()}
        if self.name in LENGTHS:
            conditioning["lengths"] = mx.array([LENGTHS[self.name]], dtype=mx.int32)
        return [conditioning] * len(prompts)

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of the transformer and of the VAE, counted as if unquantized."""
        from core.models import quantized

        return {
            part: sum(math.prod(shape) for shape in quantized.whole_shapes(self._parts[part]).values())
            for part in ("transformer", "vae")
        }


def random_family(folder: Path, model: str, bits: int | None, dtype: Any = None) -> Any:
    """The family of a folder by `write_configs`; `dtype` is the transformer's; None takes the device's own."""
    import mlx.core as mx

    from core.device.backend import compute_dtype
    from core.hub.catalog import family_of
    from core.models.load import class_of

    family = class_of(family_of(folder))
    dtype = dtype or compute_dtype()
    parts = {name: part for name, part in family.parts.items() if name in ("transformer", "vae")}
    dtypes = {"transformer": dtype, "vae": mx.float32}
    random = type("RandomFamily", (RandomText, family), {"shapes": MODELS[model].conditioning})
    return random(RandomParts(folder, parts, dtypes, {"transformer": bits} if bits else {}), dtype)


def randomize(network: Any, dtype: Any) -> None:
    """Draw another program's weights as `random_family` draws ours, and freeze them."""
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_unflatten

    for name, value in tree_flatten(network.parameters()):
        drawn = (0.02 * mx.random.normal(value.shape) if value.ndim > 1 else mx.ones(value.shape)).astype(dtype)
        mx.eval(drawn)
        network.update(tree_unflatten([(name, drawn)]))
    network.freeze()


def count_parameters(network: Any) -> int:
    from mlx.utils import tree_flatten

    return sum(value.size for _, value in tree_flatten(network.parameters()))
