"""The linear layers of a network that adapters are on: found by path, wrapped, and put back.

y = W x + b, and what each adapter on the layer adds to it
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn

from core.errors import AdapterProblem, FieldProblem


class OnLayer(Protocol):
    """One adapter's part on one layer, a module of its own; at strength 0 it costs nothing."""

    strength: float

    @property
    def signature(self) -> Hashable:
        """What distinguishes its computation from that of others whose arrays have the same shapes."""
        ...

    def onto(self, y: mx.array, x: mx.array, base: nn.Module) -> mx.array:
        """y and what this adds to it; `base` is the layer without adapters."""
        ...

    def parameters(self) -> Any:
        """Its arrays by name."""
        ...


class LoRALinear(nn.Module):
    """A linear layer and the adapters on it, by name."""

    def __init__(self, base: nn.Linear | nn.QuantizedLinear) -> None:
        super().__init__()
        self.base = base
        self.adapters: dict[str, OnLayer] = {}

    def __call__(self, x: mx.array) -> mx.array:
        y = self.base(x)
        for adapter in self.adapters.values():
            if adapter.strength:
                y = adapter.onto(y, x, self.base)
        return y


def attach(transformer: nn.Module, name: str, parts: Mapping[str, OnLayer]) -> None:
    """Put an adapter's parts on the layers at their paths; freeze the rest of the network.

    Raises AdapterProblem when one of the layers has an adapter of this name.
    """
    for path, part in parts.items():
        layer = find(transformer, path)
        if not isinstance(layer, LoRALinear):
            layer = LoRALinear(layer)
            put(transformer, path, layer)
        if name in layer.adapters:
            raise AdapterProblem(f"There already is an adapter called {name} on this model.")
        layer.adapters[name] = part
    modules = transformer.modules()
    on_layers = parts_of(modules)
    for module in modules:
        if id(module) not in on_layers:
            module.freeze(recurse=False)
    mx.eval([part.parameters() for part in parts.values()])


def parts_of(modules: Iterable[nn.Module]) -> dict[int, OnLayer]:
    """The parts of every adapter on those of `modules` that have some, by `id`."""
    layers = [each for each in modules if isinstance(each, LoRALinear)]
    return {id(part): part for layer in layers for part in layer.adapters.values()}


def find(transformer: nn.Module, path: str) -> Any:
    """The module at a dotted path, or None."""
    here: Any = transformer
    for name in path.split("."):
        if isinstance(here, list):
            here = here[int(name)] if name.isdecimal() and int(name) < len(here) else None
        else:
            here = here.get(name) if isinstance(here, dict) else None
        if here is None:
            return None
    return here


def sizes_of(transformer: nn.Module, targets: Sequence[str], title: str = "An adapter") -> dict[str, tuple[int, int]]:
    """(in, out) of the linear layers at these paths.

    Raises AdapterProblem that calls the adapter `title` and names each path that is none.
    """
    sizes: dict[str, tuple[int, int]] = {}
    problems = []
    for path in targets:
        layer = find(transformer, path)
        layer = layer.base if isinstance(layer, LoRALinear) else layer
        if isinstance(layer, nn.QuantizedLinear):
            sizes[path] = (layer.scales.shape[1] * layer.group_size, layer.weight.shape[0])
        elif isinstance(layer, nn.Linear):
            sizes[path] = (layer.weight.shape[1], layer.weight.shape[0])
        else:
            problems.append(
                FieldProblem(path, "is not a linear layer" if layer is not None else "is not in this model")
            )
    if problems:
        raise AdapterProblem(f"{title} cannot be put on this model.", shortened(problems))
    return sizes


def put(transformer: nn.Module, path: str, module: nn.Module) -> None:
    """Replace the module at a dotted path."""
    above, _, name = path.rpartition(".")
    parent = find(transformer, above) if above else transformer
    if isinstance(parent, list):
        parent[int(name)] = module
    else:
        parent[name] = module


def shortened(problems: list[FieldProblem], shown: int = 12) -> list[FieldProblem]:
    """The first dozen problems; a foreign file has hundreds."""
    more = len(problems) - shown
    return problems if more <= 0 else [*problems[:shown], FieldProblem("...", f"and {more} more")]
