"""How far the forecast of a run's memory is off: predicted and measured peaks of whole runs, on this computer.

    python -m bench.memory_estimate

Pocket with its text encoders, and middling networks of every family with random weights, whose texts are drawn: other
widths, depths, sizes, batches, ranks and precisions. Every row is a run of its own (`core.training.trainer.train`, two
steps and two pictures), in a fresh process; measured is the most that MLX's arrays held from its start to its end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

FLUX = {"num_attention_heads": 2, "num_layers": 2, "num_single_layers": 3}
Z_IMAGE = {"dim": 256, "n_heads": 2, "n_kv_heads": 2, "n_layers": 5}
LARGE_ADAPTER = {"side_px": 64, "batch_size": 1, "activations": "none", "rank": 256}  # its update takes the most
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
]
KNOBS = {"steps": 2, "sample_steps": 2, "sample_prompts": ["a photo of {trigger}"], "warmup_steps": 0}


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
        from bench.full_size import measure, write_configs

        found = measure(model, KNOBS | knobs, changes)
        with tempfile.TemporaryDirectory() as scratch:
            architecture = replace(Architecture.of(write_configs(Path(scratch), model, changes)), **found["parameters"])
        config = resolve(KNOBS | {"rank": 16} | knobs).config
        forecast = memory.needs(architecture, config, this_computer(Path.cwd()), 1)
        return {"predicted": forecast.memory, "measured": found["most"]}
    entry = catalog.find("pocket")
    config = resolve(KNOBS | {"sample_every": 2} | knobs, entry.defaults).config
    examples, _ = read_folder(assets.EXAMPLES, assets.EXAMPLE_TRIGGER, assets.EXAMPLE_CLASS_WORD)
    with tempfile.TemporaryDirectory() as scratch:
        words = {"trigger": assets.EXAMPLE_TRIGGER, "class_word": assets.EXAMPLE_CLASS_WORD}
        out, cache = Path(scratch, "run"), Path(scratch, "cache")
        *_, last = train(load_family(entry.folder), examples, config, out, **words, cache=cache)
    assert isinstance(last, Finished)
    forecast = memory.needs(Architecture.of(entry.folder), config, this_computer(Path.cwd()), len(examples))
    return {"predicted": forecast.memory, "measured": last.peak_memory_bytes}


def in_a_process(number: int) -> dict[str, int]:
    """`run` in a fresh process."""
    command = [sys.executable, "-m", "bench.memory_estimate", "--one", str(number)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{ROWS[number]}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps(run(asked.one)))
        return
    print(f"{'predicted':>9}{'measured':>10}{'ratio':>7}   MB; model, settings")
    for number, (model, changes, knobs) in enumerate(ROWS):
        row = in_a_process(number)
        said = ", ".join(f"{name} {value}" for name, value in (changes | knobs).items())
        predicted, measured = row["predicted"] / 2**20, row["measured"] / 2**20
        print(f"{predicted:>9.0f}{measured:>10.0f}{predicted / measured:>7.2f}   {model}: {said}", flush=True)


if __name__ == "__main__":
    main()
