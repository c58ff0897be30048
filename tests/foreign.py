"""Small files and folders in the forms that Likeness does not read, as the programs write them that make them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from core.safetensors_file import ITEM_BYTES, header_of

Tensors = dict[str, tuple[str, tuple[int, ...]]]
LAYER = "double_blocks.0.img_attn.qkv"

SAFETENSORS: dict[str, tuple[Tensors, dict[str, str], str]] = {
    "flux1-dev-bnb-nf4-v2.safetensors": (
        {
            f"model.diffusion_model.{LAYER}.weight": ("U8", (72, 1)),
            f"model.diffusion_model.{LAYER}.weight.absmax": ("F32", (3,)),
            f"model.diffusion_model.{LAYER}.weight.quant_map": ("F32", (16,)),
            f"model.diffusion_model.{LAYER}.weight.quant_state.bitsandbytes__nf4": ("U8", (8,)),
        },
        {},
        "is quantized with bitsandbytes (4-bit)",
    ),
    "svdq-int4-flux.1-dev.safetensors": (
        {
            "transformer_blocks.0.qkv_proj.qweight": ("I8", (72, 12)),
            "transformer_blocks.0.qkv_proj.wscales": ("BF16", (1, 72)),
            "transformer_blocks.0.qkv_proj.smooth": ("BF16", (24,)),
        },
        {},
        "is quantized with SVDQuant (nunchaku)",
    ),
    "mflux-4bit.safetensors": (
        {
            "transformer_blocks.0.attn.to_q.weight": ("U32", (24, 3)),
            "transformer_blocks.0.attn.to_q.scales": ("BF16", (24, 1)),
            "transformer_blocks.0.attn.to_q.biases": ("BF16", (24, 1)),
        },
        {"mflux_version": "0.18.0", "quantization_level": "4"},
        "was saved by mflux 0.18.0, quantized to 4 bits",
    ),
    "flux-nvfp4.safetensors": (
        {
            f"{LAYER}.weight": ("U8", (72, 12)),
            f"{LAYER}.weight_scale": ("F8_E4M3", (72, 2)),
            f"{LAYER}.weight_scale_2": ("F32", ()),
        },
        {},
        "is quantized to FP4 (nvfp4)",
    ),
    "flux-mxfp8.safetensors": (
        {f"{LAYER}.weight": ("F8_E4M3", (72, 24)), f"{LAYER}.weight_scale": ("U8", (72, 2))},
        {},
        "has 8-bit floats with a scale for every row or block",
    ),
    "flux-int8.safetensors": ({f"{LAYER}.weight": ("I8", (72, 24))}, {}, "holds weights as I8"),
}
WHOLE: dict[str, str] = {
    "flux1-dev-Q4_K_S.gguf": "is a GGUF file",
    "flux_1_dev_q8p.ckpt": "is a model of Draw Things",
    "old.pt": "is a PyTorch file (pickle)",
}
SENTENCES = WHOLE | {name: words for name, (_, _, words) in SAFETENSORS.items()}


def write(folder: Path, name: str) -> Path:
    """Write the file of that name into `folder`."""
    file = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".gguf"):
        file.write_bytes(b"GGUF\x03\0\0\0" + bytes(64))
    elif name.endswith(".ckpt"):
        connection = sqlite3.connect(file)
        connection.execute("CREATE TABLE tensors (name TEXT, data BLOB)")
        connection.commit()
        connection.close()
    elif name.endswith(".pt"):
        file.write_bytes(b"PK\x03\x04" + bytes(64))
    else:
        tensors, metadata, _ = SAFETENSORS[name]
        length = sum(ITEM_BYTES[dtype] * _product(shape) for dtype, shape in tensors.values())
        file.write_bytes(header_of(tensors, metadata) + bytes(length))
    return file


def quantize_config(part: Path) -> None:
    """Say in a part's config.json that its weights are quantized, as diffusers and transformers do."""
    config = json.loads((part / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (part / "config.json").write_text(json.dumps(config))


def _product(shape: tuple[int, ...]) -> int:
    return _product(shape[1:]) * shape[0] if shape else 1
