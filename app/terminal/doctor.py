"""`likeness doctor`: this computer as Likeness sees it, MLX's kernels on it, and the speed of its models, in one file.

The file is for a report to strangers: it names no folders, no files, no captions, no tokens.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from app import __version__
from app.home import Home
from core import files
from core.device import backend, capabilities, conditions, hardware, metal
from core.device.capabilities import ABILITIES, KERNELS, Result
from core.device.gpu_lock import EXCLUSIVE
from core.device.identity import cache_folder, this_machine
from core.device.units import disk_size, memory_size
from core.errors import Problem, is_out_of_memory
from core.estimate import requirements
from core.hub import cache as hub_cache
from core.hub import catalog
from core.hub.catalog import Entry

Show = Callable[[str], object]
PACKAGES = ("mlx", "mlx-metal", "mlx-cpu", "mlx-cuda-13", "mlx-cuda-12", "numpy", "pillow", "scipy-openblas32")
SETTINGS = ("LIKENESS_DEVICE", "LIKENESS_FALLBACKS", "LIKENESS_SELFTEST", "MLX_ENABLE_TF32", "MLX_MAX_OPS_PER_BUFFER",
            "MLX_MAX_MB_PER_BUFFER", "MLX_METAL_GPU_ARCH", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE")  # fmt: skip


@dataclass(slots=True)
class Report:
    """Lines by section, for people and for the file; the same as tables for programs."""

    show: Show
    sections: dict[str, list[str]] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)

    def add(self, section: str, line: str) -> None:
        """Show a line, and keep it."""
        if section not in self.sections:
            self.sections[section] = []
            self.show(f"\n{section}")
        self.sections[section].append(line)
        self.show(f"  {line}")

    def as_json(self) -> dict[str, Any]:
        return {"lines": self.sections, **self.tables}

    def write(self, path: Path) -> None:
        """Write the lines to a file. Raises DiskProblem."""
        text = "\n".join(
            f"{name}\n{''.join(f'  {line}{chr(10)}' for line in lines)}" for name, lines in self.sections.items()
        )
        files.write_text(path, f"Likeness doctor\n\n{text}")


def examine(folders: Sequence[Path], home: Path, *, quick: bool, show: Show) -> Report:
    """Everything about this computer; `quick` times no model but Pocket."""
    report = Report(show)
    for line in _programs():
        report.add("Programs", line)
    for line in _computer(home):
        report.add("Computer", line)
    for sentence in conditions.sentences() or ["nothing to report"]:
        report.add("Conditions", sentence)
    results = capabilities.recall(this_machine()) or []
    report.tables["kernels"] = [asdict(each) for each in results]
    for line in _kernels(results):
        report.add("Kernels", line)
    for sentence in capabilities.sentences(results):
        report.add("Kernels", sentence)
    from core import self_test

    times, (heads, tokens) = self_test.gradient_times(), self_test.gradient_size()
    size = f"{heads} heads of 128, {tokens:,} tokens"
    report.add("Attention", f"with its gradient, {size}: {times['MLX']} ms by MLX, {times['chunks']} ms in chunks")
    for entry in catalog.models(folders).values():
        if entry.usable and (not quick or entry.name == catalog.POCKET):
            for line in _speeds(entry, home):
                report.add("Models", line)
    return report


def _programs() -> Iterator[str]:
    yield f"Likeness {__version__}, Python {platform.python_version()}"
    installed = {
        each.metadata["Name"].lower(): each.version for each in metadata.distributions() if each.metadata["Name"]
    }
    yield ", ".join(f"{name} {installed[name]}" for name in PACKAGES if name in installed)
    if given := [f"{name}={os.environ[name]}" for name in SETTINGS if os.environ.get(name)]:
        yield f"environment: {', '.join(given)}"


def _computer(home: Path) -> Iterator[str]:
    machine, described = this_machine(), backend.describe()
    yield f"{machine.chip}, {machine.system}"
    compiled = "compiled" if described["compiled"] else "not compiled"
    yield f"device {machine.device} ({described['device_name']}), {described['dtype']}, {compiled}"
    threads = f", {described['threads']} threads" if described["threads"] else ""
    yield f"matrix products: {described['blas']}{threads}. {described['note']}".strip()
    memory = hardware.machine_bytes()
    yield f"memory {memory_size(memory)}, of which arrays may take {memory_size(hardware.array_bytes())}"
    if machine.device in EXCLUSIVE:
        yield from _metal(memory)
    for words, folder in (("runs", Home(home).root), ("models", hub_cache.root()), ("the cache", cache_folder())):
        there = next(each for each in (folder, *folder.parents) if each.exists())
        yield f"free disk for {words}: {disk_size(shutil.disk_usage(there).free)}"


def _metal(memory: int) -> Iterator[str]:
    import mlx.core as mx

    set_by_user = hardware.wired_limit().strip()
    granted = hardware.apple_bytes(memory, set_by_user)
    yield f"iogpu.wired_limit_mb {set_by_user or 'unknown'}; macOS is taken to grant the GPU {memory_size(granted)}"
    recommended = int(mx.device_info().get("max_recommended_working_set_size", 0))
    limits = metal.limits(memory, recommended)
    yield (
        f"Metal recommends {memory_size(recommended)}; limits: arrays {memory_size(limits.memory)}, "
        f"resident {memory_size(limits.wired)}, cache {memory_size(limits.cache)}"
    )


def _kernels(results: Sequence[Result]) -> Iterator[str]:
    if not results:
        yield "not tested (LIKENESS_SELFTEST=off)"
    for each in results:
        words = KERNELS[each.kernel].words if each.kernel in KERNELS else ABILITIES[each.kernel]
        state = "right" if each.right else "WRONG"
        if each.kernel in ABILITIES:
            state = "used" if each.right else "not used"
        elif not each.right:
            state = f"WRONG, fallback {'right' if each.fallback_right else 'wrong too'}"
        off = "did not finish" if each.error is None else f"off by {each.error:.1e} of at most {each.tolerance:.1e}"
        yield f"{each.kernel:<19} {state}: {words}, {off}, {each.seconds:.2f} s{f'; {each.note}' if each.note else ''}"


def _speeds(entry: Entry, home: Path) -> Iterator[str]:
    """The time of a step and of a picture, with the precision and size that the forecast recommends."""
    from core.config.choices import BITS
    from core.models.load import load_family
    from core.training import speed

    needed = requirements.here(entry, home)
    best = next((each for each in needed.table if each.recommended), None) if needed else None
    if best is None or entry.folder is None:
        yield f"{_title(entry)}: {needed.sentence if needed else 'its memory cannot be predicted'}"
        return
    try:
        family = load_family(entry.folder, quantize=BITS[best.base_precision])
        drawing = entry.drawing
        found = speed.measure(family, best.side_px, int(drawing["steps"]), float(drawing["guidance"]))
    except Problem as problem:
        yield f"{_title(entry)}: {type(problem).__name__} ({problem.code})"
    except RuntimeError as error:
        yield f"{_title(entry)}: {'not enough memory' if is_out_of_memory(error) else str(error).splitlines()[0]}"
    else:
        yield (
            f"{_title(entry)}, {best.base_precision}, {best.side_px} px: a step {found.step:.2f} s, a picture of "
            f"{drawing['steps']} steps {found.picture:.1f} s, at most {memory_size(found.peak)}; "
            f"{memory_size(best.memory)} predicted"
        )


def _title(entry: Entry) -> str:
    """A known model by its name; a person's own folder may be called after anything."""
    return entry.title if entry.known is not None or entry.name == catalog.POCKET else "a model of your own"
