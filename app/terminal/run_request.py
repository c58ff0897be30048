"""What `likeness train` is asked for, checked before a model is loaded: every problem at once, exit code 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.terminal import distributed
from core.adapters import file as adapter_file
from core.config.layer_ranks import RANK_AT_MOST
from core.config.resolve import Resolved, examine
from core.dataset import class_folder
from core.dataset.examples import Example, read_folder
from core.distributed.hosts import Hosts
from core.errors import AdapterProblem, ConfigProblem, DataProblem, FieldProblem, ModelProblem
from core.hub import catalog
from core.training import checkpoint
from core.training.check import architecture_of, settings_problems, start_problems


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run that can start: its model, settings and photos."""

    entry: catalog.Entry
    resolved: Resolved
    examples: list[Example]
    left_out: list[FieldProblem]  # files that are not among the examples


def check_request(
    photos: Path,
    out: Path,
    subject: tuple[str, str],
    user: Mapping[str, Any],
    *,
    resume: bool,
    start_from: Path | None,
    folders: Sequence[Path],
    hosts: Hosts | None,
) -> RunRequest:
    """The request as `app.terminal.training.train_folder` takes it; `subject` is trigger and class word.

    Raises ConfigProblem that names every wrong setting and option; DataProblem when only the photos cannot be used.
    """
    problems: list[FieldProblem] = []
    entry: catalog.Entry | None = None
    with _collected(problems):
        entry = _model(str(user.get("model", "pocket")), folders)
    starts = start_from is not None and start_from.is_file()  # a resumed run no longer needs the file
    if start_from is not None and starts and entry is not None:
        with _collected(problems):
            rank = _start_rank(start_from, entry)
            user = {**user, "rank": rank, "alpha": rank}
    examined = examine({"machines": distributed.machine_count(hosts), **user}, entry.defaults if entry else {})
    with _collected(problems):
        _check_out(out, resume)
    with _collected(problems):
        _check_hosts(hosts, examined.resolved.config.machines)
    architecture = architecture_of(entry.path) if entry is not None else None
    examples, left_out, lack = _read_photos(photos, subject)
    names = [each.name for each in examples]
    settings = settings_problems(examined, architecture, names, starts=starts)
    with _collected(problems):
        _check_class_pictures(examined.resolved.config.class_folder, settings)
    found = [*settings, *problems]
    if found or entry is None:
        if lack is not None:
            found += lack.problems or [FieldProblem("PHOTOS", lack.message)]
        raise ConfigProblem("Nothing was trained: some settings need another look.", found)
    if lack is not None:
        raise lack
    return RunRequest(entry, examined.resolved, examples, left_out)


@contextmanager
def _collected(problems: list[FieldProblem]) -> Iterator[None]:
    """Add what is wrong to `problems` in place of raising ConfigProblem."""
    try:
        yield
    except ConfigProblem as problem:
        problems += problem.problems


def _read_photos(
    photos: Path, subject: tuple[str, str]
) -> tuple[list[Example], list[FieldProblem], DataProblem | None]:
    """The examples, what was left out, and why there are none."""
    try:
        return *read_folder(photos, *subject), None
    except DataProblem as problem:
        return [], [], problem


def _model(name: str, folders: Sequence[Path]) -> catalog.Entry:
    try:
        return catalog.find(name, folders)
    except ModelProblem as problem:
        raise ConfigProblem("Some settings need another look.", [FieldProblem("model", problem.message)]) from None


def _start_rank(file: Path, entry: catalog.Entry) -> int:
    """The rank of an adapter file that the run can start from. Raises ConfigProblem."""
    family = catalog.family_of(entry.path)
    problems = start_problems(file, file.name, entry.name, family, architecture_of(entry.path))
    try:
        rank = 0 if problems else adapter_file.read(file, family).rank
    except AdapterProblem as problem:
        problems = [FieldProblem("start_from", problem.message)]
    if problems:
        named = [FieldProblem("--from", each.message) for each in problems]
        raise ConfigProblem("Some settings need another look.", named)
    return min(rank, RANK_AT_MOST)


def _check_class_pictures(folder: str, known: Sequence[FieldProblem]) -> None:
    """Raise ConfigProblem for class pictures that cannot be read, in a folder that has no problem yet."""
    if folder and class_folder.KNOB not in {each.field for each in known}:
        class_folder.read(folder, "")


def _check_out(out: Path, resume: bool) -> None:
    """Raise ConfigProblem where training would replace a run."""
    saved = checkpoint.steps_saved(out)
    if saved and not resume:
        problem = FieldProblem("--out", f"{out} holds a run at step {saved[-1]}; add --resume, or use another folder")
        raise ConfigProblem("Nothing was trained.", [problem])


def _check_hosts(hosts: Hosts | None, machines: int) -> None:
    """Raise ConfigProblem where the hosts cannot share the run, which would then train on this machine alone."""
    if hosts is not None and hosts.taking_part(machines) < min(len(hosts.entries), 2):
        message = (
            f"names {len(hosts.entries)} machines, and they cannot share evenly the run's {machines} (the setting "
            "machines, which a run keeps); leave --hosts out, or start a new run with it"
        )
        raise ConfigProblem("Nothing was trained.", [FieldProblem("--hosts", message)])
