"""Photos a second of one run shared by several processes of one computer, against a run in one process.

    python -m bench.distributed [--processes 2] [--backend ring|nccl] [--models pocket flux1-dev ...] [--batch 1]

Each process takes a batch of its own, so a step of n processes trains on n times the photos; the ratio compares photos
a second with one process. Pocket is the real model; the others are full-size models with random weights, the same in
every process (bench/random_models.py). Rank 0 times the steps; the first ones, which compile, are left out. "sum" is
the part of a step between its own gradient and the summed one: waiting for slower ranks, and the all-reduce.

With nccl each process has a card of its own. Without one the processes share the computer's cores, and the ratio says
more about that than about the ring. Processes get the environment that mlx.launch sets; a row can also be started by
`mlx.launch --backend nccl -n 2 -- python -m bench.distributed --one --models flux1-dev`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from bench.random_models import random_family
from bench.real_models import MODELS, SHRUNK, write_configs
from bench.units import GIB

WARM = 3  # steps that compile
WIDTH = 12
HERE = "127.0.0.1"
POLL_SECONDS = 0.2
OUTPUT_CHARACTERS = 3000  # shown of a process that failed


def measure(options: argparse.Namespace, model: str) -> None:
    """Be one process of a row; rank 0 prints the row as JSON."""
    from core.device import backend

    backend.prepare()
    import mlx.core as mx

    from core.distributed.peer import follow
    from core.distributed.process_group import init_process_group
    from core.distributed.rendezvous import Rendezvous
    from core.training.group import ALONE

    rendezvous = Rendezvous.from_environment()
    if rendezvous and not mx.distributed.is_available(rendezvous.backend):
        raise SystemExit(f"This MLX was built without {rendezvous.backend}.")
    with tempfile.TemporaryDirectory() as scratch:
        defaults, load = _model(options, model, Path(scratch))
        group = init_process_group(rendezvous) if rendezvous else ALONE
        try:
            row = follow(group, load) if group.rank else _lead(options, defaults, load, group, Path(scratch))
        except BaseException as error:
            if group is not ALONE:
                group.close(problem=str(error) or type(error).__name__)
            raise
        if group is not ALONE:
            group.close()
    if row is not None:
        device = str(mx.device_info().get("device_name", "cpu"))
        row |= {"peak": backend.peak_memory(), "device": device, "processes": group.size}
        sys.stdout.write(json.dumps(row) + "\n")


def _lead(
    options: argparse.Namespace, defaults: dict[str, Any], load: Any, group: Any, scratch: Path
) -> dict[str, Any]:
    """Run as rank 0; the median seconds of a step, and of the sum in it."""
    from PIL import Image

    from core.config.resolve import resolve
    from core.dataset.examples import Example
    from core.files import sha256_of
    from core.training.events import Stepped
    from core.training.trainer import train

    user = {
        "steps": options.steps, "sample_every": 0, "save_every": options.steps, "warmup_steps": 0, "rank": 16,
        "side_px": options.side, "batch_size": options.batch, "machines": group.size, "learning_rate": 1e-5,
        "activations": options.activations, "base_precision": options.precision,
    }  # fmt: skip
    config = resolve(user, defaults).config
    photo = scratch / "photo.png"
    Image.effect_noise((options.side, options.side), 60).convert("RGB").save(photo)
    examples = [Example(photo, sha256_of(photo), "a photo of sks can", name="photo")]
    places = {"folder": scratch / "run", "cache": scratch / "cache", "group": _Timed(group)}
    run = train(load(config), examples, config, trigger="sks", class_word="can", **places)
    steps = [progress.seconds for progress in run if isinstance(progress, Stepped)]
    return {"step_s": statistics.median(steps[WARM:]), "sum_s": statistics.median(places["group"].seconds[WARM:])}


class _Timed:
    """A process group whose sums are timed."""

    def __init__(self, group: Any) -> None:
        self._group, self.seconds = group, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    def sum(self, *parts: Any) -> Any:
        import mlx.core as mx

        if self._group.size > 1:  # a sum of one is no all-reduce
            mx.eval(*parts)
        began = time.perf_counter()
        total = self._group.sum(*parts)
        self.seconds.append(time.perf_counter() - began)
        return total


def _model(options: argparse.Namespace, model: str, scratch: Path) -> tuple[dict[str, Any], Any]:
    """The model's default knobs, and a function that loads it for a config."""
    if model == "pocket":
        from core.hub import catalog
        from core.models.load import load_family

        entry = catalog.find(model)
        return dict(entry.defaults), lambda config: load_family(entry.folder, quantize=config.base_bits)
    folder = write_configs(scratch / "model", model, SHRUNK if options.shrink else {})
    return {}, lambda config: random_family(folder, model, config.base_bits)


def run_row(options: argparse.Namespace, model: str, count: int) -> dict[str, Any]:
    """A row measured with this many processes. Raises SystemExit with their outputs when one fails."""
    command = [sys.executable, "-m", "bench.distributed", "--one", "--models", model, "--batch", options.batch]
    command += ["--steps", options.steps, "--side", options.side, "--activations", options.activations]
    command += ["--precision", options.precision, *(["--shrink"] if options.shrink else [])]
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as open_files:
        hostfile = Path(scratch, "hosts.json")
        hostfile.write_text(json.dumps([[f"{HERE}:{options.port + rank}"] for rank in range(count)]), encoding="utf-8")
        outputs = [open_files.enter_context(Path(scratch, f"{rank}.txt").open("w+")) for rank in range(count)]
        processes = [
            subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | environment(options, rank, count, hostfile),
            )
            for rank, file in enumerate(outputs)
        ]
        try:
            while any(codes := [process.poll() for process in processes]) or None in codes:
                time.sleep(POLL_SECONDS)
                if any(codes):
                    ended = zip(codes, outputs, strict=True)
                    lines = [
                        f"Process {rank}, exit code {code}: {_read_end(file)}"
                        for rank, (code, file) in enumerate(ended)
                    ]
                    raise SystemExit("\n".join([f"{model} with {count}, batch {options.batch}, failed.", *lines]))
            return json.loads(next(line for line in _read_end(outputs[0]).splitlines() if line.startswith('{"step_s"')))
        finally:
            for process in processes:
                process.kill()
                process.wait()


def environment(options: argparse.Namespace, rank: int, count: int, hostfile: Path) -> dict[str, str]:
    """The variables that mlx.launch would set for this rank; with NCCL each process sees one card."""
    cards = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(options.processes)))
    card = {"CUDA_VISIBLE_DEVICES": cards.split(",")[rank]} if options.backend == "nccl" else {}
    if count == 1:
        return card
    if options.backend == "ring":
        return {"MLX_RANK": str(rank), "MLX_HOSTFILE": str(hostfile)}
    place = {"NCCL_HOST_IP": HERE, "NCCL_PORT": str(options.port)}
    return {"MLX_RANK": str(rank), "MLX_WORLD_SIZE": str(count), **place, **card}


def _read_end(file: TextIO) -> str:
    file.seek(0)
    return file.read()[-OUTPUT_CHARACTERS:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--backend", choices=("ring", "nccl"), default="ring")
    parser.add_argument("--models", nargs="+", choices=("pocket", *MODELS), default=["pocket"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--side", type=int, default=0, help="px; else 256 for Pocket and 512 for the others")
    parser.add_argument("--activations", choices=("as_fit", "all", "none"), default="all", help="the run's setting")
    parser.add_argument("--precision", default="full", help="of the base: full, 8-bit, 6-bit or 4-bit")
    parser.add_argument("--port", type=int, default=29_400, help="this one, the one below and those above must be free")
    parser.add_argument("--shrink", action="store_true", help="few narrow layers: to try the command, not to measure")
    parser.add_argument("--one", action="store_true", help="be one process of a row")
    options = parser.parse_args()
    if options.steps <= WARM:
        parser.error(f"--steps is {options.steps}; the first {WARM} are not counted")
    given = options.side
    if options.one:
        options.side = given or _side(options.models[0])
        measure(options, options.models[0])
        return
    print(
        f"batch {options.batch} for each process, rank 16, base {options.precision}, "
        f"kept activations {options.activations}, backend {options.backend}, median of {options.steps - WARM} steps"
    )
    heads = f"{'processes':>10}{'step':>10}{'sum':>10}{'photos/s':>10}{'ratio':>8}{'GiB':>7}  device"
    print(f"{'model':<{WIDTH}}{heads}", flush=True)
    for model in options.models:
        options.side = given or _side(model)
        alone = 0.0
        for count in (1, options.processes):
            row = run_row(options, model, count)
            pace = row["processes"] * options.batch / row["step_s"]
            alone = alone or pace
            print(
                f"{model:<{WIDTH}}{row['processes']:>10}{row['step_s']:>8.3f} s{row['sum_s']:>8.3f} s{pace:>10.2f}"
                f"{pace / alone:>8.2f}{row['peak'] / GIB:>7.1f}  {row['device']}",
                flush=True,
            )


def _side(model: str) -> int:
    return 256 if model == "pocket" else 512


if __name__ == "__main__":
    main()
