"""What pages are made of: one line of a list, one card, one cell. Each says in words what a template may show.

The pages that hold them are in `app/pages.py`; what they are filled with is read in `app/contents/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ProjectCard:
    """One project on the home page."""

    id: int
    name: str
    trigger: str
    class_word: str
    counts: str  # "8 photos, 2 runs"
    thumbs: tuple[str, ...]  # addresses of up to three thumbnails


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run in a list."""

    id: int
    job_id: int
    name: str
    model: str
    state: str
    state_words: str
    progress: str  # "120 of 300 steps"
    picture_url: str | None  # its newest sample
    created_at: str
    when: str


@dataclass(frozen=True, slots=True)
class Captioning:
    """The caption job that waits or runs."""

    id: int
    words: str


@dataclass(frozen=True, slots=True)
class GridPrompt:
    """A column of the sample grid."""

    id: int
    text: str


@dataclass(frozen=True, slots=True)
class GridCell:
    """A sample, or the place where one will be (without a url)."""

    prompt_id: int
    prompt: str
    url: str | None = None
    seed: int | None = None
    width: int = 256
    height: int = 256


@dataclass(frozen=True, slots=True)
class GridRow:
    """The samples of one step."""

    step: int
    cells: tuple[GridCell, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """Steps as rows, prompts as columns; rows still to come are there already, so that nothing jumps."""

    prompts: tuple[GridPrompt, ...]
    rows: tuple[GridRow, ...]


@dataclass(frozen=True, slots=True)
class ClassPictures:
    """What the untouched model draws of the class, as far as it is drawn."""

    prompt: str
    cells: tuple[GridCell, ...]


@dataclass(frozen=True, slots=True)
class CheckpointLine:
    """A saved state to download."""

    step: int
    size: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the log."""

    at: str
    text: str
    tone: str  # a class name: empty, warning or error-line


@dataclass(frozen=True, slots=True)
class Line:
    """A name and a value."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class UsedKnob:
    """A knob as a run used it."""

    label: str
    value: str
    source_words: str


@dataclass(frozen=True, slots=True)
class VerdictNote:
    """What the scores of a run mean so far."""

    title: str
    words: str
    tone: str  # a class name of notes: empty, warn or bad
    bands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunNow:
    """A run as it stands when its page is drawn."""

    id: int
    job_id: int
    name: str
    model: str
    state: str
    state_words: str
    stop: str  # what the user has asked for: none, stop or now
    phase: str
    step: int
    steps: int
    error: str
    resumable: bool
    created_at: str
    when: str


@dataclass(frozen=True, slots=True)
class AdapterOption:
    """An adapter to draw with."""

    value: str  # its id
    label: str
    model: str
    trigger: str
    class_word: str


@dataclass(frozen=True, slots=True)
class Picture:
    """One drawn picture."""

    id: int
    url: str
    label: str  # "with the adapter" or "without"
    file_name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """What one press on Draw made: one picture, or two side by side."""

    job_id: int
    state: str
    prompt: str
    words: str
    error: str
    pictures: tuple[Picture, ...]
    to_come: int  # how many are not drawn yet
    recipe: tuple[Line, ...]
    ask: dict[str, Any]  # the form as it was filled in, to fill it in again


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job in the queue."""

    id: int
    title: str
    url: str
    state: str
    state_words: str
    words: str
    error: str
    step: int
    steps: int
    created_at: str
    when: str


@dataclass(frozen=True, slots=True)
class Fetching:
    """The download of a model, as far as it is."""

    job_id: int
    words: str  # "3.2 GB of 33 GB"
    done: int
    of: int  # bytes; 0 while nobody knows
    stopping: bool


@dataclass(frozen=True, slots=True)
class NeedCell:
    """What one precision and picture size takes."""

    memory: str
    words: str  # whether that fits
    state: str  # fits, recommended or too-much


@dataclass(frozen=True, slots=True)
class NeedRow:
    """One precision."""

    label: str
    cells: tuple[NeedCell, ...]


@dataclass(frozen=True, slots=True)
class NeedTable:
    """Predicted memory, and the disk below it: precisions as rows, picture sizes as columns."""

    caption: str
    sides: tuple[str, ...]
    rows: tuple[NeedRow, ...]
    disk: tuple[str, ...]  # of a run, by picture size; empty for pictures
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model of the catalog."""

    name: str
    title: str
    what_for: str
    state: str  # a class name of badges
    state_words: str
    facts: tuple[Line, ...]
    problem: str  # what is wrong with what lies here, or what went wrong while downloading
    gated: str  # what has to be accepted before a download; empty for nothing, and once it is here
    page: str  # its address for a person to open; empty for a folder of the user's own
    verb: str  # what the button that downloads says; empty for no button
    fetching: Fetching | None
    needs: NeedTable | None


@dataclass(frozen=True, slots=True)
class ModelGroup:
    """Models that a user can do the same with."""

    name: str
    title: str
    hint: str
    cards: tuple[ModelCard, ...]


@dataclass(frozen=True, slots=True)
class SettingField:
    """One setting of the studio."""

    key: str
    label: str
    sentence: str
    kind: str  # bool, text or url
    value: Any
    long: bool  # wants several lines


@dataclass(frozen=True, slots=True)
class DiskLine:
    """What one kind of file takes."""

    label: str
    folder: str
    size: str
