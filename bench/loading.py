"""The peak memory of loading a model, whole and quantized, against the size of the loaded model.

    python -m bench.loading [FOLDER]

FOLDER is a model in diffusers' layout; without one a FLUX.1 with random weights is written: 1.4e8 parameters, bfloat16,
in shards. Each line is measured in a process of its own, which loads the transformer:

    model      bytes of the loaded weights
    arrays     the peak of MLX's arrays, less what they held before
    process    the peak resident memory of the process, less what it had before: arrays, Python's objects, and freed
               buffers that MLX keeps for the next arrays (at most 32 MB on a CPU)

MLX reads each tensor into an array of its own. The system's file cache belongs to no process and is not counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.process import run_bench
from bench.units import MIB

SHARD_BYTES = 64e6
FLUX: dict[str, Any] = {  # FLUX.1's proportions, with narrower and fewer blocks
    "num_layers": 8, "num_single_layers": 16, "attention_head_dim": 64, "num_attention_heads": 8, "in_channels": 64,
    "joint_attention_dim": 1024, "pooled_projection_dim": 256, "guidance_embeds": True, "axes_dims_rope": [16, 24, 24],
}  # fmt: skip


def write_flux(folder: Path) -> Path:
    """Write a model folder whose transformer is `FLUX` with random weights; its other parts have configs only."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from core.models.flux1 import FluxTransformer

    shards: list[dict[str, tuple[int, ...]]] = [{}]
    size = 0
    for name, value in tree_flatten(FluxTransformer(FLUX).parameters()):
        if size > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = value.shape
        size += 2 * value.size
    transformer = folder / "transformer"
    transformer.mkdir(parents=True)
    weight_map = {}
    for number, shapes in enumerate(shards, start=1):
        file = f"diffusion_pytorch_model-{number:05}-of-{len(shards):05}.safetensors"
        keys = mx.random.split(mx.random.key(number), len(shapes))
        mx.save_safetensors(
            str(transformer / file),
            {
                name: (0.02 * mx.random.normal(shape, key=key)).astype(mx.bfloat16)
                for (name, shape), key in zip(shapes.items(), keys, strict=True)
            },
        )
        weight_map |= dict.fromkeys(shapes, file)
    tables = {
        "model_index.json": {"_class_name": "FluxPipeline"},
        "transformer/config.json": FLUX,
        "transformer/diffusion_pytorch_model.safetensors.index.json": {"weight_map": weight_map},
        "vae/config.json": {"block_out_channels": [128, 256, 512, 512], "latent_channels": 16},
        "text_encoder/config.json": {},
        "text_encoder_2/config.json": {},
        "scheduler/scheduler_config.json": {},
    }
    for name, table in tables.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(table), encoding="utf-8")
    return folder


def measure(folder: Path, precision: str) -> dict[str, float]:
    """Load the transformer in this process, which should be fresh: seconds, and bytes as described above."""
    from core.device import backend

    backend.prepare()
    import mlx.core as mx
    import psutil
    from mlx.utils import tree_flatten

    from core.config.resolve import resolve
    from core.models.load import load_family

    family = load_family(folder, quantize=resolve({"base_precision": precision}).config.base_bits)
    arrays_before, resident_before = mx.get_active_memory(), psutil.Process().memory_info().rss
    mx.reset_peak_memory()
    began = time.perf_counter()
    transformer = family.transformer
    return {
        "seconds": time.perf_counter() - began,
        "model": sum(value.nbytes for _, value in tree_flatten(transformer.parameters())),
        "arrays": mx.get_peak_memory() - arrays_before,
        "process": peak_resident() - resident_before,
    }


def peak_resident() -> int:
    """The peak resident bytes of this process so far."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:  # not Linux; there, getrusage would count the parent process
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def in_a_process(folder: Path, precision: str) -> dict[str, float]:
    """`measure` in a fresh process."""
    return run_bench("loading", folder, "--precision", precision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--precision", help="measure one precision in this process and print it as JSON")
    options = parser.parse_args()
    if options.precision:
        print(json.dumps(measure(options.folder, options.precision)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or write_flux(Path(scratch, "model"))
        files = sum(path.stat().st_size for path in (folder / "transformer").glob("*.safetensors"))
        print(f"files {files / MIB:.0f} MB; in MB, and the most over the model itself")
        print(f"{'base':<8}{'model':>8}{'arrays':>8}{'':>8}{'process':>9}{'':>8}{'seconds':>9}")
        for precision in ("full", "8-bit", "6-bit", "4-bit"):
            row = in_a_process(folder, precision)
            model, arrays, process = (row[name] / MIB for name in ("model", "arrays", "process"))
            print(
                f"{precision:<8}{model:>8.0f}{arrays:>8.0f}{arrays / model:>7.2f}x"
                f"{process:>9.0f}{process / model:>7.2f}x{row['seconds']:>9.1f}"
            )


if __name__ == "__main__":
    main()
