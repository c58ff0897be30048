"""Models at their full size, with random weights: what a training step and a picture cost, in time and memory.

    python -m bench.full_size [--models flux1-dev ...] [--precisions full 4-bit] [--activations all none] [--side 512]
    python -m bench.full_size --precisions 4-bit --activations none --text      the leanest job as a whole

The run is the real one (`core.training.trainer.train`): a photo through the full-size VAE, AdamW steps on an adapter of
rank 16 on every linear layer of the blocks, then a sample picture, decoded. What is random is the weights, drawn where
they are used, and what a text encoder would say. With --text captions are read too, as bench/text_encoding.py does it,
from encoders of full size that are written to the temporary folder, up to 16 GB. Each row is a process of its own.

Memory is what MLX's arrays held at most:

    step, picture    while stepping; while drawing, with the VAE read for it from the disk
    text, photo      while captions and while photos are encoded
    load             while the base is read (drawn here, and packed tensor by tensor) and scored for the first time
    most             in the whole job, whatever it was at

"score" is how long the scoring of one photo takes, at four amounts of noise.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

from tests.interop import real_configs as real

PICTURES = {"in_channels": 3, "out_channels": 3}  # what the real VAEs leave to diffusers' defaults
DYNAMIC = {"use_dynamic_shifting": True, "shift": 3.0}
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], dict[str, tuple[int, ...]]]] = {
    # pipeline, transformer, VAE, scheduler, and the shapes of what the prompt is told as
    "flux1-dev": (
        "FluxPipeline", real.FLUX1_DEV, real.FLUX1_VAE, DYNAMIC, {"tokens": (1, 512, 4096), "pooled": (1, 768)},
    ),
    "klein-4b": ("Flux2KleinPipeline", real.KLEIN_4B, real.FLUX2_VAE, DYNAMIC, {"tokens": (1, 512, 7680)}),
    "klein-9b": ("Flux2KleinPipeline", real.KLEIN_9B, real.FLUX2_VAE, DYNAMIC, {"tokens": (1, 512, 12288)}),
    "z-image": ("ZImagePipeline", real.Z_IMAGE, real.FLUX1_VAE, {"shift": 6.0}, {"tokens": (1, 128, 2560)}),
}  # fmt: skip
SHRUNK = {"num_layers": 2, "num_single_layers": 2, "n_layers": 2, "num_attention_heads": 2, "dim": 256, "n_heads": 2,
          "n_kv_heads": 2}  # fmt: skip
STEPS = 6
WARM = 2  # the first steps compile
PICTURE_STEPS = 20
GIB = 2**30


def write_configs(folder: Path, model: str, changes: dict[str, Any]) -> Path:
    """The model's folder without a single weight. `changes` are made to the transformer's config."""
    pipeline, transformer, vae, scheduler, _ = MODELS[model]
    transformer = transformer | {name: each for name, each in changes.items() if name in transformer}
    vae = PICTURES | vae
    if changes:
        vae |= {"block_out_channels": (32, 32, 64, 64)}
    tables = {
        "model_index.json": {"_class_name": pipeline},
        "transformer/config.json": transformer,
        "vae/config.json": vae,
        "scheduler/scheduler_config.json": scheduler,
    }
    for name, table in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(table), encoding="utf-8")
    return folder


def random_family(folder: Path, model: str, bits: int | None, dtype: Any = None) -> Any:
    """The family whose parts are drawn, tensor by tensor in the dtypes that loading would give them.

    `dtype` is the transformer's, where it is not to be the one that this device computes in.
    """
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten

    from core.device.backend import compute_dtype
    from core.hub.catalog import family_of
    from core.models import quantized
    from core.models.flux1 import Flux1
    from core.models.flux2 import Flux2
    from core.models.parts import Part, Parts
    from core.models.z_image import ZImage

    class RandomParts(Parts):
        def _read(self, name: str) -> nn.Module:
            kept = folder / f"{name}.drawn.safetensors"
            if kept.is_file():  # it was freed: drawing its numbers again would take longer than reading them
                module = self._parts[name].build(self.config(name))
                module.load_weights(str(kept))
                module.freeze()
                return module
            mx.random.seed(zlib.crc32(name.encode()))  # the same in every process, whatever was drawn before
            module = self._parts[name].build(self.config(name))
            if name in self._bits:
                quantized.lay_out(module, self._bits[name])
            packed = quantized.packed_layers(module)
            filled: dict[str, mx.array] = {}
            for path, shape in quantized.whole_shapes(module).items():
                kind = path.rpartition(".")[2]
                one = kind == "weight" or kind.endswith("var")
                plain = mx.ones(shape) if one else mx.zeros(shape)
                value = (0.02 * mx.random.normal(shape) if len(shape) > 1 else plain).astype(self._dtypes[name])
                layer = path.removesuffix(".weight")
                drawn = quantized.pack(layer, value, self._bits[name]) if layer in packed else {path: value}
                mx.eval(drawn)
                filled |= drawn
            module.load_weights(list(filled.items()))
            module.freeze()
            assert {path for path, _ in tree_flatten(module.parameters())} == set(filled)
            if name == "vae":
                mx.save_safetensors(str(kept), filled)
            mx.clear_cache()
            return module

    kind = {each.name: each for each in (Flux1, Flux2, ZImage)}[family_of(folder)]
    dtype = dtype or compute_dtype()
    shapes = MODELS[model][4]

    class RandomFamily(kind):  # type: ignore[misc, valid-type]
        hashes = {"transformer": "random", "vae": "random", "text": "random"}  # noqa: RUF012

        def encode_each(self, prompts: Any) -> Any:
            told = {name: mx.random.normal(shape).astype(dtype) for name, shape in shapes.items()}
            told |= {"lengths": mx.array([100], dtype=mx.int32)} if self.name == "z_image" else {}
            return [told] * len(prompts)

    parts = {name: Part(*row) for name, row in kind.parts.items() if name in ("transformer", "vae")}
    dtypes = {"transformer": dtype, "vae": mx.float32}
    family = RandomFamily(RandomParts(folder, parts, dtypes, {"transformer": bits} if bits else {}), dtype)
    family.text_parts = ()
    return family


def measure(model: str, knobs: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A run in this process, which should be fresh: seconds, and the most bytes held, by what is measured."""
    from core.device import backend

    backend.prepare()
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from PIL import Image

    from core.config.resolve import resolve
    from core.dataset.examples import Example
    from core.files import sha256_of
    from core.models import quantized
    from core.training.events import Phase, Scored, Stepped
    from core.training.trainer import train

    user = {
        "steps": STEPS, "warmup_steps": 0, "rank": 16, "sample_steps": PICTURE_STEPS, "learning_rate": 1e-5,
        "sample_prompts": ["a photo of {trigger}"],
    } | knobs  # fmt: skip
    config = resolve(user | {"sample_every": user["steps"], "save_every": user["steps"]}).config
    side = config.side_px
    steps: list[float] = []
    pictures: list[float] = []
    scored_s, stepped_at = 0.0, 0.0
    peaks = {"photo": 0, "load": 0, "step": 0, "picture": 0, "most": 0}
    finished: Any = None

    def note_peak(kind: str) -> None:
        found = backend.peak_memory()
        backend.reset_peak_memory()
        peaks[kind], peaks["most"] = max(peaks[kind], found), max(peaks["most"], found)

    with tempfile.TemporaryDirectory() as scratch:
        family = random_family(write_configs(Path(scratch, "model"), model, changes), model, config.base_bits)
        photo = Path(scratch, "photo.png")
        Image.effect_noise((side, side), 60).convert("RGB").save(photo)
        example = Example(photo=photo, caption="sks", box=None, sha256=sha256_of(photo), name="photo")
        run = train(
            family, [example], config, Path(scratch, "run"), trigger="sks", class_word="", cache=Path(scratch, "cache")
        )
        drawing_since: float | None = None
        for progress in run:
            if isinstance(progress, Stepped):
                steps.append(progress.seconds)
                stepped_at = time.perf_counter()
                note_peak("step")
            elif isinstance(progress, Phase) and progress.name == "encoding photos":
                note_peak("photo")
            elif isinstance(progress, Phase) and progress.name == "drawing samples":
                drawing_since = drawing_since or time.perf_counter()  # a phase is told again between sampler steps
                note_peak("picture")
                if progress.done == progress.of:
                    pictures.append(time.perf_counter() - drawing_since)
                    drawing_since = None
            elif isinstance(progress, Scored):
                scored_s = time.perf_counter() - stepped_at
                note_peak("most" if progress.step else "load")
            else:
                note_peak("most")
            finished = progress  # the last thing that a run says
        parameters = {
            part: sum(math.prod(shape) for shape in quantized.whole_shapes(module).values())
            for part, module in (("transformer", family.transformer), ("vae", family._parts["vae"]))
        }
        weights = sum(value.nbytes for _, value in tree_flatten(family.transformer.parameters()))
    return {
        "device": str(mx.device_info().get("device_name", "cpu")),
        "weights": weights,
        "parameters": parameters,
        "step_s": statistics.median(steps[WARM:] or steps),
        "picture_s": pictures[-1],
        "score_s": scored_s,
        "loss_is_finite": finished.final_loss is not None,
        **peaks,
    }


def in_a_process(model: str, precision: str, activations: str, asked: argparse.Namespace) -> dict[str, Any]:
    """`measure` in a fresh process."""
    command = [sys.executable, "-m", "bench.full_size", "--one", "--models", model, "--precisions", precision]
    command += ["--activations", activations, "--side", str(asked.side), *(["--shrink"] if asked.shrink else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{model} at {precision}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def captions_read(model: str, shrink: bool) -> dict[str, Any]:
    """What reading captions with the model's text encoders takes."""
    from bench import text_encoding  # which writes its configs with this module

    return text_encoding.in_processes(model, text_encoding.CAPTIONS, shrink)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--precisions", nargs="+", default=["full", "4-bit"])
    parser.add_argument("--activations", nargs="+", choices=["all", "none"], default=["all", "none"])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--shrink", action="store_true", help="few narrow layers: to try the command, not to measure")
    parser.add_argument("--text", action="store_true", help="also read captions with text encoders of full size")
    parser.add_argument("--one", action="store_true", help="measure the first model in this process, print it as JSON")
    asked = parser.parse_args()
    if asked.one:
        knobs = {"base_precision": asked.precisions[0], "activations": asked.activations[0], "side_px": asked.side}
        print(json.dumps(measure(asked.models[0], knobs, SHRUNK if asked.shrink else {})))
        return
    print(f"{asked.side} px, batch 1, rank 16 on all block linears; a picture takes {PICTURE_STEPS} steps; GiB at most")
    others = [*(["text"] if asked.text else []), "photo", "load", "most"]
    head = f"{'model':<11}{'base':<7}{'kept':<6}{'weights':>8}{'step':>9}{'':>7}{'picture':>9}{'':>7}{'score':>9}"
    print(head + "".join(f"{name:>7}" for name in others) + "  device", flush=True)
    texts = {model: captions_read(model, asked.shrink)["peak"] for model in asked.models} if asked.text else {}
    for model, precision, activations in itertools.product(asked.models, asked.precisions, asked.activations):
        row = in_a_process(model, precision, activations, asked)
        row |= {"text": texts.get(model, 0), "most": max(row["most"], texts.get(model, 0))}
        sizes = {name: row[name] / GIB for name in ("weights", "step", "picture", *others)}
        print(
            f"{model:<11}{precision:<7}{activations:<6}"
            f"{sizes['weights']:>8.1f}{row['step_s']:>7.2f} s{sizes['step']:>7.1f}"
            f"{row['picture_s']:>7.1f} s{sizes['picture']:>7.1f}{row['score_s']:>7.2f} s"
            + "".join(f"{sizes[name]:>7.1f}" for name in others)
            + f"  {row['device']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
