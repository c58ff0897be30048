"""Models at their full size, with random weights: time and memory of a training step and of a picture.

    python -m bench.full_size [--models flux1-dev ...] [--precisions full 4-bit] [--activations all none] [--side 512]
    python -m bench.full_size --precisions 4-bit --activations none --text      the whole job in the least memory

Each row is a real run (`core.training.trainer.train`) in a process of its own: a photo through the full-size VAE, AdamW
steps on an adapter of rank 16 on every linear layer of the blocks, then a sample picture, decoded. Weights and prompt
embeddings are random (bench/random_models.py). --text also reads captions with text encoders of full size, as
bench/text_encoding.py does; their files take up to 16 GB in the temporary folder.

Memory is the peak of MLX's arrays:

    step, picture    while stepping; while drawing, which reads the VAE from the disk
    text, photo      while captions and while photos are encoded
    load             while the base is loaded (drawn here, and packed tensor by tensor) and scored for the first time
    most             in the whole job

"score" is the time of scoring one photo, at four amounts of noise.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import text_encoding
from bench.process import run_bench
from bench.random_models import random_family
from bench.real_models import MODELS, SHRUNK, write_configs
from bench.units import GIB

STEPS = 6
PEAKS = ("photo", "load", "step", "picture", "most")
WARM = 2  # the first steps compile
PICTURE_STEPS = 20
KNOBS: dict[str, Any] = {
    "steps": STEPS, "warmup_steps": 0, "rank": 16, "sample_steps": PICTURE_STEPS, "learning_rate": 1e-5,
    "sample_prompts": ["a photo of {trigger}"],
}  # fmt: skip
FEW: dict[str, Any] = {"steps": 2, "sample_steps": 2}  # with --shrink


@dataclass(slots=True)
class Measured:
    """Seconds, and peak bytes by phase, of a run whose events are given to `add` one by one."""

    step_seconds: list[float] = field(default_factory=list)
    picture_seconds: list[float] = field(default_factory=list)
    score_seconds: float = 0.0
    peaks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PEAKS, 0))
    _stepped_at: float = 0.0
    _drawing_since: float | None = None

    def add(self, event: Any) -> None:
        from core.training.events import Phase, Scored, Stepped

        now = time.perf_counter()
        if isinstance(event, Stepped):
            self.step_seconds.append(event.seconds)
            self._stepped_at = now
            self._add_peak("step")
        elif isinstance(event, Phase) and event.name == "encoding photos":
            self._add_peak("photo")
        elif isinstance(event, Phase) and event.name == "drawing samples":
            self._drawing_since = self._drawing_since or now  # the phase is reported again between sampler steps
            self._add_peak("picture")
            if event.done == event.of:
                self.picture_seconds.append(time.perf_counter() - self._drawing_since)
                self._drawing_since = None
        elif isinstance(event, Scored):
            self.score_seconds = now - self._stepped_at
            self._add_peak("most" if event.step else "load")
        else:
            self._add_peak("most")

    def _add_peak(self, phase: str) -> None:
        from core.device import backend

        peak = backend.peak_memory()
        backend.reset_peak_memory()
        self.peaks[phase], self.peaks["most"] = max(self.peaks[phase], peak), max(self.peaks["most"], peak)


def measure(model: str, knobs: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A run in this process, which should be fresh: seconds, and peak bytes by phase."""
    from core.device import backend

    backend.prepare()
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from PIL import Image

    from core.config.resolve import resolve
    from core.dataset.examples import Example
    from core.files import sha256_of
    from core.training.trainer import train

    user = KNOBS | knobs
    config = resolve(user | {"sample_every": user["steps"], "save_every": user["steps"]}).config
    measured = Measured()
    event: Any = None
    with tempfile.TemporaryDirectory() as scratch:
        family = random_family(write_configs(Path(scratch, "model"), model, changes), model, config.base_bits)
        photo = Path(scratch, "photo.png")
        Image.effect_noise((config.side_px, config.side_px), 60).convert("RGB").save(photo)
        example = Example(photo=photo, caption="sks", box=None, sha256=sha256_of(photo), name="photo")
        run = train(
            family, [example], config, Path(scratch, "run"), trigger="sks", class_word="", cache=Path(scratch, "cache")
        )
        for event in run:
            measured.add(event)
        parameters = family.parameter_counts()
        weights = sum(value.nbytes for _, value in tree_flatten(family.transformer.parameters()))
    return {
        "device": str(mx.device_info().get("device_name", "cpu")),
        "weights": weights,
        "parameters": parameters,
        "step_s": statistics.median(measured.step_seconds[WARM:] or measured.step_seconds),
        "picture_s": measured.picture_seconds[-1],
        "score_s": measured.score_seconds,
        "loss_is_finite": event.final_loss is not None,
        **measured.peaks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--precisions", nargs="+", default=["full", "4-bit"])
    parser.add_argument("--activations", nargs="+", choices=["all", "none"], default=["all", "none"])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument(
        "--shrink", action="store_true", help="few narrow layers and steps: to try the command, not to measure"
    )
    parser.add_argument("--text", action="store_true", help="also read captions with text encoders of full size")
    parser.add_argument("--one", action="store_true", help="measure the first model in this process, print it as JSON")
    options = parser.parse_args()
    if options.one:
        knobs = {"base_precision": options.precisions[0], "activations": options.activations[0]}
        knobs |= {"side_px": options.side} | (FEW if options.shrink else {})
        row = measure(options.models[0], knobs, SHRUNK if options.shrink else {})
        print(json.dumps(row))
        return
    print_table(options)


def print_table(options: argparse.Namespace) -> None:
    print(f"{options.side} px, batch 1, rank 16 on all block linears; {PICTURE_STEPS} steps a picture; peaks in GiB")
    others = [*(["text"] if options.text else []), "photo", "load", "most"]
    head = f"{'model':<11}{'base':<7}{'kept':<6}{'weights':>8}{'step':>9}{'':>7}{'picture':>9}{'':>7}{'score':>9}"
    print(head + "".join(f"{name:>7}" for name in others) + "  device", flush=True)
    text_peaks = dict.fromkeys(options.models, 0)
    if options.text:
        for model in options.models:
            captions = 1 if options.shrink else text_encoding.CAPTIONS
            text_peaks[model] = text_encoding.measure_model(model, captions, options.shrink)["peak"]
    shrink = ["--shrink"] if options.shrink else []
    for model, precision, activations in itertools.product(options.models, options.precisions, options.activations):
        chosen = ["--models", model, "--precisions", precision, "--activations", activations, "--side", options.side]
        row = run_bench("full_size", "--one", *chosen, *shrink)
        row |= {"text": text_peaks[model], "most": max(row["most"], text_peaks[model])}
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
