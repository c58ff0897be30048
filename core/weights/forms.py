"""Forms of weights that Likeness does not read, recognized by their contents and named, with what to do.

    trouble_of_file     a file: GGUF, Draw Things, PyTorch's pickles, or a safetensors file that is quantized
    trouble_of_header   a safetensors file by its tensors: bitsandbytes, SVDQuant, GPTQ, Quanto, MLX, FP4, integers
    trouble_of_config   a part's config.json with a quantization_config

Each returns a phrase that continues the file's name, or "" for a form that is read. Plain Python.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.errors import ModelProblem
from core.safetensors_file import FLOAT8, FLOATS, Header, read_header
from core.weights.places import SCALES

INSTEAD = "use the safetensors file of the same model in bf16, fp16 or fp8 (e4m3)"
_BEGINNINGS = (  # the first bytes of files, and what they are
    (b"GGUF", "is a GGUF file, quantized for llama.cpp and ComfyUI-GGUF"),
    (b"SQLite format 3\0", "is a model of Draw Things, which no other program reads"),
    (b"PK\3\4", "is a PyTorch file (pickle), which can run any code when it is opened"),
    (b"\x80\x02", "is a PyTorch file (pickle), which can run any code when it is opened"),
)
_QUANTIZED = (  # patterns of which all must be in the names, and what the file is then
    ((r"\.quant_state\.bitsandbytes__(nf4|fp4)$",), "is quantized with bitsandbytes (4-bit)"),
    ((r"\.absmax$", r"\.quant_map$"), "is quantized with bitsandbytes (4-bit)"),
    ((r"\.SCB$",), "is quantized with bitsandbytes (8-bit)"),
    ((r"\.qweight$", r"\.(wscales|smooth|smooth_factor|wtscale)$"), "is quantized with SVDQuant (nunchaku)"),
    ((r"\.qweight$", r"\.(qzeros|scales)$"), "is quantized with GPTQ or AWQ"),
    ((r"\.weight\._data$", r"\.weight\._scale$"), "is quantized with Quanto"),
    ((r"\.weight_scale_2$",), "is quantized to FP4 (nvfp4)"),
    ((r"\.scales$", r"\.biases$"), "is quantized by MLX"),
)
_METHODS = {"bitsandbytes": "bitsandbytes", "svdquant": "SVDQuant (nunchaku)", "quanto": "Quanto", "gguf": "GGUF"}


def trouble_of_file(path: Path) -> str:
    """What is wrong with a file of weights, or "". Cached as long as its size and time stay the same."""
    try:
        stat = path.stat()
    except OSError:
        return f"is a link to {path.readlink()}, which is not there" if path.is_symlink() else "is not there"
    return _trouble_of_file(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=2048)
def _trouble_of_file(path: Path, size: int, changed_ns: int) -> str:
    try:
        with path.open("rb") as file:
            beginning = file.read(16)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    for known, words in _BEGINNINGS:
        if beginning.startswith(known):
            return f"{words}; {INSTEAD}"
    try:
        return trouble_of_header(read_header(path))
    except ModelProblem:
        return f"is damaged or cut off at {size:,} bytes"


def trouble_of_header(header: Header) -> str:
    """What is wrong with the form of a safetensors file, or ""."""
    if version := header.metadata.get("mflux_version"):
        bits = header.metadata.get("quantization_level", "None")
        how = f", quantized to {bits} bits" if bits.isdecimal() else ""
        return f"was saved by mflux {version}{how}, with names of its own; {INSTEAD}"
    for patterns, words in _QUANTIZED:
        if all(any(re.search(pattern, name) for name in header.tensors) for pattern in patterns):
            return f"{words}; {INSTEAD}"
    weights = {name: info for name, info in header.tensors.items() if name.endswith("weight") and len(info.shape) > 1}
    for name, info in weights.items():
        if info.dtype in FLOAT8:
            layer = name.removesuffix(".weight")
            scales = [header.tensors[layer + each] for each in SCALES if layer + each in header.tensors]
            if any(scale.values != 1 for scale in scales):
                return f"has 8-bit floats with a scale for every row or block (mxfp8); {INSTEAD}"
        elif info.dtype not in FLOATS:
            return f"holds weights as {info.dtype}, which is a quantized form; {INSTEAD}"
    return ""


def trouble_of_config(config: Mapping[str, Any]) -> str:
    """What a config.json says about a quantized part, or ""."""
    found = config.get("quantization_config")
    if not found:
        return ""
    table = found if isinstance(found, dict) else {}
    method = str(table.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in table else "an unknown method"))
    return f"says that the weights are quantized with {_METHODS.get(method, method)} (quantization_config); {INSTEAD}"
