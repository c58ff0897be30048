"""A requested run, checked as far as possible before its worker starts (core/training/check.py has the rules)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from app.actions import models, run_presets, runs
from app.actions.run_presets import Chosen
from app.database import Database
from app.settings import hosts_of, value_of
from app.tables import Adapter
from core.config.layer_ranks import RANK_AT_MOST
from core.config.resolve import Examined, Resolved, examine
from core.config.train import TrainConfig
from core.dataset import class_folder
from core.errors import ConfigProblem, FieldProblem, Problem
from core.estimate.architecture import Architecture
from core.training.check import architecture_of, in_order, settings_problems, start_problems

ID_DIGITS = 19  # numbers with as many may be too large for the database


@dataclass(frozen=True, slots=True)
class RunRequest:
    """The settings of a run that somebody asks for, and what is wrong with them apart from the photos."""

    name: str  # empty for the studio's own
    start: dict[str, Any] | None  # the adapter to start from, as the job's parameters have it
    presets: dict[str, Any]  # the names of presets and configuration, for the job's parameters
    examined: Examined
    architecture: Architecture | None  # None for a model that is not here, or whose files say too little
    others: list[FieldProblem]  # with the name, the adapter, the model's folder, the machines

    @property
    def resolved(self) -> Resolved:
        return self.examined.resolved

    def class_hashes(self) -> list[str]:
        """The hashes of the user's own class pictures. Raises ConfigProblem that names those that cannot be read."""
        folder = self.resolved.config.class_folder
        return [each.sha256 for each in class_folder.read(folder, "")] if folder else []

    def problems(self, photos: Sequence[str]) -> list[FieldProblem]:
        """Every problem with a run on the photos of these names, in the order of the form."""
        lack = FieldProblem("photos", "there are none in this project yet; add at least one, better five to twenty")
        settings = settings_problems(self.examined, self.architecture, photos, starts=self.start is not None)
        return in_order([*settings, *self.others]) + ([] if photos else [lack])


def examine_request(
    database: Database, knobs: Mapping[str, Any], name: str, start_from: Any, chosen: Chosen, photos: int
) -> RunRequest:
    """Check name, knobs and adapter, `start_from` by its id; the photos follow in `RunRequest.problems`.

    Of the photos only their number counts here: the presets in `chosen` go by it.
    """
    configuration, others = run_presets.configuration_of(database, chosen)
    model = knobs.get("model") or (configuration.settings.get("model") if configuration else None)
    model = str(model or TrainConfig().model).strip()
    known = models.names(database, to_train=True)
    architecture, family, defaults = None, "", {}
    if model in known:
        try:
            entry = models.find(database, model)
            architecture, family, defaults = architecture_of(entry.path), entry.family or "", dict(entry.defaults)
        except Problem as problem:
            others.append(FieldProblem("model", problem.message))
    with database.read() as session:
        start, problems = _start(database, session, start_from, model, architecture)
    rank = min(start["rank"], RANK_AT_MOST) if start else 0
    layers = run_presets.layers_of(chosen, defaults, family, photos, configuration)
    examined = examine(
        {**knobs, **({"rank": rank, "alpha": rank} if start else {})}, defaults, {"model": known},
        preset=layers.preset, configuration=layers.configuration,
    )  # fmt: skip
    others += [*layers.problems, *problems, *_machines_problems(database, examined.resolved.config.machines)]
    try:
        name = runs.checked_name(name) if name.strip() else ""
    except ConfigProblem as problem:
        others += problem.problems
    return RunRequest(name, start, layers.params, examined, architecture, others)


def _start(
    database: Database, session: Session, adapter_id: Any, model: str, architecture: Architecture | None
) -> tuple[dict[str, Any] | None, list[FieldProblem]]:
    """The adapter to start from, as the job's parameters have it, and the problems with it."""
    if adapter_id in (None, ""):
        return None, []
    number = str(adapter_id)
    row = session.get(Adapter, int(number)) if number.isdecimal() and len(number) < ID_DIGITS else None
    if row is None:
        return None, [FieldProblem("start_from", f"is {number[:ID_DIGITS]!r}; there is no such adapter")]
    start = {"id": row.id, "name": row.name, "file": row.file, "sha256": row.sha256, "rank": row.rank}
    if row.model != model:
        return start, [FieldProblem("start_from", f"{row.name} was made for {row.model}, not for {model}")]
    family = architecture.family if architecture is not None else ""
    return start, start_problems(database.home.file(row.file), row.name, model, family, architecture)


def _machines_problems(database: Database, machines: int) -> list[FieldProblem]:
    """The problems with the number of machines, given the hosts file of the settings."""
    if machines == 1:
        return []
    with database.read() as session:
        path = value_of(session, "hosts_file")
    try:
        hosts = hosts_of(path)
    except ConfigProblem as problem:
        return [FieldProblem("machines", f"is {machines}. {problem}")]
    if hosts is None:
        return [FieldProblem("machines", f"is {machines}, and the settings name no hosts file")]
    if machines > len(hosts.entries):
        return [FieldProblem("machines", f"is {machines}; the hosts file names {len(hosts.entries)}")]
    return []
