"""Adapters to draw with: the checkpoints of runs, and imported files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from app.actions import models, runs, unreferenced
from app.database import Database
from app.errors import Conflict, NotFound
from app.tables import Adapter, Checkpoint, Project, Run
from core import files
from core.adapters import contents, key_maps, peft_config
from core.adapters.contents import Part
from core.dataset import names
from core.errors import AdapterProblem, ModelProblem, disk_errors_as_problem
from core.hub import catalog
from core.safetensors_file import Header, read_header, weight_files

BYTES_AT_MOST = 2 * 2**30
CONFIG_BYTES_AT_MOST = peft_config.BYTES_AT_MOST
TRIGGER_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class AdapterView:
    """One adapter."""

    id: int
    name: str
    model: str
    run_id: int | None  # None for an imported one
    project_id: int | None
    step: int | None  # None also for the mean of several checkpoints of a run
    rank: int
    trigger: str
    class_word: str
    sha256: str
    file_url: str
    created_at: datetime
    warnings: list[str] = field(default_factory=list)  # of its import; each continues its name


def list_adapters(database: Database, after: int = 0, limit: int = 500) -> list[AdapterView]:
    """Adapters with an id above `after`, oldest first."""
    with database.read() as session:
        chosen = select(Adapter).where(col(Adapter.id) > after).order_by(col(Adapter.id)).limit(limit)
        return [_view(session, row) for row in session.exec(chosen).all()]


def labels(database: Database) -> dict[int, str]:
    """Each adapter's name where one is chosen, by its id: "Miso, Run 3, step 300", "Red can (imported)"."""
    columns = (col(Adapter.id), col(Adapter.name), col(Project.name), col(Run.name), col(Checkpoint.step))
    query = (
        select_columns(*columns)
        .select_from(Adapter)
        .outerjoin(Run, col(Run.id) == col(Adapter.run_id))
        .outerjoin(Project, col(Project.id) == col(Run.project_id))
        .outerjoin(Checkpoint, col(Checkpoint.id) == col(Adapter.checkpoint_id))
    )
    with database.read() as session:
        rows = session.connection().execute(query).all()
    return {
        int(number or 0): _label(name, f"{project}, {run}" if run is not None else "", step)
        for number, name, project, run, step in rows
    }


def _label(name: str, run: str, step: int | None) -> str:
    """An average of a run's checkpoints has no step, and its name says what it is."""
    if not run:
        return f"{name} (imported)"
    return name if step is None else f"{run}, step {step}"


def with_hash(session: Session, database: Database, sha256: str, settings: str = "") -> Adapter | None:
    """The adapter whose file has this hash, and whose adapter_config.json, if it has one, has the hash `settings`."""
    rows = session.exec(select(Adapter).where(Adapter.sha256 == sha256).order_by(col(Adapter.id).desc()))
    fitting = (row for row in rows if settings_of(database, row).get("settings", "") == settings)
    return next((row for row in fitting if database.home.file(row.file).is_file()), None)


def get_adapter(database: Database, adapter_id: int) -> AdapterView:
    """Raises NotFound."""
    with database.read() as session:
        return _view(session, find(session, adapter_id))


def import_file(
    database: Database, name: str, upload: Path, sha256: str, model: str | None, config: bytes = b""
) -> tuple[AdapterView, bool]:
    """Import the adapter file at `upload` (moved from there); False when the same bytes were here already.

    `config` is the adapter_config.json that came with it. Without a `model` it is the first one on this computer whose
    layers the file fits. The trigger is read from the header. The file is checked by its header (core/adapters/
    contents.py), and for zeros.

    Raises AdapterProblem, NotFound for an unknown model, ModelProblem for a broken one, DiskProblem.
    """
    shown = names.shown(name)
    header = contents.header_of(upload, shown)
    model = model or _model_for(database, header, shown)
    parts = contents.parts_of(header, models.family_of(database, model), shown)
    settings = _settings_text(config, shown)
    assumed = contents.check(upload, header, parts, shown, settings)
    warnings = [contents.ALPHA_ASSUMED] if assumed else []
    trigger = trigger_of(header)
    title = Path(name.replace("\\", "/")).name.removesuffix(".safetensors").strip()[:100] or "adapter"
    with database.write() as session:
        chosen = select(Adapter).where(Adapter.sha256 == sha256, col(Adapter.run_id).is_(None))
        same = [row for row in session.exec(chosen).all() if _config_of(database, row) == config]
        if same:
            same[0].trigger = same[0].trigger or trigger  # earlier versions did not read it,
            same[0].model = model  # and took every file of the Pictures page for Pocket's
            session.add(same[0])
            return replace(_view(session, same[0]), warnings=warnings), False
        target = _place(database, upload, names.clean(name, "safetensors"), sha256, config)
        rank = contents.largest_rank(parts)
        row = Adapter(name=title, model=model, file=database.home.relative(target), sha256=sha256, rank=rank)
        row.trigger = trigger
        session.add(row)
        session.flush()
        return replace(_view(session, row), warnings=warnings), True


def trigger_of(header: Header) -> str:
    """The trigger that a file names, as ours do; empty if it names none."""
    text = header.metadata.get(key_maps.TRIGGER, "")
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:TRIGGER_CHARACTERS].strip()


def rename(database: Database, adapter_id: int, name: str) -> AdapterView:
    """Rename an imported adapter, or the mean of several checkpoints.

    Raises NotFound, ConfigProblem, and Conflict for one of a run.
    """
    with database.write() as session:
        row = find(session, adapter_id)
        if row.checkpoint_id is not None:
            raise Conflict("This adapter belongs to a run; rename the run instead.")
        row.name = runs.checked_name(name, "adapter")
        session.add(row)
        return _view(session, row)


def delete(database: Database, adapter_id: int) -> None:
    """Remove an imported adapter, or the mean of several checkpoints; its file goes to the trash.

    Raises NotFound, Conflict for one of a run.
    """
    with database.write() as session:
        row = find(session, adapter_id)
        if row.checkpoint_id is not None:
            raise Conflict("This adapter belongs to a run; delete the run to remove it.")
        deleted = unreferenced.files_of_adapter(database.home, row)
        session.delete(row)
    deleted.to_trash(database, f"adapter {row.name}")


def file_of(database: Database, adapter_id: int) -> runs.AdapterFile:
    """The file and the name to save it under. Raises NotFound."""
    with database.read() as session:
        view = _view(session, row := find(session, adapter_id))
    if view.run_id is not None and view.step is not None:
        return runs.adapter_file(database, view.run_id, view.step)
    path = database.home.file(row.file)
    if not path.is_file():
        raise NotFound(f"The file of {row.name} is no longer there.")
    return runs.AdapterFile(path, f"{runs.file_word(row.name)}.safetensors")


def find(session: Session, adapter_id: int) -> Adapter:
    """Raises NotFound."""
    row = session.get(Adapter, adapter_id)
    if row is None:
        raise NotFound(f"There is no adapter {adapter_id}.")
    return row


def _settings_text(config: bytes, name: str) -> str | None:
    """The text of an adapter_config.json, or None without one. Raises AdapterProblem."""
    try:
        return config.decode("utf-8-sig") if config else ""
    except UnicodeDecodeError:
        raise AdapterProblem(f"The {peft_config.FILE} of {name} is not UTF-8 text.") from None


def _place(database: Database, upload: Path, file_name: str, sha256: str, config: bytes) -> Path:
    """Move an upload into a folder of its own, under the user's name for it, with its settings beside it."""
    key = hashlib.sha256(sha256.encode() + config).hexdigest() if config else sha256
    folder = database.home.adapters / key
    with disk_errors_as_problem(folder):
        folder.mkdir(exist_ok=True)
        if config:
            files.write_bytes(folder / peft_config.FILE, config)
        os.replace(upload, folder / file_name)
        files.flush_folder(folder)
        files.flush_folder(folder.parent)
    return folder / file_name


def settings_of(database: Database, row: Adapter) -> dict[str, str]:
    """For a recipe: the hash of the settings that an imported adapter has; empty without any."""
    config = _config_of(database, row)
    return {"settings": hashlib.sha256(config).hexdigest()} if config else {}


def _config_of(database: Database, row: Adapter) -> bytes:
    """The adapter_config.json that an imported adapter has; empty without one."""
    path = database.home.file(row.file).with_name(peft_config.FILE)
    return path.read_bytes() if path.is_file() else b""


def _model_for(database: Database, header: Header, name: str) -> str:
    """The model that a file is for: one that it fits, else the first of its family, on this computer if any is.

    Raises AdapterProblem for a file that is for no family.
    """
    fitting: dict[str, list[Part]] = {}
    problems: list[AdapterProblem] = []
    for family in contents.families_of(header):
        try:
            fitting[family] = contents.parts_of(header, family, name)
        except AdapterProblem as problem:
            problems.append(problem)
    if not fitting:
        raise problems[0]
    entries = [each for each in catalog.models(models.folders(database)).values() if each.family in fitting]
    entries.sort(key=lambda each: (not each.usable, not each.trains))
    return next((each for each in entries if each.usable and _fits(each, fitting)), entries[0]).name


def _fits(entry: catalog.Entry, fitting: Mapping[str, Sequence[Part]]) -> bool:
    """Whether the model's weights have the parts' layers, in their sizes."""
    try:
        stored = weight_files(entry.path / "transformer", "diffusion_pytorch_model")
        shapes = {name: info.shape for path in stored for name, info in read_header(path).tensors.items()}
    except ModelProblem:
        return False
    return all(
        shapes.get(f"{layer}.weight") == (rows, part.shape[1])
        for part in fitting[str(entry.family)]
        for layer, rows in zip(part.layers, part.rows, strict=True)
    )


def _view(session: Session, row: Adapter) -> AdapterView:
    run = runs.find(session, row.run_id) if row.run_id is not None else None
    project = session.get(Project, run.project_id) if run else None
    checkpoint = session.get(Checkpoint, row.checkpoint_id) if row.checkpoint_id is not None else None
    return AdapterView(
        id=int(row.id or 0),
        name=row.name,
        model=row.model,
        run_id=row.run_id,
        project_id=run.project_id if run else None,
        step=checkpoint.step if checkpoint else None,
        rank=row.rank,
        trigger=project.trigger if project else row.trigger,
        class_word=project.class_word if project else "",
        sha256=row.sha256,
        file_url=f"/api/adapters/{row.id}/file",
        created_at=row.created_at,
    )
