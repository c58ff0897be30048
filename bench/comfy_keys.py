"""The layers that ComfyUI takes from adapter files in our two forms, by its own key maps, for tests/comfy_keys.json.

    git clone --branch v0.19.3 https://github.com/Comfy-Org/ComfyUI
    .venv/bin/python -m bench.comfy_keys ComfyUI > tests/comfy_keys.json         # needs what `make interop` installs

ComfyUI's networks are built from the real configs without memory, its `comfy.lora.model_lora_keys_unet` maps their
names, and its `comfy.lora.load_lora` reads an adapter as we export it, on all layers that can be trained. Printed are
the names by prefix and pattern, with where each change goes: "{19}" stands for the numbers 0 to 18.

    "transformer_blocks.{19}.attn.to_k": "double_blocks.{}.img_attn.qkv 9216x3072 rows 3072+3072"

How many layers were taken is said on the standard error, so that other versions can be asked for that alone
(docs/guide.md has a table). The list is of v0.19.3, commit 3086026401180c9216bcb6ace442a4e3587d2c66.

FLUX.3 has no network in ComfyUI at that version. Its part of the list is the rule that holds for every network, with
the names of Black Forest Labs' own code.

Nothing of ComfyUI is part of this project. Its drawing code is not imported: only names matter here.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

from bench import real_models as real

NOT_IMPORTED = (
    "comfy.model_management", "comfy.memory_management", "comfy.cli_args", "comfy.checkpoint_pickle", "comfy.ops",
    "comfy.rmsnorm", "comfy.patcher_extension", "comfy.ldm.modules.attention", "comfy.ldm.chroma_radiance.layers",
    "einops",
)  # fmt: skip
"""Modules of ComfyUI that names do not depend on, and what it has installed for drawing."""
MODELS = {
    "flux1-dev": ("flux1", "Flux", real.FLUX1_DEV),
    "flux2-klein-base-4b": ("flux2", "Flux2", real.KLEIN_4B),
    "flux2-klein-base-9b": ("flux2", "Flux2", real.KLEIN_9B),
    "z-image": ("z_image", "Lumina2", real.Z_IMAGE),
    "chroma1-hd": ("chroma", "Chroma", real.CHROMA1_HD),
    "flux3-klein-base": ("flux3", "BaseModel", real.FLUX3_KLEIN_BASE),
}
"""By name: our family, the class of ComfyUI's model_base, the transformer's config."""
FORMS = ("transformer.", "lora_unet_")
FLUX3_BLOCK = ("q_proj", "k_proj", "v_proj", "attn_out", "mlp_in", "mlp_out")


def open_clone(clone: Path) -> None:
    """Make ComfyUI's modules importable; those of NOT_IMPORTED are stand-ins, and so are the classes of its models."""
    sys.path.insert(0, str(clone))
    for name in NOT_IMPORTED:
        _put(name, MagicMock())
    model_base = ModuleType("comfy.model_base")
    classes: dict[str, type] = {}
    tree = ast.parse((clone / "comfy" / "model_base.py").read_text(encoding="utf-8"))
    for node in (each for each in tree.body if isinstance(each, ast.ClassDef)):
        bases = tuple(classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes)
        classes[node.name] = type(node.name, bases or (object,), {})
    vars(model_base).update(classes)
    _put("comfy.model_base", model_base)


def _put(name: str, module: Any) -> None:
    """Have `import name`, and `name` as an attribute of its package, give this module."""
    package, _, own = name.rpartition(".")
    sys.modules[name] = module
    if package:
        setattr(importlib.import_module(package), own, module)


def network(family: str, config: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """(names and meta tensors, ComfyUI's own config) of a network."""
    import torch

    common = {"operations": torch.nn, "device": "meta", "dtype": torch.bfloat16}
    if family == "flux3":
        return dict(_flux3(config)), {}
    if family == "z_image":
        from comfy.ldm.lumina.model import NextDiT

        own = {name: config[name] for name in ("dim", "n_layers", "n_refiner_layers", "n_heads", "n_kv_heads")}
        rest = {"in_channels": 16, "ffn_dim_multiplier": 8 / 3, "qk_norm": True, "cap_feat_dim": config["cap_feat_dim"]}
        more = {"axes_dims": config["axes_dims"], "axes_lens": config["axes_lens"], "z_image_modulation": True}
        return NextDiT(**own, **rest, **more, pad_tokens_multiple=32, **common).state_dict(), own
    width = config["num_attention_heads"] * config["attention_head_dim"]
    own = {"depth": config["num_layers"], "depth_single_blocks": config["num_single_layers"], "hidden_size": width}
    rest = {"num_heads": config["num_attention_heads"], "context_in_dim": config["joint_attention_dim"]}
    rest |= {"axes_dim": list(config["axes_dims_rope"]), "theta": config.get("rope_theta", 10000)}
    if family == "chroma":
        from comfy.ldm.chroma.model import Chroma

        rest |= {"in_channels": 64, "out_channels": 64, "mlp_ratio": 4.0, "patch_size": 2, "qkv_bias": True}
        rest |= {"in_dim": 64, "out_dim": width, "hidden_dim": 5120, "n_layers": 5, "txt_ids_dims": [], "vec_in_dim": 0}
        return Chroma(**own, **rest, **common).state_dict(), own
    from comfy.ldm.flux.model import Flux

    if family == "flux1":
        rest |= {"in_channels": 16, "out_channels": 16, "mlp_ratio": 4.0, "patch_size": 2, "qkv_bias": True}
        rest |= {"vec_in_dim": 768, "guidance_embed": True, "txt_ids_dims": []}
    else:
        rest |= {"in_channels": 128, "out_channels": 128, "mlp_ratio": 3.0, "patch_size": 1, "qkv_bias": False}
        rest |= {"vec_in_dim": None, "guidance_embed": False, "txt_ids_dims": [3], "global_modulation": True}
        rest |= {"mlp_silu_act": True, "ops_bias": False}
    return Flux(**own, **rest, **common).state_dict(), own


def _flux3(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The names of the blocks in Black Forest Labs' checkpoint, with their shapes."""
    import torch

    width = config["num_attention_heads"] * config["attention_head_dim"]
    inner = int(width * config["mlp_ratio"])
    shapes = dict.fromkeys(FLUX3_BLOCK, (width, width)) | {"mlp_in": (2 * inner, width), "mlp_out": (width, inner)}
    stacks = {name: config["num_layers"] for name in ("txt_mode_blocks", "content_mode_blocks.image")}
    for stack, count in (stacks | {"single_blocks": config["num_single_layers"]}).items():
        for index in range(count):
            for name, shape in shapes.items():
                yield f"{stack}.{index}.{name}.weight", torch.empty(shape, device="meta")


def key_map(name: str) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """ComfyUI's map of a model from names in adapter files to its own, and its network's tensors by name."""
    import comfy.lora
    import comfy.model_base

    family, kind, config = MODELS[name]
    tensors, own = network(family, config)
    tensors = {f"diffusion_model.{key}": value for key, value in tensors.items()}
    model: Any = type("Model", (getattr(comfy.model_base, kind, comfy.model_base.BaseModel),), {})()
    model.state_dict = lambda: tensors
    model.model_config = SimpleNamespace(unet_config=own)
    return comfy.lora.model_lora_keys_unet(model, {}), tensors


def exported(name: str) -> dict[str, dict[str, Any]]:
    """Our adapter on every layer of a model that can be trained, at rank 1, by form: tensors without memory."""
    import mlx.core as mx
    import torch

    from core.adapters import diffusers, kohya
    from core.adapters.layers import ModelLayers

    family, _, config = MODELS[name]
    sizes = ModelLayers.of(family, config).sizes
    factors = {path: (mx.zeros((1, i)), mx.zeros((o, 1))) for path, (i, o) in sizes.items()}
    forms = {FORMS[0]: diffusers.tensors_of(factors), FORMS[1]: kohya.tensors_of(factors, family)}
    return {
        form: {
            key: torch.tensor(1.0) if key.endswith(".alpha") else torch.empty(value.shape, device="meta")
            for key, value in tensors.items()
        }
        for form, tensors in forms.items()
    }


def described(keys: Mapping[str, Any], tensors: Mapping[str, Any], form: str) -> dict[str, str]:
    """The names of a form, without its prefix, by pattern, and where the change of each goes."""
    numbers: dict[tuple[str, str], dict[int, str]] = {}
    for name, to in keys.items():
        if not name.startswith(form):
            continue
        key, *span = to if isinstance(to, tuple) else (to,)
        if key not in tensors or len(tensors[key].shape) != 2:  # of another model with the same map; a norm
            continue
        rows = f" rows {span[0][1]}+{span[0][2]}" if span and span[0] else ""
        own = key.removeprefix("diffusion_model.").removesuffix(".weight")
        shape = "x".join(str(side) for side in tensors[key].shape)
        bare = name.removeprefix(form)
        number = re.search(r"\d+", bare)
        digits = number.group() if number else ""
        pattern = (bare.replace(digits, "{}", 1), own.replace(digits, "{}", 1)) if number else (bare, own)
        numbers.setdefault((pattern[0], f"{pattern[1]} {shape}{rows}"), {})[int(digits or -1)] = bare
    found: dict[str, str] = {}
    for (pattern, target), names in numbers.items():
        if sorted(names) == list(range(len(names))) and len(names) > 1:
            found[pattern.replace("{}", f"{{{len(names)}}}")] = target
        else:
            found |= {bare: target.replace("{}", str(number)) for number, bare in names.items()}
    return dict(sorted(found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("clone", type=Path, help="a clone of https://github.com/Comfy-Org/ComfyUI")
    clone = parser.parse_args().clone.resolve()
    open_clone(clone)
    import comfy.lora

    version = re.findall(r'"(.+)"', (clone / "comfyui_version.py").read_text(encoding="utf-8"))[0]
    table: dict[str, Any] = {"ComfyUI": version, "models": {}}
    for name in MODELS:
        keys, tensors = key_map(name)
        table["models"][name] = {form: described(keys, tensors, form) for form in FORMS}
        for form, adapter in exported(name).items():
            read = comfy.lora.load_lora(adapter, keys, log_missing=False)
            layers = len({key.partition(".lora_")[0] for key in adapter if not key.endswith(".alpha")})
            print(f"ComfyUI {version}, {name}, {form}*: {len(read)} of {layers}", file=sys.stderr)
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
