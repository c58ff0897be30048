"""What the job that sends an adapter to another program is told, and what follows from it: forms, files, places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from app import settings
from app.actions import send_places
from app.actions.send_places import KOHYA_TOO, Place
from core.adapters import programs
from core.adapters.programs import KOHYA, PROGRAMS, AdapterUse, Program

SHARE = "share"  # in place of a program: one zip for all of them
FORMAT = "send"  # of an export job's parameters


@dataclass(frozen=True, slots=True)
class Sending:
    """What the job is told; all paths of our own are relative to the home."""

    program: str
    run: int
    step: int
    file: str  # the checkpoint's adapter
    preview: str  # a sample's file; empty for none
    stem: str  # of the files' names
    folder: str  # the user's, as typed; empty for a zip
    published: bool  # whether the model has the sizes of the published ones
    title: str
    trigger: str
    licence: tuple[str, str]  # of the model that it was trained on, and its terms; empty for a model of the user's own
    use: AdapterUse

    def as_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self), "licence": list(self.licence)}

    @classmethod
    def from_json(cls, params: Mapping[str, Any]) -> Sending:
        given = {name: value for name, value in params.items() if name != "format"}
        first, second = given.pop("licence")
        return cls(**given | {"use": AdapterUse(**given["use"]), "licence": (first, second)})

    @property
    def forms(self) -> dict[str, str]:
        """The forms of the adapter's files, by part."""
        if self.program != SHARE:
            form = PROGRAMS[self.program].form_for(self.use.family, published=self.published)
            return {send_places.ADAPTER: form}
        found = {send_places.ADAPTER: programs.DIFFUSERS}
        read = [each.form_for(self.use.family, published=self.published) for each in PROGRAMS.values()]
        return found | ({KOHYA_TOO: KOHYA} if KOHYA in read else {})

    @property
    def parts(self) -> tuple[str, ...]:
        """The files, in the order of writing."""
        parts = send_places.parts_of(self.program, preview=bool(self.preview))
        if self.program != SHARE:
            return parts
        more = [KOHYA_TOO] if KOHYA_TOO in self.forms else []
        if PROGRAMS["comfyui"].form_for(self.use.family, published=self.published):
            more.append(send_places.WORKFLOW)
        return *parts[:-1], *more, parts[-1]

    def named(self, stem: str) -> Sending:
        """The same with another stem of the files' names, and `use` telling where they are."""
        place = self.place
        file = f"{stem}.safetensors" if place is None else str(place.path(send_places.ADAPTER, stem))
        workflow = ""
        if send_places.WORKFLOW in self.parts:
            listed = place is not None and place.workflows != place.adapters
            workflow = f"{stem} in its list of workflows" if listed else f"{stem}.workflow.json: drag it onto the page"
        return replace(self, stem=stem, use=replace(self.use, file=file, workflow=workflow))

    def use_in(self, program: Program) -> AdapterUse:
        """How a program uses the file that it reads, of several in a zip to share."""
        form = program.form_for(self.use.family, published=self.published)
        other = self.program == SHARE and form == KOHYA
        file = send_places.name_in_zip(KOHYA_TOO, self.stem) if other else self.use.file
        return replace(self.use, file=file)

    @property
    def place(self) -> Place | None:
        """Where the files go; None for a zip."""
        return send_places.place_of(self.program, settings.path_of(self.folder)) if self.folder else None
