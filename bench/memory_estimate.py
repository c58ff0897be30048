"""The forecast of a run's memory against the measured peaks of whole runs, on this computer.

    python -m bench.memory_estimate

Pocket with its text encoders, and networks of every family with random weights and random prompt embeddings, in several
widths, depths, picture sizes, batch sizes, ranks and precisions. Every row is a run (`core.training.trainer.train`, two
steps and two pictures) in a fresh process; measured is the peak of MLX's arrays over the whole run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.process import run_bench
from bench.real_models import write_configs
from bench.units import MIB

FLUX = {"num_attention_heads": 2, "num_layers": 2, "num_single_layers": 3}
Z_IMAGE = {"dim": 256, "n_heads": 2, "n_kv_heads": 2, "n_layers": 5}
CHROMA = FLUX | {"approximator_hidden_dim": 96}
LARGE_ADAPTER = {"side_px": 64, "batch_size": 1, "activations": "none", "rank": 256}  # its update is the peak
ROWS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [  # model, changes to its config, knobs
    ("pocket", {}, {"activations": "all"}),
    ("pocket", {}, {"side_px": 384, "batch_size": 1, "rank": 64}),
    ("flux1-dev", FLUX, {"side_px": 256}),
    ("flux1-dev", FLUX | {"num_single_layers": 8}, {"side_px": 192, "activations": "none", "rank": 32}),
    ("flux1-dev", FLUX | {"num_attention_heads": 4}, {"side_px": 256, "base_precision": "4-bit"}),
    ("klein-4b", FLUX, {"side_px": 256, "batch_size": 2}),
    ("klein-4b", FLUX | {"num_layers": 4}, {"side_px": 320, "activations": "none"}),
    ("klein-4b", FLUX | {"num_attention_heads": 3}, {"side_px": 192, "base_precision": "8-bit"}),
    ("z-image", Z_IMAGE, {"side_px": 256}),
    ("z-image", Z_IMAGE | {"n_layers": 9}, {"side_px": 256, "batch_size": 3}),
    ("z-image", Z_IMAGE, {"side_px": 384, "activations": "none", "base_precision": "6-bit"}),
    ("pocket", {}, LARGE_ADAPTER | {"optimizer": "prodigy"}),
    ("pocket", {}, LARGE_ADAPTER | {"optimizer": "lion", "ema_decay": 0.9}),
    ("chroma1-hd", CHROMA, {"side_px": 256}),
    ("chroma1-hd", CHROMA | {"num_single_layers": 8}, {"side_px": 320, "activations": "none", "rank": 32}),
    ("flux3-klein-base", FLUX, {"side_px": 256, "batch_size": 2}),
    ("flux3-klein-base", FLUX | {"num_single_layers": 8}, {"side_px": 320, "activations": "none"}),
    ("pocket", {}, {"activations": "all", "class_preservation": 1.0}),
    ("pocket", {}, {"side_px": 384, "activations": "none", "class_preservation": 1.0}),
]
KNOBS = {  # few of everything that comes one after the other: the peak is that of one
    "steps": 2, "sample_steps": 1, "score_draws": 1, "sample_prompts": ["a photo of {trigger}"], "warmup_steps": 0,
}  # fmt: skip
PHOTOS = {"held_out": "1"}  # of three


def run(number: int) -> dict[str, int]:
    """Row `number` in this process: bytes predicted and measured."""
    from core.device import backend

    backend.prepare()
    from core.config.resolve import resolve
    from core.dataset.examples import read_folder
    from core.device.hardware import this_computer
    from core.estimate import memory
    from core.estimate.architecture import Architecture
    from core.hub import catalog
    from core.models.load import load_family
    from core.pocket import assets
    from core.training.events import Finished
    from core.training.trainer import train

    model, changes, knobs = ROWS[number]
    if model != "pocket":
        from bench.full_size import measure

        row = measure(model, KNOBS | knobs, changes)
        with tempfile.TemporaryDirectory() as scratch:
            architecture = replace(Architecture.of(write_configs(Path(scratch), model, changes)), **row["parameters"])
        config = resolve(KNOBS | {"rank": 16} | knobs).config
        forecast = memory.needs(architecture, config, this_computer(Path.cwd()), 1)
        return {"predicted": forecast.memory, "measured": row["most"]}
    entry = catalog.find("pocket")
    config = resolve(KNOBS | PHOTOS | {"sample_every": 2} | knobs, entry.defaults).config
    examples = read_folder(assets.EXAMPLES, assets.EXAMPLE_TRIGGER, assets.EXAMPLE_CLASS_WORD)[0][:3]
    with tempfile.TemporaryDirectory() as scratch:
        words = {"trigger": assets.EXAMPLE_TRIGGER, "class_word": assets.EXAMPLE_CLASS_WORD}
        out, cache = Path(scratch, "run"), Path(scratch, "cache")
        *_, last = train(load_family(entry.folder), examples, config, out, **words, cache=cache)
    assert isinstance(last, Finished)
    forecast = memory.needs(Architecture.of(entry.folder), config, this_computer(Path.cwd()), len(examples))
    return {"predicted": forecast.memory, "measured": last.peak_memory_bytes}


def in_a_process(number: int) -> dict[str, int]:
    """`run` in a fresh process."""
    return run_bench("memory_estimate", "--one", number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(run(options.one)))
        return
    print(f"{'predicted':>9}{'measured':>10}{'ratio':>7}   MB; model, settings")
    for number, (model, changes, knobs) in enumerate(ROWS):
        row = in_a_process(number)
        changed = ", ".join(f"{name} {value}" for name, value in (changes | knobs).items())
        predicted, measured = row["predicted"] / MIB, row["measured"] / MIB
        print(f"{predicted:>9.0f}{measured:>10.0f}{predicted / measured:>7.2f}   {model}: {changed}", flush=True)


if __name__ == "__main__":
    main()
