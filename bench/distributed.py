"""How many photos a second several processes of one computer train on together, against one alone.

    python -m bench.distributed [--processes 2] [--backend ring|nccl] [--models pocket flux1-dev ...] [--batch 1]

Each process takes a batch of its own, so n processes train on n times the photos of a step; the figure is photos a
second, and the ratio what n are worth. Pocket is the real model; the others are full-size models with random weights,
the same in every process, as in bench/full_size.py. Steps are timed by the first process; those at the beginning, which
compile, are left out. "sum" is the part of a step from the end of its own gradient until it has everybody's: what the
others are slower by, and the sum itself.

With nccl each process has a card of its own. On a computer without one the processes share its cores, and the ratio
says more about that than about the ring. Processes get the environment that mlx.launch would give them, and
`mlx.launch --backend nccl -n 2 -- python -m bench.distributed --one --models flux1-dev` does start a row as well.
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

from bench import full_size

WARM = 3  # steps that compile
WIDTH = 12
HERE = "127.0.0.1"
LOOK_SECONDS = 0.2
SAID_CHARACTERS = 3000  # of a process that failed


def measure(asked: argparse.Namespace, model: str) -> None:
    """One process of a row; the first prints the row as JSON."""
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
        defaults, load = _model(asked, model, Path(scratch))
        group = init_process_group(rendezvous) if rendezvous else ALONE
        try:
            row = follow(group, load) if group.rank else _lead(asked, defaults, load, group, Path(scratch))
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


def _lead(asked: argparse.Namespace, defaults: dict[str, Any], load: Any, group: Any, scratch: Path) -> dict[str, Any]:
    """Seconds of a step, and of the sum in it, of a run that this process leads."""
    from PIL import Image

    from core.config.resolve import resolve
    from core.dataset.examples import Example
    from core.files import sha256_of
    from core.training.events import Stepped
    from core.training.trainer import train

    user = {
        "steps": asked.steps, "sample_every": 0, "save_every": asked.steps, "warmup_steps": 0, "side_px": asked.side,
        "rank": 16, "batch_size": asked.batch, "machines": group.size, "learning_rate": 1e-5,
        "activations": asked.activations, "base_precision": asked.precision,
    }  # fmt: skip
    config = resolve(user, defaults).config
    photo = scratch / "photo.png"
    Image.effect_noise((asked.side, asked.side), 60).convert("RGB").save(photo)
    examples = [Example(photo, sha256_of(photo), "a photo of sks can", name="photo")]
    places = {"folder": scratch / "run", "cache": scratch / "cache", "group": _Timed(group)}
    run = train(load(config), examples, config, trigger="sks", class_word="can", **places)
    steps = [progress.seconds for progress in run if isinstance(progress, Stepped)]
    return {"step_s": statistics.median(steps[WARM:]), "sum_s": statistics.median(places["group"].seconds[WARM:])}


class _Timed:
    """A group whose sums are timed."""

    def __init__(self, group: Any) -> None:
        self._group, self.seconds = group, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    def sum(self, *parts: Any) -> Any:
        import mlx.core as mx

        if self._group.size > 1:  # alone nothing is waited for
            mx.eval(*parts)
        began = time.perf_counter()
        found = self._group.sum(*parts)
        self.seconds.append(time.perf_counter() - began)
        return found


def _model(asked: argparse.Namespace, model: str, scratch: Path) -> tuple[dict[str, Any], Any]:
    """The model's own defaults, and a function of the run's settings that loads it."""
    if model == "pocket":
        from core.hub import catalog
        from core.models.load import load_family

        entry = catalog.find(model)
        return dict(entry.defaults), lambda config: load_family(entry.folder, quantize=config.base_bits)
    folder = full_size.write_configs(scratch / "model", model, full_size.SHRUNK if asked.shrink else {})
    return {}, lambda config: full_size.random_family(folder, model, config.base_bits)


def started(asked: argparse.Namespace, model: str, count: int) -> dict[str, Any]:
    """A row with so many processes. When one fails the others are ended, and what it said is told."""
    command = [sys.executable, "-m", "bench.distributed", "--one", "--models", model, "--batch", asked.batch]
    command += ["--steps", asked.steps, "--side", asked.side, "--activations", asked.activations]
    command += ["--precision", asked.precision, *(["--shrink"] if asked.shrink else [])]
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as open_files:
        told = Path(scratch, "hosts.json")
        told.write_text(json.dumps([[f"{HERE}:{asked.port + rank}"] for rank in range(count)]), encoding="utf-8")
        said = [open_files.enter_context(Path(scratch, f"{rank}.txt").open("w+")) for rank in range(count)]
        processes = [
            subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | environment(asked, rank, count, told),
            )
            for rank, file in enumerate(said)
        ]
        try:
            while any(codes := [process.poll() for process in processes]) or None in codes:
                time.sleep(LOOK_SECONDS)
                if any(codes):
                    ended = zip(codes, said, strict=True)
                    words = [f"Process {rank}, {code}: {_words(file)}" for rank, (code, file) in enumerate(ended)]
                    raise SystemExit("\n".join([f"{model} with {count}, batch {asked.batch}, failed.", *words]))
            return json.loads(next(line for line in _words(said[0]).splitlines() if line.startswith('{"step_s"')))
        finally:
            for process in processes:
                process.kill()
                process.wait()


def environment(asked: argparse.Namespace, rank: int, count: int, told: Path) -> dict[str, str]:
    """What one process is told; a backend wants its own variables, and with NCCL a process sees one card."""
    cards = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(asked.processes)))
    card = {"CUDA_VISIBLE_DEVICES": cards.split(",")[rank]} if asked.backend == "nccl" else {}
    if count == 1:
        return card
    if asked.backend == "ring":
        return {"MLX_RANK": str(rank), "MLX_HOSTFILE": str(told)}
    place = {"NCCL_HOST_IP": HERE, "NCCL_PORT": str(asked.port)}
    return {"MLX_RANK": str(rank), "MLX_WORLD_SIZE": str(count), **place, **card}


def _words(file: TextIO) -> str:
    file.seek(0)
    return file.read()[-SAID_CHARACTERS:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--backend", choices=("ring", "nccl"), default="ring")
    parser.add_argument("--models", nargs="+", choices=("pocket", *full_size.MODELS), default=["pocket"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--side", type=int, default=0, help="px; else 256 for Pocket and 512 for the others")
    parser.add_argument("--activations", choices=("as_fit", "all", "none"), default="all", help="the run's setting")
    parser.add_argument("--precision", default="full", help="of the base: full, 8-bit, 6-bit or 4-bit")
    parser.add_argument("--port", type=int, default=29_400, help="this one, the one below and those above must be free")
    parser.add_argument("--shrink", action="store_true", help="few narrow layers: to try the command, not to measure")
    parser.add_argument("--one", action="store_true", help="be one process of a row")
    asked = parser.parse_args()
    if asked.steps <= WARM:
        parser.error(f"--steps is {asked.steps}; the first {WARM} are not counted")
    given = asked.side
    if asked.one:
        asked.side = given or _side(asked.models[0])
        measure(asked, asked.models[0])
        return
    print(
        f"batch {asked.batch} for each process, rank 16, base {asked.precision}, kept activations {asked.activations}, "
        f"backend {asked.backend}, median of {asked.steps - WARM} steps"
    )
    heads = f"{'processes':>10}{'step':>10}{'sum':>10}{'photos/s':>10}{'ratio':>8}{'GiB':>7}  device"
    print(f"{'model':<{WIDTH}}{heads}", flush=True)
    for model in asked.models:
        asked.side = given or _side(model)
        alone = 0.0
        for count in (1, asked.processes):
            row = started(asked, model, count)
            pace = row["processes"] * asked.batch / row["step_s"]
            alone = alone or pace
            print(
                f"{model:<{WIDTH}}{row['processes']:>10}{row['step_s']:>8.3f} s{row['sum_s']:>8.3f} s{pace:>10.2f}"
                f"{pace / alone:>8.2f}{row['peak'] / full_size.GIB:>7.1f}  {row['device']}",
                flush=True,
            )


def _side(model: str) -> int:
    return 256 if model == "pocket" else 512


if __name__ == "__main__":
    main()
