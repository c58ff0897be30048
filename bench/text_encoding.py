"""Text encoders at their full size, with random weights on the disk: time and memory of reading captions.

    python -m bench.text_encoding [--models flux1-dev klein-4b ...] [--captions 10] [--folder DIR]

Captions are encoded as in a run (core/models/text/encoder.py): layer by layer from the files, every caption through
each. A caption has more tokens than most models take, so it is cut to their maximum. The files, up to 16 GB a model,
are written under --folder, one model after the other, and removed. Memory is the peak of MLX's arrays; each model is
measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench import real_models as real
from bench.process import run_bench
from bench.real_models import MODELS, write_configs
from bench.units import GIB

CAPTIONS = 10
SMALL: dict[str, Any] = {
    "num_layers": 2, "d_model": 64, "d_ff": 96, "num_heads": 1, "num_hidden_layers": 36, "hidden_size": 64,
    "intermediate_size": 96, "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": 600,
}  # fmt: skip


def encoders(model: str) -> list[tuple[str, dict[str, Any], Callable[[dict[str, Any]], Any]]]:
    """Folder, config and builder of each text encoder of a model."""
    from core.models import flux2, flux3, z_image
    from core.models.text.clip import CLIPText
    from core.models.text.qwen3 import Qwen3Encoder, Qwen3VLTextEncoder
    from core.models.text.t5 import T5Encoder

    if model == "flux1-dev":
        return [("text_encoder", real.CLIP_L_COMPLETE, CLIPText), ("text_encoder_2", real.T5_XXL_COMPLETE, T5Encoder)]
    if model == "chroma1-hd":
        return [("text_encoder", real.T5_XXL_COMPLETE, T5Encoder)]
    if model == "flux3-klein-base":
        return [("text_encoder", real.QWEN3_VL_4B, partial(Qwen3VLTextEncoder, taps=flux3.TAPS))]
    config = real.QWEN3_8B if model == "klein-9b" else real.QWEN3_4B
    taps = z_image.TAPS if model == "z-image" else flux2.TAPS
    return [("text_encoder", config, partial(Qwen3Encoder, taps=taps))]


def write_encoders(folder: Path, model: str, changes: dict[str, Any]) -> None:
    """Write random weights in bfloat16, a shard for each layer, and tokenizers of few words but the full length."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from tests import tiny, tiny_qwen3

    for name, config, build in encoders(model):
        config = _changed(config, changes)
        shards: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
        for path, value in tree_flatten(build(config).parameters()):
            shards[".".join(path.split(".")[:3])][path] = value.shape
        tiny.write_json(folder / name / "config.json", config)
        weight_map: dict[str, str] = {}
        for number, shapes in enumerate(shards.values()):
            drawn = {path: (0.02 * mx.random.normal(shape)).astype(mx.bfloat16) for path, shape in shapes.items()}
            mx.save_safetensors(str(folder / name / f"{number}.safetensors"), drawn)
            weight_map |= dict.fromkeys(drawn, f"{number}.safetensors")
            del drawn
            mx.clear_cache()
        tiny.write_json(folder / name / "model.safetensors.index.json", {"weight_map": weight_map})
    if model == "flux1-dev":
        for name in ("tokenizer", "tokenizer_2"):
            tiny.write_tokenizer(folder / name, begin=name == "tokenizer", tokens=None)
    elif model == "chroma1-hd":
        tiny.write_tokenizer(folder / "tokenizer", begin=False, tokens=None)
    else:
        tiny_qwen3.write_tokenizer(folder / "tokenizer", tokens=None)


def _changed(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The config, and the table of a text tower within it, with those of the changes that it has names for."""
    found = config | {key: value for key, value in changes.items() if key in config}
    return found | ({"text_config": _changed(found["text_config"], changes)} if "text_config" in found else {})


def measure(folder: Path, captions: int) -> dict[str, Any]:
    """Encode this many captions in this process, which should be fresh: seconds, shape of one, and peak bytes."""
    from core.device import backend

    backend.prepare()
    import mlx.core as mx

    from core.models.load import load_family

    family = load_family(folder)
    began = time.perf_counter()
    encoded = family.encode_each([f"{number} " + "a photo of sks " * 200 for number in range(captions)])
    mx.synchronize()
    return {
        "seconds": time.perf_counter() - began,
        "peak": backend.peak_memory(),
        "shape": encoded[0]["tokens"].shape,
        "device": str(mx.device_info().get("device_name", "cpu")),
    }


def measure_model(model: str, captions: int, shrink: bool, folder: Path | None = None) -> dict[str, Any]:
    """`measure` in a fresh process, of encoders that another process has written; the files are removed afterwards."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        write_configs(Path(scratch), model, {})
        options = ["--models", model, "--folder", scratch, "--captions", captions, *(["--shrink"] if shrink else [])]
        run_bench("text_encoding", "--one", "write", *options)
        return run_bench("text_encoding", "--one", "read", *options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--captions", type=int, default=CAPTIONS)
    parser.add_argument("--folder", type=Path, help="where the files go; the system's temporary folder without it")
    parser.add_argument("--shrink", action="store_true", help="few narrow layers: to try the command, not to measure")
    parser.add_argument("--one", choices=["write", "read"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one == "write":
        from core.device import backend

        backend.prepare()
        write_encoders(options.folder, options.models[0], SMALL if options.shrink else {})
        return
    if options.one == "read":
        print(json.dumps(measure(options.folder, options.captions)))
        return
    print(f"{'model':<11}{'captions':>9}{'tokens':>8}{'width':>7}{'read':>9}{'GiB':>7}  device", flush=True)
    for model in options.models:
        row = measure_model(model, options.captions, options.shrink, options.folder)
        _, tokens, width = row["shape"]
        print(
            f"{model:<11}{options.captions:>9}{tokens:>8}{width:>7}{row['seconds']:>7.1f} s"
            f"{row['peak'] / GIB:>7.2f}  {row['device']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
