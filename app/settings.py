"""The settings of the studio: key, default, kind and sentence, in one table.

The settings page and PATCH /api/settings follow `SETTINGS`; the database holds rows for changed values only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlmodel import Session, select

from app.tables import Setting
from core.adapters.programs import PROGRAMS
from core.dataset import captions
from core.distributed import hosts
from core.distributed.hosts import Hosts
from core.errors import ConfigProblem, FieldProblem, Problem
from core.hub import comfyui, foreign
from core.hub.layout import index_of

COUNT_AT_MOST = 1000  # of a setting of the kind "count"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
CAPTION_PROMPT = (
    "Describe this photo for training an image model, in one or two plain sentences: the subject's pose and "
    "surroundings, the light and the framing. Call the subject '{trigger} {class_word}'. No introduction."
)


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting, for the page and for the check of its value."""

    key: str
    default: Any
    label: str
    sentence: str
    kind: str  # "bool", "text", "url", "hosts", "folder", "folders" or "comfyui"


SETTINGS: dict[str, Choice] = {
    choice.key: choice
    for choice in (
        Choice(
            "resume_automatically",
            True,
            "Resume automatically",
            "A run that was interrupted, or was running when the studio closed, resumes from its last checkpoint.",
            "bool",
        ),
        Choice(
            "keep_checkpoints",
            0,
            "Checkpoints to keep",
            "How many of a run stay when it saves: the starred, the newest, the best by its score, and others evenly "
            "spread. The rest is deleted for good. 0 keeps all.",
            "count",
        ),
        Choice(
            "hosts_file",
            "",
            "Hosts file",
            "Absolute path of a file that lists the machines to train on (docs/machines.md); empty: this one alone.",
            "hosts",
        ),
        Choice(
            "caption_template",
            captions.TEMPLATE,
            "Caption template",
            "The caption of photos without one; {trigger} and {class_word} are filled in.",
            "text",
        ),
        Choice(
            "captioner_url",
            "http://127.0.0.1:11434",
            "Caption server",
            "The address of Ollama, LM Studio, llama.cpp or mlx-vlm on this computer.",
            "url",
        ),
        Choice(
            "captioner_model", "", "Caption model", "The vision model's name; empty takes the server's first.", "text"
        ),
        Choice("captioner_prompt", CAPTION_PROMPT, "Caption request", "The prompt of the vision model.", "text"),
        Choice(
            "model_folders",
            "",
            "Model folders",
            "Folders of your own models, in diffusers' layout, one a line. Each is a model, or holds models.",
            "folders",
        ),
        Choice(
            "model_comfyui_folder",
            "",
            "ComfyUI's folder",
            "ComfyUI or its folder models, such as ~/ComfyUI. The Models page lists the models that its files make.",
            "comfyui",
        ),
        *(
            Choice(
                f"send_{program.name}",
                "",
                f"Adapters for {program.title}",
                f"Where Send to copies them: {program.folder}. Empty: "
                f"{'the folder above, or ' if program.name == 'comfyui' else ''}a zip to download.",
                "folder",
            )
            for program in PROGRAMS.values()
        ),
    )
}


def value_of(session: Session, key: str) -> Any:
    """The current value."""
    row = session.get(Setting, key)
    return SETTINGS[key].default if row is None else row.value


def values(session: Session) -> dict[str, Any]:
    """Every current value, by key."""
    changed = {row.key: row.value for row in session.exec(select(Setting))}
    return {key: changed.get(key, choice.default) for key, choice in SETTINGS.items()}


def checked(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they will be stored; None resets a setting to its default.

    Raises ConfigProblem that names every wrong one.
    """
    problems: list[FieldProblem] = []
    good: dict[str, Any] = {}
    for key, value in changes.items():
        if key not in SETTINGS:
            problems.append(FieldProblem(key, f"there is no setting called {key}"))
            continue
        good[key], trouble = _read(SETTINGS[key], value)
        if trouble:
            problems.append(FieldProblem(key, trouble))
    if problems:
        raise ConfigProblem("Some settings need another look.", problems)
    return good


def _read(choice: Choice, value: Any) -> tuple[Any, str]:
    """(value, ""), or (anything, a sentence about the error)."""
    if value is None:
        return choice.default, ""
    if choice.kind == "bool":
        words = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False, "": False}
        read = value if isinstance(value, bool) else words.get(str(value).strip().lower())
        return read, "" if read is not None else f"is {value!r}; it can be on or off"
    if choice.kind == "count":
        text = str(value).strip() or "0"
        good = not isinstance(value, bool) and text.isdecimal() and len(text) < 10 and int(text) <= COUNT_AT_MOST
        return int(text) if good else None, "" if good else f"is {text[:20]!r}; it can be 0 to {COUNT_AT_MOST}"
    if not isinstance(value, str):
        return None, f"is {value!r}; it must be text"
    text = value.strip()
    if len(text) > 2000:
        return None, f"has {len(text)} characters; at most 2000"
    if choice.kind == "url":
        return text, loopback_trouble(text)
    if choice.kind == "folders":
        return _read_folders(text)
    if choice.kind == "folder":
        return text, _folder_trouble(text)
    if choice.kind == "comfyui":
        return text, _comfyui_trouble(text)
    if choice.kind == "hosts":
        return text, _hosts_trouble(text)
    if choice.key in ("caption_template", "captioner_prompt"):
        if not text:
            return choice.default, ""
        try:
            captions.check(text)
        except Problem as problem:
            return None, problem.message
    return text, ""


def path_of(text: str) -> Path:
    """The path that a user typed. Unlike Path's own, this leaves a home that does not exist as it is ("~nobody")."""
    return Path(os.path.expanduser(text))


def hosts_of(text: str) -> Hosts | None:
    """The hosts of the setting's file; None when the setting is empty. Raises ConfigProblem."""
    return hosts.read(path_of(text)) if text else None


def _hosts_trouble(text: str) -> str:
    if text and not path_of(text).is_absolute():
        return f"is {text!r}; give its absolute path"
    try:
        hosts_of(text)
    except ConfigProblem as problem:
        return f"names {text}, which {'; it '.join(each.message for each in problem.problems)}"
    return ""


def send_key(program: str) -> str:
    """The setting that remembers the folder of a program."""
    return f"send_{program}"


def send_folder(known: Mapping[str, Any], program: str) -> str:
    """The folder that was named for a program; ComfyUI's is also known from the models."""
    return str(known[send_key(program)] or (known["model_comfyui_folder"] if program == "comfyui" else ""))


def _folder_trouble(text: str) -> str:
    if text and (not path_of(text).is_absolute() or not path_of(text).is_dir()):
        return f"is {text!r}, which is not a folder on this computer; give its absolute path"
    return ""


def folders_of(text: str) -> tuple[Path, ...]:
    """The folders of a setting with one folder a line."""
    return tuple(path_of(line) for line in text.splitlines() if line)


def _read_folders(text: str) -> tuple[str, str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wrong = [line for line in lines if not path_of(line).is_absolute() or not path_of(line).is_dir()]
    if wrong:
        return "", f"has {wrong[0]!r}, which is not a folder on this computer; give its absolute path"
    troubles = [words for line in lines if (words := _model_folder_trouble(path_of(line)))]
    return "\n".join(lines), f"has a folder that cannot be used: {troubles[0]}" if troubles else ""


def _model_folder_trouble(folder: Path) -> str:
    if index_of(folder) is None and comfyui.models_folder(folder) is not None:
        return f"{folder} is ComfyUI's; name it in the setting for that"
    return foreign.trouble_of_folder(folder)


def comfyui_of(text: str) -> Path | None:
    """The folder of the setting; None when it is empty."""
    return path_of(text) if text else None


def _comfyui_trouble(text: str) -> str:
    folder = comfyui_of(text)
    trouble = comfyui.trouble_of_folder(folder) if folder is not None else ""
    return f"is {text!r}, which {trouble}" if trouble else ""


def loopback_trouble(url: str) -> str:
    """A sentence when `url` is not an http address of this computer: photos are sent nowhere else."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return f"is {url!r}, which is not an address"
    if parts.scheme != "http" or host not in LOOPBACK or parts.username or parts.password or parts.query:
        return f"is {url!r}; photos are only sent to this computer: http://127.0.0.1:PORT or http://localhost:PORT"
    return ""
