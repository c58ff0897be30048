"""Where the files of an adapter go in another program's folder, and the names that they have there."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from app import wording
from app.home import Home
from core.hub import comfyui

ADAPTER, KOHYA_TOO, PREVIEW, CARD, WORKFLOW, ABOUT = "adapter", "kohya", "preview", "card", "workflow", "about"
SUFFIXES = {
    ADAPTER: ".safetensors",
    KOHYA_TOO: "-kohya.safetensors",  # beside the other form, in a zip to share
    PREVIEW: ".preview.png",  # ComfyUI and Forge show it
    CARD: ".json",  # Forge: trigger and weight
    WORKFLOW: ".workflow.json",
    ABOUT: ".txt",  # Forge shows it too
}
WHAT = {
    ADAPTER: "the adapter",
    KOHYA_TOO: "the adapter in kohya’s names, for programs that want those",
    PREVIEW: "the preview",
    CARD: "trigger and weight, for Forge’s card",
    WORKFLOW: "the workflow, ready to draw",
    ABOUT: "trigger, strength, licence and how it is used",
}
FORGE_FOLDERS = ("Stable-diffusion", "Lora")  # in its folder models


@dataclass(frozen=True, slots=True)
class Place:
    """Folders in another program's folder. `adapters` may still be missing in it."""

    adapters: Path
    workflows: Path  # ComfyUI's own, if it has one, else that of the adapters
    comfyui_models: Path | None = None  # ComfyUI's folder of models

    def name_in_comfyui(self, file: Path) -> str:
        """The name of an adapter as ComfyUI lists it: below its folder of LoRAs."""
        root = self.comfyui_models / "loras" if self.comfyui_models else self.adapters
        return file.relative_to(root).as_posix()

    def path(self, part: str, stem: str) -> Path:
        """The path of one of the files."""
        if part == WORKFLOW and self.workflows != self.adapters:
            return self.workflows / f"{stem}.json"
        return self.adapters / f"{stem}{SUFFIXES[part]}"


def parts_of(program: str, *, preview: bool) -> tuple[str, ...]:
    """The files that a program gets, in the order of writing."""
    own = {"comfyui": (WORKFLOW,), "forge": (CARD,)}.get(program, ())
    return ADAPTER, *((PREVIEW,) if preview else ()), *own, ABOUT


def name_in_zip(part: str, stem: str) -> str:
    return "README.txt" if part == ABOUT else f"{stem}{SUFFIXES[part]}"


def place_of(program: str, folder: Path) -> Place:
    """The places in the folder that a user names: the program's own folder, its folder of LoRAs, or any other."""
    if program == "comfyui":
        inside = next((each.parent for each in (folder, *folder.parents) if each.name == "loras"), None)
        root = inside if inside is not None else comfyui.models_folder(folder)
        if root is not None and comfyui.models_folder(root) == root:
            adapters, user = folder if inside is not None else root / "loras", root.parent / "user" / "default"
            return Place(adapters, user / "workflows" if user.is_dir() else adapters, root)
    if program == "forge" and any((folder / "models" / name).is_dir() for name in FORGE_FOLDERS):
        folder = folder / "models" / "Lora"
    return Place(folder, folder)


def trouble_of(folder: Path, program: str, home: Home, bytes_needed: int) -> str:
    """Why nothing can be written there, continuing the folder's name; empty when it can."""
    if not folder.is_absolute():
        return "is not an absolute path; give the whole path, such as ~/ComfyUI"
    if not folder.is_dir():
        return "is a file; name a folder" if folder.exists() else "is not there; name a folder of this computer"
    if folder.resolve().is_relative_to(home.root.resolve()):
        return "is the studio's own; name a folder of the other program"
    place = place_of(program, folder)
    for each in {place.adapters, place.workflows}:
        there = next(one for one in (each, *each.parents) if one.exists())
        if not there.is_dir():
            return f"cannot be used: {there} is a file there"
        if not os.access(there, os.W_OK | os.X_OK):
            return f"cannot be written to: {there} is read-only or belongs to another user"
    free = shutil.disk_usage(folder).free
    if bytes_needed > free:
        return f"has {wording.size(free)} free, and the adapter takes {wording.size(bytes_needed)}; make room"
    return ""
