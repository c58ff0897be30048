"""What a sent adapter comes with: its header, preview, workflow, card, and the text that says how it is used."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from app.actions import send_places
from app.actions.send_job import SHARE, Sending
from core import strict_json
from core.adapters import comfy_workflow, programs
from core.adapters import diffusers as diffusers_form
from core.adapters import kohya as kohya_form
from core.adapters.comfy_workflow import ModelFiles
from core.adapters.file import AdapterFile
from core.adapters.programs import PROGRAMS
from core.hub import comfyui

PREVIEW_PX, THUMBNAIL_PX = 1024, 256  # at most
THUMBNAIL_QUALITY = 85
TRAININGS = ("base", "krea", "schnell", "turbo")
"""Words in a file's name that tell trainings apart whose tensors are alike."""


def preview_of(path: Path) -> Image.Image:
    """A sample, small enough for a preview."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((PREVIEW_PX, PREVIEW_PX))
    return picture


def png(picture: Image.Image, workflow: Mapping[str, Any] | None) -> bytes:
    """The preview's file; with a workflow in it, which ComfyUI opens when the picture is dragged onto its page."""
    about = PngImagePlugin.PngInfo()
    if workflow is not None:
        about.add_text("workflow", strict_json.dumps(workflow, ascii_only=True))
    content = io.BytesIO()
    picture.save(content, "PNG", pnginfo=about)
    return content.getvalue()


def write_adapter(path: Path, held: AdapterFile, form: str, sending: Sending, preview: Image.Image | None) -> None:
    """Write the adapter in a form, with what other programs read in its header. Raises AdapterProblem, DiskProblem."""
    metadata = held.metadata | header_of(sending, preview)
    if form == programs.KOHYA:
        kohya_form.write(path, held.factors, metadata, sending.use.family)
    else:
        diffusers_form.write(path, held.factors, metadata)


def header_of(sending: Sending, preview: Image.Image | None) -> dict[str, str]:
    """The header's strings besides those of training. ComfyUI, SwarmUI and Forge show the thumbnail."""
    program = PROGRAMS.get(sending.program)
    found = {
        "modelspec.usage_hint": f"Write “{sending.use.trigger}” in the prompt; strength {sending.use.strength:g}.",
        "modelspec.license": f"The base model’s: {sending.licence[0]}",
    }
    if preview is not None and (program is None or program.shows_preview):
        small = preview.copy()
        small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        content = io.BytesIO()
        small.save(content, "JPEG", quality=THUMBNAIL_QUALITY)
        found["modelspec.thumbnail"] = f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
    return found


def texts_of(sending: Sending) -> dict[str, str]:
    """The text files, by part."""
    found = {send_places.ABOUT: about(sending)}
    if send_places.CARD in sending.parts:
        found[send_places.CARD] = _as_text(_card(sending))
    if send_places.WORKFLOW in sending.parts:
        found[send_places.WORKFLOW] = _as_text(workflow_of(sending))
    return found


def workflow_of(sending: Sending) -> dict[str, Any]:
    """ComfyUI's workflow, with the names of the model's files in the folder that the user named."""
    use, place = sending.use_in(PROGRAMS["comfyui"]), sending.place
    file = Path(use.file)
    name = place.name_in_comfyui(file) if place else file.name
    files = files_in_comfyui(place.comfyui_models, use.model) if place and place.comfyui_models else None
    return comfy_workflow.workflow(use, name, files)


def files_in_comfyui(root: Path, model: str) -> ModelFiles | None:
    """The files of a known model in ComfyUI's folder of models, as its loaders list them; None unless all are there."""
    for offer in comfyui.scan(root).offers:
        if model not in offer.candidates or offer.lacking or not _is_named_as(offer.file.name, model):
            continue
        places = {"transformer": ("diffusion_models", "unet"), "vae": ("vae",)}
        listed = {
            part: _listed(root, path, places.get(part, ("text_encoders", "clip"))) for part, path in offer.parts.items()
        }
        encoders = tuple(name for part, name in sorted(listed.items()) if part.startswith("text_encoder"))
        if all(listed.values()):
            return ModelFiles(listed["transformer"], encoders, listed["vae"])
    return None


def _listed(root: Path, path: Path, folders: tuple[str, ...]) -> str:
    """The name by which ComfyUI lists a file of these folders; empty for a file elsewhere, such as a checkpoint."""
    inside = [root / folder for folder in folders if path.is_relative_to(root / folder)]
    return path.relative_to(inside[0]).as_posix() if inside else ""


def _is_named_as(name: str, model: str) -> bool:
    """Whether a file's name is that of this training of a model, and of no other with the same tensors."""
    return [word in name.lower() for word in TRAININGS] == [word in model for word in TRAININGS]


def _card(sending: Sending) -> dict[str, Any]:
    """What Forge's card of the adapter adds to the prompt."""
    return {
        "description": f"{sending.title}. Trained with Likeness.",
        "activation text": sending.use.trigger,
        "preferred weight": sending.use.strength,
        "notes": "",
    }


def about(sending: Sending) -> str:
    """The text beside the adapter: trigger, strength, the lines of each program, licence."""
    use = sending.use
    lines = [
        sending.title,
        f"An adapter (LoRA) for {use.model_title}, trained with Likeness.",
        "",
        f"Trigger:    {sending.trigger}; in prompts: {use.trigger}",
        f"Strength:   {use.strength:g}",
        f"Draw with:  {use.model_title}, {use.steps} steps, guidance {use.guidance:g}, {use.side_px} x {use.side_px}",
        f"Prompt:     {use.prompt}",
    ]
    for program in _reading(sending):
        lines += ["", program.title, *(f"    {line}" for line in program.lines(sending.use_in(program)))]
        if sending.program == SHARE:
            lines.append(f"    Its file: {Path(sending.use_in(program).file).name}")
    licence, terms = sending.licence
    lines += ["", "Licence of the base model", f"    {licence}", *([f"    {terms}"] if terms else [])]
    return "\n".join(lines) + "\n"


def _reading(sending: Sending) -> list[programs.Program]:
    if sending.program != SHARE:
        return [PROGRAMS[sending.program]]
    return [each for each in PROGRAMS.values() if each.form_for(sending.use.family, published=sending.published)]


def _as_text(content: Mapping[str, Any]) -> str:
    return strict_json.dumps(content, indent=1) + "\n"
