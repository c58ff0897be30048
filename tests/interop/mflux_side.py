"""mflux's side of test_mflux.py: an adapter file goes through its own loader onto its own networks.

    python mflux_side.py ADAPTER INPUTS ANSWER OPTIONS

It is run by the Python of .venv-mflux. OPTIONS is JSON: the family, the transformer's config,
and, for velocities, the safetensors file of its weights under diffusers' names. Without weights the network is only
laid out, at any size, and the answer is what each layer of the adapter makes of an input that is as wide as it.

Networks and adapters are float32. What mflux says on the way goes to stdout: it only prints which keys it left out.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
from mflux.models.common.config.model_config import ModelConfig
from mflux.models.common.lora.layer.linear_lora_layer import LoRALinear
from mflux.models.common.lora.mapping.lora_loader import LoRALoader
from mflux.models.common.weights.mapping.weight_mapper import WeightMapper
from mflux.models.flux.model.flux_transformer.transformer import Transformer
from mflux.models.flux.weights.flux_lora_mapping import FluxLoRAMapping
from mflux.models.flux.weights.flux_weight_mapping import FluxWeightMapping
from mflux.models.flux2.model.flux2_transformer.transformer import Flux2Transformer
from mflux.models.flux2.weights.flux2_lora_mapping import Flux2LoRAMapping
from mflux.models.flux2.weights.flux2_weight_mapping import Flux2WeightMapping
from mflux.models.z_image.model.z_image_transformer.transformer import ZImageTransformer
from mflux.models.z_image.weights.z_image_lora_mapping import ZImageLoRAMapping
from mflux.models.z_image.weights.z_image_weight_mapping import ZImageWeightMapping
from mlx import nn
from mlx.utils import tree_flatten

Arrays = Mapping[str, mx.array]
MOST_BLOCKS = 64


@dataclass(frozen=True)
class Family:
    """mflux's classes of one family, and how its network is called."""

    build: Callable[[Mapping[str, Any]], nn.Module]
    adapter_names: Any
    weight_names: Any
    velocity: Callable[[nn.Module, Arrays, Mapping[str, Any]], mx.array]

    def with_weights(self, config: Mapping[str, Any], file: str) -> nn.Module:
        """The network with a checkpoint's weights; raises KeyError when a name of either side has no partner."""
        weights = {name: value.astype(mx.float32) for name, value in mx.load(file).items()}
        names, counts = self.weight_names.get_transformer_mapping(), (MOST_BLOCKS, MOST_BLOCKS)
        strangers = WeightMapper.unmapped_names(weights, names, *counts)
        missing = WeightMapper.missing_required_names(weights, names, *counts)
        if strangers or missing:
            raise KeyError(f"unmapped {strangers}, missing {missing}")
        network = self.build(config)
        network.update(WeightMapper.apply_mapping(weights, names, *counts))
        return network

    def adapt(self, network: nn.Module, adapter: str, folded: bool) -> None:
        """Put an adapter on, as layers beside the network's own or, as is mflux's custom, added to the weights."""
        LoRALoader.load_and_apply_lora(self.adapter_names.get_mapping(), network, [adapter], bake_lora=folded)


def flux1(network: nn.Module, inputs: Arrays, options: Mapping[str, Any]) -> mx.array:
    config = SimpleNamespace(
        scheduler=SimpleNamespace(sigmas=mx.array([options["sigma"]])), num_train_steps=1000, precision=mx.float32,
        guidance=options["guidance"], height=options["height_px"], width=options["width_px"],
    )  # fmt: skip
    return network(0, config, inputs["l_t"], inputs["tokens"], inputs["pooled"])


def flux2(network: nn.Module, inputs: Arrays, options: Mapping[str, Any]) -> mx.array:
    text, image = inputs["text_ids"], inputs["image_ids"]
    return network(inputs["l_t"], inputs["tokens"], options["sigma"], img_ids=image, txt_ids=text)


def z_image(network: nn.Module, inputs: Arrays, options: Mapping[str, Any]) -> mx.array:
    return network(inputs["l_t"], 1.0 - options["sigma"], mx.array([options["sigma"]]), inputs["tokens"])


def knobs_of(network: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a transformer's config.json that a class of mflux has parameters for."""
    return {name: config[name] for name in inspect.signature(network).parameters if name in config}


FAMILIES = {
    "flux1": Family(
        lambda config: Transformer(ModelConfig.dev(), config["num_layers"], config["num_single_layers"]),
        FluxLoRAMapping, FluxWeightMapping, flux1,
    ),
    "flux2": Family(
        lambda config: Flux2Transformer(**knobs_of(Flux2Transformer, config)),
        Flux2LoRAMapping, Flux2WeightMapping, flux2,
    ),
    "z_image": Family(
        lambda config: ZImageTransformer(**knobs_of(ZImageTransformer, config)),
        ZImageLoRAMapping, ZImageWeightMapping, z_image,
    ),
}  # fmt: skip


def velocities(family: Family, adapter: str, inputs: Arrays, options: Mapping[str, Any]) -> dict[str, mx.array]:
    """What the network says without the adapter ("base"), and with it in each of the ways that are asked for."""
    found = {}
    network = family.with_weights(options["config"], options["weights"])
    for way in ("base", *options["ways"]):
        if way == "folded":  # what is beside a weight must not be in it too
            network = family.with_weights(options["config"], options["weights"])
        if way != "base":
            family.adapt(network, adapter, folded=way == "folded")
        found[way] = family.velocity(network, inputs, options)
        mx.eval(found[way])
    return found


def changes(family: Family, adapter: str, inputs: Arrays, options: Mapping[str, Any]) -> dict[str, mx.array]:
    """What each adapted layer adds, by its name in diffusers: in mflux's network nothing but the adapter is evaluated.

    `inputs` holds an input for every width. Which layer is which is read off mflux's names of weights.
    """
    network = family.build(options["config"])
    family.adapt(network, adapter, folded=False)
    layers = {path: each for path, each in network.named_modules() if isinstance(each, LoRALinear)}
    numbers = {f"{name}.weight": mx.array(index) for index, name in enumerate(options["layers"])}
    counts = (MOST_BLOCKS, MOST_BLOCKS)
    names = WeightMapper.apply_mapping(numbers, family.weight_names.get_transformer_mapping(), *counts)
    found = {}
    for path, number in tree_flatten(names):
        layer = layers.pop(path.removesuffix(".weight"))
        layer.linear = lambda x: 0.0  # of the weight itself there is nothing
        found[options["layers"][number.item()]] = layer(inputs[str(layer.lora_A.shape[0])])
    if layers:
        raise KeyError(f"adapters where none should be: {sorted(layers)}")
    return found


def main() -> None:
    adapter, inputs, answer, options = sys.argv[1:]
    asked = json.loads(options)
    ModelConfig.precision = mx.float32
    find = velocities if "weights" in asked else changes
    mx.save_safetensors(answer, find(FAMILIES[asked["family"]], adapter, mx.load(inputs), asked))


if __name__ == "__main__":
    main()
