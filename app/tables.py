"""Every table. `app/database.py` opens the file and migrates it; `app/jobs/store.py` alone writes `Job.state`.

    Project --< Photo --< Caption (the newest counts)      Project --< Version (a frozen list of photos)
            |--< Edit  (undo and redo), Review                     '--< Run --- Job --< Event
            '--< Run --< Checkpoint, Sample                        Adapter --- Run + Checkpoint, or imported
    Job --< Sample, Grid: the job that draws the pictures of a grid
    Photo --- Subject, as it was found     Analysis, by the hash of a photo's file: what is in it
    Configuration: settings of a run under a name, of no project

Times are UTC. JSON columns hold values that no query reads. Ids are never reused (AUTOINCREMENT): a browser
may still cache the picture of a deleted row.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, ForeignKey, Index, UniqueConstraint
from sqlalchemy import Enum as SaEnum
from sqlmodel import Field, SQLModel

from app.jobs.states import Kind, Lane, State, Stop


def now() -> datetime:
    return datetime.now(UTC)


IDS_ONCE = {"sqlite_autoincrement": True}


def _owner(table: str, *, optional: bool = False, on_delete: str = "CASCADE") -> Any:
    """A foreign key. When the row that it names is deleted, so is this row, or with SET NULL the key is cleared."""
    return Field(
        default=None if optional else ...,
        sa_column=Column(ForeignKey(f"{table}.id", ondelete=on_delete), nullable=optional, index=True),
    )


def _json(default: Any) -> Any:
    return Field(default_factory=default, sa_column=Column(JSON, nullable=False))


def _enum(kind: type[StrEnum], default: StrEnum | None = None) -> Any:
    """An enumeration, stored as its value: a word that people can read in the file."""
    values = SaEnum(kind, values_callable=lambda members: [member.value for member in members], native_enum=False)
    return Field(default=... if default is None else default, sa_column=Column(values, nullable=False))


class Project(SQLModel, table=True):
    """One subject: its photos, its captions and its runs."""

    __table_args__ = IDS_ONCE

    id: int | None = Field(default=None, primary_key=True)
    name: str
    trigger: str  # the rare word that stands for this subject, e.g. "sks"
    class_word: str  # the kind of thing that it is, e.g. "dog"
    created_at: datetime = Field(default_factory=now)


class Photo(SQLModel, table=True):
    """An uploaded photo. The original file is kept unchanged at photos/<sha256>.<ext>."""

    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        UniqueConstraint("project_id", "sha256"),
        IDS_ONCE,
    )

    id: int | None = Field(default=None, primary_key=True)
    project_id: int = _owner("project")
    name: str
    sha256: str = Field(index=True)
    extension: str  # by content, not by the name of the user's file
    bytes: int
    width: int  # as seen, after the EXIF orientation
    height: int
    warnings: list[str] = _json(list)
    created_at: datetime = Field(default_factory=now)
    taken: str | None = None  # "2024-05-01T12:00:00", as the camera's clock had it
    aside: bool = False  # kept, and not trained on
    crops: list[dict[str, float]] = _json(list)  # [{left, top, right, bottom}] in fractions; empty: the default crop
    subject: list[float] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    mask: str | None = None  # the user's own: masks/<hash>.png
    mask_box: list[float] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))


class Caption(SQLModel, table=True):
    """The caption of a photo; the newest row counts, the others are its history."""

    __table_args__ = IDS_ONCE

    id: int | None = Field(default=None, primary_key=True)
    photo_id: int = _owner("photo")
    text: str
    origin: str = "user"  # "user", "template" or the name of a vision model
    at: datetime = Field(default_factory=now)


class Edit(SQLModel, table=True):
    """One step that can be undone: the rows that it changed, before and after (`app/actions/edits.py`)."""

    __table_args__ = (Index("edit_of_project", "project_id", "undone", "id"), IDS_ONCE)

    id: int | None = Field(default=None, primary_key=True)
    project_id: int = _owner("project")
    words: str  # "the caption of A.jpg"
    changes: list[dict[str, Any]] = _json(list)  # [{table, id, before, after}], values as SQLite stores them
    photos: list[int] = _json(list)  # ids
    hashes: list[str] = _json(list)  # of the files that undo or redo may need
    key: str = ""  # a later step with the same key continues this one
    undone: bool = False
    at: datetime = Field(default_factory=now)


class Analysis(SQLModel, table=True):
    """What `core/vision` found in a photo's file, in any project."""

    __table_args__ = (UniqueConstraint("sha256", "analyser"),)

    id: int | None = Field(default=None, primary_key=True)
    sha256: str  # of the photo's file
    analyser: str  # the program and its version
    found: dict[str, Any] = _json(dict)  # core.vision.results.Analysis as JSON; empty with a problem
    problem: str = ""  # why the photo could not be analysed
    at: datetime = Field(default_factory=now)


class Subject(SQLModel, table=True):
    """The subject of a photo as the review of its set found it; the user's own box is `Photo.subject`.

    Outlives its photo, so that it is there again when undo brings the photo back.
    """

    photo_id: int | None = Field(default=None, primary_key=True)
    project_id: int = _owner("project")
    box: list[float] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    sure: float = 0.0
    of: int = 0  # photos in the set that it was found in: what recurs in a set is its subject
    within: list[float] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    mask: str | None = None  # the proposed one, smaller than the photo: masks/<hash>.png


class Review(SQLModel, table=True):
    """The judgement of a project's set of photos, written by a `check` job."""

    project_id: int | None = Field(
        default=None, sa_column=Column(ForeignKey("project.id", ondelete="CASCADE"), primary_key=True)
    )
    state: str  # of the set that was judged (app/actions/review.py); another one has to be judged again
    verdict: dict[str, Any] = _json(dict)
    findings: list[dict[str, Any]] = _json(list)
    good: int = 0
    order: list[int] = _json(list)  # photos by worth: the first N are the best N
    at: datetime = Field(default_factory=now)


class Version(SQLModel, table=True):
    """The examples of a run, frozen when it is created.

    [{photo_id, sha256, extension, name, crop, crops, caption, subject, mask}]; older ones end with crop and caption.
    """

    __table_args__ = IDS_ONCE

    id: int | None = Field(default=None, primary_key=True)
    project_id: int = _owner("project")
    items: list[dict[str, Any]] = _json(list)
    created_at: datetime = Field(default_factory=now)


class Job(SQLModel, table=True):
    """One long piece of work. Its life is drawn in `app/jobs/states.py`."""

    __table_args__ = (Index("job_waiting", "lane", "state", "position"), IDS_ONCE)

    id: int | None = Field(default=None, primary_key=True)
    kind: Kind = _enum(Kind)
    lane: Lane = _enum(Lane)
    state: State = _enum(State, State.QUEUED)
    position: float = 0.0  # within the lane; the queued job with the lowest runs next
    project_id: int | None = _owner("project", optional=True)
    params: dict[str, Any] = _json(dict)

    attempt: int = 0  # grows with each claim; a process of an older attempt can write nothing
    deaths: int = 0  # of its processes, since the last checkpoint
    pid: int | None = None
    pid_started_at: float | None = None  # with pid and boot_id: identifies one process for ever
    boot_id: str | None = None
    heartbeat_at: datetime | None = None

    stop: Stop = _enum(Stop, Stop.NONE)  # requests of the user, read with each heartbeat
    save: bool = False
    sample: bool = False

    phase: str = ""
    step: int = 0
    steps: int = 0
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON, nullable=True))
    result: dict[str, Any] = _json(dict)
    created_at: datetime = Field(default_factory=now)
    started_at: datetime | None = None
    ended_at: datetime | None = None


class Event(SQLModel, table=True):
    """Append-only. The row id is the id of the server-sent event."""

    __table_args__ = (Index("event_of_job", "job_id", "id"), IDS_ONCE)

    id: int | None = Field(default=None, primary_key=True)
    job_id: int | None = _owner("job", optional=True)  # None for an event of a project's photos
    project_id: int | None = _owner("project", optional=True)  # of an event without a job
    attempt: int = 0
    # state, phase, metric, measured, sample, class_picture, checkpoint, rewind, log; of a project: edit, review
    kind: str
    step: int | None = None
    payload: dict[str, Any] = _json(dict)
    at: datetime = Field(default_factory=now)


class Run(SQLModel, table=True):
    """One training. Its folder is runs/<id>/."""

    __table_args__ = IDS_ONCE

    id: int | None = Field(default=None, primary_key=True)
    job_id: int = _owner("job")
    project_id: int = _owner("project")
    version_id: int = _owner("version")
    name: str = ""
    config: dict[str, Any] = _json(dict)  # core.config.resolve.Resolved.as_json()
    versions: dict[str, str] = _json(dict)  # likeness, mlx, python, device
    hashes: dict[str, str] = _json(dict)  # of the base model's parts
    parent_id: int | None = _owner("run", optional=True, on_delete="SET NULL")  # the run whose adapter it began with
    parent: dict[str, Any] = _json(dict)  # {name, step, without: [names of photos]} of that run then; empty without one
    created_at: datetime = Field(default_factory=now)


class Configuration(SQLModel, table=True):
    """Settings of a run, saved under a name, for any project."""

    __table_args__ = (UniqueConstraint("name"), IDS_ONCE)

    id: int | None = Field(default=None, primary_key=True)
    name: str
    settings: dict[str, Any] = _json(dict)  # values by knob, as config.json has them
    created_at: datetime = Field(default_factory=now)
    changed_at: datetime = Field(default_factory=now)


class Checkpoint(SQLModel, table=True):
    """A complete saved state: runs/<run>/checkpoints/<step>/."""

    __table_args__ = (UniqueConstraint("run_id", "step"), IDS_ONCE)

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = _owner("run")
    step: int
    folder: str  # relative to the home folder
    bytes: int
    sha256: str  # of adapter.safetensors
    pinned: bool = False  # starred by the user; at most one of a run
    created_at: datetime = Field(default_factory=now)


class Sample(SQLModel, table=True):
    """A picture that was drawn, by a run or for the pictures page."""

    __table_args__ = IDS_ONCE

    id: int | None = Field(default=None, primary_key=True)
    job_id: int = _owner("job")
    run_id: int | None = _owner("run", optional=True)
    step: int | None = None  # of a run's sample; class pictures have none
    prompt_id: int = 0  # the column of the grid, also after prompts are edited; of a class picture, its number
    prompt: str
    seed: int
    adapter_strength: float = 1.0
    recipe: dict[str, Any] = _json(dict)
    file: str  # relative to the home folder
    width: int
    height: int
    created_at: datetime = Field(default_factory=now)
    favourite: bool = False


class Removed(SQLModel, table=True):
    """A picture that was deleted, as long as undo can bring it back: until the trash is emptied."""

    id: int | None = Field(default=None, primary_key=True)  # of the picture
    job_id: int = _owner("job")
    row: dict[str, Any] = _json(dict)  # of `sample`
    trash: str = ""  # its file, relative to the home folder; empty until it was moved there
    at: datetime = Field(default_factory=now)


class Grid(SQLModel, table=True):
    """Pictures over one to three axes, drawn by one job; each is a `Sample`, its cell the `prompt_id`."""

    __table_args__ = IDS_ONCE

    id: int | None = Field(default=None, primary_key=True)
    job_id: int = _owner("job")
    project_id: int | None = _owner("project", optional=True)
    run_id: int | None = _owner("run", optional=True, on_delete="SET NULL")
    axes: dict[str, list[Any]] = _json(dict)  # by name, the slowest first
    cells: list[dict[str, Any]] = _json(list)  # [{checkpoint, adapter, strength, prompt, seed}]; adapter: its id
    problems: dict[str, str] = _json(dict)  # by the number of the cell: why it has no picture
    created_at: datetime = Field(default_factory=now)


class Adapter(SQLModel, table=True):
    """A LoRA to draw with: a checkpoint of a run, or an imported file."""

    __table_args__ = IDS_ONCE

    id: int | None = Field(default=None, primary_key=True)
    name: str
    model: str
    run_id: int | None = _owner("run", optional=True)
    checkpoint_id: int | None = _owner("checkpoint", optional=True)
    file: str  # relative to the home folder
    sha256: str
    rank: int
    trigger: str = ""
    created_at: datetime = Field(default_factory=now)


class Setting(SQLModel, table=True):
    """One value that the user changed on the settings page; the defaults live in `app/settings.py`."""

    key: str = Field(primary_key=True)
    value: Any = Field(default=None, sa_column=Column(JSON))
